"""A table as data: one line per cell as CSV, and all of it as JSON."""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from benchmark.common.visible import escaped_json
from reports.render.cells import DECIMALS, exact_text, finite
from reports.render.records import csv_lines
from reports.render.table import Block, Cell, Column, Line, Table

_COLUMNS = (
    "block", "part", "line", "column", "group", "unit", "value", "text", "low", "high", "error", "spread", "n_images",
    "n_clusters", "seeds", "folds", "note", "equals_plain", "best", "bound", "trials",
)  # fmt: skip


def csv_text(table: Table) -> str:
    """Return one line per cell: what its table shares, where it stands, and everything that is known of it.

    Numbers have at most six decimals. Text that a spreadsheet would run as a formula has an apostrophe before it. A
    field that all numbers share and that has the name of another column is called `context_NAME`.
    """
    shared = dict(sorted(table.context.items()))
    taken = {"table", *_COLUMNS}
    names = [f"context_{name}" if name in taken else name for name in shared]
    before = [table.name, *shared.values()]
    body = (
        [*before, *_row(block, line, column, cell)]
        for block, line in table.lines()
        for column, cell in zip(table.columns, line.cells, strict=True)
    )
    return csv_lines(["table", *names, *_COLUMNS], body)


def json_text(table: Table) -> str:
    """Return the whole table as JSON with sorted keys; what is no number is null, and `<` cannot end a script."""
    text = json.dumps(_plain(table), sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1)
    return escaped_json(text.replace("<", "\\u003c").encode("utf-8", "backslashreplace").decode()) + "\n"


def _row(block: Block, line: Line, column: Column, cell: Cell) -> list[str | None]:
    spans = [cell.low, cell.high, cell.error, cell.spread, cell.n_images, cell.n_clusters]
    return [
        *(block.title, block.part, line.name, column.name, column.group, column.unit),
        exact_text(cell.value),
        cell.text,
        *map(exact_text, spans),
        " ".join(map(str, cell.seeds)),
        str(cell.folds),
        cell.note,
        *(str(flag).lower() for flag in (cell.equals_plain, cell.best, cell.bound)),
        " ".join(cell.trials),
    ]


def _plain(value: Any) -> Any:
    """Return what JSON has: rounded numbers, null for what is none."""
    if value is None or isinstance(value, str | int):
        return value
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        rounded = finite(value)
        return None if rounded is None else round(rounded, DECIMALS) + 0.0  # no negative zero
    return value
