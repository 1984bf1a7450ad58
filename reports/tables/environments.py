"""Table of methods by held-out environments of one data set and backbone, with average and worst environment."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from benchmark.method.evaluation.selection import RULES
from reports.analysis.methods import Method
from reports.analysis.selections import Selections, complete_answers, complete_estimate
from reports.render.table import Cell, Column, Line, Table
from reports.tables import cells, words
from reports.tables.by_method import PICKS, Entry, accuracy, block_of, by_method, line_of, methods_of, picks, ranking
from reports.tables.spec import Request, TableSpec, Values, rule_in_domain

_DRAWS = "Placebos of several draws: means over draws, without ±, since they share their images; not ranked."
_ALONE = Cell(note="of single draws alone")


@dataclass(frozen=True)
class _Draws(Entry):
    """A placebo averaged over its random draws; `draws` has the method of each draw."""

    draws: Sequence[Method] = ()

    def accuracy(self, held_out: str | None = None, **_: str) -> cells.Number:
        """Return the mean accuracy over the draws."""
        every = [complete_answers(self.selections, [(draw, self.request.rule)]) for draw in self.draws]
        found = [one.means[0] for one in every if one is not None]
        note = f"{len(found)} of {len(self.draws)} draws" if len(found) < len(self.draws) else None
        if not found:
            return cells.Number(Cell(note=note))
        means = dict(zip(self.selections.held_outs, 100 * np.mean(found, axis=0), strict=True))
        value = float(means[held_out]) if held_out else float(np.mean([*means.values()]))
        return cells.Number(Cell(value=value, seeds=tuple(self.selections.seeds), note=note))

    def plain_picks(self) -> Cell:
        """Return an empty cell, since picks are only counted for single draws."""
        return _ALONE


def _lines(entries: list[Entry]) -> Iterator[tuple[Line, Entry]]:
    """Yield the methods of a predictor, including averaged placebos."""
    request, parts = entries[0].request, entries[0].results
    draws = {} if RULES[request.rule].looks_at_target else request.selections.draws
    own = [m for m in draws if block_of(m) == block_of(entries[0].method)]
    every = [*entries, *(_Draws(request, parts, method, draws[method]) for method in own)]
    for entry in sorted(every, key=lambda one: one.method.place):
        yield line_of(entry, False if isinstance(entry, _Draws) else None), entry


def _columns(request: Request) -> Iterator[Values[Entry]]:
    def worst(entry: Entry) -> Cell:
        """Return the cell of the environment with the lowest accuracy; an empty cell if an environment has none."""
        single = {name: accuracy(entry, name) for name in entry.selections.held_outs}
        missing = [name for name, cell in single.items() if cell.value is None]
        if missing:
            return Cell(note=f"nothing for {', '.join(missing)}", bound=entry.request.bound)
        return min(single.values(), key=lambda cell: cell.value or 0.0)

    for name in request.selections.held_outs:
        column = Column(name, request.short(name), key={"held_out": name})
        yield Values(column, partial(accuracy, held_out=name))
    yield Values(Column("average", "Average", key={"held_out": ""}), accuracy, ranking)
    yield Values(Column("worst environment", "Worst"), worst)
    if in_domain := _in_domain(request):
        yield Values(Column("shift costs", "Shift costs †", unit="points"), partial(_shift, in_domain))
    yield from picks(request, methods_of(request.results, every=True))


def _in_domain(request: Request) -> Selections | None:
    """Return rows of this data set and backbone whose fits use the tested environments; None if there are none."""
    own = ("protocol", "test_split", "rounding")
    for other, candidate in () if request.bound else request.report:
        same = other.without(*own) == request.setting.without(*own)
        same = same and candidate.held_outs == request.selections.held_outs
        if same and other.protocol_class.looks_at_target:
            return candidate
    return None


def _shift(in_domain: Selections, entry: Entry) -> Cell:
    """Return in-domain accuracy minus average accuracy, in points; with ± if both have the same test images."""
    if isinstance(entry, _Draws):
        return _ALONE
    selections, method, rule, options = entry.selections, entry.method, entry.request.rule, entry.request.options
    own_rule = rule_in_domain(in_domain)
    within, average = cells.accuracy(in_domain, method, own_rule, options), entry.accuracy()
    if within.cell.value is None or average.cell.value is None or within.estimate is None or average.estimate is None:
        return Cell(note="no rows of protocol in_domain for all that is held out", bound=True)
    estimate = complete_estimate(selections, in_domain.pooled(method, own_rule), selections.pooled(method, rule))
    if estimate is not None and estimate.seeds == within.estimate.seeds == average.estimate.seeds:
        return replace(cells.cell_of([estimate], options), bound=True)
    difference = within.cell.value - average.cell.value
    return Cell(value=difference, seeds=average.cell.seeds, bound=True, signed=True)


def _notes(request: Request, table: Table) -> Iterator[str]:
    yield words.INTERVAL
    if in_domain := _in_domain(request):
        yield (
            "Shift costs †: average accuracy of fits on the tested environment itself (protocol in_domain, rule "
            f"{rule_in_domain(in_domain)}) minus the average: a bound, no result."
        )
    yield words.PLAIN_PICKS if PICKS in table.columns else ""
    yield _DRAWS if request.selections.draws else ""


TABLE = TableSpec(
    "environments",
    lambda request: f"{request.what}: accuracy (%) by {request.setting.protocol_class.holdouts_in_words}.",
    by_method(_lines, every=True),
    _columns,
    _notes,
    "setting",
    settings=lambda request: request.results if len(request.selections.held_outs) > 1 else (),
    whole=True,
)
