"""Images that a table lists, CSV or Parquet, a line for each: as WILDS has them, and most collections of companies."""

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from benchmark.common.errors import IcmBenchError, nearest, some
from benchmark.common.storage.files import Storage
from benchmark.datasets.columns import Listing
from benchmark.datasets.readers.base import (
    CLASS_COLUMNS,
    ENVIRONMENT_COLUMNS,
    GROUP_COLUMNS,
    NO_CLASS,
    SPLIT_COLUMNS,
    Entry,
)
from benchmark.datasets.readers.cells import Cells, cells_of, looked_up
from benchmark.datasets.readers.folder import GROUPS_FILE, FolderReader, entry_of
from benchmark.datasets.readers.rows import SUFFIXES, place_of, rows_of

PATH_COLUMNS = ("path", "file", "file_name", "filename", "image_path")
_USUAL = {
    "path": PATH_COLUMNS,
    "class_name": CLASS_COLUMNS,
    "environment": ENVIRONMENT_COLUMNS,
    "group": GROUP_COLUMNS,
    "split": SPLIT_COLUMNS,
}
_WORDS = {"class_name": "class"}


@dataclass(frozen=True)
class TableReader(FolderReader):
    """One file for each image, and a table that says what each is; `columns` says which of its columns to use.

    Attributes:
        listing: which lines of which file list the images, and what values in them are called.
    """

    listing: Listing = field(default_factory=Listing)

    @classmethod
    def claims(cls, names: Sequence[str]) -> bool:  # noqa: ARG003
        """Claim nothing: many folders of images have a table beside them."""
        return False

    def folders(self) -> tuple[list[str], list[str]]:
        """Return no folders: what is no line of the table is not there."""
        return [], []

    def entries(self) -> Iterator[Entry]:
        """Yield the images in the order of the lines; see `ImageReader.entries`."""
        storage, name = self._place()
        there = {info.name: info for info in self.storage.listing(recursive=True)}
        absent, lines = [], 0
        classes: dict[str, str] = {}
        for path, environment, class_name, group in self._rows(storage, name):
            lines += 1
            if classes.setdefault(path, class_name) != class_name:
                raise IcmBenchError(
                    f"{storage.path(name)} says of {path} that it is of the class '{classes[path]}', and in another "
                    f"line '{class_name}'; keep one of the two."
                )
            if (info := there.get(path)) is None:
                absent.append(path)
                continue
            yield entry_of(info, environment, class_name, group)
        if not lines:
            raise IcmBenchError(f"{storage.path(name)} lists no images below its head; add a line for each image.")
        if absent:
            raise IcmBenchError(
                f"{storage.path(name)} names {absent[0]}, which does not lie below {self.storage.path('').rstrip('/')} "
                f"({len(absent)} of {lines} lines); give as root the folder from which its paths go."
            )

    def _place(self) -> tuple[Storage, str]:
        """Return where the table lies.

        Raises:
            IcmBenchError: none is named, and not one lies in the root.
        """
        if self.listing.table is not None:
            return place_of(self.listing.table, self.storage)
        names = [i.name for i in self.storage.listing() if not i.is_folder and i.name.endswith(SUFFIXES)]
        names = [name for name in names if name != GROUPS_FILE]
        if len(names) == 1:
            return self.storage, names[0]
        root, which = self.storage.path("").rstrip("/"), f": {', '.join(names[:3])}" if names else ""
        raise IcmBenchError(f"{root} holds {len(names)} tables ({' or '.join(SUFFIXES)}){which}; name one in table.")

    def _rows(self, storage: Storage, name: str) -> Iterator[tuple[str, str, str, str | None]]:
        """Yield path, environment, class and group of each line that is asked for, as text."""
        place = storage.path(name)
        rows = rows_of(storage, name)
        cells = self._cells(next(rows)[1], place)
        splits, group, environment = self.listing.splits, cells.get("group"), cells.get("environment")
        there: set[str] = set()
        for row, (where, line) in enumerate(rows):
            if splits is not None:
                there.add(split := cells["split"].text(line, row, where))
                if split not in splits:
                    continue
            named = self.environment or ("" if environment is None else environment.text(line, row, where))
            if not self.takes(named):
                continue
            yield (
                _inside(cells["path"].text(line, row, where), where),
                named,
                cells["class_name"].text(line, row, where) if self.labelled else NO_CLASS,
                None if group is None or group.is_empty(line) else group.text(line, row, where),
            )
        if absent := next((split for split in splits or () if split not in there), None):
            raise IcmBenchError(
                f"splits: no line of {place} has '{absent}' in its column of splits; {nearest(absent, sorted(there))}"
            )

    def _cells(self, names: list[str], place: str) -> dict[str, Cells]:
        """Return what says path, class, environment, group and split, of those that are there.

        Raises:
            IcmBenchError: one that is needed is not there.
        """
        needed = ["path", *(["class_name"] if self.labelled else []), *([] if self.environment else ["environment"])]
        needed += [] if self.listing.splits is None else ["split"]
        found = {
            key: cells
            for key, usual in _USUAL.items()
            if (key not in ("split", "class_name") or key in needed)
            and (cells := cells_of(f"The {_WORDS.get(key, key)}", names, getattr(self.columns, key), usual, key, place))
        }
        if missing := next((key for key in needed if key not in found), None):
            if len(names) == 1 and (sign := next((sign for sign in ";\t|" if sign in names[0]), "")):
                raise IcmBenchError(f"{place} has its columns apart by {sign!r}; save it with commas.")
            raise IcmBenchError(
                f"{place} has none of the columns {', '.join(_USUAL[missing])}; say in columns.{missing} which it is: "
                f"{some(names) or 'it has none'}."
            )
        for key, spec in (self.listing.lookup or {}).items():
            if key in found:
                found[key] = looked_up(found[key], spec, key, self.storage)
        return found


def _inside(path: str, place: str) -> str:
    """Return a path in its shortest form. Raises IcmBenchError where it leaves the root."""
    short = posixpath.normpath(path)
    if path.startswith("/") or "://" in path or ".." in PurePosixPath(short).parts:
        raise IcmBenchError(f"The path in {place} is {path!r:.80}, which leads out of the root; give it from there on.")
    return short
