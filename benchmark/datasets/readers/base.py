"""What every reader of images is: it lists its images, and reads their bytes by place."""

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

# torchvision's ImageFolder extensions, the ones DomainBed's loader accepts
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"})
MAX_IMAGE_BYTES = 512 * 2**20  # no encoded image of these data sets comes near; more is never held in memory
CHUNK_BYTES = 2**20
REMOTE_READS = 8  # at a time, to hide the time that each request takes
REMOTE_LISTINGS = 16  # folders, likewise
USUAL_COLUMNS: dict[str, tuple[str, ...]] = {  # field of `ColumnsSpec` -> columns that say it in most files
    "path": ("path", "file", "file_name", "filename", "image_path"),
    "class_name": ("class_name", "label", "class", "category"),
    "environment": ("environment", "domain", "env"),
    "group": ("group",),
    "split": ("split",),
}
# What lies under the name of an image and is no file. Its position is -2 and further down; it is a bad image, as an
# empty file is, and is never opened.
NO_FILES = (NO_TARGET, SPECIAL, "a folder")
NO_CLASS = ""  # the name of the class of images that nobody labelled, which no class has
MACOS = "__MACOSX"  # beside what macOS packs: a small file for each, under its name
WHOLE = "all"  # the name of the only environment of images that lie in none

Batch = Mapping[str, Sequence[Any]]
In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True, slots=True)
class Entry:
    """One image as its reader lists it.

    Attributes:
        path: its name inside the data set, with /: where it lay, or the name stored with it.
        environment: name of its environment, as written there.
        class_name: name of its class, as written there.
        group: name that images which belong together share; None where the set has no groups.
        file: the file that holds it, relative to the reader's URI.
        position: byte offset inside a tar shard, row number inside a Parquet file, -1 for a whole file; less
            for what is no file, see `NO_FILES`.
        bytes: size of the encoded image; -1 where only reading it tells (Parquet).
        modified_ns: when `file` was last changed, in nanoseconds since 1970.
        file_bytes: size of `file`.
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
    """Where the images of a data set lie, and how to read them; small and picklable, so that it travels to workers.

    Attributes:
        uri: a folder, or s3:// or gs://.
        environment: the name of the one environment of a set that has only one; None where there are several.
        columns: which columns or fields say what of an image, for layouts that have such.
        labelled: whether images have classes; where not, the name of their class is `NO_CLASS`.
        unlabelled: environments whose images nobody labelled, beside others: a reader of images with classes passes
            them over, and one of images without reads them alone. Default: none.
        timeout: seconds for which calls are retried while the storage does not answer. Default 120.
        formats: formats that are decoded beside the usual ones, as Pillow names them; they change what the images are.
        passed_over: folders that `entries` left out since their names say that no images of the set lie in them.
        left_out: what else `entries` left out, in words -> its names.
        files_at_once: number of files that are read side by side when images are identified.
    """

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
        """Say whether a folder whose files have these names looks like one of this layout.

        The layout `auto` asks registered readers in turn. By default a reader serves only where a recipe names it.
        """
        return False

    @cached_property
    def storage(self) -> Storage:
        """The files below `uri`."""
        return Storage(self.uri, self.timeout)

    @property
    def local_folder(self) -> Path | None:
        """The folder in which the images lie, or None where they lie in an object store."""
        return Path(self.storage.path("")) if self.storage.is_local else None

    def place(self, path: str, file: str | None = None) -> str:
        """Return how a person would name the image `path` of the manifest, that lies in `file`."""
        if file is None or file == path:
            return self.storage.path(path)
        return f"{path} in {self.storage.path(file)}"

    def folders(self) -> tuple[list[str], list[str]]:
        """Return the environments and the classes that have folders, be these empty or not."""
        return [], []

    def listed(self, folder: str = "", recursive: bool = False) -> list[FileInfo]:
        """Return what lies in a folder, as `Storage.listing` does, without what is hidden or made by macOS.

        Raises:
            IcmBenchError: it cannot be read, or a link leads to a folder above itself.
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
        """Return what a user should know of the listing, once `entries` has made it."""
        where, notes = self.storage.path("").rstrip("/"), []
        if self.passed_over:
            names = sorted(self.passed_over)
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            notes = [f"{where}: hidden folders are passed over: {', '.join(names[:3])}{more}."]
        return notes + [
            f"{where}: {len(names)} {what} are passed over, {min(names)} the first."
            for what, names in self.left_out.items()
        ]

    def leave_out(self, what: str, name: str) -> None:
        """Note that something is left out, for `notes`: of which kind in words, and its name."""
        self.left_out.setdefault(what, set()).add(name)

    def takes(self, environment: str) -> bool:
        """Return whether the images of an environment are read."""
        return not self.unlabelled or (environment in self.unlabelled) != self.labelled

    @abstractmethod
    def entries(self) -> Iterator[Entry]:
        """Yield every image, in no particular order; a path may come twice.

        Raises:
            IcmBenchError: a file cannot be read, or does not say what an image needs; names file and row.
        """

    @abstractmethod
    def read(self, batch: Batch) -> Iterator[bytes | str]:
        """Yield the encoded images of a batch, in its order.

        Args:
            batch: columns of the manifest; `file`, `position` and `bytes` are used.

        Yields:
            The bytes, or, as text, the reason for which this image is rejected (larger than `MAX_IMAGE_BYTES`, or
            without bytes).

        Raises:
            IcmBenchError: a file cannot be opened or has changed, which says nothing of the image; names the file.
        """

    @abstractmethod
    def pieces(self, batch: Batch) -> Iterator[Iterable[bytes]]:
        """Yield each image of a batch in pieces, whatever its size; for hashing.

        Args:
            batch: columns of the manifest, as for `read`; all images lie in one file and come in order of position.
        """

    def named(self, stored: str | None, environment: str, class_name: str, file: str, position: int) -> str:
        """Return the path of an image: as stored, or made of what is known where that says no folder or nothing."""
        if stored and "/" in stored:
            return stored
        folder = class_name if self.environment else f"{environment}/{class_name}"
        return f"{folder}/{stored or f'{file}-{position:09d}'}"

    def known_names(self, names: Sequence[str] | None, place: str) -> Sequence[str] | None:
        """Return the names that numbers stand for, or None where a number says more than its name.

        Sets of one environment are ImageNet's variants. Their classes in words are not unique (two are a missile), but
        position tells the WordNet id.

        Raises:
            IcmBenchError: two numbers have one name, or one has none; `place` says where the names stand.
        """
        if not names or (self.environment and not re.fullmatch(r"n\d{8}", names[0])):
            return None
        if (nameless := next((i for i, name in enumerate(names) if not name.strip()), None)) is not None:
            raise IcmBenchError(f"{place} has no name for the number {nameless}; write one, or delete its line.")
        if double := next((name for name, count in Counter(names).items() if count > 1), None):
            first, second = [i for i, name in enumerate(names) if name == double][:2]
            raise IcmBenchError(
                f"{place} calls the numbers {first} and {second} both '{double}', and two classes would be one; call "
                f"one of them otherwise, such as '{double} (2)'."
            )
        return names


@dataclass(frozen=True)
class ImportedReader(ImageReader):
    """Stands for images that are not at hand; `uri` is the folder of the store that says what is known of them."""

    @property
    def local_folder(self) -> Path | None:
        """No folder: there are no images in any."""
        return None

    def place(self, path: str, file: str | None = None) -> str:  # noqa: ARG002
        """Return how a person would name an image: by its path alone, since it lies nowhere."""
        return path

    def entries(self) -> Iterator[Entry]:
        """Raise IcmBenchError: images are listed by the store."""
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
    """Return whether a folder of this name is no part of a data set."""
    return folder.startswith(".") or folder == MACOS


def position_of(info: FileInfo) -> int:
    """Return the position of what a listing shows where an image is looked for: -1 for a file, see `Entry.position`."""
    odd = NO_FILES[-1] if info.is_folder else info.odd
    return -2 - NO_FILES.index(odd) if odd else -1


def no_file(position: int) -> str | None:
    """Return the reason for which something at a position is no image; None where it is a file."""
    return f"it is {NO_FILES[-2 - position]}, and no file" if position < -1 else None


def must_be_file(info: FileInfo, storage: Storage) -> None:
    """Refuse what is neither file nor folder where many images are looked for. Raises IcmBenchError."""
    if info.odd:
        raise IcmBenchError(f"{storage.path(info.name)} is {info.odd}; put there what it stands for, or delete it.")


def oversized(size: int) -> str:
    """Return the reason for which an image of `size` bytes is rejected."""
    return f"{size / 2**20:.0f} MiB, more than the {MAX_IMAGE_BYTES // 2**20} MiB that an image may have"


@contextlib.contextmanager
def reading(place: str) -> Iterator[None]:
    """Turn what goes wrong while the file `place` is read into a sentence for the user."""
    try:
        yield
    except (OSError, EOFError, ValueError, OverflowError, pa.ArrowException) as error:
        raise IcmBenchError(f"{place} cannot be read ({reason(error)}).") from error


def changed(place: str) -> IcmBenchError:
    """Return the error that says that a file is no longer what was listed."""
    return IcmBenchError(f"{place} has changed since it was listed; run again when it is left alone.")


def ahead(function: Callable[[In], Out], items: Iterable[In], threads: int) -> Iterator[Out]:
    """Yield `function(item)` in order, computed in `threads` threads that never run far ahead of the reader."""
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
    """Yield what lies at each position of files, or the whole of a file, as `ImageReader.read` does."""

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
    """Return the column that the recipe wants, else the first usual one of the key that is there."""
    if wanted is None:
        return next((name for name in USUAL_COLUMNS[key] if name in names), None)
    if wanted not in names:
        have = ", ".join(sorted(names)) or "none"
        raise IcmBenchError(f"{place} has no column '{wanted}', which columns.{key} names; it has {have}.")
    return wanted


def text_of(value: object, names: Sequence[str] | None, place: str) -> str:
    """Return a cell as text: a number becomes its name in `names`, or its decimal text where there are none."""
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
