"""The numbers of the main table: mean and standard error of what each selection rule picks. No formatting."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmark.method.evaluation.selection import RULES
from reports.captions import seeds_of, table_caption, test_images
from reports.chosen import Selections
from reports.methods import Method
from reports.settings import Setting

AVERAGE = "average"


@dataclass(frozen=True)
class Cell:
    """One number of a table.

    Attributes:
        mean: accuracy in percent, or None for a gap.
        stderr: standard error over seeds in percentage points, or None with fewer than two seeds.
        seeds: the seeds behind the number.
        n_test: test images per seed, averaged over those seeds (of the average: all different ones).
        note: why the cell is a gap or rests on fewer seeds than the table has, else None.
        best: whether it is the best average of its predictor block.
    """

    mean: float | None = None
    stderr: float | None = None
    seeds: tuple[int, ...] = ()
    n_test: float | None = None
    note: str | None = None
    best: bool = False


@dataclass(frozen=True)
class TableRow:
    """One method: a cell for each held-out environment, then the average."""

    method: Method
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """The main table of one setting under one selection rule; `columns` ends with "average"."""

    setting: Setting
    rule: str
    columns: tuple[str, ...]
    lines: tuple[TableRow, ...]
    caption: str


def main_tables(setting: Setting, selections: Selections) -> list[Table]:
    """Return the main table of one setting for each of `selection.RULES`."""
    return [main_table(setting, selections, rule) for rule in RULES]


def main_table(setting: Setting, selections: Selections, rule: str) -> Table:
    """Return methods × (held-out environments, average) under one selection rule.

    Args:
        setting: what the rows share.
        selections: the rows of that setting.
        rule: one of `selection.RULES`.
    """
    lines = [TableRow(method, line_cells(selections, method, rule)) for method in selections.parts]
    if not RULES[rule].looks_at_target:
        lines = _mark_best(lines)
    columns = (*held_out_names(selections.rows), AVERAGE)
    return Table(setting, rule, columns, tuple(lines), table_caption(setting, selections.rows, rule))


def held_out_names(rows: pd.DataFrame) -> list[str]:
    """Return the held-out environments sorted as strings (as DomainBed sorts folders)."""
    return sorted(str(name) for name in rows["held_out"].unique())


def line_cells(selections: Selections, method: Method, rule: str) -> tuple[Cell, ...]:
    """Return one method's cells: each held-out environment, then the average.

    The average of a seed needs every held-out environment; a seed that lacks one does not count in it.
    """
    held_outs, seeds = held_out_names(selections.rows), seeds_of(selections.rows)
    rows, picks = selections.parts[method], selections.picks(method, rule)
    cells = []
    for name in held_outs:
        of_environment = picks[picks["held_out"] == name].sort_values("seed")
        cell = _cell(
            of_environment["target"].to_numpy(float),
            of_environment["seed"].tolist(),
            of_environment["n_test"].to_numpy(float),
            seeds,
        )
        cells.append(cell if cell.seeds else replace(cell, note=_gap(rows[rows["held_out"] == name], rule)))
    wide = picks.pivot(index="seed", columns="held_out", values="target")
    if any(not cell.seeds for cell in cells):
        missing = ", ".join(n for n, cell in zip(held_outs, cells, strict=True) if not cell.seeds)
        return (*cells, Cell(note=f"no average: nothing for {missing}"))
    whole = wide.dropna()
    average = _cell(
        whole.to_numpy(float).mean(axis=1) if len(whole) else np.empty(0),
        [int(s) for s in whole.index],
        np.array([test_images(picks[picks["seed"] == s]) for s in whole.index]),
        seeds,
    )
    return (
        *cells,
        average if average.seeds else Cell(note="no average: no seed has every held-out environment"),
    )


def standard_error(values: npt.NDArray[np.float64]) -> float | None:
    """Return s / sqrt(n) with the sample standard deviation s of n values, or None with fewer than two."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None


def _cell(
    accuracies: npt.NDArray[np.float64],
    seeds: list[int],
    n_test: npt.NDArray[np.float64],
    expected: list[int],
) -> Cell:
    if not seeds:
        return Cell()
    stderr = standard_error(accuracies)
    few = f"{len(seeds)} of {len(expected)} seeds" if len(seeds) < len(expected) else None
    return Cell(
        mean=100 * float(accuracies.mean()),
        stderr=None if stderr is None else 100 * stderr,
        seeds=tuple(seeds),
        n_test=float(n_test.mean()),
        note=few,
    )


def _gap(rows: pd.DataFrame, rule: str) -> str:
    if rows.empty:
        return "no result row for this method and held-out environment"
    if rule == "lodo":
        return "lodo is undefined: leaving a source out needs two or more"
    return f"the result rows have no {RULES[rule].score} accuracy"


def _mark_best(lines: list[TableRow]) -> list[TableRow]:
    """Mark the best average of each predictor block; equal at the printed precision is equal."""
    marked = []
    for line in lines:
        rivals = [
            round(other.cells[-1].mean, 1)
            for other in lines
            if other.method.predictor == line.method.predictor and other.cells[-1].mean is not None
        ]
        average = line.cells[-1]
        best = average.mean is not None and len(rivals) > 1 and round(average.mean, 1) == max(rivals)
        marked.append(TableRow(line.method, (*line.cells[:-1], replace(average, best=best))))
    return marked
