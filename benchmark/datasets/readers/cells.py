"""What a line of a table says: the cell of a column, a text made of several, and what a second table calls it."""

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from string import Formatter
from typing import Any

from benchmark.common.errors import IcmBenchError, some
from benchmark.common.storage.files import Storage
from benchmark.datasets.columns import LookupSpec
from benchmark.datasets.readers.base import column_of, text_of
from benchmark.datasets.readers.rows import place_of, rows_of

ROW = "row"  # the number of a line, where no column is called so
_CUT = re.compile(r"(?:\.(\d+)|parent)?")  # of a column in braces: all of it, its first letters, or its folder


@dataclass(frozen=True)
class Part:
    """A part of a text that is made of several columns.

    Attributes:
        text: itself, where it stands outside of braces.
        column: position of the column whose cell it is; None for a text and for the number of the line.
        what: the cell, as messages call it.
        letters: how many of its first letters are taken; None for all.
        parent: whether the folder of a path is taken.
    """

    text: str | None = None
    column: int | None = None
    what: str = ""
    letters: int | None = None
    parent: bool = False

    def of(self, cells: Sequence[Any], row: int, where: str) -> str:
        """Return the part; see `Cells.text`."""
        if self.column is None:
            return str(row) if self.text is None else self.text
        value = text_of(cells[self.column], None, f"{self.what} in {where}")
        return posixpath.dirname(value) if self.parent else value[: self.letters]


@dataclass(frozen=True)
class Cells:
    """What a line says of one thing.

    Attributes:
        what: the thing, as messages call it: "The path".
        column: position of its column; None where it is made of several.
        parts: what its text is made of otherwise, one after the other.
        called: value -> name, where values have names.
        other: the name of a value that has none; None where there is no such name.
        names: where the names stand, for messages.
    """

    what: str
    column: int | None
    parts: tuple[Part, ...] = ()
    called: Mapping[str, str] | None = field(default=None, repr=False)
    other: str | None = None
    names: str = ""

    def is_empty(self, cells: Sequence[Any]) -> bool:
        """Say whether its cell is empty; a text that is made of several never is."""
        return self.column is not None and cells[self.column] in (None, "")

    def text(self, cells: Sequence[Any], row: int, where: str) -> str:
        """Return it as text.

        Args:
            cells: of the line.
            row: number of the line, from 0.
            where: the line in words.

        Raises:
            IcmBenchError: a cell is neither text nor a whole number, is empty, or has a value without a name.
        """
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


def cells_of(
    what: str, names: Sequence[str], wanted: str | None, usual: Sequence[str], key: str, place: str
) -> Cells | None:
    """Return what says a thing in a table, or None where the recipe does not say it and no usual column is there.

    Args:
        what: the thing, as messages call it.
        names: of the columns.
        wanted: the column that the recipe wants, or a text with columns in braces.
        usual: the columns that say it in most tables.
        key: the key of `columns` in a recipe.
        place: the table, for messages.

    Raises:
        IcmBenchError: a column that is wanted is not there, or braces hold anything else than one.
    """
    if wanted is None or wanted in names or "{" not in wanted:
        column = column_of(names, wanted, usual, key, place)
        return None if column is None else Cells(what, list(names).index(column))
    return Cells(what, None, tuple(_parts(what, names, wanted, key, place)))


def _parts(what: str, names: Sequence[str], wanted: str, key: str, place: str) -> Iterator[Part]:
    try:
        parsed = list(Formatter().parse(wanted))
    except ValueError as error:
        raise IcmBenchError(f"columns.{key} is '{wanted}', whose braces do not match ({error}); mend them.") from error
    for text, column, cut, conversion in parsed:
        if text:
            yield Part(text)
        if column is None:
            continue
        if conversion or not (match := _CUT.fullmatch(cut or "")):
            raise IcmBenchError(
                f"columns.{key} is '{wanted}'; in braces goes a column alone, with :.4 behind it for its first four "
                f"letters, or with :parent for the folder of a path."
            )
        if column == ROW and ROW not in names:
            yield Part()
            continue
        at = list(names).index(str(column_of(names, column, (), key, place)))
        yield Part(None, at, f"{what}, of which '{column}'", int(match[1]) if match[1] else None, cut == "parent")


def looked_up(cells: Cells, spec: LookupSpec, key: str, root: Storage) -> Cells:
    """Return what says a thing, with the names of its values.

    Args:
        cells: what says it.
        spec: what its values are called.
        key: the key of `lookup` in a recipe.
        root: the folder of the data set.

    Raises:
        IcmBenchError: the second table cannot be read, lacks a column, or names a value twice.
    """
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
        if row[name_at] in (None, ""):  # as if it were not there: `other`, where the recipe gives it
            continue
        value = text_of(row[value_at], None, f"'{spec.key}' in {where}")
        word = text_of(row[name_at], None, f"'{spec.name}' in {where}")
        if names.setdefault(value, word) != word:
            raise IcmBenchError(f"{place} calls '{value}' both '{names[value]}' and '{word}'; leave one line of them.")
    return replace(cells, called=names, other=spec.other, names=place)
