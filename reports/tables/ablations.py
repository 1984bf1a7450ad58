"""One setting of a method fixed, the rest by the rule: lambda, rank, intervention set, order, predictor.

Each table has a line for every value, and one for what the rule picks among all: how well the sources judge it, how
well it does on what is held out, what it gains over plain prediction, how often the rule picks it by itself.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import pandas as pd

from benchmark.method.evaluation.selection import RULES
from reports.analysis.answers import Answered
from reports.analysis.chosen import Selections
from reports.analysis.methods import ICM, Method, as_rows_of
from reports.analysis.options import Options
from reports.analysis.whole import whole_estimate
from reports.render.table import Block, Cell, Column, Line, Table
from reports.tables import cells, words
from reports.tables.alike import Described, by_backbone, check_alike, common_rule
from reports.tables.blocks import OF_FIXED, OF_FIXED_IN_WORDS, methods_of, table_of

MAX_VALUES = 16  # with a line each; of more, some in even distances, with the ends and what is picked most
MANY_ROWS, FEW_VALUES = 20_000, 6  # of a method with so many rows, each of which is looked at for every value
PICKED = "by the rule"
_COLUMNS = (*OF_FIXED, Column("times picked", "Picked", unit=""))


@dataclass(frozen=True)
class Value:
    """A fixed value of a setting.

    Attributes:
        name: as its line is called.
        picks: what the rule picks where it is fixed, as of `Selections.picks`.
        pooled: the answers there.
        trials: that hold them.
        times: (k, n): of the n picks of the rule among all values, k have it; None where it is not among these.
        equals_plain: whether all these picks are the full space.
    """

    name: str
    picks: pd.DataFrame
    pooled: Answered
    trials: tuple[str, ...]
    times: tuple[int, int] | None
    equals_plain: bool = False


@dataclass(frozen=True)
class Together:
    """Several values that are one line: the means of their numbers, in words with the lowest and the highest.

    Attributes:
        name: as the line is called.
        values: at least one.
    """

    name: str
    values: tuple[Value, ...]


T = TypeVar("T", int, float)
_SHOWN = (
    f"At most {MAX_VALUES} values are shown, {FEW_VALUES} of a method with more than {MANY_ROWS:,} rows: the ends, "
    "those that are picked most, and some between.",
)
Values = Callable[[Selections, Method, str], Sequence[Value | Together]]


def build_lambda(
    described: Described, options: Options, rule: str | None = None, names: Mapping[str, str] | None = None
) -> Table | None:
    """Return CLIP-ICM and shrinkage at each lambda; arguments, result and errors as of `build_rank`."""
    return build_of(
        "ablation_lambda", "lambda", "Lambda", described, options, rule, names or {}, _lambdas, has_lambda, _SHOWN
    )


def build_rank(
    described: Described, options: Options, rule: str | None = None, names: Mapping[str, str] | None = None
) -> Table | None:
    """Return PCA, random projection and CLIP-ICM at each rank.

    Args:
        described: settings of one data set that may share a table.
        options: what stands behind ±.
        rule: what chooses the rest; by default what is fair.
        names: long name -> short name of methods, predictors, backbones and values.

    Returns:
        The table, a block for each backbone and method; None where no method has two values.

    Raises:
        IcmBenchError: the settings may not share a table.
    """
    return build_of("ablation_rank", "rank", "Rank", described, options, rule, names or {}, _ranks, _has_ranks, _SHOWN)


def build_of(
    name: str,
    what: str,
    corner: str,
    described: Described,
    options: Options,
    rule: str | None,
    names: Mapping[str, str],
    values: Values,
    takes_part: Callable[[Method], bool],
    own: Sequence[str] = (),
) -> Table | None:
    """Return a table with a block for each backbone and method that takes part, and a line for each of its values.

    Args:
        name: of the table.
        what: the setting that is fixed, in words.
        corner: what stands above the values.
        described: settings of one data set that may share a table.
        options: what stands behind ±.
        rule: what chooses the rest; None for what is fair.
        names: long name -> short name.
        values: setting, method and rule -> its values.
        takes_part: whether a method has a block.
        own: notes of this table alone.
    """
    if not described or described[0][0].protocol_class.looks_at_target:
        return None
    check_alike(described, name)
    rule = RULES[common_rule(described, rule)].base  # what keeps nothing back, so that values are told apart
    backbones, shown = by_backbone(described), [m for m in methods_of(described) if takes_part(m)]
    blocks = []
    for backbone, parts in backbones.items():
        (_, selections) = parts[0]
        for method in (m for m in shown if m in selections.parts):
            found = values(selections, method, rule)
            if len(found) > 1:
                picked = _picked(selections, method, rule)
                lines = [_line(selections, method, one, rule, options, names) for one in (*found, picked)]
                titles = [words.short(backbone, names)] if len(backbones) > 1 else []
                titles.append(f"{words.short_name(method, names)}, {words.short(method.predictor_label, names)}")
                blocks.append(Block(", ".join(titles), tuple(lines), words.short(backbone, names)))
    caption = f"{words.what(described)}: accuracy (%) by {what}, everything else chosen by the rule."
    said = [words.INTERVAL, OF_FIXED_IN_WORDS, _picked_words(what), *(own if blocks else [])]
    return table_of(name, caption, _COLUMNS, blocks, described, rule, options, said, corner)


def _picked_words(what: str) -> str:
    return (
        f"Picked: how often the rule, which chooses for each environment, seed and fold, picks this {what} by itself."
    )


def _line(
    selections: Selections,
    method: Method,
    value: Value | Together,
    rule: str,
    options: Options,
    names: Mapping[str, str],
) -> Line:
    if isinstance(value, Together):
        return _together(value, [_line(selections, method, one, rule, options, names) for one in value.values])
    bound = cells.bound_by(rule, looks_at_target=False)
    estimate = whole_estimate(selections, value.pooled)
    accuracy = Cell(note="not all that is held out has answers", bound=bound)
    gain = accuracy
    plain = selections.plain_of(method.predictor)
    folds = int(selections.rows["folds"].iloc[0])
    if estimate is not None:
        accuracy = cells.cell_of([estimate], options, folds=folds, trials=value.trials, bound=bound)
        none = Cell(note="no result rows of plain prediction", bound=bound)
        gain = (
            cells.minus(selections, value.pooled, plain, rule, options, value.trials).of(bound).cell if plain else none
        )
    times = cells.count(*value.times) if value.times else Cell(note="a choice of its own")
    source = cells.source_score(value.picks)
    numbers = (replace(cell, equals_plain=value.equals_plain) for cell in (accuracy, gain))
    return Line(value.name, (source, *numbers, times), words.short(value.name, names), value.equals_plain)


def _together(value: Together, lines: Sequence[Line]) -> Line:
    """Return one line of several."""
    *numbers, _ = ([line.cells[i] for line in lines] for i in range(len(_COLUMNS)))
    times = [one.times for one in value.values if one.times]
    picked = cells.count(sum(k for k, _ in times), times[0][1]) if times else Cell(note="a choice of its own")
    plain = all(line.equals_plain for line in lines)
    return Line(value.name, (*map(_mean, numbers), picked), equals_plain=plain)


def _mean(own: Sequence[Cell]) -> Cell:
    """Return the mean of some cells of a column, without those that are gaps."""
    known = [cell.value for cell in own if cell.value is not None]
    if not known:
        return own[0]
    missing = len(own) - len(known)
    return Cell(
        value=float(np.mean(known)),
        text=cells.range_text(known, own[0].decimals, any(cell.signed for cell in own)),
        bound=any(cell.bound for cell in own),
        signed=any(cell.signed for cell in own),
        note=f"without {missing} of {len(own)}, which have none" if missing else None,
        trials=tuple(sorted({trial for cell in own for trial in cell.trials})),
    )


def _picked(selections: Selections, method: Method, rule: str) -> Value:
    """Return what the rule picks among all values."""
    picks, trials = selections.picks(method, rule), cells.trials_of(selections, method, rule)
    plain = cells.is_plain([selections], method, rule)
    return Value(PICKED, picks, selections.pooled(method, rule), trials, (len(picks), len(picks)), plain)


def has_lambda(method: Method) -> bool:
    """Say whether a method is CLIP-ICM as the paper has it, or shrinkage with all that it chooses among."""
    return method.is_paper or method.is_shrinkage


def _has_ranks(method: Method) -> bool:
    return method.projection in ("pca", "random", ICM) and not method.variant and method.order != "released"


def _lambdas(selections: Selections, method: Method, rule: str) -> list[Value]:
    rows, picks = selections.parts[method], selections.picks(method, rule)
    found = sorted(float(value) for value in rows["lambda_"].dropna().unique())
    kept = thinned(found, picks["lambda_"].tolist(), _most(rows))
    return [
        of_rows(selections, method, rows[rows["lambda_"] == one], rule, f"{one:g}", times_picked(picks, "lambda_", one))
        for one in kept
    ]


def _ranks(selections: Selections, method: Method, rule: str) -> list[Value]:
    rows, picks = selections.parts[method], selections.picks(method, rule)
    kept = thinned(
        sorted({int(rank) for ranks in rows["ranks"] for rank in ranks}), picks["rank"].tolist(), _most(rows)
    )
    return [
        Value(
            str(rank),
            selections.picks(method, rule, rank),
            selections.pooled(method, rule, rank),
            cells.trials_of(selections, method, rule, rank=rank),
            times_picked(picks, "rank", rank),
            rank == int(rows["dim"].iloc[0]),
        )
        for rank in kept
    ]


def thinned(values: Sequence[T], picked: Iterable[T], most: int = MAX_VALUES) -> list[T]:
    """Return some of many values, ascending: the ends, what is picked most, some in even distances.

    Args:
        values: ascending.
        picked: what the rule picked, one for each pick.
        most: how many are returned at most, three or more.
    """
    if len(values) <= most:
        return list(values)
    counts: Counter[T] = Counter(value for value in picked if value in set(values))
    kept = {values[0], values[-1], *(value for value, _ in counts.most_common(most // 2))}
    even = [values[round(i)] for i in np.linspace(0, len(values) - 1, most).tolist()]
    for value in even:
        kept |= {value} if len(kept) < most else set()
    return [value for value in values if value in kept]


def _most(rows: pd.DataFrame) -> int:
    return MAX_VALUES if len(rows) <= MANY_ROWS else FEW_VALUES


def of_rows(
    selections: Selections,
    method: Method,
    rows: pd.DataFrame,
    rule: str,
    name: str,
    times: tuple[int, int] | None,
) -> Value:
    """Return what the rule picks among some rows of a method alone.

    Args:
        selections: the rows of the setting.
        method: the method.
        rows: some of its rows, or of those with a share of its pairs.
        rule: what chooses among them.
        name: of the value that they have in common.
        times: as of `Value`.
    """
    alone = Selections(as_rows_of(method, rows), selections.tested)
    trials = cells.trials_of(alone, method, rule)
    plain = cells.is_plain([alone], method, rule)
    return Value(name, alone.picks(method, rule), alone.pooled(method, rule), trials, times, plain)


def times_picked(picks: pd.DataFrame, column: str, value: object) -> tuple[int, int]:
    """Return (k, n): of n picks, k have a value."""
    return int((picks[column] == value).sum()), len(picks)
