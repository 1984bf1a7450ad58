"""SYNTHETIC rows for tables: two data sets, two backbones, known correctness. No model was run."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from reports.analysis.selections import SettingResults
from reports.analysis.settings import Options
from reports.render.table import Block, Cell, Line, Table
from reports.tables.spec import Request, TableSpec
from tests.reports.synthetic import results_of, row

ICM: dict[str, Any] = {"projection": "icm", "order": "largest", "lambda_": 1.0, "intervention_set": "all",
                       "interventions": '{"kinds": [{"name": "blur"}]}'}  # fmt: skip
PLAIN: dict[str, Any] = {"projection": "identity"}
PCA: dict[str, Any] = {"projection": "pca"}
RANDOM: dict[str, Any] = {"projection": "random"}
N = 100


def share(value: float, n: int = N) -> np.ndarray:
    """Return correctness of n images of which the first share is correct."""
    return np.arange(n) < round(value * n)


def setting(dataset: str = "one", backbone: str = "A", **more: Any) -> dict[str, Any]:
    return {"dataset": dataset, "dataset_fingerprint": f"data {dataset}", "backbone": backbone,
            "backbone_fingerprint": f"weights {backbone}", **more}  # fmt: skip


def method_rows(
    what: dict[str, Any], shares: Sequence[float], held_outs: str = "ab", **more: Any
) -> list[dict[str, Any]]:
    """Return one row for each held-out environment, with its accuracy."""
    return [row(held_out=h, correct=share(x), **{**what, **more}) for h, x in zip(held_outs, shares, strict=True)]


def built(spec: TableSpec[Any], rows: list[dict[str, Any]], rule: str | None = None, **other: Any) -> Table:
    """Return the table of rows; it must exist."""
    table = table_of(spec, results_of(rows), rule=rule, **other)
    assert table is not None
    return table


def table_of(
    spec: TableSpec[Any],
    parts: Sequence[SettingResults],
    options: Options | None = None,
    rule: str | None = None,
    **other: Any,
) -> Table | None:
    """Return the table of settings, by default under the source rule and with default options."""
    return spec.build(Request(parts, options or Options(), rule, **other))


def line(table: Table, name: str, block: int = 0) -> Line:
    return next(one for one in table.blocks[block].lines if one.heading == name)


def column(table: Table, name: str) -> int:
    return [one.name for one in table.columns].index(name)


def cell(table: Table, name: str, heading: str, block: int = 0) -> Cell:
    return line(table, name, block).cells[column(table, heading)]


def block(table: Table, title: str) -> Block:
    return next(one for one in table.blocks if one.title == title)
