"""Selection: what the rule saw on the sources against accuracy on what is held out, of every setting of a method."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from benchmark.method.evaluation.metrics import ACCURACY, Array
from benchmark.method.evaluation.selection import KEY
from reports.analysis.chosen import Selections
from reports.analysis.methods import Method
from reports.analysis.spans import MIN_SETTINGS, rank_correlation
from reports.analysis.spread import spread_of
from reports.analysis.whole import mean_beside
from reports.figures import style
from reports.figures.gains import predictors_of, shown_methods

MAX_POINTS = 400  # of a method; of more, every so many
_SETTING = ["lambda_", "intervention_set", "normalize", "predictor_params", "projection_params"]


@dataclass(frozen=True)
class Cloud:
    """Every setting of one method that was tested everywhere.

    Attributes:
        method: the method.
        source: percent, the score by which the rule chooses, shape (n,).
        held_out: percent, accuracy on what is held out, shape (n,).
        picked: the same two at what the rule picks; it may pick another setting for each test.
    """

    method: Method
    source: Array
    held_out: Array
    picked: tuple[float, float]


@dataclass(frozen=True)
class Panel:
    """The settings of all methods of a predictor.

    Attributes:
        clouds: of each method, plain prediction first.
        rho: rank correlation over all settings that are drawn; NaN with fewer than eight, or where nothing varies.
        thinned: whether not all settings are drawn.
    """

    clouds: tuple[Cloud, ...]
    rho: float
    thinned: bool


def panels(selections: Selections, rule: str) -> dict[str, Panel]:
    """Return predictor (in words) -> its settings, where there is something to choose.

    Scores and accuracies are means over folds by their images, then seeds, then held-out environments.

    Args:
        selections: the rows of one setting.
        rule: one that looks at sources alone.
    """
    found = {}
    for predictor in predictors_of(selections):
        plain = [m for m in selections.parts if m.is_plain and m.predictor == predictor]
        methods = [*plain, *shown_methods(selections, predictor)]
        clouds = [cloud for method in methods if (cloud := _cloud(selections, method, rule))]
        if sum(len(cloud.source) for cloud in clouds) > 2:
            found[clouds[0].method.predictor_label] = _panel(clouds)
    return found


def _panel(clouds: Sequence[Cloud]) -> Panel:
    drawn = [_thinned(cloud) for cloud in clouds]
    x, y = (np.round(np.concatenate([getattr(c, of) for c in clouds]), 9) for of in ("source", "held_out"))
    rho = rank_correlation(x, y) if len(x) >= MIN_SETTINGS else np.nan
    thinned = any(len(a.source) < len(b.source) for a, b in zip(drawn, clouds, strict=True))
    return Panel(tuple(drawn), rho, thinned)


def _thinned(cloud: Cloud) -> Cloud:
    every = -(-len(cloud.source) // MAX_POINTS)
    return Cloud(cloud.method, cloud.source[::every], cloud.held_out[::every], cloud.picked)


def _cloud(selections: Selections, method: Method, rule: str) -> Cloud | None:
    rows, spread, picks = selections.parts[method], spread_of(selections, method), selections.picks(method, rule)
    setting, settings = _numbered(rows)
    source, held_out = (100 * means.mean(axis=0).ravel() for means in spread.chosen(rule, setting, settings))
    known = ~np.isnan(source + held_out)
    if not known.any() or len(picks) < len(rows[list(KEY)].drop_duplicates()):
        return None
    picked = [100 * mean_beside(picks, name, "n_test") for name in ("score", ACCURACY.key)]
    return Cloud(method, source[known], held_out[known], (picked[0], picked[1]))


def _numbered(rows: pd.DataFrame) -> tuple[NDArray[np.int64], int]:
    """Return the number of each row's setting, in the order in which they come, and how many there are."""
    numbers: dict[tuple[object, ...], int] = {}
    columns = [[None if value != value else value for value in rows[name].tolist()] for name in _SETTING]
    found = [numbers.setdefault(setting, len(numbers)) for setting in zip(*columns, strict=True)]
    return np.array(found, dtype=np.int64), len(numbers)


def draw(panels: Sequence[tuple[str, Panel]]) -> Sheet:
    """Draw panels (title, settings)."""
    methods = [cloud.method for _, panel in panels for cloud in panel.clouds]
    looks = {m: style.Look("#000000", "X", "-") if m.is_plain else look for m, look in style.looks_of(methods).items()}
    sheet = style.sheet_of(style.COLUMN if len(panels) == 1 else style.PAGE, 2.6 * style.rows_of(len(panels))[0] + 0.3)
    grid = style.grid_of(sheet, len(panels))
    for axes, (_, panel) in zip(style.axes_of(grid), panels, strict=True):
        _draw_panel(axes, panel, looks)
    style.label_panels(grid, [title for title, _ in panels], "Source score (%)", "Accuracy, held out (%)")
    shown = {method.projection_label: method for method in methods}
    handles = [style.mark_handle(looks[m]) for m in shown.values()]
    ring = style.mark_handle(style.Look(style.INK, "o", "-", hollow=True), markersize=7.5, markerfacecolor="none")
    legend = style.legend_above(sheet, [*handles, ring], [*shown, "what the rule picks"])
    style.arrange(sheet, grid, legend=legend, gap=0.16)
    return sheet


def _draw_panel(axes: Axes, panel: Panel, looks: dict[Method, style.Look]) -> None:
    for cloud in panel.clouds:
        look = looks[cloud.method]
        axes.plot(cloud.source, cloud.held_out, linestyle="none", alpha=0.6, markersize=3, markeredgewidth=0.4,
                  marker=look.marker, color=look.colour)  # fmt: skip
    for cloud in panel.clouds:
        look = looks[cloud.method]
        x, y = cloud.picked
        axes.plot([x], [y], linestyle="none", zorder=4, **{**look.marks(), "markersize": 4.2})
        axes.plot([x], [y], linestyle="none", marker="o", markersize=8, markerfacecolor="none",
                  markeredgecolor=style.INK, markeredgewidth=0.8, zorder=5)  # fmt: skip
    low = max(axes.get_xlim()[0], axes.get_ylim()[0])
    high = min(axes.get_xlim()[1], axes.get_ylim()[1])
    if low < high:
        axes.plot([low, high], [low, high], color=style.GREY, linewidth=0.6, linestyle=(0, (2, 2)), zorder=0)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    if not np.isnan(panel.rho):
        axes.annotate(
            f"rank correlation {panel.rho:.2f}", (1, 0), (-3, 4), xycoords="axes fraction",
            textcoords="offset points", fontsize=style.SMALL, ha="right",
        )  # fmt: skip
