"""Reader of images that a CSV or Parquet table lists, one per line, as in WILDS and in most company collections."""

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import ClassVar

from benchmark.common.errors import IcmBenchError, nearest, some
from benchmark.common.storage.files import Storage
from benchmark.datasets.columns import Listing
from benchmark.datasets.readers.base import NO_CLASS, USUAL_COLUMNS, Entry
from benchmark.datasets.readers.folder import GROUPS_FILE, FolderReader, entry_of
from benchmark.datasets.readers.rows import SEPARATORS, SUFFIXES, Cells, cells_of, looked_up, place_of, rows_of


@dataclass(frozen=True)
class TableReader(FolderReader):
    """Reader of the layout `table`: one file per image, and a line of the table for each."""

    arrangement: ClassVar[str] = "each line of the table names the class and the environment of an image"

    listing: Listing = field(default_factory=Listing)

    @classmethod
    def claims(cls, names: Sequence[str]) -> bool:  # noqa: ARG003
        """Never detect this layout: many folders of images also contain a table. A recipe names layout or table."""
        return False

    def folders(self) -> tuple[list[str], list[str]]:
        """Return two empty lists: only lines of the table define environments and classes."""
        return [], []

    def entries(self) -> Iterator[Entry]:
        """Yield the images in the order of the lines; see `ImageReader.entries`."""
        storage, name = self._place()
        there = {info.name: info for info in self.storage.listing(recursive=True)}
        absent, lines = [], 0
        before: dict[str, tuple[str, str]] = {}
        for where, path, environment, class_name, group in self._rows(storage, name):
            lines += 1
            if path in before:
                raise _listed_again(where, path, before[path], (environment, class_name))
            before[path] = environment, class_name
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
        """Return the storage that holds the table, and the name of the table there."""
        if self.listing.table is not None:
            return place_of(self.listing.table, self.storage)
        names = [i.name for i in self.storage.listing() if not i.is_folder and i.name.endswith(SUFFIXES)]
        names = [name for name in names if name != GROUPS_FILE]
        if len(names) == 1:
            return self.storage, names[0]
        root, which = self.storage.path("").rstrip("/"), f": {', '.join(names[:3])}" if names else ""
        raise IcmBenchError(f"{root} holds {len(names)} tables ({' or '.join(SUFFIXES)}){which}; name one in table.")

    def _rows(self, storage: Storage, name: str) -> Iterator[tuple[str, str, str, str, str | None]]:
        """Yield the texts (location, path, environment, class, group or None) of each line that is read."""
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
            path = cells["path"].text(line, row, where)
            short = posixpath.normpath(path)
            if path.startswith("/") or "://" in path or ".." in PurePosixPath(short).parts:
                raise IcmBenchError(
                    f"The path in {where} is {path!r:.80}, which leads out of the root; give it from there on."
                )
            yield (
                where,
                short,
                named,
                cells["class_name"].text(line, row, where) if self.labelled else NO_CLASS,
                None if group is None or group.is_empty(line) else group.text(line, row, where),
            )
        if absent := next((split for split in splits or () if split not in there), None):
            raise IcmBenchError(
                f"splits: no line of {place} has '{absent}' in its column of splits; {nearest(absent, sorted(there))}"
            )

    def _cells(self, names: list[str], place: str) -> dict[str, Cells]:
        """Return field of `ColumnsSpec` -> its cells, for the fields that the table has."""
        needed = ["path", *(["class_name"] if self.labelled else []), *([] if self.environment else ["environment"])]
        needed += [] if self.listing.splits is None else ["split"]
        found = {
            key: cells
            for key in USUAL_COLUMNS
            if (key not in ("split", "class_name") or key in needed)
            and (cells := cells_of(names, getattr(self.columns, key), key, place))
        }
        if missing := next((key for key in needed if key not in found), None):
            if len(names) == 1 and (sign := next((sign for sign in SEPARATORS if sign in names[0]), "")):
                raise IcmBenchError(f"{place} has its columns apart by {sign!r}; save it with commas.")
            raise IcmBenchError(
                f"{place} has none of the columns {', '.join(USUAL_COLUMNS[missing])}; say in columns.{missing} which "
                f"it is: {some(names) or 'it has none'}."
            )
        for key, spec in (self.listing.lookup or {}).items():
            if key in found:
                found[key] = looked_up(found[key], spec, key, self.storage)
        return found


def _listed_again(where: str, path: str, before: tuple[str, str], now: tuple[str, str]) -> IcmBenchError:
    """Return the error for a path in a second line; `before` and `now` are (environment, class) of the two lines."""
    differ = [
        f"the {what} '{second}' after '{first}'"
        for what, first, second in zip(("environment", "class"), before, now, strict=True)
        if first != second
    ]
    remedy = f", with {' and '.join(differ)}; keep one of the lines" if differ else "; remove this line"
    return IcmBenchError(f"{where[0].upper()}{where[1:]} lists {path} again{remedy}.")
