"""Pairs: what every pair of interventions gains, and how accuracy grows with the number of image pairs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet
from matplotlib.ticker import MaxNLocator, NullLocator

from benchmark.method.evaluation.metrics import Array
from reports.analysis.chosen import Selections
from reports.analysis.comparisons import compare
from reports.analysis.methods import Method
from reports.figures.gains import Point, predictors_of
from reports.figures.interventions import alone_with, kinds_of
from reports.figures.style import (
    COLUMN,
    GREY,
    INK,
    PAGE,
    SMALL,
    Look,
    arrange,
    legend_above,
    line_handle,
    looks_of,
    sheet_of,
    signed,
    words,
)

MAX_KINDS = 9


@dataclass(frozen=True)
class Shares:
    """What a method gains with a share of the pairs of images and their views.

    Attributes:
        method: the method with all pairs.
        shares: percent of the images whose views enter C_d, ascending.
        points: accuracy minus plain prediction's at each of them, mean over draws of that share where there are some.
    """

    method: Method
    shares: tuple[float, ...]
    points: tuple[Point, ...]


@dataclass(frozen=True)
class PairNumbers:
    """Pairs of interventions, and shares of pairs of images.

    Attributes:
        kinds: of intervention, sorted.
        gains: points over plain prediction with the two of row and column alone, shape (kinds, kinds); on the diagonal
            one kind alone; NaN where there is no such set. Empty where there are no pairs.
        shares: of each method.
    """

    kinds: tuple[str, ...]
    gains: Array
    shares: tuple[Shares, ...]


def numbers(selections: Selections, rule: str) -> PairNumbers | None:
    """Return gains of CLIP-ICM (largest), else of shrinkage, by pair of interventions, and gains by share of pairs.

    Args:
        selections: the rows of one setting.
        rule: what chooses everything else, among the rows of a set alone.
    """
    for predictor in predictors_of(selections):
        there = [m for m in selections.parts if m.predictor == predictor and (m.is_paper or m.is_shrinkage)]
        kinds, gains = _of_pairs(selections, there, rule)
        shares = tuple(one for method in there if (one := _shares(selections, method, rule)))
        if kinds or shares:
            return PairNumbers(kinds, gains, shares)
    return None


def _of_pairs(selections: Selections, methods: Sequence[Method], rule: str) -> tuple[tuple[str, ...], Array]:
    for method in methods:
        rows, plain = selections.parts[method], selections.plain_of(method.predictor)
        sets = {kinds_of(part): part for _, part in rows.groupby("intervention_set", sort=False)}
        small = {kinds: part for kinds, part in sets.items() if 1 <= len(kinds) <= 2}
        universe = sorted({kind for kinds in small for kind in kinds})
        if plain is None or sum(len(kinds) == 2 for kinds in small) < 3 or len(universe) > MAX_KINDS:
            continue
        gains = np.full((len(universe), len(universe)), np.nan)
        for kinds, part in small.items():
            one = compare(alone_with(selections, method, part, plain), method, rule, plain)
            if one is not None:
                i, j = universe.index(kinds[0]), universe.index(kinds[-1])
                gains[i, j] = gains[j, i] = 100 * one.interval.estimate
        return tuple(universe), gains
    return (), np.empty((0, 0))


def _shares(selections: Selections, method: Method, rule: str) -> Shares | None:
    plain = selections.plain_of(method.predictor)
    found: dict[float, list[Point]] = {}
    for candidate in selections.parts:
        if plain and not candidate.placebo and candidate.with_all_pairs == method:
            one = compare(selections, candidate, rule, plain)
            if one is not None:
                share = 1.0 if candidate.pairs_share is None else candidate.pairs_share
                found.setdefault(100 * share, []).append(Point.of(one.interval))
    if len(found) < 2:
        return None
    points = [_mean_of(found[share]) for share in sorted(found)]
    return Shares(method, tuple(sorted(found)), tuple(points))


def _mean_of(points: Sequence[Point]) -> Point:
    """Return the mean of several draws, with the lowest and the highest; of one its own interval."""
    if len(points) == 1:
        return points[0]
    values = [point.value for point in points]
    return replace(points[0], value=float(np.mean(values)), low=min(values), high=max(values))


def draw(numbers: PairNumbers) -> Sheet:
    """Draw the heat map and the curve side by side; the one that there is in a column's width."""
    both = bool(numbers.kinds) and bool(numbers.shares)
    sheet = sheet_of(PAGE if both else COLUMN, 3.0 if numbers.kinds else 2.3)
    grid = sheet.subplots(1, 1 + both, squeeze=False)
    legend = None
    if numbers.shares:
        looks = looks_of([one.method for one in numbers.shares])
        for one in numbers.shares:
            _draw_shares(grid[0, -1], one, looks[one.method])
        handles = [line_handle(looks[one.method]) for one in numbers.shares]
        legend = legend_above(sheet, handles, [one.method.label for one in numbers.shares])
    if numbers.kinds:
        _draw_pairs(grid[0, 0], numbers)
    arrange(sheet, grid.tolist(), legend=legend, gap=0.2)
    return sheet


def _draw_pairs(axes: Axes, numbers: PairNumbers) -> None:
    most = max(float(np.nanmax(np.abs(numbers.gains))), 0.1)
    n = len(numbers.kinds)
    edges = np.arange(n + 1) - 0.5
    # Blue to red: by lightness alone both ends are dark, so every cell has its number with its sign.
    axes.pcolormesh(edges, edges, numbers.gains, cmap=matplotlib.colormaps["RdBu"], vmin=-most, vmax=most,
                    edgecolors="white", linewidth=0.6)  # fmt: skip
    for (i, j), value in np.ndenumerate(numbers.gains):
        ink = "white" if abs(value) > 0.65 * most else INK
        text = "—" if np.isnan(value) else signed(value)
        axes.text(j, i, text, fontsize=SMALL, color=ink, ha="center", va="center")
    names = [words(kind, 18) for kind in numbers.kinds]
    axes.set_xticks(range(n), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(n), names)
    axes.set_ylim(n - 0.5, -0.5)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw_shares(axes: Axes, one: Shares, look: Look) -> None:
    axes.axhline(0, color=GREY, linewidth=0.6)
    low, high = ([getattr(point, end) for point in one.points] for end in ("low", "high"))
    axes.fill_between(one.shares, low, high, color=look.colour, alpha=0.16, linewidth=0)
    axes.plot(one.shares, [point.value for point in one.points], linestyle=look.line, **look.marks())
    axes.set_xscale("log")
    axes.set_xticks(one.shares, [f"{share:g}" for share in one.shares])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.set_xlabel("Images with pairs (%)")
    axes.set_ylabel("Accuracy − plain (points)")
