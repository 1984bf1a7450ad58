"""How an S3 service is reached where a run was begun, for workers on nodes that do not know it by themselves.

It travels inside the arguments of tasks and actors. Ray writes environments, runtime environments and commands down,
and arguments not.
"""

import os
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import pyarrow.fs

from benchmark.common.secrets import known

# Keys that a machine has from where it runs: they end within hours, and other machines have their own.
_OF_MACHINES = {"iam-role", "container-role"}


@dataclass(frozen=True)
class Access:
    """Address and keys of an S3 service; what a node has of its own comes first.

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
        options["endpoint_override"] = options["endpoint_override"] or self.endpoint or None
        if self.keys and not options["access_key"] and not _own_keys():
            known(*self.keys)  # which nothing here would know for secrets
            options |= dict(zip(("access_key", "secret_key", "session_token"), self.keys, strict=True))
        return options


NO_ACCESS = Access()


def access_of(system: pyarrow.fs.S3FileSystem) -> Access:
    """Return how a file system of this process reaches its service; keys that its URI has travel in the URI."""
    options, found = _options(system), _own_keys()
    keys = None if options["access_key"] or found is None or found[0] in _OF_MACHINES else found[1]
    return Access(options["endpoint_override"] or "", keys)


def _options(system: pyarrow.fs.S3FileSystem) -> dict[str, Any]:
    return dict(system.__reduce__()[1][0])


def _own_keys() -> tuple[str, tuple[str, str, str]] | None:
    """Return where AWS's tools find keys on this machine, and the keys; None where there are none."""
    return _looked_up(frozenset(item for item in os.environ.items() if item[0].startswith("AWS_")))


@lru_cache(maxsize=4)
def _looked_up(environment: frozenset[tuple[str, str]]) -> tuple[str, tuple[str, str, str]] | None:  # noqa: ARG001
    """Look for keys once for an environment: a machine is asked for a second whether it has some."""
    import botocore.session

    if (found := botocore.session.get_session().get_credentials()) is None:
        return None
    keys = found.get_frozen_credentials()
    known(keys.access_key, keys.secret_key, keys.token or "")
    return found.method, (keys.access_key, keys.secret_key, keys.token or "")
