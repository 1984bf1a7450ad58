"""Tables as CSV and JSON, in GitHub's Markdown, as a fragment of HTML and for a terminal; records as CSV."""

import csv
import io
import json
import re
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from html import escape
from importlib.resources import files
from itertools import chain, groupby, islice
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from benchmark.common.terminal.escaping import FORMULA_SIGNS, escaped_json, one_line
from reports.render import cells
from reports.render.cells import DECIMALS, exact_text
from reports.render.table import Cell, Table

_PLACE = ("block", "part", "line", "column", "group", "unit")
_OF_CELL = (
    "value", "text", "low", "high", "error", "spread", "n_images", "n_clusters", "seeds", "folds", "note",
    "equals_plain", "best", "bound", "trials",
)  # fmt: skip
_FORMULA = (*FORMULA_SIGNS, "\t", "\r")


_MARK = ' <span class="mark">{}</span>'


WIDTH = 80
_HEADING = 8  # letters to which headings are cut where columns are too many
_TEXT = cells.Signs(one_line, "*{}{}", "±{}", " {}", cells.BOUND, cells.SAME, "({})")
_NO_ERRORS, _NUMBERS = replace(_TEXT, error=""), replace(_TEXT, error="", interval="")


def csv_text(table: Table) -> str:
    """Return one line per cell: what its table shares, where it stands, and everything that is known of it.

    Numbers have at most six decimals. Text that a spreadsheet would run as a formula has an apostrophe before it. A
    field that all numbers share and that has the name of another column is called `context_NAME`.
    """
    shared = dict(sorted(table.context.items()))
    own = ("table", *_PLACE, *_OF_CELL)
    body = (
        [table.name, *shared.values(), block.title, block.part, line.name, column.name, column.group, column.unit]
        + [_csv_text(getattr(cell, name)) for name in _OF_CELL]
        for block, line in table.lines()
        for column, cell in zip(table.columns, line.cells, strict=True)
    )
    return csv_lines(["table", *(f"context_{name}" if name in own else name for name in shared), *own[1:]], body)


def json_text(table: Table) -> str:
    """Return the whole table as JSON with sorted keys; what is no number is null, and `<` cannot end a script."""
    # Read back, all numbers have at most six decimals, without a negative zero.
    text = json.dumps(table, default=vars)
    whole = json.loads(text, parse_float=lambda v: round(float(v), DECIMALS) + 0.0, parse_constant=lambda _: None)
    text = json.dumps(whole, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1)
    return escaped_json(text.replace("<", "\\u003c").encode("utf-8", "backslashreplace").decode()) + "\n"


def csv_lines(columns: Iterable[str], body: Iterable[Iterable[object]]) -> str:
    """Return lines of cells as CSV with a head; text that a spreadsheet would take for a formula is kept from it."""
    sink, safe = io.StringIO(), cache(_safe_text)  # most text stands in very many lines
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerows([safe(v) if isinstance(v, str) else v for v in line] for line in chain([columns], body))
    return sink.getvalue()


def records_csv(records: Sequence[dict[str, object]]) -> str:
    """Return records as CSV: a column for each key in order of appearance, empty where a record lacks it."""
    columns = list(dict.fromkeys(name for record in records for name in record))
    return csv_lines(columns, ([record.get(name, "") for name in columns] for record in records))


def _csv_text(value: Any) -> str:
    """Return what a cell has as CSV has it."""
    if value is None or isinstance(value, float):
        return exact_text(value)
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _safe_text(text: str) -> str:
    """Return text on one line that no spreadsheet runs; numbers stay as they are."""
    try:
        float(text)
    except ValueError:
        return "'" + one_line(text) if text.lstrip(" \n").startswith(_FORMULA) else one_line(text)
    return text


def markdown(table: Table) -> str:
    """Return caption, grid, notes and footnotes in GitHub's Markdown.

    Titles of blocks are bold lines of the grid; the name of a column's group stands before its own. Bold is the best of
    a block, † a bound, = what is plain prediction's number.
    """
    notes, body = cells.footnotes(table), []
    for block in table.blocks:
        if block.title:
            body.append([f"**{markdown_escape(block.title)}**", *[""] * len(table.columns)])
        for line in block.lines:
            name = markdown_escape(line.heading) + (_MARKDOWN.same if line.equals_plain else "")
            body.append([name, *(_MARKDOWN.written(cell, notes) for cell in line.cells)])
    groups = [f"{column.group}: " if column.group else "" for column in table.columns]
    headings = [group + cells.heading_text(one, table) for group, one in zip(groups, table.columns, strict=True)]
    grid = markdown_grid([markdown_escape(words) for words in (table.corner, *headings)], body)
    own = [_paragraph(" ".join(sentences)) for sentences in (cells.notes_of(table), table.details) if sentences]
    numbered = [f"({i}) {markdown_escape(note)}" for note, i in notes.items()]
    return "\n\n".join([_paragraph(table.caption), grid, *own, *numbered]) + "\n"


def markdown_grid(header: list[str], body: list[list[str]]) -> str:
    """Return a Markdown table, first column left-aligned, the others right-aligned.

    Cells are escaped.
    """
    lines = [header, [":--", *["--:"] * (len(header) - 1)], *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def markdown_escape(text: str) -> str:
    """Escape what Markdown would take for markup in names and prompts; line breaks become spaces."""
    # An underscore inside a word is none, and an ampersand is one only before what could be an entity.
    escaped = re.sub(r"[\\|*<`\[~$]|(?<!\w)_|_(?!\w)|&(?=[#\w]+;)", r"\\\g<0>", one_line(text))
    return re.sub(r"(?i)\b(https?|ftp|www)(?=://|\.)(.)", r"\1\\\2", escaped)  # a bare address is no link


def _paragraph(text: str) -> str:
    """Escape a paragraph: what would make it a heading, a list or a quotation, too."""
    escaped = markdown_escape(text)
    return re.sub(r"^(?:[#>+=-]|\d+(?=[.)]))", lambda m: m[0] + "\\" if m[0].isdigit() else "\\" + m[0], escaped)


_MARKDOWN = cells.Signs(markdown_escape, "**{}{}**", " ± {}", " {}", cells.BOUND, f" {cells.SAME}", " ({})")


def html(table: Table) -> str:
    """Return a `<table>`: caption, a `<tbody>` for each block, notes and footnotes in `<tfoot>`.

    A cell has its number in `data-value`, with at most six decimals (none for a gap), and its interval and n in
    `title`. Classes: `best`, `equals-plain`, `bound`, `gap`, `word` of cells; `equals-plain` of lines; `block` of
    titles; `group` of headings.
    """
    groups = [(group, list(run)) for group, run in groupby(table.columns, key=lambda column: column.group)]
    made = template("reports.render", "table.html", _escape, autoescape=False)
    text = made.render(table=table, groups=groups, cells=cells, signs=_HTML, attributes_of=_attributes)
    return f"{text}\n"


@cache
def template(package: str, name: str, written: Callable[[Any], Any], autoescape: bool = True) -> Any:
    """Return a template that lies in a package."""
    made = Environment(
        autoescape=autoescape, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=written
    )
    return made.from_string(files(package).joinpath(name).read_text(encoding="utf-8"))


def _escape(value: Any) -> str:
    """Return a text on one line as HTML has it; markup stays as it is."""
    return value if isinstance(value, Markup) else escape(one_line(str(value)), quote=True)


_HTML = cells.Signs(
    _escape, "<b>{}</b>{}", ' <span class="error">± {}</span>', ' <span class="interval">{}</span>',
    _MARK.format(cells.BOUND), _MARK.format(cells.SAME), "<sup>{}</sup>", minus="−",
)  # fmt: skip


def _attributes(cell: Cell) -> dict[str, str]:
    flags = {
        "gap": cells.is_gap(cell), "word": cell.text is not None, "best": cell.best, "bound": cell.bound,
        "equals-plain": cell.equals_plain,
    }  # fmt: skip
    return {
        "class": " ".join(name for name, flag in flags.items() if flag),
        "data-value": cells.exact_text(cell.value),
        "title": "; ".join(filter(None, (cells.size_words(cell), one_line(cell.note or "")))),
    }


def text(table: Table, width: int = WIDTH) -> list[str]:
    """Return caption, grid, notes and footnotes as lines of at most `width` characters.

    What is too wide loses what stands behind ± first, then its headings are cut and intervals left out; columns that
    still find no place stand below the others, with the names of the lines again.
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
    for signs, heading in ((_TEXT, width), (_NO_ERRORS, width), (_NO_ERRORS, _HEADING), (_NUMBERS, _HEADING)):
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
