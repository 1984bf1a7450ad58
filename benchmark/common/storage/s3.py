"""S3, and services that speak as it does: how one is reached, and its objects through botocore, a request for each.

Arrow, through which objects are listed, asks for the size of whatever it reads, and writes in parts: what a killed
writer leaves open has to be paid for, and an exception amid the parts publishes those that are there. A single PUT is
there whole or not at all.
"""

import errno
import io
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from http import HTTPStatus
from typing import Any

import pyarrow.fs

from benchmark.common.secrets import known
from benchmark.common.storage.retries import UnansweredError

CONNECT_SECONDS, ANSWER_SECONDS = 3, 10  # after which a call that hangs is given up, to be made again
MAX_BYTES = 5 * 2**30  # of an object that is written in one request
_CONNECTIONS = 64  # of a process, at a time
_FOR_NOW = {"RequestTimeout", "SlowDown", "Throttling", "ThrottlingException", "InternalError", "ServiceUnavailable"}
_FOR_NOW |= {"ConditionalRequestConflict", "OperationAborted"}  # two writers at the same moment
_making = threading.Lock()  # two clients made at the same time read the same files
# What AWS's tools call keys that a person has set. Those of roles end within hours, and other machines have their own.
_SET_BY_HAND = {"env", "shared-credentials-file", "config-file"}
_REMEMBERED = 300  # seconds for which keys are not looked up again


@dataclass(frozen=True)
class Access:
    """Address and keys of a service where a run was begun, for workers on nodes that do not know them by themselves.

    It travels inside the arguments of tasks and actors. Ray writes environments, runtime environments and commands
    down; arguments only where its memory is full, into the folder of its session.
    """

    endpoint: str = ""  # as in the environment variable AWS_ENDPOINT_URL; empty: Amazon's
    keys: tuple[str, str, str] | None = field(default=None, repr=False)  # access key, secret key, session token or ""

    def options(self, system: pyarrow.fs.S3FileSystem) -> dict[str, Any]:
        """Return the options of a file system, made of the URI alone, with what this node does not know."""
        options = _options(system)
        own = options["endpoint_override"] or ""
        if own and own != self.endpoint:  # the driver's keys are for another service
            return options
        options["endpoint_override"] = self.endpoint or None
        if self.keys and not options["access_key"] and (self.endpoint != own or not _own_keys()):
            known(*self.keys)  # which nothing here would know for secrets
            options |= dict(zip(("access_key", "secret_key", "session_token"), self.keys, strict=True))
        return options


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


class UnsupportedError(OSError):
    """A service does not know what it was asked for, or does not take it."""


@contextmanager
def _as_os_errors() -> Iterator[None]:
    """Turn what botocore raises into errors of the system's kind."""
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError, SSLError
    from botocore.exceptions import ConnectionError as NotConnectedError

    try:
        yield
    except ClientError as error:
        said, status = error.response["Error"], error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = said.get("Code", "")
        if code in ("NoSuchKey", "404"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from error
        words = f"{code}: {said['Message']}" if said.get("Message") else f"{code} {error.operation_name}"
        if status in (HTTPStatus.PRECONDITION_FAILED, HTTPStatus.NOT_MODIFIED):  # as S3 has it, and as older MinIO had
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error
        unknown = status in (HTTPStatus.BAD_REQUEST, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED)
        for_now = status >= 500 or status in (408, 429) or code in _FOR_NOW
        if for_now and status != HTTPStatus.NOT_IMPLEMENTED:
            raise UnansweredError(words) from error
        raise (UnsupportedError if unknown else OSError)(words) from error
    except BotoCoreError as error:  # no credentials, no region and a certificate that is not trusted are for good
        for_now = isinstance(error, HTTPClientError | IncompleteReadError | NotConnectedError)
        raise (UnansweredError if for_now and type(error) is not SSLError else OSError)(str(error)) from error


@dataclass(frozen=True)
class Upload:
    """An upload in parts that somebody began (in seconds since 1970) and did not end."""

    key: str
    id: str
    began: float


class Objects:
    """Objects of one bucket. Errors are `OSError`; of what may be asked again `UnansweredError`.

    Options are those of Arrow's `S3FileSystem`: address, region and credentials; botocore looks for those not given.
    """

    def __init__(self, bucket: str, options: Mapping[str, Any]) -> None:
        self._bucket, self._options, self._without_conditions = bucket, options, False

    @cached_property
    def _client(self) -> Any:
        import botocore.session
        from botocore.config import Config

        options, address = self._options, self._options["endpoint_override"] or None
        config = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=ANSWER_SECONDS,
            retries={"total_max_attempts": 1},  # calls are made again by who counts them
            max_pool_connections=_CONNECTIONS,
            request_checksum_calculation="when_required",  # other services than Amazon's know no such sums
            response_checksum_validation="when_required",
            s3={"addressing_style": "path" if address and not options["force_virtual_addressing"] else "auto"},
        )
        with _making:
            return botocore.session.get_session().create_client(
                "s3",
                region_name=options["region"] or os.environ.get("AWS_REGION") or None,
                endpoint_url=address if not address or "://" in address else f"{options['scheme']}://{address}",
                aws_access_key_id=options["access_key"],
                aws_secret_access_key=options["secret_key"],
                aws_session_token=options["session_token"],
                verify=options["tls_ca_file_path"] or None,
                config=config,
            )

    @_as_os_errors()
    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return an object, or `length` bytes of it from `offset` on; fewer where it ends before."""
        asked = {} if length is None else {"Range": f"bytes={offset}-{offset + length - 1}"}
        try:
            return bytes(self._client.get_object(Bucket=self._bucket, Key=key, **asked)["Body"].read())
        except self._client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] == "InvalidRange":  # it ends before `offset`
                return b""
            raise

    @_as_os_errors()
    def put(self, key: str, content: bytes, **conditions: str) -> None:
        """Write an object in one request: it is there whole or not at all."""
        if len(content) > MAX_BYTES:
            raise OSError(errno.EFBIG, f"{len(content) / 2**30:.1f} GiB, more than the 5 GiB that one request may have")
        self._client.put_object(Bucket=self._bucket, Key=key, Body=content, **conditions)

    def put_first(self, key: str, content: bytes) -> bool | None:
        """Write an object as `put` does unless there is one, and return whether it did.

        None where the service knows no conditions: then it is written whatever there was.
        """
        if not self._without_conditions:
            try:
                self.put(key, content, IfNoneMatch="*")
                return True
            except FileExistsError:
                return False
            except UnsupportedError:
                self._without_conditions = True
        self.put(key, content)
        return None

    def size(self, key: str) -> int | None:
        """Return the size of an object in bytes; None where there is none."""
        try:
            with _as_os_errors():
                return int(self._client.head_object(Bucket=self._bucket, Key=key)["ContentLength"])
        except FileNotFoundError:
            return None

    @_as_os_errors()
    def delete(self, key: str) -> None:
        """Delete an object; one that is not there is no error."""
        self._client.delete_object(Bucket=self._bucket, Key=key)

    @_as_os_errors()
    def uploads(self, prefix: str) -> list[Upload]:
        """Return the open uploads of objects whose keys begin so."""
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=prefix)
        found = [one for page in pages for one in page.get("Uploads", ())]
        return [Upload(one["Key"], one["UploadId"], one["Initiated"].timestamp()) for one in found]

    @_as_os_errors()
    def abort(self, upload: Upload) -> None:
        """End an open upload, and free what its parts take."""
        self._client.abort_multipart_upload(Bucket=self._bucket, Key=upload.key, UploadId=upload.id)


class Ranges(io.RawIOBase):
    """An object of some bytes, for `pyarrow.PythonFile`: `read` returns `length` bytes from `offset` on."""

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self._read, self._size, self._at = read, size, 0

    def tell(self) -> int:
        """Return where the next byte is read."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place in the object."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes, all that are left by default, in one request."""
        left = max(0, self._size - self._at)
        length = left if size is None or size < 0 else min(size, left)
        content = self._read(self._at, length) if length else b""
        self._at += len(content)
        return content
