"""Rank: accuracy minus plain prediction's against the rank kept, paired intervals as bands, picks below."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet
from matplotlib.ticker import MaxNLocator, NullLocator

from reports.analysis.chosen import Selections
from reports.analysis.methods import ICM, SHRINKAGE, Method
from reports.analysis.whole import whole_estimate
from reports.figures import style
from reports.figures.gains import Point, predictors_of, shown_methods

LOWEST = 4.0  # times the highest gain (or `_LEAST` points): lines that fall farther leave the panel
_LEAST = 3.0
_HEAD, _LETTERS = 0.15, 0.4  # inches of a legend, and of the letters around a row of panels
_HIGH, _LOWER, _STRIP = 2.0, 1.25, 0.1  # inches of a panel, of one where there are several rows, of a method's picks


@dataclass(frozen=True)
class Curve:
    """A method against rank; one without ranks has one point, at the full width.

    Attributes:
        method: the method.
        ranks: ascending.
        points: accuracy minus plain prediction's at each of them, all but the rank as the rule picks there.
        picks: how often the rule picks each of them.
    """

    method: Method
    ranks: tuple[int, ...]
    points: tuple[Point, ...]
    picks: tuple[int, ...]


def panels(selections: Selections, rule: str) -> dict[str, tuple[Curve, ...]]:
    """Return the curves of each predictor (in words) that has plain rows and a method with ranks.

    Args:
        selections: the rows of one setting.
        rule: what chooses everything but the rank at each rank, for each held-out environment, seed and fold.
    """
    found = {}
    for predictor in predictors_of(selections):
        methods = shown_methods(selections, predictor, released=True)
        curves = tuple(curve for method in methods if (curve := _curve(selections, method, rule)))
        if any(len(curve.ranks) > 1 for curve in curves):
            found[curves[0].method.predictor_label] = curves
    return found


def _curve(selections: Selections, method: Method, rule: str) -> Curve | None:
    plain = selections.plain_of(method.predictor)
    if plain is None:
        return None
    ranks, baseline = selections.parts[method]["ranks"], selections.pooled(plain, rule)
    estimates = {
        rank: whole_estimate(selections, selections.pooled(method, rule, rank), baseline)
        for rank in sorted({int(rank) for of_row in ranks for rank in of_row})
    }
    points = {rank: Point.of(one.interval) for rank, one in estimates.items() if one}
    picked = selections.picks(method, rule)["rank"].tolist()
    return Curve(method, tuple(points), tuple(points.values()), tuple(map(picked.count, points))) if points else None


def draw(panels: Sequence[tuple[str, Sequence[Curve]]]) -> Sheet:
    """Draw panels (title, curves), with a strip of picks below each."""
    every = {curve.method: curve for _, curves in panels for curve in curves}
    looks, (rows, _) = style.looks_of([*every]), style.rows_of(len(panels))
    heights = [_HIGH if rows == 1 else _LOWER, _STRIP * max(len(_ranked(curves)) for _, curves in panels)]
    sheet = style.sheet_of(style.COLUMN if len(panels) == 1 else style.PAGE, rows * (sum(heights) + _LETTERS) + _HEAD)
    grid = style.grid_of(sheet, len(panels), high=2)
    for above, below, (_, curves) in zip(style.axes_of(grid[::2]), style.axes_of(grid[1::2]), panels, strict=True):
        above.sharex(below)
        _draw_curves(above, curves, looks)
        _draw_picks(below, _ranked(curves), looks)
        _log2(below, [rank for curve in _ranked(curves) for rank in curve.ranks])
        above.tick_params(labelbottom=False)
    up = "Accuracy − plain (points)" if rows == 1 else "− plain (points)"
    style.label_panels(grid[::2], [title for title, _ in panels], "", up)
    style.label_panels(grid[1::2], [""] * len(panels), "Rank kept", "")
    for below in style.axes_of([row[:1] for row in grid[1::2]]):
        below.set_ylabel("picked", rotation=0, ha="right", va="center")
    shown = {curve.method.projection_label: curve for curve in every.values()}
    handles = [
        style.line_handle(looks[c.method], **({"marker": ""} if len(c.ranks) == 1 else {})) for c in shown.values()
    ]
    style.arrange(sheet, grid, heights=heights * rows, legend=style.legend_above(sheet, handles, list(shown)), gap=0.07)
    return sheet


def _ranked(curves: Sequence[Curve]) -> list[Curve]:
    return [curve for curve in curves if len(curve.ranks) > 1]


def _draw_curves(axes: Axes, curves: Sequence[Curve], looks: dict[Method, style.Look]) -> None:
    axes.axhline(0, color=style.GREY, linewidth=0.6)
    for curve in curves:
        look = looks[curve.method]
        values = [point.value for point in curve.points]
        if len(curve.ranks) == 1:
            axes.axhline(values[0], color=look.colour, linestyle=look.line, linewidth=1.1)
            continue
        if curve.method.projection in (ICM, SHRINKAGE) and curve.method.order != "released":
            low, high = ([getattr(point, end) for point in curve.points] for end in ("low", "high"))
            axes.fill_between(curve.ranks, low, high, color=look.colour, alpha=0.16, linewidth=0)
        axes.plot(curve.ranks, values, linestyle=look.line, **look.marks())
    axes.set_ylim(*_limits(curves))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))


def _draw_picks(axes: Axes, curves: Sequence[Curve], looks: dict[Method, style.Look]) -> None:
    """Draw a strip for each method, where the area of a marker is the share of the picks at a rank."""
    for row, curve in enumerate(curves):
        whole = max(1, sum(curve.picks))
        axes.plot([curve.ranks[0], curve.ranks[-1]], [row, row], color=style.LIGHT, linewidth=0.5, zorder=0)
        for rank, count in zip(curve.ranks, curve.picks, strict=True):
            if count:
                size = max(1.2, 5.4 * (count / whole) ** 0.5)
                axes.plot([rank], [row], markersize=size, linestyle="none", **looks[curve.method].marks())
    axes.set_ylim(len(curves) - 0.35, -0.65)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def _limits(curves: Sequence[Curve]) -> tuple[float, float]:
    ends = [end for curve in curves for p in curve.points for end in (p.low, p.value, p.high) if not math.isnan(end)]
    highest = max([*ends, 0.0])
    low = max(min([*ends, 0.0]), -LOWEST * max(highest, _LEAST))
    span = max(highest - low, 0.5)
    return low - 0.05 * span, highest + 0.05 * span


def _log2(axes: Axes, ranks: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    low, high = math.floor(math.log2(min(ranks))), math.ceil(math.log2(max(ranks)))
    step = max(1, math.ceil((high - low) / 7))
    places = [2**i for i in range(low, high + 1, step)]
    axes.set_xticks(places, [str(place) for place in places])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(min(ranks) * 0.88, max(ranks) * 1.14)
