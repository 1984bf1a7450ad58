"""A table as a fragment of HTML: no style and no script of its own."""

from collections.abc import Callable
from functools import cache
from html import escape
from importlib.resources import files
from itertools import groupby
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from benchmark.common.terminal.escaping import one_line
from reports.render import cells
from reports.render.table import Cell, Table


def html(table: Table) -> str:
    """Return a `<table>`: caption, a `<tbody>` for each block, notes and footnotes in `<tfoot>`.

    A cell has its number in `data-value`, with at most six decimals (none for a gap), and its interval and n in
    `title`. Classes: `best`, `equals-plain`, `bound`, `gap`, `word` of cells; `equals-plain` of lines; `block` of
    titles; `group` of headings.
    """
    groups = [(group, list(run)) for group, run in groupby(table.columns, key=lambda column: column.group)]
    made = template("reports.render", "table.html", _escape, autoescape=False)
    text = made.render(table=table, groups=groups, cells=cells, signs=_SIGNS, attributes_of=_attributes)
    return f"{text}\n"


@cache
def template(package: str, name: str, written: Callable[[Any], Any], autoescape: bool = True) -> Any:
    """Return a template that lies in a package.

    Args:
        package: its name.
        name: of the file.
        written: what is written of each value.
        autoescape: whether the template escapes text, but for markup.
    """
    made = Environment(
        autoescape=autoescape, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=written
    )
    return made.from_string(files(package).joinpath(name).read_text(encoding="utf-8"))


def _escape(value: Any) -> str:
    """Return a text on one line as HTML has it; markup stays as it is."""
    return value if isinstance(value, Markup) else escape(one_line(str(value)), quote=True)


_MARK = ' <span class="mark">{}</span>'
_SIGNS = cells.Signs(
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
