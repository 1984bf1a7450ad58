"""Lambda-by-rank heat maps: source score of the rule, and held-out accuracy."""
# `_KINDS` of every.py lists this module. The figure's name is also in docs/report.md and reports/document/paper.py.

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.patches import Rectangle

from benchmark.method.evaluation.metrics import Array
from reports.analysis.methods import Method
from reports.analysis.selections import Selections
from reports.analysis.settings import Setting
from reports.analysis.spans import spread_of
from reports.figures import style
from reports.figures.style import of_predictors

_MAX_NUMBERED = (9, 10)  # largest numbers of lambdas and ranks with numbers printed in the cells


@dataclass(frozen=True)
class Maps:
    """Two heat maps of one method.

    Attributes:
        method: CLIP-ICM.
        lambdas: lambdas, ascending.
        ranks: ranks, ascending.
        source: score of the rule in percent, shape (lambdas, ranks); NaN if a held-out environment lacks it.
        held_out: held-out accuracy in percent, same shape.
        picks: number of the rule's picks, same shape, without those that keep plain prediction.
        choices: number of the rule's picks in all.
    """

    method: Method
    lambdas: tuple[float, ...]
    ranks: tuple[int, ...]
    source: Array
    held_out: Array
    picks: Array
    choices: int

    @property
    def numbered(self) -> bool:
        """Whether numbers fit into the cells."""
        return len(self.lambdas) <= _MAX_NUMBERED[0] and len(self.ranks) <= _MAX_NUMBERED[1]


def panels(selections: Selections, rule: str) -> dict[str, Maps]:
    """Return the heat maps of CLIP-ICM, by predictor label, if it has two or more lambdas and ranks.

    The rule selects all other settings at each lambda and rank. Means are over folds (weighted by images), then seeds,
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
    own = picked.where(~picked["kept_plain"])
    for lambda_, rank in zip(own["lambda_"], own["rank"], strict=True):
        picks[lambdas.index(lambda_), spread.ranks.index(rank)] += 1
    found = Maps(method, tuple(lambdas), tuple(spread.ranks), source, held_out, picks, len(picked))
    return None if np.isnan(source).all() else found


def draw(panels: style.Panels[Maps]) -> style.Sheet:
    """Draw panels (title, maps) stacked at page width, with both maps side by side."""
    cells = [0.27 if maps.numbered else max(0.1, min(0.2, 2.5 / len(maps.lambdas))) for _, maps in panels]
    heights = [cell * len(maps.lambdas) for cell, (_, maps) in zip(cells, panels, strict=True)]
    each = [
        (f"{title}: {of} (%)" if title else f"{of} (%)", (maps, values))
        for title, maps in panels
        for of, values in (("source score", maps.source), ("held out", maps.held_out))
    ]
    sheet = style.sheet_of(style.PAGE, min(sum(heights) + 0.75 + 0.25 * (len(heights) - 1), style.MAX_HEIGHT))
    for [axes], (maps, values) in style.on_grid(sheet, each, ("Rank kept", "", "λ"), columns=2):
        known = values[~np.isnan(values)]
        low, span = float(known.min()), max(float(np.ptp(known)), 1e-9)
        x, y = np.arange(len(maps.ranks) + 1) - 0.5, np.arange(len(maps.lambdas) + 1) - 0.5
        palette = matplotlib.colormaps["cividis"]  # perceptually uniform, readable in grey and with colour blindness
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
        for axis, named, max_ticks in ((axes.xaxis, maps.ranks, 10), (axes.yaxis, maps.lambdas, 12)):
            every = -(-len(named) // max_ticks)
            axis.set_ticks(range(0, len(named), every), [f"{x:g}" for x in named[::every]])
        axes.tick_params(length=0, labelleft=values is maps.source)
        axes.spines[:].set_visible(False)
    return style.arrange(sheet, heights=heights, gap=0.1)


def caption(panels: Sequence[Maps], setting: Setting) -> str:
    """Return the caption of the figure."""
    choices = sorted({maps.choices for maps in panels})
    every = f"{choices[0]}" if len(choices) == 1 else f"{choices[0]} to {choices[-1]}"
    return (
        f"{panels[0].method.name}: source score of the rule (left) and accuracy on the "
        f"{setting.protocol_class.tested} (right), in %, by λ and rank; the rule selects all other settings. "
        f"Framed: the rule's picks, with their number out of {every}; the others keep plain prediction."
    )
