"""What choosing by sources alone costs: each rule's accuracy, and how far it is below labels of what is tested."""

from collections.abc import Iterator
from functools import partial

from benchmark.method.evaluation.selection import RULES, SOURCE_RULES
from reports.analysis.metrics import ORACLE, SelectionCost, selection_costs
from reports.render.table import Cell, Column, Line, Table
from reports.tables.by_method import Entry, by_method, line_of
from reports.tables.spec import Request, TableSpec, Values, results
from reports.text.captions import oracle_words

_NONE = "not all that is held out has answers under this rule"


def _lines(entries: list[Entry]) -> Iterator[tuple[Line, SelectionCost]]:
    """Yield the methods that have something to choose."""
    costs = {one.method: one for one in selection_costs(entries[0].selections)}
    return ((line_of(entry, False), costs[entry.method]) for entry in entries if entry.method in costs)


def _columns(_: Request) -> Iterator[Values[SelectionCost]]:
    for rule, known in RULES.items():
        yield Values(Column(f"{rule}{' †' if known.looks_at_target else ''}"), partial(_accuracy, rule))
    for rule in SOURCE_RULES:
        yield Values(Column(f"{ORACLE} − {rule} †", unit="points"), partial(_gap, rule))


def _accuracy(rule: str, cost: SelectionCost) -> Cell:
    value = cost.accuracies.get(rule)
    return Cell(value=value, note=_NONE if value is None else None, bound=RULES[rule].looks_at_target)


def _gap(rule: str, cost: SelectionCost) -> Cell:
    points, error = cost.gaps.get(rule, (None, None))
    return Cell(value=points, error=error, signed=True, bound=True, note=_NONE if points is None else None)


def _notes(request: Request, _: Table) -> Iterator[str]:
    yield (
        f"† looks at labels of what is tested: no result. oracle: {oracle_words(request.setting)}. ceiling: highest of "
        "the accuracies that are reported, a bound, biased upwards. The gap to the oracle, which may be negative, is "
        "what these labels would be worth, with its standard error."
    )
    if (metric := request.selections.metric).needs != "correct":
        yield f"oracle and ceiling are by accuracy: for {metric.title} rows keep no {metric.needs} there."


TABLE = TableSpec(
    "selection",
    lambda request: f"{request.what}: accuracy (%) by what each selection rule chooses, and its gap to the oracle.",
    by_method(_lines),
    _columns,
    _notes,
    "data set",
    settings=results,
    rule="every",
)
