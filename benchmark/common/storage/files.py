"""Files under one URI: a folder, `s3://` or `gs://`, written atomically.

This module reads and writes all stored files (embeddings, result rows, reports), so a run on a laptop and a run on a
cluster differ only in the URI.
"""

import errno
import os
import re
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq

from benchmark.common.errors import IcmBenchError, UnwritableError
from benchmark.common.secrets import public
from benchmark.common.storage import object_store
from benchmark.common.storage.places import check_place, remedy, walk_folder, why_not_a_file
from benchmark.common.storage.retries import FIRST_CONTACT, TIMEOUT, StorageTimeoutError, with_retries

T = TypeVar("T")
LOOK_SECONDS = 10.0  # seconds between two checks of a storage that workers use
_PICKLED = "ray.data.arrow_pickled_object"


class _Stored(pa.ExtensionType):
    """Replacement for Ray Data's Arrow type of pickled Python objects: values stay bytes and are not unpickled."""

    def __init__(self, stored: pa.DataType) -> None:
        super().__init__(stored, _PICKLED)

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> "_Stored":
        return cls(storage_type)


# Ray Data's type makes Arrow unpickle Python objects, also those in an untrusted Parquet file. With this type, the
# objects stay bytes. Ray Data does not replace a registered type when it is imported later, and its own processes
# exchange tables without such objects here.
with suppress(pa.ArrowKeyError):  # Ray Data was not imported before
    pa.unregister_extension_type(_PICKLED)
pa.register_extension_type(_Stored(pa.large_binary()))


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file or folder in a listing."""

    name: str  # path below the storage's URI, `/`-separated
    is_folder: bool
    bytes: int  # 0 for folders
    modified_ns: int  # time of the last change, ns since 1970; 0 if unknown
    odd: str = ""  # description of an entry that is neither file nor folder (broken link, pipe): never open it


class Storage:
    """Files below a URI, to read and to write. Transient errors are retried, see `benchmark.common.storage.retries`.

    Args:
        uri: a folder (relative to the working directory), or a URI that Arrow understands
            (`s3://bucket/prefix`, `gs://bucket/prefix`, `file:///folder`). For an S3 service other than Amazon's,
            set the environment variable AWS_ENDPOINT_URL, or append `?endpoint_override=HOST:PORT&scheme=http`.
        timeout: seconds for which a call is retried while the storage does not answer. Default 120.

    Raises:
        IcmBenchError: the URI is invalid, or a file cannot be read or written; the message has the reason.
    """

    def __init__(self, uri: str, timeout: float = TIMEOUT) -> None:
        check_place(uri)
        self.uri, self.timeout = uri, timeout
        self._access: object_store.Access | None = None  # access of the process that pickled this object
        self._copies: object_store.LocalCopies | None = None
        if "://" not in uri:
            self.uri = str(Path(uri).expanduser().absolute())
        if isinstance(self._fs, pyarrow.fs.S3FileSystem):
            region = self._fs.region
            if region and "region=" not in uri:  # otherwise each worker would request the region of the bucket
                self.uri += f"{'&' if '?' in uri else '?'}region={region}"

    def __getstate__(self) -> dict[str, Any]:
        """Return the state to pickle. The receiver opens the storage only at its first use, and raises errors there."""
        access = self._access
        if access is None and isinstance(self._fs, pyarrow.fs.S3FileSystem):
            access = object_store.access_of(self._fs)
        copies = self._copies or object_store.current_copies()
        return {"uri": self.uri, "timeout": self.timeout, "_access": access, "_copies": copies}

    @cached_property
    def _opened(self) -> tuple[pyarrow.fs.FileSystem, str, object_store.Objects | None]:
        """Three things: the file system for listings, the root in it, and the objects of S3 (None elsewhere)."""
        if "://" not in self.uri:
            return pyarrow.fs.LocalFileSystem(), self.uri, None
        try:
            system, root = pyarrow.fs.FileSystem.from_uri(self.uri)
        except ValueError as error:
            unparsed = str(error).startswith("Cannot parse URI")  # Arrow quotes the URI, which may hold secrets
            where = f"{self.uri.partition('://')[0][:20]}://..." if unparsed else public(self.uri)
            why = "it cannot be parsed" if unparsed else str(error).replace(self.uri, where)
            raise IcmBenchError(f"The store '{where}' cannot be opened ({why}); give a folder or s3://...") from None
        except OSError as error:
            raise IcmBenchError(f"The store '{public(self.uri)}' cannot be opened ({reason(error)}).") from None
        root = root.rstrip("/")
        if system.type_name != "s3":
            return system, root, None
        options = (self._access or object_store.Access()).options(system) | {
            "connect_timeout": object_store.CONNECT_SECONDS
        }
        if "@" in (options["endpoint_override"] or ""):  # network errors would quote the password
            raise IcmBenchError(
                f"The store '{public(self.uri)}' cannot be opened: its endpoint has a user or a password; "
                f"AWS_ENDPOINT_URL or endpoint_override must be only host and port."
            )
        # `with_retries` retries and counts calls.
        once = pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=1)
        options |= {"request_timeout": object_store.ANSWER_SECONDS, "retry_strategy": once}
        return pyarrow.fs.S3FileSystem(**options), root, object_store.Objects(root.partition("/")[0], options)

    @property
    def _fs(self) -> pyarrow.fs.FileSystem:
        return self._opened[0]

    @property
    def _root(self) -> str:
        return self._opened[1]

    @property
    def _objects(self) -> object_store.Objects | None:
        return self._opened[2]

    @property
    def is_local(self) -> bool:
        """Whether the files are on a local or mounted disk of this machine."""
        return isinstance(self._fs, pyarrow.fs.LocalFileSystem)

    def path(self, name: str) -> str:
        """Return the full path or URI of file `name` (relative, `/`-separated), for messages."""
        return f"{self._root if self.is_local else public(self.uri)}/{name}"

    def _below(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root or "/"

    def _key(self, name: str) -> str:
        """Return the key of an object, without the bucket."""
        return f"{self._root}/{name}".partition("/")[2]

    def _with_retries(self, call: Callable[[], T]) -> T:
        return with_retries(call, self.path("").rstrip("/"), self.timeout)

    @contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        """Turn OSError in the block into IcmBenchError that names the file of the OSError, else the file `name`."""
        try:
            yield
        except OSError as error:
            place = error.filename or self.path(name).rstrip("/")
            raise IcmBenchError(f"{place} cannot be read ({reason(error)}).") from error

    def _info(self, name: str) -> pyarrow.fs.FileInfo:
        with self._reading(name):
            return self._with_retries(lambda: self._fs.get_file_info(self._below(name)))

    def exists(self, name: str) -> bool:
        """Return whether the file `name` exists."""
        if objects := self._objects:
            with self._reading(name):
                return self._with_retries(lambda: objects.size(self._key(name))) is not None
        return bool(self._info(name).is_file)

    def is_folder(self, name: str = "") -> bool:
        """Return whether `name` is a folder; on an object store: whether any object is below it."""
        return bool(self._info(name).type == pyarrow.fs.FileType.Directory)

    def state(self, name: str) -> tuple[int, int]:
        """Return (bytes, time of the last change in ns since 1970, 0 if unknown) of `name`; (0, 0) if it is missing."""
        info = self._info(name)
        return info.size or 0, info.mtime_ns or 0

    def listing(self, folder: str = "", recursive: bool = False) -> list[FileInfo]:
        """Return the entries of a folder (with `recursive` also of subfolders), sorted by name. Links are followed."""
        if not self.is_local:
            return self._listed(folder, recursive, allow_not_found=False)
        with self._reading(folder):
            start, below = len(self._root) + 1, self._below(folder.rstrip("/"))
            walk = self._with_retries(lambda: list(walk_folder(below, recursive)))
            return sorted((FileInfo(one[0][start:], *one[1:]) for one in walk), key=lambda entry: entry.name)

    def _listed(self, folder: str, recursive: bool = True, allow_not_found: bool = True) -> list[FileInfo]:
        """Return the entries of a folder, sorted by name; empty for a missing folder if `allow_not_found`."""
        below = self._below(folder.rstrip("/"))
        selector = pyarrow.fs.FileSelector(below, allow_not_found=allow_not_found, recursive=recursive)
        with self._reading(folder):
            try:
                infos = self._with_retries(lambda: self._fs.get_file_info(selector))
            except FileNotFoundError:
                if not (allow_not_found and self.is_folder(folder)):
                    raise
                infos = self._with_retries(lambda: self._fs.get_file_info(selector))  # just created by another process
        found = [info for info in infos if info.type in (pyarrow.fs.FileType.File, pyarrow.fs.FileType.Directory)]
        start = len(self._root) + 1
        entries = (FileInfo(i.path[start:], not i.is_file, i.size or 0, i.mtime_ns or 0) for i in found)
        return sorted(entries, key=lambda entry: entry.name)

    def files(self, folder: str, suffix: str) -> list[str]:
        """Return the names of the finished files below `folder` whose names end in `suffix`, sorted."""
        return [info.name for info in self.file_infos(folder, suffix)]

    def file_infos(self, folder: str, suffix: str) -> list[FileInfo]:
        """Return the finished files below `folder` whose names end in `suffix`, sorted; none for a missing folder."""
        infos = [info for info in self._listed(folder) if not info.is_folder and info.name.endswith(suffix)]
        return [info for info in infos if not info.name.rpartition("/")[2].startswith(".")]

    def details(self, folder: str) -> list[tuple[str, int, float]]:
        """Return (name, bytes, time of change) of all files below `folder`, temporary files included.

        The time is in seconds since 1970, or 0 if it is unknown.
        """
        return [(i.name, i.bytes, i.modified_ns / 1e9) for i in self._listed(folder) if not i.is_folder]

    def open(self, name: str) -> pa.NativeFile:
        """Return the file `name`, opened for use by one thread; the caller closes it. Reads from it raise OSError."""
        with self._reading(name):
            if not (objects := self._objects):
                self._check_regular(name)
                return self._with_retries(lambda: self._fs.open_input_file(self._below(name)))
            key = self._key(name)
            if (size := self._with_retries(lambda: objects.size(key))) is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            read = partial(objects.get, key)
            return pa.PythonFile(
                object_store.Ranges(lambda at, length: self._with_retries(partial(read, at, length)), size)
            )

    def _check_regular(self, name: str) -> None:
        if self.is_local and (why := why_not_a_file(Path(self._root, name))):
            raise OSError(errno.EINVAL, why)

    def read_bytes(self, name: str) -> bytes:
        """Return the content of file `name`."""
        return self._content(name, 0, None)

    def read_if_there(self, name: str) -> bytes | None:
        """Return the content of file `name`; None if it does not exist."""
        try:
            return self._content(name, 0, None)
        except IcmBenchError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        """Return `length` bytes of file `name` from `offset` on; fewer at its end."""
        return self._content(name, offset, length)

    def _content(self, name: str, offset: int, length: int | None) -> bytes:
        if (copies := self._kept) and (content := copies.get(self._copy_of(name))) is not None:
            return content[offset:] if length is None else content[offset : offset + length]

        def read() -> bytes:
            if objects := self._objects:
                return objects.get(self._key(name), offset, length)
            self._check_regular(name)
            if offset:
                with self._fs.open_input_file(f"{self._root}/{name}") as file:
                    return bytes(file.read_at(length, offset))
            with self._fs.open_input_stream(f"{self._root}/{name}", compression=None) as stream:
                return bytes(stream.read(length))

        with self._reading(name):
            return self._with_retries(read)

    @property
    def _kept(self) -> object_store.LocalCopies | None:
        """The disk cache for objects, if any; local folders need none."""
        return None if self.is_local else self._copies or object_store.current_copies()

    def _copy_of(self, name: str) -> str:
        return f"{self.uri}/{name}"  # the URI includes the service: two services may have buckets of the same name

    def keep(self, name: str, content: bytes) -> None:
        """Put the content of file `name` into the disk cache of this machine and command, see `object_store`."""
        if copies := self._kept:
            copies.put(self._copy_of(name), content)

    def _drop(self, name: str) -> None:
        if copies := self._kept:
            copies.drop(self._copy_of(name))

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write file `name` atomically: readers see the whole file or no file, even if the writer is killed."""
        self._written(name, content)

    def write_files(self, folder: str, contents: Mapping[str, bytes]) -> dict[str, str]:
        """Write files into a folder ("" for the root), and return file name -> path."""
        names = {file: f"{folder}/{file}" if folder else file for file in contents}
        for file, content in contents.items():
            self.write_bytes(names[file], content)
        return {file: self.path(name) for file, name in names.items()}

    def write_first(self, name: str, content: bytes) -> bool:
        """Write file `name` like `write_bytes`; in an object store only if it does not exist.

        Return whether this call wrote the file: False if another writer, or an earlier try of this call, was first. In
        an object store the file is also put into the disk cache, if there is one.
        """
        if not self._objects:
            self.write_bytes(name, content)
            return True
        first = self._written(name, content, first=True)
        if first:
            self.keep(name, content)  # later writers do not change it
        return first is not False

    def _written(self, name: str, content: bytes, first: bool = False) -> bool | None:
        self._drop(name)
        try:
            return self._with_retries(lambda: self._write(name, content, first))
        except OSError as error:
            what_to_do = remedy(error, self.path(name), "--store or --out")
            raise UnwritableError(f"{self.path(name)} cannot be written ({reason(error)}); {what_to_do}.") from error

    def _write(self, name: str, content: bytes, first: bool = False) -> bool | None:
        """Write a file atomically. With `first`, keep an existing object, and return as `Objects.put_first` does."""
        if objects := self._objects:
            return (objects.put_first if first else objects.put)(self._key(name), content)
        target = f"{self._root}/{name}"
        if not self.is_local:
            stream = self._fs.open_output_stream(target, compression=None)
            stream.write(content)  # an upload that is not closed stays invisible
            stream.close()
            return None
        folder = Path(target).parent
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{uuid.uuid4().hex}.tmp"
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        return None

    def delete(self, name: str) -> None:
        """Delete file `name` if it exists."""
        self._drop(name)
        objects, path = self._objects, f"{self._root}/{name}"
        with self._deleting(name):
            self._with_retries(lambda: objects.delete(self._key(name)) if objects else self._fs.delete_file(path))

    def delete_folder(self, name: str) -> None:
        """Delete the folder `name` with its content."""
        with self._deleting(name):
            self._with_retries(lambda: self._fs.delete_dir(f"{self._root}/{name}"))

    @contextmanager
    def _deleting(self, name: str) -> Iterator[None]:
        """Pass over a file or folder that another process removed, and name one that cannot be deleted."""
        try:
            yield
        except FileNotFoundError:
            pass
        except OSError as error:
            why = f"{self.path(name)} cannot be deleted ({reason(error)})"
            raise UnwritableError(f"{why}; let this user write there, and run the command again.") from error

    def open_uploads(self) -> list[object_store.Upload]:
        """Return the unfinished multipart uploads below the URI; empty except on S3."""
        if not (objects := self._objects):
            return []
        try:
            return self._with_retries(lambda: objects.uploads(self._key("")))
        except OSError as error:
            raise IcmBenchError(
                f"Open uploads of {self.path('')} cannot be listed ({reason(error)}); allow "
                f"s3:ListBucketMultipartUploads, or let a lifecycle rule of the bucket abort them."
            ) from error

    def abort(self, upload: object_store.Upload) -> None:
        """Abort an unfinished upload."""
        if objects := self._objects:
            self._with_retries(lambda: objects.abort(upload))

    def upload_name(self, upload: object_store.Upload) -> str:
        """Return the file name of an unfinished upload."""
        return upload.key.removeprefix(self._key(""))

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """Return the Parquet file `name` as a table with the given `columns`. Default: all columns."""
        source = f"{self._root}/{name}" if self.is_local else pa.BufferReader(self.read_bytes(name))
        try:
            return pq.read_table(source, columns=columns, page_checksum_verification=True)
        except (OSError, pa.ArrowInvalid) as error:
            raise IcmBenchError(
                f"{self.path(name)} is damaged ({reason(error)}); delete it and run again: only it is recomputed."
            ) from error

    def write_table(self, name: str, table: pa.Table, compression: str = "zstd") -> None:
        """Write `table` atomically as the Parquet file `name`; `compression` is the name of a Parquet codec."""
        self.write_bytes(name, in_parquet(table, compression))

    def at_first(self) -> "Storage":
        """Return a copy of this storage with a short timeout, for the first request to it."""
        first = copy(self)
        first.timeout = min(self.timeout, FIRST_CONTACT)
        return first

    def check_writable(self) -> None:
        """Write and remove a small file before any work, to detect a store that is read-only or does not answer."""
        name, first = f".write-test-{uuid.uuid4().hex}", self.at_first()
        try:
            first.write_bytes(name, b"x" * 4096)
            first.delete(name)
        except StorageTimeoutError as error:
            raise UnwritableError(
                f"The store {self.path('').rstrip('/')} does not answer ({reason(error.__cause__ or error)}); check "
                f"its address, and whether it can be reached from here."
            ) from error


@contextmanager
def watched(storage: Storage) -> Iterator[None]:
    """Access a remote storage regularly inside the block, so that an outage is reported once, by this process."""
    if storage.is_local:
        yield
        return
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_SECONDS):
            with suppress(IcmBenchError, OSError):  # workers report the error
                storage.exists(".watched")

    threading.Thread(target=look, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def in_parquet(table: pa.Table, compression: str = "zstd") -> bytes:
    """Return a table as the content of a Parquet file; `compression` is the name of a Parquet codec.

    Embeddings have no dictionary, since their values hardly repeat, and no statistics.
    """
    vectors = [field.name for field in table.schema if pa.types.is_fixed_size_list(field.type)]
    others: Any = [name for name in table.column_names if name not in vectors] if vectors else True
    options: dict[str, Any] = {"write_page_checksum": True, "use_dictionary": others, "write_statistics": others}
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression=compression, **options)
    return bytes(sink.getvalue().to_pybytes())


def reason(error: BaseException) -> str:
    """Return the operating system's message for an error, else the first line of the error's text."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    first = str(text).splitlines()[0]
    return re.sub(r".*Detail: \[errno \d+\] ", "", first).rstrip(".")  # Arrow wraps the system's message
