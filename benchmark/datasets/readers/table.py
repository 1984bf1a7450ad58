"""Images that a table lists, CSV or Parquet, a line for each: as WILDS has them, and most collections of companies."""

import csv
import io
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage import Storage
from benchmark.datasets.readers.base import (
    CLASS_COLUMNS,
    ENVIRONMENT_COLUMNS,
    GROUP_COLUMNS,
    NO_CLASS,
    Entry,
    column_of,
    reading,
    text_of,
)
from benchmark.datasets.readers.folder import GROUPS_FILE, FolderReader

PATH_COLUMNS = ("path", "file", "file_name", "filename", "image_path")
SUFFIXES = (".csv", ".parquet")


@dataclass(frozen=True)
class TableReader(FolderReader):
    """One file for each image, and a table that says what each is; `columns` says which of its columns to use.

    Attributes:
        table: the file: below `uri`, or a path or URI of its own; None for the one that lies in `uri` itself.
    """

    table: str | None = None

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
        there = {info.name: info for info in self.storage.listing(recursive=True) if not info.is_folder}
        absent, lines = [], 0
        for path, environment, class_name, group in self._rows(storage, name):
            lines += 1
            if (info := there.get(path)) is None:
                absent.append(path)
                continue
            yield Entry(path, environment, class_name, group, path, -1, info.bytes, info.modified_ns, info.bytes)
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
        if self.table is None:
            names = [i.name for i in self.storage.listing() if not i.is_folder and i.name.endswith(SUFFIXES)]
            names = [name for name in names if name != GROUPS_FILE]
            if len(names) == 1:
                return self.storage, names[0]
            root, which = self.storage.path("").rstrip("/"), f": {', '.join(names[:3])}" if names else ""
            raise IcmBenchError(
                f"{root} holds {len(names)} tables ({' or '.join(SUFFIXES)}){which}; name one in table."
            )
        if "://" in self.table:
            address, mark, query = self.table.partition("?")
            folder, _, name = address.rpartition("/")
            return Storage(f"{folder}{mark}{query}"), name
        file = Path(self.table).expanduser()
        return (Storage(str(file.parent)), file.name) if file.is_absolute() else (self.storage, self.table)

    def _rows(self, storage: Storage, name: str) -> Iterator[tuple[str, str, str, str | None]]:
        """Yield path, environment, class and group of each line, as text."""
        place = storage.path(name)
        with reading(place):
            content = storage.read_bytes(name)
            rows = _of_parquet(content, place) if name.endswith(".parquet") else _of_csv(content, place)
            path, environment, class_name, group = self._columns(next(rows)[1], place)
            for where, cells in rows:
                in_group = None if group is None or cells[group] in (None, "") else cells[group]
                yield (
                    _inside(text_of(cells[path], None, f"The path in {where}"), where),
                    self.environment or text_of(cells[environment or 0], None, f"The environment in {where}"),
                    NO_CLASS if class_name is None else text_of(cells[class_name], None, f"The class in {where}"),
                    None if in_group is None else text_of(in_group, None, f"The group in {where}"),
                )

    def _columns(self, names: list[str], place: str) -> tuple[int, int | None, int | None, int | None]:
        """Return where the columns of path, environment, class and group stand.

        Raises:
            IcmBenchError: one that is needed is not there.
        """
        wanted = self.columns
        path = column_of(names, wanted.path, PATH_COLUMNS, "path", place)
        of_class = wanted.class_name, CLASS_COLUMNS, "class_name", place
        class_name = column_of(names, *of_class) if self.labelled else None
        environment = column_of(names, wanted.environment, ENVIRONMENT_COLUMNS, "environment", place)
        group = column_of(names, wanted.group, GROUP_COLUMNS, "group", place)
        needed: dict[str, tuple[str | None, Sequence[str]]] = {"path": (path, PATH_COLUMNS)}
        if self.labelled:
            needed["class_name"] = class_name, CLASS_COLUMNS
        if not self.environment:
            needed["environment"] = environment, ENVIRONMENT_COLUMNS
        for key, (column, usual) in needed.items():
            if column is None:
                raise IcmBenchError(
                    f"{place} has none of the columns {', '.join(usual)}; say in columns.{key} which it is: "
                    f"{', '.join(names) or 'it has none'}."
                )
        at = {name: i for i, name in enumerate(names)}
        return at[str(path)], at.get(str(environment)), at.get(str(class_name)), None if group is None else at[group]


def _of_csv(content: bytes, place: str) -> Iterator[tuple[str, list[Any]]]:
    """Yield the head and the lines of a CSV file, each with where it stands.

    Raises:
        IcmBenchError: it is no CSV in UTF-8, or a line has another number of cells than the head.
    """
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        head = next(reader, [])
        yield place, head
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(head):
                raise IcmBenchError(
                    f"Line {reader.line_num} of {place} has {len(cells)} cells and the head {len(head)}; quote what "
                    f"holds a comma."
                )
            yield f"line {reader.line_num} of {place}", cells
    except (UnicodeDecodeError, csv.Error) as error:
        raise IcmBenchError(f"{place} is not CSV in UTF-8 ({error}); save it as that.") from error


def _of_parquet(content: bytes, place: str) -> Iterator[tuple[str, list[Any]]]:
    """Yield the names and the rows of a Parquet file, each with where it stands."""
    file = pq.ParquetFile(pa.BufferReader(content))
    plain = [f.name for f in file.schema_arrow if not pa.types.is_nested(f.type) and not pa.types.is_binary(f.type)]
    yield place, plain
    row = 0
    for batch in file.iter_batches(4096, columns=plain):
        for cells in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield f"row {row} of {place}", list(cells)
            row += 1


def _inside(path: str, place: str) -> str:
    """Return a path in its shortest form. Raises IcmBenchError where it leaves the root."""
    short = posixpath.normpath(path)
    if path.startswith("/") or "://" in path or ".." in PurePosixPath(short).parts:
        raise IcmBenchError(f"The path in {place} is {path!r:.80}, which leads out of the root; give it from there on.")
    return short
