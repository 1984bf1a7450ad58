"""Tables as data, one line per cell as CSV and all of it as JSON, and records as CSV."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain
from typing import Any

from benchmark.common.terminal.escaping import FORMULA_SIGNS, escaped_json, one_line
from reports.render.cells import DECIMALS, exact_text
from reports.render.table import Table

_PLACE = ("block", "part", "line", "column", "group", "unit")
_OF_CELL = (
    "value", "text", "low", "high", "error", "spread", "n_images", "n_clusters", "seeds", "folds", "note",
    "equals_plain", "best", "bound", "trials",
)  # fmt: skip
_FORMULA = (*FORMULA_SIGNS, "\t", "\r")


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
