"""Object stores: requests to S3, and a per-command disk cache of objects.

botocore reads and writes objects of S3 and compatible services, with one request each. Arrow only lists them. Arrow
would request the size before each read, and write multipart uploads. The parts of a killed writer would stay in the
bucket and cost money, and an exception between two parts would publish an incomplete object. A single PUT is atomic.

The cache saves repeated requests and traffic. It holds only images in separate files (read to identify them, and to
decode them for each backbone), parts of embeddings (read again for moments), and lists of tested images (read by
`details` and the report).
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

CONNECT_SECONDS, ANSWER_SECONDS = 3, 10  # timeouts of a request, before it is retried
MAX_BYTES = 5 * 2**30  # maximum size of an object in one request
_CONNECTIONS = 64  # maximum connections of a process
_TRANSIENT = {"RequestTimeout", "SlowDown", "Throttling", "ThrottlingException", "InternalError", "ServiceUnavailable"}
_TRANSIENT |= {"ConditionalRequestConflict", "OperationAborted"}  # concurrent writers
_client_lock = threading.Lock()  # one client is created at a time, since creation reads shared files
# botocore's names for sources of long-lived keys. Keys of other sources (roles) expire within hours and belong to one
# machine, so they are not passed to workers.
_LONG_LIVED = {"env", "shared-credentials-file", "config-file"}
_KEYS_SECONDS = 300  # seconds for which keys are cached
COPIES_SHARE, MAX_GIB = 0.25, 64.0  # limits of the cache: share of the free disk space at the start, and GiB
COPIES_LIMIT = "ICM_BENCH_COPIES_GIB"  # environment variable that replaces `MAX_GIB`; 0 disables the cache
_LOCK, _COPIES = "in-use", "copies"  # names of the lock file and the folder of copies in the cache of a command
_ABANDONED_SECONDS = 60.0  # seconds after which a folder without lock file is abandoned


@dataclass(frozen=True)
class Access:
    """The driver's endpoint and keys of an S3 service, for workers on nodes that have none.

    They are passed as arguments of tasks and actors. Ray writes environment variables, runtime environments and command
    lines to disk. It writes arguments to disk only if its memory is full, and then into its session folder.
    """

    endpoint: str = ""  # as in AWS_ENDPOINT_URL; empty for Amazon's service
    keys: tuple[str, str, str] | None = field(default=None, repr=False)  # access key, secret key, session token or ""

    def options(self, system: pyarrow.fs.S3FileSystem) -> dict[str, Any]:
        """Return the options of a file system made from the URI.

        Endpoint and keys of the driver are added if this node has none, unless the URI names another endpoint.
        """
        options = _options(system)
        own = options["endpoint_override"] or ""
        if own and own != self.endpoint:  # the driver's keys belong to another service
            return options
        options["endpoint_override"] = self.endpoint or None
        if self.keys and not options["access_key"] and (self.endpoint != own or not _own_keys()):
            register_secrets(*self.keys)  # this node's environment does not have them, so redaction must be told
            options |= dict(zip(("access_key", "secret_key", "session_token"), self.keys, strict=True))
        return options


def access_of(system: pyarrow.fs.S3FileSystem) -> Access:
    """Return the endpoint of a file system of this process, and this machine's keys if they are long-lived."""
    found = _own_keys()
    keys = found[1] if found and found[0] in _LONG_LIVED else None
    return Access(_options(system)["endpoint_override"] or "", keys)


def _options(system: pyarrow.fs.S3FileSystem) -> dict[str, Any]:
    return dict(system.__reduce__()[1][0])


def _own_keys() -> tuple[str, tuple[str, str, str]] | None:
    """Return (source, AWS keys) of this machine, with botocore's name of the source; None if there are no keys."""
    variables = frozenset(item for item in os.environ.items() if item[0].startswith("AWS_"))
    return _cached_keys(variables, int(time.monotonic() / _KEYS_SECONDS))


@lru_cache(maxsize=4)
def _cached_keys(
    variables: frozenset[tuple[str, str]],  # noqa: ARG001  part of the cache key
    period: int,  # noqa: ARG001  limits the age of cached keys
) -> tuple[str, tuple[str, str, str]] | None:
    """Return the result of `_own_keys`, cached since a query of the instance metadata takes up to a second."""
    import botocore.exceptions
    import botocore.session

    try:
        if (found := botocore.session.get_session().get_credentials()) is None:
            return None
        keys = found.get_frozen_credentials()
    except botocore.exceptions.BotoCoreError:  # such as a missing profile: reported when keys are used
        return None
    register_secrets(keys.access_key, keys.secret_key, keys.token or "")
    return found.method, (keys.access_key, keys.secret_key, keys.token or "")


class UnsupportedError(OSError):
    """A service does not support a request."""


@contextmanager
def _as_os_errors() -> Iterator[None]:
    """Turn exceptions of botocore into OSError."""
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError, SSLError
    from botocore.exceptions import ConnectionError as NotConnectedError

    try:
        yield
    except ClientError as error:
        reported, status = error.response["Error"], error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = reported.get("Code", "")
        if code in ("NoSuchKey", "404"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from error
        words = f"{code}: {reported['Message']}" if reported.get("Message") else f"{code} {error.operation_name}"
        if status in (HTTPStatus.PRECONDITION_FAILED, HTTPStatus.NOT_MODIFIED):  # S3; older MinIO
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error
        unknown = status in (HTTPStatus.BAD_REQUEST, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED)
        transient = status >= 500 or status in (408, 429) or code in _TRANSIENT
        if transient and status != HTTPStatus.NOT_IMPLEMENTED:
            raise UnansweredError(words) from error
        raise (UnsupportedError if unknown else OSError)(words) from error
    except BotoCoreError as error:  # not transient: no credentials, no region, an untrusted certificate
        transient = isinstance(error, HTTPClientError | IncompleteReadError | NotConnectedError)
        raise (UnansweredError if transient and type(error) is not SSLError else OSError)(str(error)) from error


@dataclass(frozen=True)
class Upload:
    """An unfinished multipart upload; `began`: its start in seconds since 1970."""

    key: str
    id: str
    began: float


class Objects:
    """Objects of one bucket. Errors are `OSError`; transient errors are `UnansweredError`.

    `options` are options of Arrow's `S3FileSystem`: endpoint, region and credentials. botocore finds missing ones.
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
            retries={"total_max_attempts": 1},  # `with_retries` retries calls
            max_pool_connections=_CONNECTIONS,
            request_checksum_calculation="when_required",  # services other than Amazon's do not support checksums
            response_checksum_validation="when_required",
            s3={"addressing_style": "path" if address and not options["force_virtual_addressing"] else "auto"},
        )
        with _client_lock:
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
        """Return an object, or `length` bytes from `offset` on; fewer at its end."""
        asked = {} if length is None else {"Range": f"bytes={offset}-{offset + length - 1}"}
        try:
            return bytes(self._client.get_object(Bucket=self._bucket, Key=key, **asked)["Body"].read())
        except self._client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] == "InvalidRange":  # `offset` is beyond the end of the object
                return b""
            raise

    @_as_os_errors()
    def put(self, key: str, content: bytes, **conditions: str) -> None:
        """Write an object atomically, in one request."""
        if len(content) > MAX_BYTES:
            raise OSError(errno.EFBIG, f"{len(content) / 2**30:.1f} GiB, more than the 5 GiB of one request")
        self._client.put_object(Bucket=self._bucket, Key=key, Body=content, **conditions)

    def put_first(self, key: str, content: bytes) -> bool | None:
        """Write an object unless it exists, and return whether it was written.

        If the service has no conditional writes, the object is overwritten, and None is returned.
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
        """Return the size of an object in bytes; None if it does not exist."""
        try:
            with _as_os_errors():
                return int(self._client.head_object(Bucket=self._bucket, Key=key)["ContentLength"])
        except FileNotFoundError:
            return None

    @_as_os_errors()
    def delete(self, key: str) -> None:
        """Delete an object if it exists."""
        self._client.delete_object(Bucket=self._bucket, Key=key)

    @_as_os_errors()
    def uploads(self, prefix: str) -> list[Upload]:
        """Return the unfinished multipart uploads of objects whose keys start with `prefix`."""
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=prefix)
        found = [one for page in pages for one in page.get("Uploads", ())]
        return [Upload(one["Key"], one["UploadId"], one["Initiated"].timestamp()) for one in found]

    @_as_os_errors()
    def abort(self, upload: Upload) -> None:
        """Abort an unfinished upload, and free the storage of its parts."""
        self._client.abort_multipart_upload(Bucket=self._bucket, Key=upload.key, UploadId=upload.id)


class Ranges(io.RawIOBase):
    """A read-only file of `size` bytes for `pyarrow.PythonFile`, whose bytes come from `read(offset, length)`."""

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self._read, self._size, self._at = read, size, 0

    def tell(self) -> int:
        """Return the current position."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes (default: all remaining) in one request."""
        left = max(0, self._size - self._at)
        length = left if size is None or size < 0 else min(size, left)
        content = self._read(self._at, length) if length else b""
        self._at += len(content)
        return content


@dataclass(frozen=True)
class LocalCopies:
    """The disk cache of a command: copies of objects by URI. All workers get it; those on the same machine use it."""

    folder: str  # folder of the cache; if it does not exist, as on another machine, nothing is cached
    floor: int  # minimum free bytes on its disk

    def put(self, place: str, content: bytes) -> None:
        """Store a copy of the object at a URI, unless less than `floor` bytes would stay free on the disk."""
        file = self._file(place)
        with suppress(OSError):  # without a copy, the object is requested again
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
        """Return the copy of the object at a URI; None if there is none."""
        try:
            return self._file(place).read_bytes()
        except OSError:
            return None

    def drop(self, place: str) -> None:
        """Remove the copy of the object at a URI."""
        with suppress(OSError):
            self._file(place).unlink()

    def _file(self, place: str) -> Path:
        name = sha256(place.encode()).hexdigest()
        return Path(self.folder, _COPIES, name[:2], name)


_current: LocalCopies | None = None  # cache of the command in this process


def current_copies() -> LocalCopies | None:
    """Return the disk cache of the command in this process; None if there is none."""
    return _current


@contextmanager
def local_copies(wanted: bool = True) -> Iterator[None]:
    """Let storages of this process and of its workers use a disk cache inside the block.

    Caches of killed commands are removed. With `wanted` False, for local files, no cache is created.

    Raises:
        IcmBenchError: the environment variable `COPIES_LIMIT` is not a number of 0 or more.
    """
    global _current
    if _current is not None:
        yield
        return
    text, root = os.environ.get(COPIES_LIMIT), cache_dir() / "kept"
    try:
        limit = float(text) if text else MAX_GIB
    except ValueError:
        limit = -1.0
    if not limit >= 0:
        raise IcmBenchError(f"{COPIES_LIMIT} is {text!r:.60}, but must be a number of GiB, or 0 for no copies.")
    _remove_unused(root)
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
    """Return a new disk cache and its lock file; None if it cannot be created."""
    folder = root / uuid.uuid4().hex
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.mkdir(mode=0o700)  # images may be confidential
        lock = _locked(folder, "w+b")
        (folder / _COPIES).mkdir()
        free = shutil.disk_usage(folder).free
    except (OSError, ImportError):
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return LocalCopies(str(folder), int(free - min(COPIES_SHARE * free, limit * 2**30))), lock


def _locked(folder: Path, mode: str) -> IO[bytes]:
    import fcntl  # missing on Windows

    lock: IO[bytes] = (folder / _LOCK).open(mode)  # a mode with write access, which locks on NFS need
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return lock


def _remove(folder: Path) -> None:
    """Remove the cache folder of a command, the lock file last, so that a partly removed folder is recognized."""
    shutil.rmtree(folder / _COPIES, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def _remove_unused(root: Path) -> None:
    """Remove the cache folders of commands that no longer run."""
    with suppress(OSError, ImportError):
        for folder in root.iterdir():
            try:
                with _locked(folder, "r+b"):
                    _remove(folder)
            except FileNotFoundError:  # partly removed, or just created
                if time.time() - folder.stat().st_mtime > _ABANDONED_SECONDS:
                    _remove(folder)
            except OSError:
                continue  # in use
