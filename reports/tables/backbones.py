"""Backbones by what is done with them: plain, PCA, CLIP-ICM, shrinkage, what these gain, and effective robustness."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from reports.analysis.backbones import MIN_BACKBONES, ZERO_SHOT, Lines, lines_of
from reports.analysis.chosen import mean_beside, whole_estimate
from reports.analysis.methods import ICM, PLAIN, SHRINKAGE
from reports.render.table import Cell, Column, Line, Table
from reports.tables import cells, words
from reports.tables.alike import Described, by_backbone, by_data_set
from reports.tables.by_method import Entry, methods_of, predictor_words, predictors_of
from reports.tables.spec import Draft, Request, TableSpec, Values

SHOWN = {PLAIN: "Plain", "pca": "PCA", ICM: "CLIP-ICM", SHRINKAGE: "Shrinkage"}
OURS = (ICM, SHRINKAGE)
_ROBUST = (
    "Effective robustness: points above the line through plain prediction of the other backbones, accuracy on held-out "
    "against source environments on a logit scale; in brackets from the ends of its 95 % prediction interval."
)
_TOO_FEW = f"Effective robustness needs {MIN_BACKBONES} backbones with weights that are not random."


@dataclass(frozen=True)
class _Backbone:
    """A backbone on one data set, or on all: its methods by projection, and the lines of each setting."""

    methods: Mapping[str, Entry]
    lines: Mapping[int, Lines]


def _blocks(request: Request) -> Iterator[Draft[_Backbone]]:
    """Yield a block for each predictor and data set, and one for the average over data sets."""
    every = zip(request.described, lines_of(request.described), strict=True)
    lines = {id(selections): of_setting for (_, selections), of_setting in every}
    sets, predictors = by_data_set(request.described), predictors_of(request.described)
    for predictor in predictors:
        wholes = {"average over data sets": request.described} if len(sets) > 1 else {}
        for name, parts in {**sets, **wholes}.items():
            made = []
            for backbone, own in by_backbone(parts).items():
                if methods := _methods(request, own, predictor):
                    made.append((Line(backbone, (), request.short(backbone)), _Backbone(methods, lines)))
            titles = [request.short(name)] if len(sets) > 1 else []
            titles += [request.short(predictor_words(parts, predictor))] if len(predictors) > 1 else []
            yield Draft(", ".join(titles), made if len(made) > 1 else [], request.short(name))


def _methods(request: Request, parts: Described, predictor: str) -> dict[str, Entry]:
    """Return projection -> its method, of those that are columns."""
    found = [m for m in methods_of(parts, predictor) if m.projection in SHOWN and not m.variant]
    return {m.projection: Entry(request, parts, m) for m in found if m.order != "released"}


def _columns(_: Request) -> Iterator[Values[_Backbone]]:
    for name, title in SHOWN.items():
        yield Values(Column(title), partial(_over_sets, name, Entry.accuracy))
    for name in OURS:
        column = Column(f"{SHOWN[name]} minus plain", SHOWN[name], "minus plain", "points")
        yield Values(column, partial(_over_sets, name, Entry.gain))
    for name in OURS:
        column = Column(f"{SHOWN[name]}, effective robustness", SHOWN[name], "robustness", "points")
        yield Values(column, partial(_robustness, name))


_NO_ROWS = Cell(note="no result rows of this method")


def _over_sets(name: str, number: Callable[..., cells.Number], of: _Backbone) -> Cell:
    """Return the number of the one data set, or the mean over those that the backbone has."""
    if (entry := of.methods.get(name)) is None:
        return _NO_ROWS
    sets = [setting.dataset for setting, _ in entry.described]
    return number(entry).cell if len(sets) == 1 else entry.over_sets(number, sets)


def _robustness(name: str, of: _Backbone) -> Cell:
    """Return the effective robustness: accuracy above the line through plain prediction of the other backbones."""
    entry = of.methods.get(name)
    if entry is None or len(entry.described) > 1:
        return Cell(note="of one data set alone") if entry else _NO_ROWS
    selections, method, rule = entry.selections, entry.method, entry.request.rule
    lines = of.lines[id(selections)]
    line = lines.zero_shot if method.predictor == ZERO_SHOT.predictor else lines.linear_probe
    estimate = whole_estimate(selections, selections.pooled(method, rule)) if method in selections.parts else None
    if estimate is None:
        return Cell(note="not all that is held out was tested")
    source = mean_beside(selections.picks(method, rule), "training_domain")
    above = line.above(source, float(estimate.means.mean()))
    if above is None:
        return Cell(note=f"fewer than {MIN_BACKBONES} backbones, or none with an accuracy on the sources")
    return Cell(value=above.value, low=above.low, high=above.high, signed=True)


def _notes(request: Request, _: Table) -> Iterator[str]:
    known = any(one.zero_shot.known or one.linear_probe.known for one in lines_of(request.described))
    yield words.INTERVAL
    yield _ROBUST if known else _TOO_FEW


def _caption(request: Request) -> str:
    where = f" on {request.sets[0]}" if len(request.sets) == 1 else ""
    return f"Accuracy (%) of backbones{where}, and what CLIP-ICM and shrinkage gain over plain prediction."


TABLE = TableSpec(
    "backbones",
    _caption,
    _blocks,
    _columns,
    _notes,
    settings=lambda request: request.described if len(request.backbones) > 1 else (),
    corner="Backbone",
)
