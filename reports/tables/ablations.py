"""One setting of a method fixed, the rest by the rule: lambda, rank, intervention set, order, predictor.

Each table has a line for every value, and one for what the rule picks among all: how well the sources judge it, how
well it does on what is held out, what it gains over plain prediction, how often the rule picks it by itself.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import pandas as pd

from reports.analysis.answers import Answered
from reports.analysis.chosen import Selections, whole_estimate
from reports.analysis.methods import ICM, Method, as_rows_of
from reports.render.table import Cell, Column, Line, Table
from reports.tables import cells, words
from reports.tables.by_method import Entry, methods_of
from reports.tables.spec import Draft, Request, TableSpec, Values, results

MAX_VALUES = 16  # with a line each; of more, some in even distances, with the ends and what is picked most
MANY_ROWS, FEW_VALUES = 20_000, 6  # of a method with so many rows, each of which is looked at for every value
PICKED = "by the rule"
SOURCE_SCORE = Column("source score", "Source score")
HELD_OUT = Column("accuracy on what is held out", "Held out")
GAIN = Column("minus plain", "− plain", unit="points")
FIXED_IN_WORDS = (
    "Source score: what the rule looks at, mean over environments, seeds and folds. − plain: mean difference to plain "
    "prediction with the same predictor and images."
)
_SHOWN = (
    f"At most {MAX_VALUES} values are shown, {FEW_VALUES} of a method with more than {MANY_ROWS:,} rows: the ends, "
    "those that are picked most, and some between.",
)


@dataclass(frozen=True)
class Value:
    """A fixed value of a setting.

    Attributes:
        entry: the method, in the settings of one backbone.
        name: as its line is called.
        picks: what the rule picks where it is fixed, as of `Selections.picks`.
        pooled: the answers there.
        trials: that hold them.
        times: (k, n): of the n picks of the rule among all values, k have it; None where it is not among these.
        equals_plain: whether all these picks are the full space.
    """

    entry: Entry
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

    @property
    def equals_plain(self) -> bool:
        """Whether all picks of all values are the full space."""
        return all(value.equals_plain for value in self.values)


T = TypeVar("T", int, float)
FindValues = Callable[[Entry], Sequence[Value | Together]]


def by_what(what: str, request: Request) -> str:
    """Return the caption of a table in which one setting, in words, is fixed."""
    return f"{request.what}: accuracy (%) by {what}, everything else chosen by the rule."


def ablation(
    name: str,
    what: str,
    corner: str,
    values: FindValues,
    takes_part: Callable[[Method], bool],
    own: Callable[[Request], Iterable[str]] = lambda _: _SHOWN,
) -> TableSpec[Value | Together]:
    """Return a spec with a block for each backbone and method that takes part, and a line for each of its values.

    Args:
        name: of the table.
        what: the setting that is fixed, in words.
        corner: what stands above the values.
        values: method -> its values; of fewer than two there is no block.
        takes_part: whether a method has a block.
        own: notes of this table alone.
    """

    def blocks(request: Request) -> Iterator[Draft[Value | Together]]:
        for backbone, parts in request.backbones.items():
            for method in (m for m in methods_of(request.described) if takes_part(m) and m in parts[0][1].parts):
                entry = Entry(request, parts, method)
                found = values(entry)
                lines = [(_line(one), one) for one in (*found, _picked(entry))] if len(found) > 1 else []
                titles = [request.short(backbone)] if len(request.backbones) > 1 else []
                titles.append(f"{words.short_name(method, request.names)}, {request.short(method.predictor_label)}")
                yield Draft(", ".join(titles), lines, request.short(backbone))

    def notes(request: Request, table: Table) -> Iterator[str]:
        yield from (words.INTERVAL, FIXED_IN_WORDS)
        yield (
            "Picked: how often the rule, which chooses for each environment, seed and fold, picks this "
            f"{what} by itself."
        )
        yield from own(request) if table.blocks else ()

    caption = partial(by_what, what)
    return TableSpec(name, caption, blocks, lambda _: _COLUMNS, notes, "data set", results, "base", corner)


def _line(value: Value | Together) -> Line:
    short = "" if isinstance(value, Together) else value.entry.request.short(value.name)
    return Line(value.name, (), short, value.equals_plain)


def _values(column: Column, cell: Callable[[Value], Cell], marked: bool = True) -> Values[Value | Together]:
    """Return a column; of several values that are one line it has their mean."""

    def mean(value: Value | Together) -> Cell:
        return cell(value) if isinstance(value, Value) else _mean([cell(one) for one in value.values])

    return Values(column, mean, marked=marked)


def _accuracy(value: Value) -> Cell:
    request, selections = value.entry.request, value.entry.selections
    estimate = whole_estimate(selections, value.pooled)
    if estimate is None:
        return Cell(note="not all that is held out has answers", bound=request.bound)
    folds = int(selections.rows["folds"].iloc[0])
    return cells.cell_of([estimate], request.options, folds=folds, trials=value.trials, bound=request.bound)


def _gain(value: Value) -> Cell:
    request, selections = value.entry.request, value.entry.selections
    plain = selections.plain_of(value.entry.method.predictor)
    if whole_estimate(selections, value.pooled) is None:
        return Cell(note="not all that is held out has answers", bound=request.bound)
    if plain is None:
        return Cell(note="no result rows of plain prediction", bound=request.bound)
    number = cells.minus(selections, value.pooled, plain, request.rule, request.options, value.trials)
    return number.of(request.bound).cell


def _times(value: Value | Together) -> Cell:
    """Return how often the rule picks a value by itself, or any of several."""
    every = value.values if isinstance(value, Together) else (value,)
    times = [one.times for one in every if one.times]
    return cells.count(sum(k for k, _ in times), times[0][1]) if times else Cell(note="a choice of its own")


_COLUMNS = (
    _values(SOURCE_SCORE, lambda value: cells.source_score(value.picks), marked=False),
    _values(HELD_OUT, _accuracy),
    _values(GAIN, _gain),
    Values(Column("times picked", "Picked", unit=""), _times, marked=False),
)


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


def _picked(entry: Entry) -> Value:
    """Return what the rule picks among all values."""
    selections, method, rule = entry.selections, entry.method, entry.request.rule
    picks, trials = selections.picks(method, rule), cells.trials_of(selections, method, rule)
    times = len(picks), len(picks)
    plain = cells.is_plain([selections], method, rule)
    return Value(entry, PICKED, picks, selections.pooled(method, rule), trials, times, plain)


def has_lambda(method: Method) -> bool:
    """Say whether a method is CLIP-ICM as the paper has it, or shrinkage with all that it chooses among."""
    return method.is_paper or method.is_shrinkage


def _has_ranks(method: Method) -> bool:
    return method.projection in ("pca", "random", ICM) and not method.variant and method.order != "released"


def _lambdas(entry: Entry) -> list[Value]:
    rows = entry.selections.parts[entry.method]
    picks = entry.selections.picks(entry.method, entry.request.rule)
    found = sorted(float(value) for value in rows["lambda_"].dropna().unique())
    kept = thinned(found, picks["lambda_"].tolist(), _most(rows))
    return [of_rows(entry, rows[rows["lambda_"] == x], f"{x:g}", times_picked(picks, "lambda_", x)) for x in kept]


def _ranks(entry: Entry) -> list[Value]:
    selections, method, rule = entry.selections, entry.method, entry.request.rule
    rows, picks = selections.parts[method], selections.picks(method, rule)
    found = sorted({int(rank) for ranks in rows["ranks"] for rank in ranks})
    return [
        Value(
            entry,
            str(rank),
            selections.picks(method, rule, rank),
            selections.pooled(method, rule, rank),
            cells.trials_of(selections, method, rule, rank=rank),
            times_picked(picks, "rank", rank),
            rank == int(rows["dim"].iloc[0]),
        )
        for rank in thinned(found, picks["rank"].tolist(), _most(rows))
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


def of_rows(entry: Entry, rows: pd.DataFrame, name: str, times: tuple[int, int] | None) -> Value:
    """Return what the rule picks among some rows of a method alone.

    Args:
        entry: the method.
        rows: some of its rows, or of those with a share of its pairs.
        name: of the value that they have in common.
        times: as of `Value`.
    """
    method, rule = entry.method, entry.request.rule
    alone = Selections(as_rows_of(method, rows), entry.selections.tested)
    trials = cells.trials_of(alone, method, rule)
    plain = cells.is_plain([alone], method, rule)
    return Value(entry, name, alone.picks(method, rule), alone.pooled(method, rule), trials, times, plain)


def times_picked(picks: pd.DataFrame, column: str, value: object) -> tuple[int, int]:
    """Return (k, n): of n picks, k have a value."""
    return int((picks[column] == value).sum()), len(picks)


LAMBDA = ablation("ablation_lambda", "lambda", "Lambda", _lambdas, has_lambda)
RANK = ablation("ablation_rank", "rank", "Rank", _ranks, _has_ranks)
