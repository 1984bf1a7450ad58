"""The numbers of the main table: mean and standard error of what each selection rule picks. No formatting."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
import pandas as pd

from benchmark.method.evaluation.inference import PlusMinus, image_interval, seeds_standard_error
from benchmark.method.evaluation.selection import RULES, SOURCE_RULES
from reports.answers import ByKey, MethodAnswers, together
from reports.captions import has_scores, protocol_words, rule_words, seeds_of
from reports.chosen import Selections, held_out_names
from reports.comparisons import ranked
from reports.methods import Method
from reports.options import Options
from reports.placebos import accuracies_of
from reports.settings import Setting

AVERAGE = "average"
SHIFT = "shift costs"  # column: accuracy in domain minus held out


@dataclass(frozen=True)
class Cell:
    """One number of a table.

    Attributes:
        mean: accuracy in percent, or a difference of two in points; None for a gap.
        stderr: what stands behind ±, in percentage points; None where there is none.
        seeds: the seeds behind the number.
        n_units: groups of test images (images where there are no groups) per seed, averaged over those seeds.
        n_images: different test images per seed, averaged over those seeds.
        source: accuracy on the judging images of the sources at what the rule picks, in percent, or None.
        labels_fit: labelled images that projection and predictor learn from; None where unknown.
        labels_choice: labelled images of the sources by which rules may choose; None where unknown.
        note: why the cell is a gap or rests on fewer seeds than the table has, else None.
        best: whether its method is not separated from the best average of its predictor block.
        bound: whether labels of what is tested enter it: a bound (†), no result.
        signed: whether it is a difference.
    """

    mean: float | None = None
    stderr: float | None = None
    seeds: tuple[int, ...] = ()
    n_units: float | None = None
    n_images: float | None = None
    source: float | None = None
    labels_fit: int | None = None
    labels_choice: int | None = None
    note: str | None = None
    best: bool = False
    bound: bool = False
    signed: bool = False


@dataclass(frozen=True)
class TableRow:
    """One method: a cell for each held-out environment, then the average, then further columns."""

    method: Method
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """The main table of one setting under one selection rule; `columns` are the held-outs, "average" and the rest."""

    setting: Setting
    rule: str
    columns: tuple[str, ...]
    lines: tuple[TableRow, ...]
    caption: str


def main_tables(
    setting: Setting, selections: Selections, options: Options, in_domain: Selections | None = None
) -> list[Table]:
    """Return the main table of one setting for each of `selection.RULES` that has a score in any row."""
    rules = [rule for rule in RULES if has_scores(selections.rows, rule)]
    return [main_table(setting, selections, rule, options, in_domain) for rule in rules]


def main_table(
    setting: Setting,
    selections: Selections,
    rule: str,
    options: Options | None = None,
    in_domain: Selections | None = None,
) -> Table:
    """Return methods × (held-out environments, average) under one selection rule.

    Args:
        setting: what the rows share.
        selections: the rows of that setting.
        rule: one of `selection.RULES`.
        options: what the reader asks for.
        in_domain: rows of a protocol that fits on the tested environments themselves, on the same data; with it there
            is a column of what the shift costs.
    """
    options = options or Options()
    bound = RULES[rule].looks_at_target or setting.protocol_class.looks_at_target
    lines = [TableRow(m, line_cells(selections, m, rule, options.plus_minus)) for m in selections.parts]
    lines = [replace(line, cells=tuple(replace(cell, bound=bound) for cell in line.cells)) for line in lines]
    marked = [] if bound else [method for block in ranked(selections, rule) for method in block.tied]
    lines = [_marked(line) if line.method in marked else line for line in lines]
    if not RULES[rule].looks_at_target:  # by which no draw of a placebo is chosen
        lines = sorted([*lines, *mean_lines(selections, rule)], key=lambda line: line.method.place)
    columns, words = [*held_out_names(selections.rows), AVERAGE], ""
    if in_domain is not None and rule in SOURCE_RULES and not setting.protocol_class.looks_at_target:
        own_rule = rule_in_domain(in_domain)
        columns.append(SHIFT)
        lines = [
            replace(line, cells=(*line.cells, _shift(selections, in_domain, line, rule, own_rule, options.plus_minus)))
            for line in lines
        ]
        words = (
            f"Shift costs †: average accuracy of fits on the tested environment itself (protocol in_domain, rule "
            f"{own_rule}) minus the average."
        )
    bold = (
        "Bold: not separated from the best average of its predictor (paired differences, adjusted by Holm)."
        if marked
        else ""
    )
    sentences = [rule_words(rule, setting), protocol_words(setting, selections, options), bold, words]
    caption = setting.banner + " ".join(sentence for sentence in sentences if sentence)
    return Table(setting, rule, tuple(columns), tuple(lines), caption)


def mean_lines(selections: Selections, rule: str) -> list[TableRow]:
    """Return a line for each placebo with several draws: means over draws, without ±, since they share their images."""
    lines = []
    for method, draws in selections.draws.items():
        of_draws = [accuracies for draw in draws if (accuracies := accuracies_of(selections, draw, rule)) is not None]
        seeds = tuple(seeds_of(selections.rows))
        missing = f"{len(of_draws)} of {len(draws)} draws" if len(of_draws) < len(draws) else None
        means = np.mean(of_draws, axis=0) if of_draws else []
        cells = tuple(Cell(mean=100 * float(mean), seeds=seeds, note=missing) for mean in (*means, np.mean(means)))
        gaps = (Cell(note=missing),) * (len(held_out_names(selections.rows)) + 1)
        lines.append(TableRow(method, cells if of_draws else gaps))
    return lines


def rule_in_domain(selections: Selections) -> str:
    """Return what chooses for fits on the tested environment: `training_domain` where it has scores, else `oracle`."""
    return "training_domain" if has_scores(selections.rows, "training_domain") else "oracle"


def line_cells(selections: Selections, method: Method, rule: str, plus_minus: PlusMinus = "images") -> tuple[Cell, ...]:
    """Return one method's cells: each held-out environment, then the average.

    The average of a seed needs every held-out environment; a seed that lacks one does not count in it.

    Args:
        selections: the rows of one setting.
        method: one of its methods.
        rule: one of `selection.RULES`.
        plus_minus: what stands behind ±.
    """
    held_outs, expected = held_out_names(selections.rows), seeds_of(selections.rows)
    rows, pooled = selections.parts[method], selections.pooled(method, rule)
    sources = _by_held_out(selections.picks(method, rule), "training_domain")
    fit, choice = _by_held_out(rows, "labels_fit"), _by_held_out(rows, "labels_choice")
    cells = []
    for name in held_outs:
        tested = {k: v for k, v in pooled.items() if k[0] == name}
        cell = _cell(tested, selections.n_base, len(expected), plus_minus)
        if cell.seeds:
            source = 100 * fmean(sources[name]) if name in sources else None
            labels_fit, labels_choice = _most(fit.get(name)), _most(choice.get(name))
            cells.append(replace(cell, source=source, labels_fit=labels_fit, labels_choice=labels_choice))
        else:
            cells.append(replace(cell, note=_gap(selections, method, rule, name)))
    missing = ", ".join(n for n, cell in zip(held_outs, cells, strict=True) if not cell.seeds)
    if missing:
        return (*cells, Cell(note=f"no average: nothing for {missing}"))
    average = _cell(pooled, selections.n_base, len(expected), plus_minus, held_outs)
    if not average.seeds:
        return (*cells, Cell(note="no average: no seed has every held-out environment"))
    of_cells = [cell.source for cell in cells if cell.source is not None]
    source = float(np.mean(of_cells)) if len(of_cells) == len(cells) else None
    labels_fit, labels_choice = (_most([max(labels) for labels in known.values()]) for known in (fit, choice))
    return (*cells, replace(average, source=source, labels_fit=labels_fit, labels_choice=labels_choice))


def _cell(
    pooled: ByKey, n_base: int | None, expected: int, plus_minus: PlusMinus, held_outs: list[str] | None = None
) -> Cell:
    """Return the cell of one method's answers; every one of `held_outs` must be there."""
    answers = together([pooled], n_base)
    if answers is None or (held_outs is not None and list(answers.held_outs) != held_outs):
        return Cell()
    return Cell(
        mean=100 * float(answers.means.mean()),
        stderr=_error(answers, plus_minus),
        seeds=answers.seeds,
        n_units=answers.size.units_per_seed,
        n_images=answers.size.images_per_seed,
        note=f"{len(answers.seeds)} of {expected} seeds" if len(answers.seeds) < expected else None,
    )


def _error(answers: MethodAnswers, plus_minus: PlusMinus) -> float | None:
    """Return what stands behind ± of the first method's mean (of two: of their difference), in points, or None."""
    first, *others = answers.scores.values
    if plus_minus == "images":
        values = first - others[0] if others else first
        error = image_interval(replace(answers.scores, values=values)).plus_minus
    else:
        of_seeds = answers.accuracies.mean(axis=2)
        error = seeds_standard_error((of_seeds[0] - of_seeds[1] if others else of_seeds[0]).tolist())
    return 100 * error if error and error > 0 else None


def _by_held_out(rows: pd.DataFrame, column: str) -> dict[str, list[float]]:
    """Return held-out environment -> the known numbers of a column, in the order of the rows; none where none is."""
    known: dict[str, list[float]] = {}
    for name, value in zip(rows["held_out"], rows[column], strict=True):
        if not pd.isna(value):
            known.setdefault(str(name), []).append(float(value))
    return known


def _most(labels: Sequence[float] | None) -> int | None:
    return int(max(labels)) if labels else None


def _gap(selections: Selections, method: Method, rule: str, held_out: str) -> str:
    rows = selections.parts[method]
    rows = rows[rows["held_out"] == held_out]
    if rows.empty:
        return "no result row for this method and held-out environment"
    if there := selections.folds_there(method, held_out):
        return f"{there[0]} of {there[1]} folds"
    if rule == "lodo" and not has_scores(rows, rule):
        return "lodo is undefined: leaving a source out needs two or more"
    return f"the result rows have no {RULES[rule].score} accuracy"


def _shift(
    selections: Selections,
    in_domain: Selections,
    line: TableRow,
    rule: str,
    own_rule: str,
    plus_minus: PlusMinus,
) -> Cell:
    """Return what the shift costs a method: a difference in points, with ± where both are tested on the same images."""
    there, average = line.method in in_domain.parts, line.cells[-1]
    within = line_cells(in_domain, line.method, own_rule)[-1] if there else Cell()
    if within.mean is None or average.mean is None:
        return Cell(note="no rows of protocol in_domain for all that is held out", bound=True)
    pair = [in_domain.pooled(line.method, own_rule), selections.pooled(line.method, rule)]
    answers = together(pair, selections.n_base)
    paired = answers is not None and answers.seeds == average.seeds == within.seeds
    return Cell(
        mean=within.mean - average.mean,
        stderr=_error(answers, plus_minus) if paired and answers is not None else None,
        seeds=average.seeds,
        bound=True,
        signed=True,
    )


def _marked(line: TableRow) -> TableRow:
    return replace(line, cells=(*line.cells[:-1], replace(line.cells[-1], best=True)))
