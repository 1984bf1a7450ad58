"""A table in GitHub's Markdown."""

import re

from benchmark.common.terminal.escaping import one_line
from reports.render import cells
from reports.render.table import Table


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
            name = markdown_escape(line.heading) + (_SIGNS.same if line.equals_plain else "")
            body.append([name, *(_SIGNS.written(cell, notes) for cell in line.cells)])
    groups = [f"{column.group}: " if column.group else "" for column in table.columns]
    headings = [group + cells.heading_text(one, table) for group, one in zip(groups, table.columns, strict=True)]
    grid = markdown_grid([markdown_escape(words) for words in (table.corner, *headings)], body)
    own = [_paragraph(" ".join(sentences)) for sentences in (cells.notes_of(table), table.details) if sentences]
    numbered = [f"({i}) {markdown_escape(note)}" for note, i in notes.items()]
    return "\n\n".join([_paragraph(table.caption), grid, *own, *numbered]) + "\n"


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


_SIGNS = cells.Signs(markdown_escape, "**{}{}**", " ± {}", " {}", cells.BOUND, f" {cells.SAME}", " ({})")
