"""Rank figure: gain over plain prediction against the kept rank, with paired intervals as bands and picks below."""
# `_KINDS` of every.py lists this module. The figure's name is also in docs/report.md and reports/document/paper.py.

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from benchmark.method.evaluation import inference, seed_variance
from reports.analysis.methods import ICM, SHRINKAGE, Method
from reports.analysis.selections import Selections, complete_estimate
from reports.analysis.settings import Setting
from reports.figures import style
from reports.figures.style import in_points, of_predictors, shown_methods

MAX_DROP = 4.0  # a panel ends at -MAX_DROP times its highest gain, which counts as `_MIN_SPAN` points or more
_MIN_SPAN = 3.0
_HEAD, _LETTERS = 0.15, 0.4  # heights of the legend and of the letters around a row of panels, in inches
_HIGH, _LOWER, _STRIP = 2.0, 1.25, 0.1  # heights of a panel in one row, in several rows, and of a method's picks


@dataclass(frozen=True)
class Curve:
    """Gain of a method by rank; a method without ranks has one point at full rank.

    Attributes:
        method: the method.
        ranks: ranks, ascending.
        points: gain over plain prediction at each rank, fractions; all other settings are selected by the rule.
        picks: number of the rule's picks at each rank, without those that keep plain prediction.
    """

    method: Method
    ranks: tuple[int, ...]
    points: tuple[inference.Interval, ...]
    picks: tuple[int, ...]


def panels(selections: Selections, rule: str) -> dict[str, list[Curve]]:
    """Return curves by predictor label, for predictors that have plain prediction and a method with ranks."""

    def curves_of(plain: Method) -> list[Curve] | None:
        baseline, curves = selections.pooled(plain, rule), []
        for method in shown_methods(selections, plain.predictor, released=True):
            points = {}
            for rank in sorted({int(rank) for ranks in selections.parts[method]["ranks"] for rank in ranks}):
                if one := complete_estimate(selections, selections.pooled(method, rule, rank), baseline):
                    points[rank] = one.interval
            picks = selections.picks(method, rule)
            picked = picks["rank"][~picks["kept_plain"]].tolist()
            if points:
                curves.append(Curve(method, tuple(points), tuple(points.values()), tuple(map(picked.count, points))))
        return curves if _ranked(curves) else None

    return dict(of_predictors(selections, curves_of))


def _ranked(curves: Sequence[Curve]) -> list[Curve]:
    return [curve for curve in curves if len(curve.ranks) > 1]


def draw(panels: style.Panels[Sequence[Curve]]) -> style.Sheet:
    """Draw panels (title, curves). Below, each curve has a strip of markers. Their areas are shares of the picks."""
    every = {curve.method: curve for _, curves in panels for curve in curves}
    looks, rows = style.looks_of(every), len(style.rows_of(panels))
    heights = [_HIGH if rows == 1 else _LOWER, _STRIP * max(len(_ranked(curves)) for _, curves in panels)]
    sheet = style.sheet_for(panels, rows * (sum(heights) + _LETTERS) + _HEAD)
    labels = "Rank kept", "Accuracy − plain (points)" if rows == 1 else "− plain (points)", "picked"
    for (above, below), curves in style.on_grid(sheet, panels, labels, high=2):
        above.sharex(below)
        _draw_curves(above, curves, looks)
        ranked = _ranked(curves)
        for row, curve in enumerate(ranked):
            below.plot([curve.ranks[0], curve.ranks[-1]], [row, row], color=style.LIGHT, linewidth=0.5, zorder=0)
            for rank, count in zip(curve.ranks, curve.picks, strict=True):
                if count:
                    size = max(1.2, 5.4 * (count / sum(curve.picks)) ** 0.5)
                    below.plot([rank], [row], **looks[curve.method].marks(markersize=size))
        style.as_rows(below, len(ranked) - 0.35, -0.65)
        ranks = [rank for curve in ranked for rank in curve.ranks]
        style.log2_ticks(below, math.floor(math.log2(min(ranks))), math.ceil(math.log2(max(ranks))), 7)
        below.set_xlim(min(ranks) * 0.88, max(ranks) * 1.14)
    legend = {}
    for method, curve in every.items():
        marker = {} if len(curve.ranks) > 1 else {"marker": ""}
        legend[method.name] = looks[method].handle(linestyle=looks[method].line, **marker)
    return style.arrange(sheet, legend, heights * rows, 0.07)


def _draw_curves(axes: Axes, curves: Sequence[Curve], looks: dict[Method, style.Look]) -> None:
    axes.axhline(0, color=style.GREY, linewidth=0.6)
    for curve in curves:
        look, values = looks[curve.method], [in_points(point)[0] for point in curve.points]
        if len(curve.ranks) == 1:
            axes.axhline(values[0], color=look.colour, linestyle=look.line, linewidth=1.1)
            continue
        if curve.method.projection in (ICM, SHRINKAGE) and curve.method.order != "released":
            low, high = zip(*((100 * point.low, 100 * point.high) for point in curve.points), strict=True)
            axes.fill_between(curve.ranks, low, high, color=look.colour, alpha=0.16, linewidth=0)
        axes.plot(curve.ranks, values, **look.marks(linestyle=look.line))
    ends = [end for curve in curves for point in curve.points for end in in_points(point)]
    highest = max([*ends, 0.0])
    lowest = max(min([*ends, 0.0]), -MAX_DROP * max(highest, _MIN_SPAN))
    room = 0.05 * max(highest - lowest, 0.5)
    axes.set_ylim(lowest - room, highest + room)
    style.round_ticks(axes.yaxis, 6)
    axes.tick_params(labelbottom=False)


def caption(panels: Sequence[Sequence[Curve]], setting: Setting) -> str:
    """Return the caption of the figure."""
    band = f"No band: one takes {seed_variance.MIN_UNITS} units in every environment, and answers that vary."
    if any(len(in_points(point)) > 1 for curves in panels for curve in curves for point in curve.points):
        band = "Bands: 95 % intervals of the paired difference for these environments."
    return (
        "Accuracy minus plain prediction's on the same images against the rank kept; the rule selects other settings "
        f"at each rank, and does not fall back to plain prediction. {band} Below: how often the rule picks each rank, "
        "by area, apart from choices that keep plain prediction. Lines far below zero leave the panel. Choosing "
        f"the best rank from this figure would be selection on the {setting.protocol_class.tested}."
    )
