"""Files under one URI: a folder, `s3://` or `gs://`, written atomically.

Everything the suite keeps (embeddings, result rows, reports) goes through here, so that a laptop and a cluster
differ by one string.
"""

import os
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq

from benchmark.common.errors import IcmBenchError, UnwritableError


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file or folder as a listing shows it.

    Attributes:
        name: place below the storage's URI, `/`-separated.
        is_folder: whether it is a folder.
        bytes: size of the file in bytes; 0 for folders.
        modified_ns: time of the last change, in nanoseconds since 1970; 0 where it is not known.
    """

    name: str
    is_folder: bool
    bytes: int
    modified_ns: int


def public(uri: str) -> str:
    """Return `uri` as it may be printed: without user, password and query, which may hold secrets."""
    if "://" not in uri:
        return uri
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


class Storage:
    """Read and write files below `uri`.

    Args:
        uri: a folder (relative folders are taken from the working directory), or a URI that Arrow understands
            (`s3://bucket/prefix`, `gs://bucket/prefix`, `file:///folder`). An S3 service that is not Amazon's is
            named by the environment variable AWS_ENDPOINT_URL or by `?endpoint_override=HOST:PORT&scheme=http`.

    Raises:
        IcmBenchError: the URI cannot be understood, or a file cannot be read or written (with the reason).
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        if "://" in uri:
            try:
                self._fs, root = pyarrow.fs.FileSystem.from_uri(uri)
            except (ValueError, OSError) as error:
                said = str(error).replace(uri, public(uri))
                raise IcmBenchError(
                    f"The store '{public(uri)}' cannot be opened ({said}); give a folder, s3://... or gs://..."
                ) from None  # the error behind it may quote the secrets of the URI
            self._root = root.rstrip("/")
        else:
            self._fs, self._root = pyarrow.fs.LocalFileSystem(), str(Path(uri).expanduser().absolute())

    def __reduce__(self) -> tuple[type["Storage"], tuple[str]]:
        return Storage, (self.uri if "://" in self.uri else self._root,)

    @property
    def is_local(self) -> bool:
        """Whether the files lie on this machine's own disk (or a mounted one)."""
        return isinstance(self._fs, pyarrow.fs.LocalFileSystem)

    def path(self, name: str) -> str:
        """Return the place of file `name` (relative, `/`-separated) as a person would write it."""
        return f"{self._root if self.is_local else public(self.uri)}/{name}"

    def exists(self, name: str) -> bool:
        """Return whether the file `name` exists."""
        info = self._fs.get_file_info(f"{self._root}/{name}")
        return bool(info.type == pyarrow.fs.FileType.File)

    def is_folder(self, name: str = "") -> bool:
        """Return whether `name` is a folder; on an object store: whether anything lies below it."""
        try:
            info = self._fs.get_file_info(self._below(name))
        except OSError as error:
            raise IcmBenchError(f"{self.path(name).rstrip('/')} cannot be read ({reason(error)}).") from error
        return bool(info.type == pyarrow.fs.FileType.Directory)

    def state(self, name: str) -> tuple[int, int]:
        """Return size (bytes) and time of the last change (ns since 1970; 0 where unknown) of `name`; 0, 0 for none."""
        info = self._fs.get_file_info(f"{self._root}/{name}")
        return info.size or 0, info.mtime_ns or 0

    def listing(self, folder: str = "", recursive: bool = False) -> list[FileInfo]:
        """Return what lies in a folder, sorted by name; links are followed.

        Args:
            folder: name of the folder below the URI. Default: the URI itself.
            recursive: whether what lies in folders of the folder is listed too. Default False.

        Raises:
            IcmBenchError: the folder cannot be read, or a name in it is not UTF-8.
        """
        kinds = {pyarrow.fs.FileType.File: False, pyarrow.fs.FileType.Directory: True}
        try:
            infos = self._fs.get_file_info(pyarrow.fs.FileSelector(self._below(folder), recursive=recursive))
            entries = [
                FileInfo(i.path[len(self._root) + 1 :], kinds[i.type], i.size or 0, i.mtime_ns or 0)
                for i in infos
                if i.type in kinds
            ]
        except (OSError, UnicodeDecodeError) as error:
            raise IcmBenchError(f"{self.path(folder).rstrip('/')} cannot be read ({reason(error)}).") from error
        return sorted(entries, key=lambda entry: entry.name)

    def open(self, name: str) -> pa.NativeFile:
        """Return the file `name`, open for reading anywhere in it; to be closed by the caller.

        Raises:
            IcmBenchError: it cannot be opened. Reading from it raises OSError.
        """
        try:
            return self._fs.open_input_file(self._below(name))
        except OSError as error:
            raise IcmBenchError(f"{self.path(name)} cannot be read ({reason(error)}).") from error

    def _below(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root or "/"

    def files(self, folder: str, suffix: str) -> list[str]:
        """Return the names of the finished files below `folder` that end in `suffix`, sorted."""
        selector = pyarrow.fs.FileSelector(f"{self._root}/{folder}", allow_not_found=True, recursive=True)
        names = [
            info.path[len(self._root) + 1 :]
            for info in self._fs.get_file_info(selector)
            if info.type == pyarrow.fs.FileType.File and info.base_name.endswith(suffix)
        ]
        return sorted(name for name in names if not Path(name).name.startswith("."))

    def details(self, folder: str) -> list[tuple[str, int, float]]:
        """Return every file below `folder`, temporary ones too: name, bytes, time of the last change.

        The time is in seconds since 1970, or 0 where it is not known.
        """
        selector = pyarrow.fs.FileSelector(f"{self._root}/{folder}".rstrip("/"), allow_not_found=True, recursive=True)
        return sorted(
            (info.path[len(self._root) + 1 :], info.size, info.mtime.timestamp() if info.mtime else 0.0)
            for info in self._fs.get_file_info(selector)
            if info.type == pyarrow.fs.FileType.File
        )

    def delete(self, name: str) -> None:
        """Delete file `name`; one that is not there is no error."""
        if self.exists(name):
            self._fs.delete_file(f"{self._root}/{name}")

    def delete_folder(self, name: str) -> None:
        """Delete the folder `name` with all that it holds."""
        self._fs.delete_dir(f"{self._root}/{name}")

    def read_bytes(self, name: str) -> bytes:
        """Return the content of file `name`."""
        try:
            with self._fs.open_input_stream(f"{self._root}/{name}", compression=None) as stream:
                return bytes(stream.read())
        except OSError as error:
            raise IcmBenchError(f"{self.path(name)} cannot be read ({reason(error)}).") from error

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write file `name` so that a reader sees all of it or nothing, even if the writer is killed."""
        target = f"{self._root}/{name}"
        try:
            if not self.is_local:  # object stores make an object visible when it is complete
                with self._fs.open_output_stream(target, compression=None) as stream:
                    stream.write(content)
                return
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
        except OSError as error:
            raise UnwritableError(
                f"{self.path(name)} cannot be written ({reason(error)}); free some space, or give another --store or "
                f"--out."
            ) from error

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """Return the Parquet file `name`, or only those of its columns that `columns` names.

        Raises:
            IcmBenchError: it cannot be read, or is damaged.
        """
        try:
            return pq.read_table(
                f"{self._root}/{name}", filesystem=self._fs, columns=columns, page_checksum_verification=True
            )
        except (OSError, pa.ArrowInvalid) as error:
            raise IcmBenchError(
                f"{self.path(name)} is damaged ({reason(error)}); delete it and run again: only it is recomputed."
            ) from error

    def write_table(self, name: str, table: pa.Table, compression: str = "zstd") -> None:
        """Write `table` as the Parquet file `name`, atomically.

        Args:
            name: relative, `/`-separated.
            table: its content.
            compression: one that Parquet knows.
        """
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression=compression, write_page_checksum=True)
        self.write_bytes(name, sink.getvalue().to_pybytes())

    def check_writable(self) -> None:
        """Write and remove a small file, so that a read-only store is found before any work is done."""
        name = f".write-test-{uuid.uuid4().hex}"
        self.write_bytes(name, b"x" * 4096)
        self._fs.delete_file(f"{self._root}/{name}")


def reason(error: Exception) -> str:
    """Return the operating system's reason in its own words, or the first line of the message."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    first = str(text).splitlines()[0]
    return re.sub(r".*Detail: \[errno \d+\] ", "", first).rstrip(".")  # Arrow wraps the system's words in its own
