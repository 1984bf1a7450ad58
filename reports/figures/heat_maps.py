"""Lambda against rank as twin maps: what the rule saw on the sources, and the accuracy on what is held out."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet
from matplotlib.patches import Rectangle

from benchmark.method.evaluation.metrics import Array
from reports.analysis.chosen import Selections
from reports.analysis.methods import Method
from reports.analysis.spread import spread_of
from reports.figures.gains import predictors_of
from reports.figures.style import GREY, INK, PAGE, SMALL, TALLEST, arrange, panel_label, sheet_of

_COLOURS = "cividis"  # even steps of lightness: it reads in grey, and by the colour-blind
_MOST = (9, 10)  # lambdas and ranks: of more, numbers do not fit into the cells


@dataclass(frozen=True)
class Maps:
    """Two maps of one method.

    Attributes:
        method: CLIP-ICM (largest).
        lambdas: ascending.
        ranks: ascending.
        source: percent, what the rule looks at, shape (lambdas, ranks), NaN where not all that is held out has it.
        held_out: percent, accuracy on what is held out, same shape.
        picks: how often the rule picks each, same shape.
    """

    method: Method
    lambdas: tuple[float, ...]
    ranks: tuple[int, ...]
    source: Array
    held_out: Array
    picks: Array


def panels(selections: Selections, rule: str) -> dict[str, Maps]:
    """Return predictor (in words) -> the maps of CLIP-ICM (largest), where it has two lambdas and two ranks.

    Everything else is chosen at each lambda and rank by the rule. Means are over folds by their images, then seeds,
    then held-out environments.

    Args:
        selections: the rows of one setting.
        rule: one that looks at sources alone.
    """
    predictors = predictors_of(selections)
    found = [(m, _maps(selections, m, rule)) for m in selections.parts if m.is_paper and m.predictor in predictors]
    return {method.predictor_label: maps for method, maps in found if maps}


def _maps(selections: Selections, method: Method, rule: str) -> Maps | None:
    rows, spread = selections.parts[method], spread_of(selections, method)
    lambdas = sorted(float(x) for x in rows["lambda_"].dropna().unique())
    if len(lambdas) < 2 or len(spread.ranks) < 2:
        return None
    of_lambda = np.searchsorted(lambdas, rows["lambda_"].to_numpy(dtype=float))
    source, held_out = (means.mean(axis=0) for means in spread.chosen(rule, of_lambda, len(lambdas)))
    if np.isnan(source).all():
        return None
    picks, picked = np.zeros((len(lambdas), len(spread.ranks))), selections.picks(method, rule)
    for lambda_, rank in zip(picked["lambda_"], picked["rank"], strict=True):
        picks[lambdas.index(lambda_), spread.ranks.index(rank)] += 1
    return Maps(method, tuple(lambdas), tuple(spread.ranks), 100 * source, 100 * held_out, picks)


def draw(panels: Sequence[tuple[str, Maps]]) -> Sheet:
    """Draw panels (title, maps) below one another, both maps side by side, as wide as a page."""
    heights = [_cell(maps) * len(maps.lambdas) for _, maps in panels]
    sheet = sheet_of(PAGE, min(sum(heights) + 0.75 + 0.25 * (len(heights) - 1), TALLEST))
    grid = sheet.subplots(len(heights), 2, squeeze=False)
    for row, (title, maps) in enumerate(panels):
        words = f"{title}: " if title else ""
        for axes, values, of in zip(grid[row], (maps.source, maps.held_out), ("source score", "held out"), strict=True):
            _draw(axes, maps, values)
            panel_label(axes, f"{words}{of} (%)")
        grid[row, 0].set_ylabel("λ", rotation=0, ha="right", va="center")
        grid[row, 1].tick_params(labelleft=False)
    for axes in grid[-1]:
        axes.set_xlabel("Rank kept")
    arrange(sheet, grid.tolist(), heights=heights, gap=0.1)
    return sheet


def _numbered(maps: Maps) -> bool:
    return len(maps.lambdas) <= _MOST[0] and len(maps.ranks) <= _MOST[1]


def _cell(maps: Maps) -> float:
    return 0.27 if _numbered(maps) else max(0.1, min(0.2, 2.5 / len(maps.lambdas)))


def _draw(axes: Axes, maps: Maps, values: Array) -> None:
    palette = matplotlib.colormaps[_COLOURS]
    known = values[~np.isnan(values)]
    low, span = float(known.min()), max(float(np.ptp(known)), 1e-9)
    axes.pcolormesh(
        np.arange(len(maps.ranks) + 1) - 0.5, np.arange(len(maps.lambdas) + 1) - 0.5, values, cmap=palette,
        vmin=low, vmax=low + span, edgecolors="white", linewidth=0.4,
    )  # fmt: skip
    whole = max(1.0, float(maps.picks.max()))
    for (i, j), value in np.ndenumerate(values):
        count, shade = int(maps.picks[i, j]), (value - low) / span
        ink = INK if shade > 0.55 or np.isnan(value) else "white"
        if count:
            axes.add_patch(Rectangle((j - 0.46, i - 0.46), 0.92, 0.92, fill=False, edgecolor=ink, linewidth=0.7))
        if _numbered(maps):
            text = "—" if np.isnan(value) else f"{value:.1f}"
            axes.text(j, i, f"{text}\n×{count}" if count else text, fontsize=SMALL, color=ink, ha="center",
                      va="center", linespacing=1.05)  # fmt: skip
        elif count:
            axes.plot([j], [i], marker="o", markersize=1.5 + 4 * (count / whole) ** 0.5, markeredgecolor=ink,
                      markerfacecolor="none", linestyle="none")  # fmt: skip
    every = max(1, -(-len(maps.ranks) // 10))
    axes.set_xticks(range(0, len(maps.ranks), every), [str(rank) for rank in maps.ranks[::every]])
    every = max(1, -(-len(maps.lambdas) // 12))
    axes.set_yticks(range(0, len(maps.lambdas), every), [f"{x:g}" for x in maps.lambdas[::every]])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.spines["bottom"].set_color(GREY)
