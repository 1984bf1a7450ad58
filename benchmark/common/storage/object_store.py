"""Object stores: requests to S3, and copies of what was read or written, kept on this machine while a command runs.

Objects of S3, and of services that speak as it does, go through botocore, a request for each. Arrow, through which they
are listed, asks for the size of whatever it reads, and writes in parts: what a killed writer leaves open has to be paid
for, and an exception amid the parts publishes those that are there. A single PUT is there whole or not at all.

An object store counts every request, and a network every byte. An image that is a file of its own is read to identify
it, and to decode it under each backbone; a part of embeddings is read by sums soon after it was written, and lists of
tested images by details and the report. Of these there are copies, and of nothing else.
"""

import errno
import io
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any

import pyarrow.fs

from benchmark.common.errors import IcmBenchError
from benchmark.common.secrets import register_secrets
from benchmark.common.storage.places import cache_dir
from benchmark.common.storage.retries import UnansweredError

CONNECT_SECONDS, ANSWER_SECONDS = 3, 10  # after which a call that hangs is given up, to be made again
MAX_BYTES = 5 * 2**30  # of an object that is written in one request
_CONNECTIONS = 64  # of a process, at a time
_TRANSIENT = {"RequestTimeout", "SlowDown", "Throttling", "ThrottlingException", "InternalError", "ServiceUnavailable"}
_TRANSIENT |= {"ConditionalRequestConflict", "OperationAborted"}  # two writers at the same moment
_making = threading.Lock()  # two clients made at the same time read the same files
# What AWS's tools call keys that a person has set. Those of roles end within hours, and other machines have their own.
_SET_BY_HAND = {"env", "shared-credentials-file", "config-file"}
_REMEMBERED = 300  # seconds for which keys are not looked up again
COPIES_SHARE, MAX_GIB = 0.25, 64.0  # of what is free on the disk at the beginning; whatever is free
COPIES_LIMIT = "ICM_BENCH_COPIES_GIB"  # variable with another limit in the place of `MAX_GIB`; 0 for no copies
_LOCK, _COPIES = "in-use", "copies"  # in the folder of a command
_SETTLED = 60.0  # seconds after which a folder that nobody holds is one that was left


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
            register_secrets(*self.keys)  # which nothing here would know for secrets
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
    register_secrets(keys.access_key, keys.secret_key, keys.token or "")
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
        transient = status >= 500 or status in (408, 429) or code in _TRANSIENT
        if transient and status != HTTPStatus.NOT_IMPLEMENTED:
            raise UnansweredError(words) from error
        raise (UnsupportedError if unknown else OSError)(words) from error
    except BotoCoreError as error:  # no credentials, no region and a certificate that is not trusted are for good
        transient = isinstance(error, HTTPClientError | IncompleteReadError | NotConnectedError)
        raise (UnansweredError if transient and type(error) is not SSLError else OSError)(str(error)) from error


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


@dataclass(frozen=True)
class LocalCopies:
    """Where the copies of a command lie; it travels to workers, of which those of the same machine find them."""

    folder: str  # where it is not, as on another machine, nothing is kept and nothing found
    floor: int  # bytes that stay free on its disk

    def put(self, place: str, content: bytes) -> None:
        """Keep a copy, unless the disk gets too full."""
        file = self._file(place)
        with suppress(OSError):  # a copy that cannot be kept costs a request and nothing else
            if shutil.disk_usage(file.parents[1]).free - len(content) < self.floor:
                return
            file.parent.mkdir(exist_ok=True)
            temporary = file.with_name(uuid.uuid4().hex)
            try:
                temporary.write_bytes(content)
                temporary.replace(file)
            finally:
                temporary.unlink(missing_ok=True)

    def get(self, place: str) -> bytes | None:
        """Return the copy of what lies at a place; None where there is none."""
        try:
            return self._file(place).read_bytes()
        except OSError:
            return None

    def drop(self, place: str) -> None:
        """Forget the copy of what lies at a place."""
        with suppress(OSError):
            self._file(place).unlink()

    def _file(self, place: str) -> Path:
        name = sha256(place.encode()).hexdigest()
        return Path(self.folder, _COPIES, name[:2], name)


_current: LocalCopies | None = None  # of the command of this process


def current_copies() -> LocalCopies | None:
    """Return where the command of this process keeps copies; None where it does not."""
    return _current


@contextmanager
def local_copies(wanted: bool = True) -> Iterator[None]:
    """Let storages of this process, and of workers that they travel to, keep copies for as long as the block lasts.

    What a command left behind that was killed is removed. Files of a folder are at hand anyway, and not `wanted`.

    Raises:
        IcmBenchError: the variable `COPIES_LIMIT` is no number of 0 or more.
    """
    global _current
    if _current is not None:
        yield
        return
    said, root = os.environ.get(COPIES_LIMIT), cache_dir() / "kept"
    try:
        limit = float(said) if said else MAX_GIB
    except ValueError:
        limit = -1.0
    if not limit >= 0:
        raise IcmBenchError(f"{COPIES_LIMIT} is {said!r:.60}, where a number of GiB is needed, or 0 for no copies.")
    _remove_left(root)
    made = _new_copies(root, limit) if wanted and limit else None
    if made is None:
        yield
        return
    _current, lock = made
    try:
        yield
    finally:
        _current = None
        _remove(Path(made[0].folder))
        lock.close()


def _new_copies(root: Path, limit: float) -> tuple[LocalCopies, IO[bytes]] | None:
    """Return a new folder for copies and the file that says that it is in use; None where there can be none."""
    folder = root / uuid.uuid4().hex
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.mkdir(mode=0o700)  # images may be nobody else's business
        lock = _locked(folder, "w+b")
        (folder / _COPIES).mkdir()
        free = shutil.disk_usage(folder).free
    except (OSError, ImportError):
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return LocalCopies(str(folder), int(free - min(COPIES_SHARE * free, limit * 2**30))), lock


def _locked(folder: Path, mode: str) -> IO[bytes]:
    import fcntl  # Windows has none

    lock: IO[bytes] = (folder / _LOCK).open(mode)  # on NFS a file is locked only by who may write it
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return lock


def _remove(folder: Path) -> None:
    """Remove a folder, the file that says that it was used last: what is left half removed can be told."""
    shutil.rmtree(folder / _COPIES, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def _remove_left(root: Path) -> None:
    """Remove the folders that no command uses."""
    with suppress(OSError, ImportError):
        for folder in root.iterdir():
            try:
                with _locked(folder, "r+b"):
                    _remove(folder)
            except FileNotFoundError:  # removed by halves, or made just now
                if time.time() - folder.stat().st_mtime > _SETTLED:
                    _remove(folder)
            except OSError:
                continue  # in use
