"""Rank: accuracy minus plain prediction's against the rank kept, paired intervals as bands, picks below."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet
from matplotlib.ticker import MaxNLocator, NullLocator

from reports.analysis.chosen import Selections
from reports.analysis.methods import ICM, SHRINKAGE, Method
from reports.figures.gains import Point, gain, plain_answers, predictors_of, shown_methods
from reports.figures.panels import Legend, over_strips
from reports.figures.style import GREY, Look, line_handle, looks_of, picks_below

LOWEST = 4.0  # times the highest gain (or `_LEAST` points): lines that fall farther leave the panel
_LEAST = 3.0


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


@dataclass(frozen=True)
class RankNumbers:
    """Rank curves: predictor of one setting, or data set, in words -> its curves."""

    panels: tuple[tuple[str, tuple[Curve, ...]], ...]


def numbers(selections: Selections, rule: str) -> RankNumbers | None:
    """Return the curves of each predictor that has plain rows and a method with ranks; None where none has.

    Args:
        selections: the rows of one setting.
        rule: what chooses everything but the rank at each rank, for each held-out environment, seed and fold.
    """
    panels = []
    for predictor in predictors_of(selections):
        methods = shown_methods(selections, predictor, released=True)
        curves = [curve for method in methods if (curve := _curve(selections, method, rule))]
        if any(len(curve.ranks) > 1 for curve in curves):
            panels.append((curves[0].method.predictor_label, tuple(curves)))
    return RankNumbers(tuple(panels)) if panels else None


def _curve(selections: Selections, method: Method, rule: str) -> Curve | None:
    plain = plain_answers(selections, method.predictor, rule)
    ranks = sorted({int(rank) for ranks in selections.parts[method]["ranks"] for rank in ranks})
    found = [(rank, gain(selections, selections.pooled(method, rule, rank), plain)) for rank in ranks]
    known = [(rank, point) for rank, point in found if point is not None]
    if not known:
        return None
    picked = selections.picks(method, rule)["rank"].tolist()
    return Curve(
        method,
        tuple(rank for rank, _ in known),
        tuple(point for _, point in known),
        tuple(picked.count(rank) for rank, _ in known),
    )


def draw(numbers: RankNumbers) -> Sheet:
    """Draw a panel for each predictor or data set, with a strip of picks below it."""
    panels = [curves for _, curves in numbers.panels]
    curves = [curve for of_panel in panels for curve in of_panel]
    looks = looks_of([curve.method for curve in curves])

    def ranked(number: int) -> list[Curve]:
        return [curve for curve in panels[number] if len(curve.ranks) > 1]

    def lower(axes: Axes, number: int) -> None:
        picks_below(axes, [(looks[c.method], c.ranks, c.picks) for c in ranked(number)])
        _log2(axes, [rank for curve in ranked(number) for rank in curve.ranks])

    shown = {curve.method.projection_label: curve for curve in curves}
    handles = [line_handle(looks[c.method], **({"marker": ""} if len(c.ranks) == 1 else {})) for c in shown.values()]
    strips = max(len(ranked(i)) for i in range(len(panels)))
    return over_strips(
        [title for title, _ in numbers.panels], lambda axes, i: _draw_curves(axes, panels[i], looks), lower,
        (2.0, 0.1 * strips), "Rank kept", Legend(handles, list(shown)),
    )  # fmt: skip


def _draw_curves(axes: Axes, curves: Sequence[Curve], looks: dict[Method, Look]) -> None:
    axes.axhline(0, color=GREY, linewidth=0.6)
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
