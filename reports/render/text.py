"""A table for a terminal."""

import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import groupby

from benchmark.common.visible import one_line
from reports.render import cells
from reports.render.splits import balanced
from reports.render.table import Cell, Column, Table

WIDTH = 80
_SHORTEST_NAME = 14  # of lines, before columns go below the others
_SHORTEST_HEADING = 6
_DIVIDED_NAME, _DIVIDED_HEADING = 24, 12  # where columns go below the others anyhow
_BEST = "* stands for bold."
_INDENT = "  "  # of lines below the title of their block


def text(table: Table, width: int = WIDTH) -> list[str]:
    """Return caption, grid, notes and footnotes as lines of at most `width` characters.

    Args:
        table: what is printed.
        width: of the terminal, in characters.
    """
    notes = cells.footnotes(table)
    below = [_BEST] if any(cell.best for _, line in table.lines() for cell in line.cells) else []
    below += [*cells.notes_of(table), *(f"({i}) {note}" for i, note in enumerate(notes.texts, 1))]
    return [
        *textwrap.wrap(one_line(table.caption), width),
        *text_grid(table, width),
        *(line for note in below for line in textwrap.wrap(note, width)),
    ]


def text_grid(table: Table, width: int = WIDTH) -> list[str]:
    """Return the grid alone, as lines of at most `width` characters.

    What is too wide loses what stands behind ± first, then its headings are shortened, intervals left out and names
    shortened; columns that still find no place stand below the others, with the names of the lines again.

    Args:
        table: what is printed.
        width: of the terminal, in characters.
    """
    notes = cells.footnotes(table)
    longest = max(map(_length, [one_line(table.corner), *_names(table)]))
    for behind, name_width, heading in (
        ("±[", longest, None), ("[", longest, None), ("[", longest, _SHORTEST_HEADING), ("", longest, None),
        ("", longest, _SHORTEST_HEADING), ("", min(longest, _SHORTEST_NAME), _SHORTEST_HEADING),
    ):  # fmt: skip
        columns = [_Printed(table, i, notes, behind, heading) for i in range(len(table.columns))]
        spare = width - name_width - sum(column.taken for column in columns)
        if spare >= 0:
            return [_cut(line, width) for line in _side_by_side(table, columns, name_width, longest, spare)]
    return [_cut(line, width) for line in _divided(table, notes, min(longest, _DIVIDED_NAME, width // 3), width)]


class _Printed:
    """One column as it is printed."""

    def __init__(self, table: Table, place: int, notes: cells.Footnotes, behind: str, shortest: int | None) -> None:
        column = table.columns[place]
        self.group, self.heading = one_line(column.group), _heading(column, table)
        self.texts = [_cell(line.cells[place], notes, behind) for _, line in table.lines()]
        widest = max(map(_length, self.texts), default=0)
        whole = max(widest, _length(self.heading))
        self.width = whole if shortest is None else max(widest, min(shortest, whole))

    @property
    def taken(self) -> int:
        """Its width with what parts it from the one before it."""
        return self.width + 2

    def widen(self, spare: int) -> int:
        """Take what the heading still needs of the spare characters, and return how many that was."""
        more = max(0, min(spare, _length(self.heading) - self.width))
        self.width += more
        return more


def _side_by_side(table: Table, columns: Sequence[_Printed], name_width: int, longest: int, spare: int) -> list[str]:
    """Return the grid in one: names and headings get back what is left."""
    more = min(spare, longest - name_width)
    spare -= more
    for column in columns:
        spare -= column.widen(spare)
    return _printed(table, columns, name_width + more)


def _divided(table: Table, notes: cells.Footnotes, name_width: int, width: int) -> list[str]:
    """Return the grid in pieces, one below the other."""
    columns = [_Printed(table, i, notes, "", _DIVIDED_HEADING) for i in range(len(table.columns))]
    lines: list[str] = []
    for piece in balanced([column.taken for column in columns], max(width - name_width, 1)):
        lines += [""] if lines else []
        lines += _printed(table, [columns[i] for i in piece], name_width)
    return lines


def _printed(table: Table, columns: Sequence[_Printed], name_width: int) -> list[str]:
    widths = [column.width for column in columns]
    corner = one_line(table.corner)
    lines = [_line(corner, [column.heading for column in columns], name_width, widths)]
    if any(column.group for column in columns):
        lines.insert(0, _groups(columns, name_width))
    place = 0
    for block in table.blocks:
        if block.title:
            lines.append(one_line(block.title))
        for line in block.lines:
            indent = _INDENT if block.title else ""
            name = indent + cells.name_heading(one_line(line.heading), line.equals_plain)
            lines.append(_line(name, [column.texts[place] for column in columns], name_width, widths))
            place += 1
    return lines


def _names(table: Table) -> list[str]:
    return [
        (_INDENT if block.title else "") + cells.name_heading(one_line(line.heading), line.equals_plain)
        for block, line in table.lines()
    ]


def _heading(column: Column, table: Table) -> str:
    unit = cells.unit_of(column, table)
    heading = one_line(column.heading)
    return f"{heading} ({unit})" if unit else heading


def _groups(columns: Sequence[_Printed], name_width: int) -> str:
    """Return the names of groups, each over its columns."""
    text = " " * name_width
    for group, run in groupby(columns, key=lambda column: column.group):
        width = sum(column.width + 2 for column in run)
        text += "  " + _centred(group, width - 2)
    return text.rstrip()


def _centred(group: str, width: int) -> str:
    """Return the name of a group in the middle of a line."""
    name = _cut(group, width)
    left = (width - _length(name)) // 2
    line = "-" if group else " "
    return line * left + name + line * (width - left - _length(name))


def _cell(cell: Cell, notes: cells.Footnotes, behind: str) -> str:
    """Return a cell, with what stands behind ± and intervals as far as `behind` has their signs."""
    text = cells.value_text(cell)
    if error := cells.error_text(cell):
        text += f"±{error}" if "±" in behind else ""
    elif (interval := cells.interval_text(cell)) and "[" in behind:
        text += f" {interval}"
    text = f"*{text}" if cell.best and not cells.is_gap(cell) else text
    text += cells.BOUND if cell.bound else ""
    text += cells.SAME if cell.equals_plain and not cells.is_gap(cell) else ""
    return f"{text}({notes.number(cell)})" if cell.note else text


def _line(name: str, texts: Iterable[str], name_width: int, widths: Sequence[int]) -> str:
    numbers = (_padded(_cut(text, width), width, right=True) for text, width in zip(texts, widths, strict=True))
    return "  ".join([_padded(_cut(name, name_width), name_width), *numbers]).rstrip()


def _length(text: str) -> int:
    """Return how many characters of a terminal a text takes: two for each wide sign, none for a combining one."""
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text
    )


def _padded(text: str, width: int, right: bool = False) -> str:
    blank = " " * (width - _length(text))
    return blank + text if right else text + blank


def _cut(text: str, width: int) -> str:
    """Return a text that is no longer than a width, with an ellipsis where something was cut off."""
    if _length(text) <= width:
        return text
    while text and _length(text) > width - 1:
        text = text[:-1]
    return text.rstrip() + "…" if width > 0 else ""
