"""Base classes, new classes and the harmonic mean of both, side by side for each data set."""

from collections.abc import Iterable, Iterator
from functools import partial

from reports.render.table import Cell, Column, Line, Table
from reports.tables.alike import Described
from reports.tables.by_method import Entry, accuracy, by_method, line_of, methods_of, ranking, ranking_over_sets
from reports.tables.spec import Request, TableSpec, Values

HALVES = {"base": "Base", "new": "New", "harmonic": "H"}
_HARMONIC = "H: harmonic mean of the accuracies on base and on new classes, in each environment, then averaged."


def _columns(request: Request) -> Iterator[Values[Entry]]:
    sets = request.sets
    for name in sets:
        for half, short in HALVES.items():
            column = Column(f"{name}, {half}", short, request.short(name), key={"dataset": name, "class_half": half})
            ranked = partial(ranking, dataset=name, class_half=half)
            yield Values(column, partial(accuracy, dataset=name, class_half=half), ranked)
    for half, short in HALVES.items() if len(sets) > 1 else ():
        column = Column(f"average, {half}", short, "Average over data sets")
        yield Values(column, partial(_average, half), partial(ranking_over_sets, class_half=half))


def _average(half: str, entry: Entry) -> Cell:
    return entry.over_sets(partial(Entry.accuracy, class_half=half))


def _lines(entries: list[Entry]) -> Iterable[tuple[Line, Entry]]:
    """Return a line for each method that can predict a class without training images."""
    return ((line_of(entry), entry) for entry in entries if not entry.method.learns_classes)


def _notes(request: Request, _: Table) -> Iterator[str]:
    yield _HARMONIC
    learnt = dict.fromkeys(m.of_predictor.label for m in methods_of(request.described) if m.learns_classes)
    if learnt:
        yield f"Left out, since they never predict a class that they had no training image of: {', '.join(learnt)}."


def _caption(request: Request) -> str:
    where = f" on {request.what}" if request.what else ""
    return f"Accuracy (%){where} on base classes, new classes, and their harmonic mean (H)."


def _settings(request: Request) -> Described:
    return [one for one in request.described if one[0].class_half in HALVES]


TABLE = TableSpec("open_class", _caption, by_method(_lines), _columns, _notes, "open class", _settings, whole=True)
