"""A table for a terminal."""

import textwrap
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from benchmark.common.visible import one_line
from reports.render import cells
from reports.render.splits import balanced
from reports.render.table import Cell, Table

WIDTH = 80
_HEADING = 8  # letters to which headings are cut where columns are too many
_BEST = "* stands for bold."


@dataclass(frozen=True)
class _Column:
    """A column: the name of its group, its heading and its cells, all of one width."""

    group: str
    heading: str
    cells: list[str]
    width: int


def text(table: Table, width: int = WIDTH) -> list[str]:
    """Return caption, grid, notes and footnotes as lines of at most `width` characters.

    What is too wide loses what stands behind ± first, then its headings are cut and intervals left out; columns that
    still find no place stand below the others, with the names of the lines again.

    Args:
        table: what is printed.
        width: of the terminal, in characters.
    """
    notes = cells.footnotes(table)
    below = [_BEST] if any(cell.best for _, line in table.lines() for cell in line.cells) else []
    below += [*cells.notes_of(table), *(f"({i}) {note}" for i, note in enumerate(notes.texts, 1))]
    return [
        *textwrap.wrap(one_line(table.caption), width),
        *(_cut(line, width) for line in _grid(table, notes, width)),
        *(line for note in below for line in textwrap.wrap(note, width)),
    ]


def _grid(table: Table, notes: cells.Footnotes, width: int) -> Iterator[str]:
    names = [one_line(table.corner)]
    for block, line in table.lines():
        indent = "  " if block.title else ""
        names.append(indent + cells.name_heading(one_line(line.heading), line.equals_plain))
    longest = max(map(_length, names))
    for behind, heading in (("±[", width), ("[", width), ("[", _HEADING), ("", _HEADING)):
        columns = [_column(table, i, notes, behind, heading) for i in range(len(table.columns))]
        sizes = [column.width + 2 for column in columns]
        if longest + sum(sizes) <= width:
            break
    else:
        longest = min(longest, width // 3)
    for piece in balanced(sizes, max(width - longest, 1)) or [[]]:
        yield from _side_by_side(table, names, longest, [columns[i] for i in piece])


def _column(table: Table, place: int, notes: cells.Footnotes, behind: str, heading: int) -> _Column:
    column = table.columns[place]
    unit = cells.unit_of(column, table)
    name = one_line(column.heading) + (f" ({unit})" if unit else "")
    texts = [_cell(line.cells[place], notes, behind) for _, line in table.lines()]
    width = max([min(_length(name), heading), *map(_length, texts)])
    return _Column(one_line(column.group), _cut(name, width), texts, width)


def _side_by_side(table: Table, names: list[str], longest: int, columns: list[_Column]) -> Iterator[str]:
    """Yield the lines of a grid: groups where there are any, headings, and each block below its title."""
    if any(column.group for column in columns):
        line = " " * longest
        for group, run in groupby(columns, key=lambda column: column.group):
            width = sum(column.width + 2 for column in run) - 2
            line += "  " + _cut(group, width).center(width, "-" if group else " ")
        yield line.rstrip()
    rows = [[column.heading for column in columns], *zip(*(column.cells for column in columns), strict=True)]
    rows += [[]] * (len(names) - len(rows))  # where there is no column
    lines = []
    for name, row in zip(names, rows, strict=True):
        padded = [_blank(cell, column.width) + cell for cell, column in zip(row, columns, strict=True)]
        name = _cut(name, longest)
        lines.append("  ".join([name + _blank(name, longest), *padded]).rstrip())
    yield lines[0]
    place = 1
    for block in table.blocks:
        yield from [one_line(block.title)] if block.title else []
        yield from lines[place : place + len(block.lines)]
        place += len(block.lines)


def _cell(cell: Cell, notes: cells.Footnotes, behind: str) -> str:
    """Return a cell, with what stands behind ± and intervals as far as `behind` has their signs."""
    shown = cells.value_text(cell)
    if error := cells.error_text(cell):
        shown += f"±{error}" if "±" in behind else ""
    elif (interval := cells.interval_text(cell)) and "[" in behind:
        shown += f" {interval}"
    shown = f"*{shown}" if cell.best and not cells.is_gap(cell) else shown
    shown += cells.BOUND if cell.bound else ""
    shown += cells.SAME if cell.equals_plain and not cells.is_gap(cell) else ""
    return f"{shown}({notes.number(cell)})" if cell.note else shown


def _length(text: str) -> int:
    """Return how many characters of a terminal a text takes: two for each wide sign, none for a combining one."""
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text
    )


def _blank(text: str, width: int) -> str:
    return " " * (width - _length(text))


def _cut(text: str, width: int) -> str:
    """Return a text that is no longer than a width, with an ellipsis where something was cut off."""
    if _length(text) <= width:
        return text
    while text and _length(text) > width - 1:
        text = text[:-1]
    return text.rstrip() + "…" if width > 0 else ""
