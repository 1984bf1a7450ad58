"""A table in GitHub's Markdown."""

import re

from benchmark.common.visible import one_line
from reports.render import cells
from reports.render.table import Cell, Column, Table


def markdown(table: Table) -> str:
    """Return caption, grid, notes and footnotes in GitHub's Markdown.

    Titles of blocks are bold lines of the grid; the name of a column's group stands before its own. Bold is the best of
    a block, † a bound, = what is plain prediction's number.
    """
    notes = cells.footnotes(table)
    width = len(table.columns)
    body = []
    for block in table.blocks:
        if block.title:
            body.append([f"**{markdown_escape(block.title)}**", *[""] * width])
        for line in block.lines:
            name = cells.name_heading(markdown_escape(line.heading), line.equals_plain)
            body.append([name, *(_cell(cell, notes) for cell in line.cells)])
    header = [markdown_escape(table.corner), *(_heading(column, table) for column in table.columns)]
    own = [_paragraph(" ".join(sentences)) for sentences in (cells.notes_of(table), table.details) if sentences]
    numbered = [f"({i}) {markdown_escape(note)}" for i, note in enumerate(notes.texts, 1)]
    return "\n\n".join([_paragraph(table.caption), markdown_grid(header, body), *own, *numbered]) + "\n"


def markdown_grid(header: list[str], body: list[list[str]]) -> str:
    """Return a Markdown table, first column left-aligned, the others right-aligned.

    Args:
        header: what stands above the columns, escaped.
        body: lines of as many cells, escaped.
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


def _heading(column: Column, table: Table) -> str:
    unit = cells.unit_of(column, table)
    words = f"{column.group}: {column.heading}" if column.group else column.heading
    return markdown_escape(f"{words} ({unit})" if unit else words)


def _cell(cell: Cell, notes: cells.Footnotes) -> str:
    text = markdown_escape(cells.value_text(cell))
    if error := cells.error_text(cell):
        text += f" ± {markdown_escape(error)}"
    elif interval := cells.interval_text(cell):
        text += f" {markdown_escape(interval)}"
    if cell.best and not cells.is_gap(cell):
        text = f"**{text}**"
    if cell.bound:
        text += cells.BOUND
    if cell.equals_plain and not cells.is_gap(cell):
        text += f" {cells.SAME}"
    return f"{text} ({notes.number(cell)})" if cell.note else text
