"""Rows of a CSV or Parquet file, with their locations for messages; and the fields of an image in a row.

A field is one cell or a template with several cells. A second table may map the values of a field to names.
"""

import csv
import io
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import Formatter
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmark.common.errors import IcmBenchError, some
from benchmark.common.storage.files import Storage
from benchmark.common.storage.parquet_check import check_tried
from benchmark.datasets.columns import LookupSpec
from benchmark.datasets.readers.base import column_of, reading, text_of

SUFFIXES = (".csv", ".parquet")
SEPARATORS = ";\t|"  # signs that some programs write in place of commas
ROW = "row"  # `{row}` in a template is the number of the line, unless a column has this name
_CUT = re.compile(r"(?:\.(\d+)|parent)?")  # format after a column in braces: nothing, `.N` for N letters, or `parent`


def place_of(table: str, root: Storage) -> tuple[Storage, str]:
    """Return the storage that holds a table, and the name of the table there; `root` is the storage of the images."""
    if "://" in table:
        address, mark, query = table.partition("?")
        folder, _, name = address.rpartition("/")
        return Storage(f"{folder}{mark}{query}"), name
    file = Path(table).expanduser()
    return (Storage(str(file.parent)), file.name) if file.is_absolute() else (root, table)


def rows_of(storage: Storage, name: str) -> Iterator[tuple[str, list[Any]]]:
    """Yield (location, cells) of each row of a table; the first row has the column names."""
    place = storage.path(name)
    with reading(place):
        if name.endswith(".parquet"):
            check_tried(storage, name)
        content = storage.read_bytes(name)
        if not name.endswith(".parquet"):
            yield from _of_csv(content, place)
            return
        file, row = pq.ParquetFile(pa.BufferReader(content)), 0
        plain = [f.name for f in file.schema_arrow if not pa.types.is_nested(f.type) and not pa.types.is_binary(f.type)]
        yield place, plain
        for batch in file.iter_batches(4096, columns=plain):
            for cells in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                yield f"row {row} of {place}", list(cells)
                row += 1


def _of_csv(content: bytes, place: str) -> Iterator[tuple[str, list[Any]]]:
    """Yield (location, cells) of the header and of each line of a CSV file; a row of several lines is at the first."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise IcmBenchError(f"{place} is not UTF-8 ({error}); save it as CSV in UTF-8.") from error
    if "\0" in text:
        raise IcmBenchError(f"{place} is not UTF-8 (it has zero bytes, as UTF-16 has); save it as CSV in UTF-8.")
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        head = next(rows, [])
        if not any(cell.strip() for cell in head):
            raise IcmBenchError(f"Line 1 of {place} is empty; it must name the columns.")
        yield place, head
        line = rows.line_num + 1
        for cells in rows:
            if cells and len(cells) != len(head):
                sign = next((sign for sign in SEPARATORS if cells[0].count(sign) == len(head) - 1), "")
                apart = f"its cells apart by {sign!r}; use commas" if len(cells) == 1 and sign else ""
                counted = f"{len(cells)} cells and the head {len(head)}; quote what holds a comma"
                raise IcmBenchError(f"Line {line} of {place} has {apart or counted}.")
            if cells:
                yield f"line {line} of {place}", cells
            line = rows.line_num + 1
    except csv.Error as error:
        shorter = " or shorten the cell" if "limit" in str(error) else ""
        raise IcmBenchError(
            f"Line {line} of {place} has a quote that is not closed, or not doubled in a text ({error}); mend the quote"
            f"{shorter}."
        ) from error


@dataclass(frozen=True)
class Part:
    """A part of a template: the fixed `text`, or the cell of `column`; the number of the line if both are None."""

    text: str | None = None
    column: int | None = None
    what: str = ""
    letters: int | None = None  # number of leading letters of the cell that are used; None for all
    parent: bool = False  # whether the folder of the cell, a path, is used

    def of(self, cells: Sequence[Any], row: int, where: str) -> str:
        """Return the text of the part; see `Cells.text`."""
        if self.column is None:
            return str(row) if self.text is None else self.text
        value = text_of(cells[self.column], None, f"{self.what} in {where}")
        return posixpath.dirname(value) if self.parent else value[: self.letters]


@dataclass(frozen=True)
class Cells:
    """How one field of an image, such as its path, is read from a line: from one column or from a template."""

    what: str  # name of the field in messages: "The path"
    column: int | None  # position of the column; None for a template
    parts: tuple[Part, ...] = ()  # the parts of a template
    called: Mapping[str, str] | None = field(default=None, repr=False)  # value -> name, from a lookup
    other: str | None = None  # name for values that have no name
    names: str = ""  # location of the names, for messages

    def is_empty(self, cells: Sequence[Any]) -> bool:
        """Return whether the cell of this field is empty in a line; False for a template."""
        return self.column is not None and cells[self.column] in (None, "")

    def text(self, cells: Sequence[Any], row: int, where: str) -> str:
        """Return the value of the field in a line as text; `where` is the location of the line."""
        if self.column is not None:
            value = text_of(cells[self.column], None, f"{self.what} in {where}")
        else:
            value = "".join(part.of(cells, row, where) for part in self.parts)
        if self.called is None:
            return value
        name = self.called.get(value, self.other)
        if name is None:
            raise IcmBenchError(
                f"{self.what} in {where} is '{value}', which has no name in {self.names}; add it there."
            )
        return name


def cells_of(names: Sequence[str], wanted: str | None, key: str, place: str) -> Cells | None:
    """Return how to read the field `key` of `ColumnsSpec`; None if the recipe names no column and none is usual.

    `names` are the columns of the table, and `wanted` is the column or template in the recipe.
    """
    what = f"The {key.removesuffix('_name')}"
    if wanted is None or wanted in names or "{" not in wanted:
        column = column_of(names, wanted, key, place)
        return None if column is None else Cells(what, list(names).index(column))
    return Cells(what, None, tuple(_parts(what, names, wanted, key, place)))


def _parts(what: str, names: Sequence[str], wanted: str, key: str, place: str) -> Iterator[Part]:
    try:
        parsed = list(Formatter().parse(wanted))
    except ValueError as error:
        raise IcmBenchError(f"columns.{key} is '{wanted}', whose braces do not match ({error}); fix them.") from error
    for text, column, cut, conversion in parsed:
        if text:
            yield Part(text)
        if column is None:
            continue
        if conversion or not (match := _CUT.fullmatch(cut or "")):
            raise IcmBenchError(
                f"columns.{key} is '{wanted}'; braces may contain only a column, with :.4 after it for its first four "
                f"letters, or :parent for the folder of a path."
            )
        if column == ROW and ROW not in names:
            yield Part()
            continue
        at = list(names).index(str(column_of(names, column, key, place)))
        yield Part(None, at, f"{what}, of which '{column}'", int(match[1]) if match[1] else None, cut == "parent")


def looked_up(cells: Cells, spec: LookupSpec, key: str, root: Storage) -> Cells:
    """Return `cells`, the field `key`, with a lookup added that replaces its values by names."""
    if spec.values is not None:
        return replace(cells, called=spec.values, other=spec.other, names=f"lookup.{key}.values")
    assert spec.table is not None
    storage, name = place_of(spec.table, root)
    place = storage.path(name)
    rows = rows_of(storage, name)
    columns = next(rows)[1]
    for field_name, column in (("key", spec.key), ("name", spec.name)):
        if column not in columns:
            raise IcmBenchError(
                f"{place} has no column '{column}', which lookup.{key}.{field_name} names; it has "
                f"{some(sorted(columns)) or 'none'}."
            )
    value_at, name_at = columns.index(spec.key), columns.index(spec.name)
    names: dict[str, str] = {}
    for where, row in rows:
        if row[name_at] in (None, ""):  # treated as missing: `other`, if given
            continue
        value = text_of(row[value_at], None, f"'{spec.key}' in {where}")
        word = text_of(row[name_at], None, f"'{spec.name}' in {where}")
        if names.setdefault(value, word) != word:
            raise IcmBenchError(f"{place} names '{value}' both '{names[value]}' and '{word}'; delete one line.")
    return replace(cells, called=names, other=spec.other, names=place)
