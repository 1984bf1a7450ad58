"""Base class of image readers, which list images and read their bytes by file and position; functions for readers."""

import contextlib
import re
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pyarrow as pa

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import FileInfo, Storage, reason
from benchmark.common.storage.places import NO_TARGET, SPECIAL
from benchmark.common.storage.retries import TIMEOUT
from benchmark.datasets.columns import ColumnsSpec

# Extensions that torchvision's ImageFolder, and so DomainBed's loader, accepts.
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"})
MAX_IMAGE_BYTES = 512 * 2**20  # maximum size of an encoded image, to limit memory; docs/limits.md states it
CHUNK_BYTES = 2**20  # bytes read at a time for hashing
REMOTE_READS = 8  # parallel reads from an object store, to hide the latency of requests
REMOTE_LISTINGS = 16  # parallel listings of folders in an object store
# Field of `ColumnsSpec` -> usual names of its column. The docstring of `ColumnsSpec` (columns.py) lists them, too.
USUAL_COLUMNS: dict[str, tuple[str, ...]] = {
    "path": ("path", "file", "file_name", "filename", "image_path"),
    "class_name": ("class_name", "label", "class", "category"),
    "environment": ("environment", "domain", "env"),
    "group": ("group",),
    "split": ("split",),
}
# Kinds of entries that have the name of an image but are not files. Their positions are -2, -3 and so on. They count as
# unreadable images, as empty files do, and are never opened.
NO_FILES = (NO_TARGET, SPECIAL, "a folder")
NO_CLASS = ""  # class name of unlabelled images; no class has this name
MACOS = "__MACOSX"  # folder that macOS adds to archives, with a small file for each file
WHOLE = "all"  # environment name for images without environments

Batch = Mapping[str, Sequence[Any]]
In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True, slots=True)
class Entry:
    """One image as its reader lists it. A new whole-number field must also be in `_WHOLE_NUMBERS` (manifest.py).

    Attributes:
        path: name of the image inside the data set, with /: the original path, or the name stored with the image.
        environment: name of the environment, as in the data.
        class_name: name of the class, as in the data.
        group: name of the group, shared by images that belong together; None without groups.
        file: the file of the image, relative to the reader's URI.
        position: byte offset inside a tar shard, row number inside a Parquet file, -1 for a whole file; below -1
            for entries that are not files, see `NO_FILES`.
        bytes: size of the encoded image; -1 if it is known only after reading (Parquet).
        modified_ns: time of the last change of `file`, in nanoseconds since 1970.
        file_bytes: size of `file` in bytes.
    """

    path: str
    environment: str
    class_name: str
    group: str | None
    file: str
    position: int
    bytes: int
    modified_ns: int
    file_bytes: int


@dataclass(frozen=True)
class ImageReader(ABC):
    """Lists and reads the images of a data set; small and picklable, since it is sent to workers.

    Attributes:
        uri: a folder, s3:// or gs://.
        environment: name of the environment if the set has only one; None (default) if it has several.
        columns: names of columns or fields, for layouts with columns.
        labelled: whether images have classes (default True); otherwise their class name is `NO_CLASS`.
        unlabelled: environments with unlabelled images in a set that also has labelled ones. A labelled reader skips
            them; an unlabelled reader reads only them. Default: none.
        timeout: seconds for which reads are retried if the storage does not answer. Default 120.
        formats: additional formats to decode, by their names in Pillow. Files are still chosen by `IMAGE_SUFFIXES`.
        passed_over: folders that `entries` has skipped because of their names.
        left_out: other entries that `entries` has skipped: description -> names.
        arrangement: clause for messages that says where the layout has environments and classes.
        files_at_once: number of files that are read in parallel when images are hashed.
    """

    arrangement: ClassVar[str] = "environments and classes are as the reader finds them"
    files_at_once: ClassVar[int] = 8

    uri: str = field(repr=False)  # may hold secrets
    environment: str | None = None
    columns: ColumnsSpec = field(default_factory=ColumnsSpec)
    labelled: bool = True
    unlabelled: frozenset[str] = frozenset()
    timeout: float = field(default=TIMEOUT, kw_only=True)
    formats: tuple[str, ...] = field(default=(), kw_only=True)
    passed_over: set[str] = field(default_factory=set, compare=False, repr=False, kw_only=True)
    left_out: dict[str, set[str]] = field(default_factory=dict, compare=False, repr=False, kw_only=True)

    @classmethod
    def claims(cls, names: Sequence[str]) -> bool:  # noqa: ARG003
        """Return whether a folder with these file names may have this layout.

        The layout `auto` calls this method of all registered readers. Default: False, so a recipe must name the layout.
        """
        return False

    @cached_property
    def storage(self) -> Storage:
        """The files below `uri`."""
        return Storage(self.uri, self.timeout)

    @property
    def local_folder(self) -> Path | None:
        """The folder of the images; None in an object store."""
        return Path(self.storage.path("")) if self.storage.is_local else None

    def place(self, path: str, file: str | None = None) -> str:
        """Return the location of an image for messages, given its path in the manifest and its file."""
        if file is None or file == path:
            return self.storage.path(path)
        return f"{path} in {self.storage.path(file)}"

    def folders(self) -> tuple[list[str], list[str]]:
        """Return the environments and the classes that have a folder, also if it is empty. Default: none."""
        return [], []

    def listed(self, folder: str = "", recursive: bool = False) -> list[FileInfo]:
        """Return the entries of a folder like `Storage.listing`, without hidden folders and their content.

        Raises:
            IcmBenchError: the folder cannot be read, or a link points to a folder that contains it.
        """
        infos, depth = [], folder.count("/") + 1 if folder else 0
        for info in self.storage.listing(folder, recursive):
            parts = info.name.split("/")
            names = parts[depth:] if info.is_folder else parts[depth:-1]
            hidden = next((i for i, name in enumerate(names, depth) if is_hidden(name)), None)
            if hidden is None:
                infos.append(info)
            else:
                self.passed_over.add("/".join(parts[: hidden + 1]))
        return infos

    def notes(self) -> list[str]:
        """Return notes on skipped folders and files, one sentence each; call it after `entries` has ended."""
        where, notes = self.storage.path("").rstrip("/"), []
        if self.passed_over:
            names = sorted(self.passed_over)
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            notes = [f"{where}: skipped hidden folders: {', '.join(names[:3])}{more}."]
        return notes + [
            f"{where}: skipped {len(names)} {what}; the first is {min(names)}." for what, names in self.left_out.items()
        ]

    def leave_out(self, what: str, name: str) -> None:
        """Record a skipped entry for `notes`; `what` describes its kind, in the plural."""
        self.left_out.setdefault(what, set()).add(name)

    def takes(self, environment: str) -> bool:
        """Return whether this reader reads the images of an environment, see `unlabelled`."""
        return not self.unlabelled or (environment in self.unlabelled) != self.labelled

    @abstractmethod
    def entries(self) -> Iterator[Entry]:
        """Yield every image, in no particular order; a path may come twice.

        Raises:
            IcmBenchError: a file cannot be read or lacks data of an image; the message names file and row.
        """

    @abstractmethod
    def read(self, batch: Batch) -> Iterator[bytes | str]:
        """Yield the encoded images of a batch, in its order.

        Args:
            batch: column name -> values; the manifest's columns `file`, `position` and `bytes` are used.

        Yields:
            The bytes, or as str the reason why the image is rejected (larger than `MAX_IMAGE_BYTES`, or without
            bytes).

        Raises:
            IcmBenchError: a file cannot be opened or has changed; the message names the file.
        """

    @abstractmethod
    def pieces(self, batch: Batch) -> Iterator[Iterable[bytes]]:
        """Yield each image of a batch as an iterable of pieces, for hashing; images may have any size.

        Args:
            batch: column name -> values, as for `read`. All images are in one file, in order of position.
        """

    def named(self, stored: str | None, environment: str, class_name: str, file: str, position: int) -> str:
        """Return the path of an image in the data set.

        It is `stored` if that contains a folder. Otherwise it is made of environment, class, and `stored` or file and
        position.
        """
        if stored and "/" in stored:
            return stored
        folder = class_name if self.environment else f"{environment}/{class_name}"
        return f"{folder}/{stored or f'{file}-{position:09d}'}"

    def known_names(self, names: Sequence[str] | None, place: str) -> Sequence[str] | None:
        """Return the class names in order of their numbers; None if the numbers themselves are the class names.

        Sets with one environment (the ImageNet variants) keep the numbers, unless the names are WordNet ids. English
        names are not unique (two classes are "missile"), but numbers determine the WordNet ids. `names` are the class
        names that the data have, in order of their numbers; `place` is the location of the names, for messages.

        Raises:
            IcmBenchError: two numbers have the same name, or a number has no name.
        """
        if not names or (self.environment and not re.fullmatch(r"n\d{8}", names[0])):
            return None
        if (nameless := next((i for i, name in enumerate(names) if not name.strip()), None)) is not None:
            raise IcmBenchError(f"{place} has no name for the number {nameless}; write one, or delete its line.")
        if double := next((name for name, count in Counter(names).items() if count > 1), None):
            first, second = [i for i, name in enumerate(names) if name == double][:2]
            raise IcmBenchError(
                f"{place} gives the numbers {first} and {second} the same name '{double}', which would merge two "
                f"classes; rename one of them, such as '{double} (2)'."
            )
        return names


@dataclass(frozen=True)
class ImportedReader(ImageReader):
    """Placeholder for images whose embeddings were imported; `uri` is the folder of the import in the store."""

    @property
    def local_folder(self) -> Path | None:
        """None: there are no image files."""
        return None

    def place(self, path: str, file: str | None = None) -> str:  # noqa: ARG002
        """Return the path of an image, its only location."""
        return path

    def entries(self) -> Iterator[Entry]:
        """Raise IcmBenchError: there are no image files; the store has the list of images."""
        raise self._absent()

    def read(self, batch: Batch) -> Iterator[bytes | str]:  # noqa: ARG002
        """Raise IcmBenchError: there is no image to be read."""
        raise self._absent()

    def pieces(self, batch: Batch) -> Iterator[Iterable[bytes]]:  # noqa: ARG002
        """Raise IcmBenchError: there is no image to be read."""
        raise self._absent()

    def _absent(self) -> IcmBenchError:
        return IcmBenchError(
            f"The images of {self.storage.path('').rstrip('/')} are not at hand, since their embeddings were imported; "
            f"name the images by another layout to open them."
        )


def is_hidden(folder: str) -> bool:
    """Return whether a folder of this name is skipped."""
    return folder.startswith(".") or folder == MACOS


def position_of(info: FileInfo) -> int:
    """Return `Entry.position` of a listed entry with the name of an image: -1 for a file, below -1 otherwise."""
    odd = NO_FILES[-1] if info.is_folder else info.odd
    return -2 - NO_FILES.index(odd) if odd else -1


def no_file(position: int) -> str | None:
    """Return why an entry with this position is not an image; None if it is a file."""
    return f"it is {NO_FILES[-2 - position]}, and no file" if position < -1 else None


def must_be_file(info: FileInfo, storage: Storage) -> None:
    """Raise IcmBenchError if an entry that should contain images is neither a file nor a folder."""
    if info.odd:
        raise IcmBenchError(f"{storage.path(info.name)} is {info.odd}; put there what it stands for.")


def oversized(size: int) -> str:
    """Return the reason for rejecting an image of `size` bytes."""
    return f"{size / 2**20:.0f} MiB, more than the {MAX_IMAGE_BYTES // 2**20} MiB that an image may have"


@contextlib.contextmanager
def reading(place: str) -> Iterator[None]:
    """Turn errors of the block, which reads the file `place`, into IcmBenchError."""
    try:
        yield
    except (OSError, EOFError, ValueError, OverflowError, pa.ArrowException) as error:
        raise IcmBenchError(f"{place} cannot be read ({reason(error)}).") from error


def changed(place: str) -> IcmBenchError:
    """Return the error for a file that has changed since the listing."""
    return IcmBenchError(f"{place} has changed since it was listed; run again when nothing changes it.")


def ahead(function: Callable[[In], Out], items: Iterable[In], threads: int) -> Iterator[Out]:
    """Yield `function(item)` for all items in order, computed by threads up to `2 * threads` items in advance."""
    if threads == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Out]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def read_ranges(storage: Storage, batch: Batch) -> Iterator[bytes | str]:
    """Yield images like `ImageReader.read`, for layouts that store each image as a file or a range of a file.

    A range has `bytes` bytes from `position` on.
    """

    def content(place: tuple[Any, Any, Any]) -> bytes | str:
        file, position, size = place
        if odd := no_file(position):
            return odd
        if size > MAX_IMAGE_BYTES:
            return oversized(size)
        begin, length = (0, int(size) + 1) if position < 0 else (int(position), int(size))
        found = storage.read_range(file, begin, length)
        if len(found) != size:
            raise changed(storage.path(file))
        return found

    places = zip(batch["file"], batch["position"], batch["bytes"], strict=True)
    return ahead(content, places, 1 if storage.is_local else REMOTE_READS)


def column_of(names: Sequence[str], wanted: str | None, key: str, place: str) -> str | None:
    """Return the column for the field `key` of `ColumnsSpec` among the columns `names`; None if no column fits.

    It is `wanted`, the column in the recipe; without one, the first that exists of the field's `USUAL_COLUMNS`.
    Raises IcmBenchError if `wanted` does not exist.
    """
    if wanted is None:
        return next((name for name in USUAL_COLUMNS[key] if name in names), None)
    if wanted not in names:
        have = ", ".join(sorted(names)) or "none"
        raise IcmBenchError(f"{place} has no column '{wanted}', which columns.{key} names; it has {have}.")
    return wanted


def text_of(value: object, names: Sequence[str] | None, place: str) -> str:
    """Return a cell as text. A number becomes its name in `names`, or decimal text if `names` is None."""
    if isinstance(value, int) and not isinstance(value, bool):
        if names is None:
            return str(value)
        if not 0 <= value < len(names):
            raise IcmBenchError(
                f"{place} is {value}, which is none of the {len(names)} class names given with the data."
            )
        value = names[value]
    if isinstance(value, str) and value and value.isprintable():
        return value
    raise IcmBenchError(f"{place} is {value!r:.60}, where a name or a whole number is needed.")
