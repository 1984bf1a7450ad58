"""Tables over backbones: accuracy, gain and effective robustness of each backbone, and the trend of the gain."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from reports.analysis import backbones
from reports.analysis.findings import EQUAL_N_TRUNCATION, OURS
from reports.analysis.methods import ICM, PLAIN, SHRINKAGE, Method
from reports.analysis.selections import complete_estimate, mean_over_tests
from reports.render.table import Cell, Column, Line, Table
from reports.tables import cells, words
from reports.tables.by_method import Entry, methods_of, predictor_words, predictors_of
from reports.tables.spec import Draft, Request, TableSpec, Values, by_backbone, by_data_set

# Projection -> heading of its column.
SHOWN = {name: Method.of_projection_named(name).name for name in (PLAIN, "pca", ICM, SHRINKAGE)}
_GAINS = (ICM, SHRINKAGE)
_ROBUST = (
    "Effective robustness: points above the line through plain prediction of the other backbones, accuracy on held-out "
    "against source environments on a logit scale; in brackets from the ends of its 95 % prediction interval."
)
_TOO_FEW = f"Effective robustness needs {backbones.MIN_BACKBONES} backbones with weights that are not random."
_NO_ROWS = Cell(note="no result rows of this method")


_Backbone = Mapping[str, Entry]  # projection -> entry, for one backbone on one data set or on all data sets


def _blocks(request: Request) -> Iterator[Draft[_Backbone]]:
    """Yield a block for each predictor and data set, and one for the average over data sets."""
    sets, predictors = by_data_set(request.results), predictors_of(request.results)
    wholes = {"average over data sets": request.results} if len(sets) > 1 else {}
    for predictor in predictors:
        for name, parts in {**sets, **wholes}.items():
            made = []
            for backbone, own in by_backbone(parts).items():
                shown = [m for m in methods_of(own, predictor) if m.projection in SHOWN and not m.variant]
                if methods := {m.projection: Entry(request, own, m) for m in shown if m.order != "released"}:
                    made.append((Line(backbone, (), request.short(backbone)), methods))
            titles = [request.short(name)] if len(sets) > 1 else []
            titles += [request.short(predictor_words(parts, predictor))] if len(predictors) > 1 else []
            yield Draft(", ".join(titles), made if len(made) > 1 else [], request.short(name))


def _columns(request: Request) -> Iterator[Values[_Backbone]]:
    every = zip(request.results, backbones.lines_of(request.results), strict=True)
    lines = {id(selections): of_setting for (_, selections), of_setting in every}
    for name, title in SHOWN.items():
        yield Values(Column(title), partial(_over_sets, name, Entry.accuracy))
    for name in _GAINS:
        column = Column(f"{SHOWN[name]} minus plain", SHOWN[name], "minus plain", "points")
        yield Values(column, partial(_over_sets, name, Entry.gain))
    for name in _GAINS:
        column = Column(f"{SHOWN[name]}, effective robustness", SHOWN[name], "robustness", "points")
        yield Values(column, partial(_robustness, name, lines))


def _over_sets(name: str, number: Callable[..., cells.Number], of: _Backbone) -> Cell:
    """Return `number` (`accuracy` or `gain`) of the projection `name`, averaged over the backbone's data sets."""
    if (entry := of.get(name)) is None:
        return _NO_ROWS
    sets = [setting.dataset for setting, _ in entry.results]
    return number(entry).cell if len(sets) == 1 else entry.over_sets(number, sets)


def _robustness(name: str, lines: Mapping[int, backbones.Lines], of: _Backbone) -> Cell:
    """Return the effective robustness: accuracy above the line fitted through the other backbones' plain prediction."""
    entry = of.get(name)
    if entry is None or len(entry.results) > 1:
        return Cell(note="of one data set alone") if entry else _NO_ROWS
    selections, method, rule = entry.selections, entry.method, entry.request.rule
    is_zero_shot = method.predictor == backbones.ZERO_SHOT.predictor
    line = lines[id(selections)][backbones.ZERO_SHOT if is_zero_shot else backbones.LINEAR_PROBE]
    estimate = complete_estimate(selections, selections.pooled(method, rule)) if method in selections.parts else None
    if estimate is None:
        return Cell(note="not all that is held out was tested")
    source = mean_over_tests(selections.picks(method, rule), "training_domain")
    above = line.above(source, float(estimate.means.mean()))
    if above is None:
        return Cell(note=f"fewer than {backbones.MIN_BACKBONES} backbones, or none with an accuracy on the sources")
    return Cell(value=above.value, low=above.low, high=above.high, signed=True)


def _notes(request: Request, _: Table) -> Sequence[str]:
    known = any(line.known for lines in backbones.lines_of(request.results) for line in lines.values())
    return words.INTERVAL, _ROBUST if known else _TOO_FEW


TABLE = TableSpec(
    "backbones",
    lambda request: (
        f"Accuracy (%) of backbones{f' on {request.sets[0]}' if len(request.sets) == 1 else ''}, and what CLIP-ICM and "
        "shrinkage gain over plain prediction."
    ),
    _blocks,
    _columns,
    _notes,
    settings=lambda request: request.results if len(request.backbones) > 1 else (),
    corner="Backbone",
)

# Projection and variant of the methods that get a trend.
_WITH_TREND = ((ICM, ""), EQUAL_N_TRUNCATION, OURS, ("isotropic_environments", ""))
_TREND_NOTES = (
    "Slope: points of gain over plain prediction for a point of accuracy, least squares over backbones, each counting "
    "alike.",
    "In brackets: its 95 % interval (Student's t). Backbones of one family are not drawn at random.",
    "A gain has the plain accuracy in it, with the opposite sign. So noise pulls its slope on plain accuracy down, and "
    "not that on the mean of both accuracies.",
    "Plain: the lowest and the highest plain accuracy of a backbone. Ahead: of how many backbones the gain has a 95 % "
    "interval above 0.",
)
_Slope = tuple[backbones.Trend, backbones.ValueInterval | None]


def _trends(request: Request) -> Iterator[Draft[_Slope]]:
    """Yield a block with two slopes for each data set and method that has a trend."""
    groups = backbones.same_but_backbone(request.results)
    for group in groups:
        dataset = request.short(group[0][0].dataset)
        for method in methods_of(group):
            shown = (method.projection, method.variant) in _WITH_TREND and method.order != "released"
            trend = backbones.trend_of(group, method, request.rule) if shown else None
            if trend is not None and (trend.on_plain or trend.on_mean):
                name = f"{words.short_name(method, request.names)}, {request.short(method.predictor_label)}"
                title = f"{dataset}, {name}" if len(groups) > 1 else name
                slopes = {"plain accuracy": trend.on_plain, "mean of both accuracies": trend.on_mean}
                lines = [(Line(on, ()), (trend, slope)) for on, slope in slopes.items()]
                yield Draft(f"{title}: {len(trend.gain)} backbones", lines, dataset)


def _slope_columns(_: Request) -> Iterator[Values[_Slope]]:
    def slope(of: _Slope) -> Cell:
        if (found := of[1]) is None:
            return Cell(note="all backbones have the same accuracy, so there is no trend")
        return Cell(value=found.value, low=found.low, high=found.high, signed=True, decimals=2)

    def plain(of: _Slope) -> Cell:
        accuracies = of[0].plain
        return Cell(value=float(np.mean(accuracies)), text=f"{accuracies.min():.1f} to {accuracies.max():.1f}")

    yield Values(Column("slope", "Slope", unit="points per point"), slope)
    mean = Column("mean gain over plain", "Mean gain", unit="points")
    yield Values(mean, lambda of: Cell(value=float(np.mean(of[0].gain)), signed=True))
    yield Values(Column("plain accuracies", "Plain", unit="%"), plain)
    ahead = Column("backbones with a gain whose interval is above 0", "Ahead", unit="")
    yield Values(ahead, lambda of: cells.count(sum(x.interval.low > 0 for x in of[0].compared), len(of[0].gain)))


def _trend_caption(request: Request) -> str:
    start = f"{request.what}: d" if len(backbones.same_but_backbone(request.results)) == 1 else "D"
    return f"{start}oes the gain survive a better encoder? Slope of the gain on accuracy, over backbones."


TREND = TableSpec(
    "trend",
    _trend_caption,
    _trends,
    _slope_columns,
    lambda *_: _TREND_NOTES,
    settings=lambda request: [one for group in backbones.same_but_backbone(request.results) for one in group],
    corner="Slope on",
)
