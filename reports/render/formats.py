"""Renderers of tables to CSV, JSON, GitHub's Markdown, HTML fragments and terminal text; records to CSV."""

import base64
import csv
import hashlib
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
# Fields of `Cell` in CSV: all but `signed` and `decimals`. A new field of `Cell` belongs here too. It then changes the
# golden files in tests/reports/render/golden and tests/reports/golden/tables.
_OF_CELL = (
    "value", "text", "low", "high", "error", "spread", "n_images", "n_clusters", "seeds", "folds", "note",
    "equals_plain", "best", "bound", "trials",
)  # fmt: skip
_FORMULA = (*FORMULA_SIGNS, "\t", "\r")


_MARK = ' <span class="mark">{}</span>'


WIDTH = 80
_HEADING = 8  # letters to which headings are cut if a table is too wide
_TEXT = cells.Signs(one_line, "*{}{}", "±{}", " {}", cells.BOUND_SIGN, cells.PLAIN_SIGN, "({})")
_NO_ERRORS, _NUMBERS = replace(_TEXT, error=""), replace(_TEXT, error="", interval="")


def csv_text(table: Table) -> str:
    """Return CSV with one line per cell: context of the table, position, and all fields of the cell.

    Numbers have at most six decimals. Text that a spreadsheet would run as a formula gets an apostrophe. Context fields
    with the name of another column are called `context_NAME`.
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
    """Return the table as JSON with sorted keys; NaN is null, and `<` is escaped so that it cannot end a script."""
    # Numbers get at most six decimals, without a negative zero.
    text = json.dumps(table, default=vars)
    whole = json.loads(text, parse_float=lambda v: round(float(v), DECIMALS) + 0.0, parse_constant=lambda _: None)
    text = json.dumps(whole, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1)
    return escaped_json(text.replace("<", "\\u003c").encode("utf-8", "backslashreplace").decode()) + "\n"


def csv_lines(columns: Iterable[str], body: Iterable[Iterable[object]]) -> str:
    """Return CSV with a header line; text that a spreadsheet would run as a formula gets an apostrophe."""
    sink, safe = io.StringIO(), cache(_safe_text)  # most texts occur in many lines
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerows([safe(v) if isinstance(v, str) else v for v in line] for line in chain([columns], body))
    return sink.getvalue()


def records_csv(records: Sequence[dict[str, object]]) -> str:
    """Return records as CSV with a column for each key in order of appearance; missing fields are empty."""
    columns = list(dict.fromkeys(name for record in records for name in record))
    return csv_lines(columns, ([record.get(name, "") for name in columns] for record in records))


def _csv_text(value: Any) -> str:
    """Return a field of a cell as CSV text."""
    if value is None or isinstance(value, float):
        return exact_text(value)
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _safe_text(text: str) -> str:
    """Return text on one line that no spreadsheet runs as a formula; numbers are unchanged."""
    try:
        float(text)
    except ValueError:
        return "'" + one_line(text) if text.lstrip(" \n").startswith(_FORMULA) else one_line(text)
    return text


def markdown(table: Table) -> str:
    """Return caption, grid, notes and footnotes in GitHub's Markdown.

    Block titles are bold lines of the grid; headings start with the name of their group. Bold marks the best of a
    block, † a bound, = a number equal to plain prediction's.
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
    """Return a Markdown table from escaped cells, first column left-aligned, the others right-aligned."""
    lines = [header, [":--", *["--:"] * (len(header) - 1)], *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def markdown_escape(text: str) -> str:
    """Return text with Markdown markup escaped and line breaks replaced by spaces."""
    # An underscore inside a word is not markup; an ampersand is only before a possible entity.
    escaped = re.sub(r"[\\|*<`\[~$]|(?<!\w)_|_(?!\w)|&(?=[#\w]+;)", r"\\\g<0>", one_line(text))
    return re.sub(r"(?i)\b(https?|ftp|www)(?=://|\.)(.)", r"\1\\\2", escaped)  # GitHub links bare addresses


def _paragraph(text: str) -> str:
    """Return an escaped paragraph, including starts of headings, lists and quotations."""
    escaped = markdown_escape(text)
    return re.sub(r"^(?:[#>+=-]|\d+(?=[.)]))", lambda m: m[0] + "\\" if m[0].isdigit() else "\\" + m[0], escaped)


_MARKDOWN = cells.Signs(markdown_escape, "**{}{}**", " ± {}", " {}", cells.BOUND_SIGN, f" {cells.PLAIN_SIGN}", " ({})")


def html(table: Table) -> str:
    """Return a `<table>`: caption, a `<tbody>` for each block, notes and footnotes in `<tfoot>`.

    A cell has its number in `data-value`, with at most six decimals (none for a gap), and its interval and n in
    `title`. CSS classes of cells: `best`, `equals-plain`, `bound`, `gap`, `word`. Lines may have the class
    `equals-plain`. Titles of blocks have the class `block`, headings of groups the class `group`.
    """
    groups = [(group, list(run)) for group, run in groupby(table.columns, key=lambda column: column.group)]
    made = template("reports.render", "table.html", _escape, autoescape=False)
    text = made.render(table=table, groups=groups, cells=cells, signs=_HTML, attributes_of=_attributes)
    return f"{text}\n"


@cache
def template(package: str, name: str, written: Callable[[Any], Any], autoescape: bool = True) -> Any:
    """Return a Jinja template of a package; `written` is its finalize function."""
    made = Environment(
        autoescape=autoescape, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=written
    )
    return made.from_string(files(package).joinpath(name).read_text(encoding="utf-8"))


def squeezed(form: str, *of: tuple[str, str]) -> dict[str, Markup | str]:
    """Return CSS or JavaScript (`form`: css or js) of (package, file) pairs, and its hash for a page's security policy.

    Indentation, empty lines and comment lines are left out.
    """
    texts = [files(package).joinpath(name).read_text(encoding="utf-8") for package, name in of]
    lines = (line.strip() for text in texts for line in text.splitlines())
    whole = "\n".join(line for line in lines if line and not line.startswith("//"))
    digest = base64.b64encode(hashlib.sha256(whole.encode()).digest()).decode()
    return {form: Markup(whole), f"{form}_hash": f"sha256-{digest}"}


def _escape(value: Any) -> str:
    """Return text on one line, escaped for HTML; `Markup` is unchanged."""
    return value if isinstance(value, Markup) else escape(one_line(str(value)), quote=True)


_HTML = cells.Signs(
    _escape, "<b>{}</b>{}", ' <span class="error">± {}</span>', ' <span class="interval">{}</span>',
    _MARK.format(cells.BOUND_SIGN), _MARK.format(cells.PLAIN_SIGN), "<sup>{}</sup>", minus="−",
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

    If the table is too wide, errors are dropped, then headings are cut, then intervals are dropped. Columns that still
    do not fit are printed below, with the names of the lines repeated.
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
        same = f" {cells.PLAIN_SIGN}" if line.equals_plain else ""
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
    """Yield heading and cells of each column, padded to one width. Headings widen columns up to `heading` letters."""
    notes = cells.footnotes(table)
    for place, column in enumerate(table.columns):
        name = cells.heading_text(column, table)
        texts = [signs.written(line.cells[place], notes) for _, line in table.lines()]
        width = max([min(_length(name), heading), *map(_length, texts)])
        yield [_blank(shown, width) + shown for shown in (_cut(name, width), *texts)]


def _length(text: str) -> int:
    """Return the width of a text in terminal columns: two for wide characters, none for combining ones."""
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text
    )


def _blank(text: str, width: int) -> str:
    return " " * (width - _length(text))


def _cut(text: str, width: int) -> str:
    """Return a text cut to a width, with an ellipsis if it was longer."""
    if _length(text) <= width:
        return text
    while text and _length(text) > width - 1:
        text = text[:-1]
    return text.rstrip() + "…" if width > 0 else ""
