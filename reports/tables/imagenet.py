"""ImageNet and its shifted variants: each variant, and the average of the shifts."""

from collections.abc import Iterator
from functools import partial

from reports.analysis.chosen import mean_beside
from reports.render.table import Cell, Column
from reports.tables import cells
from reports.tables.alike import Described
from reports.tables.by_method import Entry, accuracy, by_method, each, ranking
from reports.tables.spec import Request, TableSpec, Values

SHORT = {"ImageNetV2": "V2", "ImageNet-R": "R", "ImageNet-A": "A", "ImageNet-Sketch": "Sketch"}
AVERAGE = Column("average of shifts", "Average of shifts", key={"held_out": ""})
_SOURCE = (
    "IN: on images of ImageNet that the fit has not seen, those by which training_domain chooses; the other columns "
    "are tested on all images of a variant."
)


def _columns(request: Request) -> Iterator[Values[Entry]]:
    there = {name for _, selections in request.described for name in selections.held_outs}
    names = SHORT | dict(request.names)
    yield Values(Column(request.setting.dataset, "IN"), _source)
    for name in [*(name for name in SHORT if name in there), *sorted(there - SHORT.keys())]:
        yield Values(Column(name, names.get(name, name), key={"held_out": name}), partial(accuracy, held_out=name))
    yield Values(AVERAGE, accuracy, ranking)


def _source(entry: Entry) -> Cell:
    if entry.method not in entry.selections.parts:
        return Cell(note="no result rows of this method")
    accuracy = 100 * mean_beside(entry.selections.picks(entry.method, entry.request.rule), "training_domain")
    return cells.known(accuracy, "no accuracy on the source at what was picked")


def _caption(request: Request) -> str:
    where = f" under {request.what.partition(', ')[2]}" if ", " in request.what else ""
    return f"Accuracy (%) on ImageNet and its shifted variants{where}."


def _settings(request: Request) -> Described:
    return [one for one in request.described if one[0].protocol_class.across_sets]


TABLE = TableSpec(
    "imagenet", _caption, by_method(each), _columns, lambda *_: [_SOURCE], "variants", _settings, whole=True
)
