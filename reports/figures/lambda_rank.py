"""Lambda against rank as twin maps: what the rule saw on the sources, and the accuracy on what is held out."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.patches import Rectangle

from benchmark.method.evaluation.metrics import Array
from reports.analysis.chosen import Selections
from reports.analysis.methods import Method
from reports.analysis.settings import Setting
from reports.analysis.spans import spread_of
from reports.figures import style
from reports.figures.style import of_predictors

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

    @property
    def numbered(self) -> bool:
        """Whether numbers fit into the cells."""
        return len(self.lambdas) <= _MOST[0] and len(self.ranks) <= _MOST[1]


def panels(selections: Selections, rule: str) -> dict[str, Maps]:
    """Return predictor (in words) -> the maps of CLIP-ICM (largest), where it has two lambdas and two ranks.

    Everything else is chosen at each lambda and rank by the rule. Means are over folds by their images, then seeds,
    then held-out environments.
    """
    return dict(of_predictors(selections, lambda plain: _maps(selections, plain.predictor, rule)))


def _maps(selections: Selections, predictor: str, rule: str) -> Maps | None:
    method = next((m for m in selections.parts if m.is_paper and m.predictor == predictor), None)
    if method is None:
        return None
    rows, spread = selections.parts[method], spread_of(selections, method)
    lambdas = sorted(float(x) for x in rows["lambda_"].dropna().unique())
    of_lambda = np.searchsorted(lambdas, rows["lambda_"].to_numpy(dtype=float))
    if len(lambdas) < 2 or len(spread.ranks) < 2:
        return None
    source, held_out = (100 * means.mean(axis=0) for means in spread.chosen(rule, of_lambda, len(lambdas)))
    picks, picked = np.zeros(source.shape), selections.picks(method, rule)
    for lambda_, rank in zip(picked["lambda_"], picked["rank"], strict=True):
        picks[lambdas.index(lambda_), spread.ranks.index(rank)] += 1
    found = Maps(method, tuple(lambdas), tuple(spread.ranks), source, held_out, picks)
    return None if np.isnan(source).all() else found


def draw(panels: style.Panels[Maps]) -> style.Sheet:
    """Draw panels (title, maps) below one another, both maps side by side, as wide as a page."""
    cells = [0.27 if maps.numbered else max(0.1, min(0.2, 2.5 / len(maps.lambdas))) for _, maps in panels]
    heights = [cell * len(maps.lambdas) for cell, (_, maps) in zip(cells, panels, strict=True)]
    each = [
        (f"{title}: {of} (%)" if title else f"{of} (%)", (maps, values))
        for title, maps in panels
        for of, values in (("source score", maps.source), ("held out", maps.held_out))
    ]
    sheet = style.sheet_of(style.PAGE, min(sum(heights) + 0.75 + 0.25 * (len(heights) - 1), style.TALLEST))
    for [axes], (maps, values) in style.on_grid(sheet, each, ("Rank kept", "", "λ"), columns=2):
        known = values[~np.isnan(values)]
        low, span = float(known.min()), max(float(np.ptp(known)), 1e-9)
        x, y = np.arange(len(maps.ranks) + 1) - 0.5, np.arange(len(maps.lambdas) + 1) - 0.5
        palette = matplotlib.colormaps["cividis"]  # even steps of lightness: it reads in grey, and by the colour-blind
        axes.pcolormesh(x, y, values, cmap=palette, vmin=low, vmax=low + span, edgecolors="white", linewidth=0.4)
        for (i, j), value in np.ndenumerate(values):
            count, shade = int(maps.picks[i, j]), (value - low) / span
            ink = style.INK if shade > 0.55 or np.isnan(value) else "white"
            if count:
                axes.add_patch(Rectangle((j - 0.46, i - 0.46), 0.92, 0.92, fill=False, edgecolor=ink, linewidth=0.7))
            if maps.numbered:
                text = "—" if np.isnan(value) else f"{value:.1f}"
                text = f"{text}\n×{count}" if count else text
                axes.text(j, i, text, fontsize=style.SMALL, color=ink, ha="center", va="center", linespacing=1.05)
            elif count:
                size = 1.5 + 4 * (count / maps.picks.max()) ** 0.5
                axes.plot([j], [i], **style.Look(ink, "o", "-").marks(markersize=size, markerfacecolor="none"))
        for axis, named, most in ((axes.xaxis, maps.ranks, 10), (axes.yaxis, maps.lambdas, 12)):
            every = -(-len(named) // most)
            axis.set_ticks(range(0, len(named), every), [f"{x:g}" for x in named[::every]])
        axes.tick_params(length=0, labelleft=values is maps.source)
        axes.spines[:].set_visible(False)
    return style.arrange(sheet, heights=heights, gap=0.1)


def caption(panels: Sequence[Maps], setting: Setting) -> str:
    """Return what the figure shows."""
    picks = sorted({int(maps.picks.sum()) for maps in panels})
    every = f"{picks[0]}" if len(picks) == 1 else f"{picks[0]} to {picks[-1]}"
    return (
        f"{panels[0].method.projection_label}: score of the rule on the sources (left) and accuracy on the "
        f"{setting.protocol_class.tested} (right), in %, by λ and rank; everything else is chosen at each of them. "
        f"Framed: what the rule picks, with how many of its {every} picks."
    )
