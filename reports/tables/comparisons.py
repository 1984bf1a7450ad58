"""Every method minus plain prediction, PCA and random projection: differences with intervals, p-values by Holm."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from benchmark.method.evaluation.judging import adjusted_interval
from reports.analysis.comparisons import Comparison, Overall, compare, in_family, over_data_sets
from reports.analysis.methods import PLAIN, Method
from reports.render.table import Cell, Column, Line, Table
from reports.tables import cells, words
from reports.tables.alike import Described
from reports.tables.by_method import Entry, by_method, line_of
from reports.tables.spec import Request, TableSpec, Values, results

BASELINES = {PLAIN: "plain", "pca": "PCA", "random": "random"}
_LEAST = 0.001  # of p-values: smaller ones are said to be below it
_NOT_COMPARED = "a baseline itself, or no rows of both on the same images"
Compared = Mapping[str, Comparison | Overall]  # projection of a baseline -> a method minus it


def comparisons_of(described: Described, methods: Sequence[Method], rule: str) -> dict[Method, Compared]:
    """Return every method minus every baseline before it, of one data set or over several, adjusted together.

    Args:
        described: settings of one backbone.
        methods: of one predictor.
        rule: what chooses for both.
    """
    own = {m.projection: m for m in methods if m.projection in BASELINES and not m.variant and m.order != "released"}
    baselines = [own[name] for name in BASELINES if name in own]
    single: list[Comparison] = []
    together: list[Overall] = []
    for method, baseline in ((m, baseline) for m in methods for baseline in baselines if baseline.place < m.place):
        there = [one for one in described if method in one[1].parts and baseline in one[1].parts]
        of_sets = [(setting.dataset, compare(selections, method, rule, baseline)) for setting, selections in there]
        known = [(name, one) for name, one in of_sets if one is not None]
        overall = over_data_sets(known) if len(described) > 1 else None
        together += [overall] if overall else []
        single += [one for _, one in known]
    found: dict[Method, Compared] = {}
    for one in in_family(together) if len(described) > 1 else in_family(single):
        found[one.method] = {**found.get(one.method, {}), one.baseline.projection: one}
    return found


def _lines(entries: list[Entry]) -> Iterator[tuple[Line, Compared]]:
    """Yield the methods that are compared with any baseline."""
    methods = [entry.method for entry in entries]
    found = comparisons_of(entries[0].described, methods, entries[0].request.rule)
    return ((line_of(entry), found[entry.method]) for entry in entries if entry.method in found)


def _columns(request: Request) -> Iterator[Values[Compared]]:
    for baseline, name in BASELINES.items():
        headings = [(f"minus {name}", "difference", "points", _difference), (f"minus {name}, p (Holm)", "p", "", _p)]
        if baseline == PLAIN:
            headings.append(("minus plain, in new environments", "in new environments", "points", _in_new))
            headings.append(("ahead of plain in k of n environments", "ahead", "", _ahead))
        for long, short, unit, cell in headings:
            yield Values(Column(long, short, f"minus {name}", unit), partial(_of, baseline, request.bound, cell))


def _of(baseline: str, bound: bool, cell: Callable[[Comparison | Overall], Cell], found: Compared) -> Cell:
    return replace(cell(found[baseline]) if baseline in found else Cell(note=_NOT_COMPARED), bound=bound)


def _difference(one: Comparison | Overall) -> Cell:
    return cells.points(one.interval)


def _p(one: Comparison | Overall) -> Cell:
    p = one.adjusted.p
    if np.isnan(p):
        return Cell(note="no interval")
    return Cell(value=p, decimals=3, text=f"<{_LEAST}" if p < _LEAST else None)


def _in_new(one: Comparison | Overall) -> Cell:
    new = one.others.interval
    if new is None:
        return Cell(note="new environments: cannot be answered from these")
    return cells.points(adjusted_interval(new, one.adjusted.family))


def _ahead(one: Comparison | Overall) -> Cell:
    others = one.others
    return cells.count(others.ahead, others.ahead + others.level + others.behind)


def _notes(request: Request, _: Table) -> Iterator[str]:
    yield words.INTERVAL
    yield (
        "p: of no difference, adjusted for all comparisons of a block (Holm). Baselines have the same predictor, and "
        "each method stands with what the rule picks for it."
    )
    yield (
        "In new environments: interval from the variation between environments"
        f"{' and data sets' if len(request.sets) > 1 else ''}, at 95 % for all of a block together (Bonferroni); it "
        "needs four environments or several data sets."
    )
    if any(setting.grouped for setting, _ in request.described):
        yield "Groups of images stand in several environments, which makes intervals for new ones too narrow."


def _caption(request: Request) -> str:
    where = "over data sets, each counting alike" if len(request.sets) > 1 else request.what
    return f"Methods minus plain prediction, PCA and random projection, in points: {where}."


TABLE = TableSpec("comparisons", _caption, by_method(_lines, every=True), _columns, _notes, "data set", results)
OVER_SETS = replace(
    TABLE,
    name="over_data_sets",
    scope="data sets",
    settings=lambda request: results(request) if len(request.sets) > 1 else (),
)
