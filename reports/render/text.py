"""A table for a terminal."""

import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby, islice

from benchmark.common.terminal.escaping import one_line
from reports.render import cells
from reports.render.table import Table

WIDTH = 80
_HEADING = 8  # letters to which headings are cut where columns are too many
_SIGNS = cells.Signs(one_line, "*{}{}", "±{}", " {}", cells.BOUND, cells.SAME, "({})")
_NO_ERRORS, _NUMBERS = replace(_SIGNS, error=""), replace(_SIGNS, error="", interval="")


def text(table: Table, width: int = WIDTH) -> list[str]:
    """Return caption, grid, notes and footnotes as lines of at most `width` characters.

    What is too wide loses what stands behind ± first, then its headings are cut and intervals left out; columns that
    still find no place stand below the others, with the names of the lines again.

    Args:
        table: what is printed.
        width: of the terminal, in characters.
    """
    below = ["* stands for bold."] if any(cell.best for _, line in table.lines() for cell in line.cells) else []
    below += [*cells.notes_of(table), *(f"({i}) {note}" for note, i in cells.footnotes(table).items())]
    return [
        *textwrap.wrap(one_line(table.caption), width),
        *(_cut(line, width) for line in _grid(table, width)),
        *(line for note in below for line in textwrap.wrap(note, width)),
    ]


def _grid(table: Table, width: int) -> Iterator[str]:
    names = [one_line(table.corner)]
    for block, line in table.lines():
        same = f" {cells.SAME}" if line.equals_plain else ""
        names.append(("  " if block.title else "") + one_line(line.heading) + same)
    longest = max(map(_length, names))
    for signs, heading in ((_SIGNS, width), (_NO_ERRORS, width), (_NO_ERRORS, _HEADING), (_NUMBERS, _HEADING)):
        columns = list(_columns(table, signs, heading))
        sizes = [_length(column[0]) + 2 for column in columns]
        if longest + sum(sizes) <= width:
            break
    else:
        longest = min(longest, width // 3)
    names = [name + _blank(name, longest) for name in (_cut(name, longest) for name in names)]
    for piece in cells.balanced(sizes, max(width - longest, 1)) or [[]]:
        groups = " " * longest
        for group, run in groupby(piece, key=lambda i: one_line(table.columns[i].group)):
            room = sum(sizes[i] for i in run) - 2
            groups += "  " + _cut(group, room).center(room, "-" if group else " ")
        yield from [groups.rstrip()] if groups.strip() else []
        lines = ("  ".join(line).rstrip() for line in zip(names, *(columns[i] for i in piece), strict=True))
        yield next(lines)
        for block in table.blocks:
            yield from [one_line(block.title)] if block.title else []
            yield from islice(lines, len(block.lines))


def _columns(table: Table, signs: cells.Signs, heading: int) -> Iterator[Sequence[str]]:
    """Yield heading and cells of each column, all of one width; at most so many letters of the heading decide on it."""
    notes = cells.footnotes(table)
    for place, column in enumerate(table.columns):
        name = cells.heading_text(column, table)
        texts = [signs.written(line.cells[place], notes) for _, line in table.lines()]
        width = max([min(_length(name), heading), *map(_length, texts)])
        yield [_blank(shown, width) + shown for shown in (_cut(name, width), *texts)]


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
