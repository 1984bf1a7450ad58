"""The main table: methods by data sets, their average, and what it gains over plain prediction."""

from collections.abc import Iterator
from functools import partial

from benchmark.method.evaluation.metrics import ACCURACY, Metric
from reports.analysis.metrics import metrics_of
from reports.render.table import Cell, Column, Table
from reports.tables import cells, words
from reports.tables.by_method import (
    PICKS,
    Entry,
    accuracy,
    by_method,
    each,
    methods_of,
    picks,
    ranking,
    ranking_over_sets,
    setting_of,
)
from reports.tables.spec import Request, TableSpec, Values

AVERAGE = Column("average over data sets", "Average")
GAIN = Column("minus plain", "− plain", unit="points")
_AVERAGE = (
    "Average: mean over data sets, each counting alike, with variances added and divided by their number squared."
)
_LEFT_OUT = "Placebos, parts of methods and shares of the pairs stand in the tables of environments."


def _columns(request: Request) -> Iterator[Values[Entry]]:
    sets = request.sets
    for name in sets:
        column = Column(name, request.short(name), key={"dataset": name})
        yield Values(column, partial(accuracy, dataset=name), partial(ranking, dataset=name))
    if len(sets) > 1:
        yield Values(AVERAGE, lambda entry: entry.over_sets(Entry.accuracy), ranking_over_sets, "average")
    yield Values(GAIN, lambda entry: entry.over_sets(Entry.gain))
    for name, metric in _metrics(request).items():
        heading = f"{name}, {metric.title}", f"{request.short(name)}, {metric.title}"
        yield Values(Column(*heading, unit="%" if metric.percent else ""), partial(_metric, name, metric))
    yield from picks(request, methods_of(request.described))


def _metrics(request: Request) -> dict[str, Metric]:
    """Return data set -> its metric, of those that have another than accuracy."""
    return {s.dataset: selections.metric for s, selections in request.described if selections.metric != ACCURACY}


def _metric(name: str, metric: Metric, entry: Entry) -> Cell:
    found = setting_of(entry.described, dataset=name)
    every = metrics_of(found[1], entry.request.rule) if found else []
    value = next((one.of(metric) for one in every if one.method == entry.method), None)
    return cells.of_metric(value, metric, bound=accuracy(entry, dataset=name).bound)


def _notes(request: Request, table: Table) -> Iterator[str]:
    several = len(request.sets) > 1
    over = "over data sets" if several else "over held-out environments"
    yield words.INTERVAL
    yield words.PLAIN_PICKS if PICKS in table.columns else ""
    yield _AVERAGE if several else ""
    yield f"− plain: mean difference {over} to plain prediction with the same predictor and images, in points."
    yield _LEFT_OUT if methods_of(request.described, every=True) != methods_of(request.described) else ""
    for name, metric in _metrics(request).items():
        yield f"{metric.title} is the metric of {name}; all is chosen and tested by accuracy."


def _caption(request: Request) -> str:
    where = f" on {request.what}" if request.what else ""
    return f"Accuracy (%) of methods{where}, averaged over {request.setting.protocol_class.holdouts_in_words}."


TABLE = TableSpec("main", _caption, by_method(each), _columns, _notes, whole=True)
