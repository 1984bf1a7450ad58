"""Does the gain survive a better encoder: slopes of gains over plain prediction on plain accuracy, over backbones."""

from collections.abc import Iterator

import numpy as np

from reports.analysis.backbones import Trend, WithEnds, same_but_backbone, trend_of
from reports.analysis.findings import EQUAL_N_TRUNCATION, OURS
from reports.analysis.methods import ICM
from reports.render.table import Cell, Column, Line
from reports.tables import words
from reports.tables.by_method import methods_of
from reports.tables.spec import Draft, Request, TableSpec, Values

_SHOWN = ((ICM, ""), EQUAL_N_TRUNCATION, OURS, ("isotropic_environments", ""))
_NOTES = (
    "Slope: points of gain over plain prediction for a point of accuracy, least squares over backbones, each counting "
    "alike.",
    "In brackets: its 95 % interval (Student's t). Backbones of one family are not drawn at random.",
    "A gain has the plain accuracy in it, with the opposite sign. So noise pulls its slope on plain accuracy down, and "
    "not that on the mean of both accuracies.",
    "Plain: the lowest and the highest plain accuracy of a backbone. Ahead: of how many backbones the gain has a 95 % "
    "interval above 0.",
)


def _blocks(request: Request) -> Iterator[Draft[tuple[Trend, WithEnds | None]]]:
    """Yield a block for each data set and method that has a trend, with its two slopes."""
    groups = same_but_backbone(request.described)
    for group in groups:
        dataset = request.short(group[0][0].dataset)
        for method in methods_of(group):
            shown = (method.projection, method.variant) in _SHOWN and method.order != "released"
            trend = trend_of(group, method, request.rule) if shown else None
            if trend is not None and (trend.on_plain or trend.on_mean):
                name = f"{words.short_name(method, request.names)}, {request.short(method.predictor_label)}"
                title = f"{dataset}, {name}" if len(groups) > 1 else name
                slopes = {"plain accuracy": trend.on_plain, "mean of both accuracies": trend.on_mean}
                lines = [(Line(on, ()), (trend, slope)) for on, slope in slopes.items()]
                yield Draft(f"{title}: {len(trend.gain)} backbones", lines, dataset)


def _slope(of: tuple[Trend, WithEnds | None]) -> Cell:
    _, slope = of
    if slope is None:
        return Cell(note="all backbones have the same accuracy, so there is no trend")
    return Cell(value=slope.value, low=slope.low, high=slope.high, signed=True, decimals=2)


def _plain(of: tuple[Trend, WithEnds | None]) -> Cell:
    plain = of[0].plain
    return Cell(value=float(np.mean(plain)), text=f"{plain.min():.1f} to {plain.max():.1f}")


def _ahead(of: tuple[Trend, WithEnds | None]) -> Cell:
    ahead, n = sum(one.interval.low > 0 for one in of[0].compared), len(of[0].gain)
    return Cell(value=float(ahead), decimals=0, text=f"{ahead} of {n}")


_COLUMNS: tuple[Values[tuple[Trend, WithEnds | None]], ...] = (
    Values(Column("slope", "Slope", unit="points per point"), _slope),
    Values(
        Column("mean gain over plain", "Mean gain", unit="points"),
        lambda of: Cell(value=float(np.mean(of[0].gain)), signed=True),
    ),
    Values(Column("plain accuracies", "Plain", unit="%"), _plain),
    Values(Column("backbones with a gain whose interval is above 0", "Ahead", unit=""), _ahead),
)


def _caption(request: Request) -> str:
    start = f"{request.what}: d" if len(same_but_backbone(request.described)) == 1 else "D"
    return f"{start}oes the gain survive a better encoder? Slope of the gain on accuracy, over backbones."


TABLE = TableSpec(
    "trend",
    _caption,
    _blocks,
    lambda _: _COLUMNS,
    lambda *_: _NOTES,
    settings=lambda request: [one for group in same_but_backbone(request.described) for one in group],
    corner="Slope on",
)
