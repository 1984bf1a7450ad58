"""A table as a fragment of HTML: no style and no script of its own."""

from html import escape
from itertools import groupby

from benchmark.common.visible import one_line
from reports.render import cells
from reports.render.table import Block, Cell, Column, Table


def html(table: Table) -> str:
    """Return a `<table>`: caption, a `<tbody>` for each block, notes and footnotes in `<tfoot>`.

    A cell has its number in `data-value`, with at most six decimals (none for a gap), and its interval and n in
    `title`. Classes: `best`, `equals-plain`, `bound`, `gap`, `word` of cells; `equals-plain` of lines; `block` of
    titles; `group` of headings.
    """
    notes = cells.footnotes(table)
    return "\n".join(
        [
            f'<table class="results" data-table="{_escape(table.name)}">',
            f"<caption>{_escape(table.caption)}</caption>",
            *_head(table),
            *(line for block in table.blocks for line in _body(block, table, notes)),
            *_foot(table, notes),
            "</table>",
            "",
        ]
    )


def _escape(text: str) -> str:
    return escape(one_line(text), quote=True)


def _head(table: Table) -> list[str]:
    """Return one line of headings, or two where columns have groups."""
    if not any(column.group for column in table.columns):
        corner = f'<th scope="col">{_escape(table.corner)}</th>'
        return ["<thead>", f"<tr>{corner}{''.join(_heading(c, table) for c in table.columns)}</tr>", "</thead>"]
    upper, lower = [f'<th scope="col" rowspan="2">{_escape(table.corner)}</th>'], []
    for group, run in groupby(table.columns, key=lambda column: column.group):
        columns = list(run)
        if not group:
            upper += [_heading(column, table, ' rowspan="2"') for column in columns]
            continue
        upper.append(f'<th scope="colgroup" class="group" colspan="{len(columns)}">{_escape(group)}</th>')
        lower += [_heading(column, table) for column in columns]
    return ["<thead>", f"<tr>{''.join(upper)}</tr>", f"<tr>{''.join(lower)}</tr>", "</thead>"]


def _heading(column: Column, table: Table, span: str = "") -> str:
    unit = cells.unit_of(column, table)
    text = _escape(column.heading) + (f' <span class="unit">({_escape(unit)})</span>' if unit else "")
    title = f' title="{_escape(column.name)}"' if column.heading != column.name else ""
    return f'<th scope="col"{span}{title}>{text}</th>'


def _body(block: Block, table: Table, notes: cells.Footnotes) -> list[str]:
    lines = ["<tbody>"]
    if block.title:
        width = len(table.columns) + 1
        lines.append(f'<tr class="block"><th scope="rowgroup" colspan="{width}">{_escape(block.title)}</th></tr>')
    for line in block.lines:
        start = '<tr class="equals-plain">' if line.equals_plain else "<tr>"
        title = f' title="{_escape(line.name)}"' if line.heading != line.name else ""
        name = f'<th scope="row"{title}>{_escape(line.heading)}{_mark(cells.SAME) if line.equals_plain else ""}</th>'
        lines.append(f"{start}{name}{''.join(_cell(cell, notes) for cell in line.cells)}</tr>")
    return [*lines, "</tbody>"]


def _cell(cell: Cell, notes: cells.Footnotes) -> str:
    flags = {
        "gap": cells.is_gap(cell), "word": cell.text is not None, "best": cell.best, "bound": cell.bound,
        "equals-plain": cell.equals_plain,
    }  # fmt: skip
    named = " ".join(name for name, flag in flags.items() if flag)
    value = cells.exact_text(cell.value)
    attributes = f' class="{named}"' if named else ""
    attributes += f' data-value="{value}"' if value else ""
    said = "; ".join(part for part in (cells.size_words(cell), one_line(cell.note or "")) if part)
    attributes += f' title="{_escape(said)}"' if said else ""
    return f"<td{attributes}>{_content(cell, notes)}</td>"


def _content(cell: Cell, notes: cells.Footnotes) -> str:
    text = _escape(cells.value_text(cell, minus="−"))
    if cell.best and not cells.is_gap(cell):
        text = f"<b>{text}</b>"
    if error := cells.error_text(cell):
        text += f' <span class="error">± {_escape(error)}</span>'
    elif interval := cells.interval_text(cell, minus="−"):
        text += f' <span class="interval">{_escape(interval)}</span>'
    text += _mark(cells.BOUND) if cell.bound else ""
    text += _mark(cells.SAME) if cell.equals_plain and not cells.is_gap(cell) else ""
    return text + (f"<sup>{notes.number(cell)}</sup>" if cell.note else "")


def _mark(sign: str) -> str:
    return f' <span class="mark">{sign}</span>'


def _foot(table: Table, notes: cells.Footnotes) -> list[str]:
    own = [f"<p>{_escape(note)}</p>" for note in cells.notes_of(table)]
    numbered = [f"<p><sup>{i}</sup> {_escape(note)}</p>" for i, note in enumerate(notes.texts, 1)]
    if not own and not numbered:
        return []
    return ["<tfoot>", f'<tr><td colspan="{len(table.columns) + 1}">', *own, *numbered, "</td></tr>", "</tfoot>"]
