"""How an S3 service is reached where a run was begun, for workers on nodes that do not know it by themselves.

It travels inside the arguments of tasks and actors. Ray writes environments, runtime environments and commands down;
arguments only where its memory is full, into the folder of its session.
"""

import os
import time
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import pyarrow.fs

from benchmark.common.secrets import known

# What AWS's tools call keys that a person has set. Those of roles end within hours, and other machines have their own.
_SET_BY_HAND = {"env", "shared-credentials-file", "config-file"}
_REMEMBERED = 300  # seconds for which keys are not looked up again


@dataclass(frozen=True)
class Access:
    """Address and keys of an S3 service, for a node that has no address, or for one that has no keys for it.

    Attributes:
        endpoint: as in the environment variable AWS_ENDPOINT_URL. Default: Amazon's.
        keys: access key, secret key and session token (empty: none). Default: none are handed on.
    """

    endpoint: str = ""
    keys: tuple[str, str, str] | None = field(default=None, repr=False)

    def options(self, system: pyarrow.fs.S3FileSystem) -> dict[str, Any]:
        """Return the options of a file system as this node makes it, with what the node does not know.

        Args:
            system: made of the URI alone.
        """
        options = _options(system)
        own = options["endpoint_override"] or ""
        if own and own != self.endpoint:  # the driver's keys are for another service
            return options
        options["endpoint_override"] = self.endpoint or None
        if self.keys and not options["access_key"] and (self.endpoint != own or not _own_keys()):
            known(*self.keys)  # which nothing here would know for secrets
            options |= dict(zip(("access_key", "secret_key", "session_token"), self.keys, strict=True))
        return options


NO_ACCESS = Access()


def access_of(system: pyarrow.fs.S3FileSystem) -> Access:
    """Return how a file system of this process reaches its service."""
    found = _own_keys()
    keys = found[1] if found and found[0] in _SET_BY_HAND else None
    return Access(_options(system)["endpoint_override"] or "", keys)


def _options(system: pyarrow.fs.S3FileSystem) -> dict[str, Any]:
    return dict(system.__reduce__()[1][0])


def _own_keys() -> tuple[str, tuple[str, str, str]] | None:
    """Return where AWS's tools find keys on this machine, and the keys; None where there are none."""
    variables = frozenset(item for item in os.environ.items() if item[0].startswith("AWS_"))
    return _looked_up(variables, int(time.monotonic() / _REMEMBERED))


@lru_cache(maxsize=4)
def _looked_up(
    variables: frozenset[tuple[str, str]],  # noqa: ARG001  other ones may lead to other keys
    period: int,  # noqa: ARG001  files of keys are written anew
) -> tuple[str, tuple[str, str, str]] | None:
    """Look for keys; a machine that may have some is asked for a second."""
    import botocore.exceptions
    import botocore.session

    try:
        if (found := botocore.session.get_session().get_credentials()) is None:
            return None
        keys = found.get_frozen_credentials()
    except botocore.exceptions.BotoCoreError:  # such as a profile that is not there: told where keys are used
        return None
    known(keys.access_key, keys.secret_key, keys.token or "")
    return found.method, (keys.access_key, keys.secret_key, keys.token or "")
