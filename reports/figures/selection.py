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
from reports.analysis.spans import average_ranks
from reports.analysis.spread import spread_of
from reports.analysis.whole import mean_beside
from reports.figures.gains import predictors_of, shown_methods
from reports.figures.style import (
    COLUMN,
    GREY,
    INK,
    PAGE,
    SMALL,
    Look,
    arrange,
    legend_above,
    looks_of,
    mark_handle,
    panel_label,
    sheet_of,
)

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
        predictor: in words.
        clouds: of each method, plain prediction first.
        rho: rank correlation over all settings that are drawn; None with fewer than eight, or where nothing varies.
        thinned: whether not all settings are drawn.
    """

    predictor: str
    clouds: tuple[Cloud, ...]
    rho: float | None
    thinned: bool


@dataclass(frozen=True)
class SelectionNumbers:
    """Source scores against held-out accuracies of one setting, a panel for each predictor."""

    panels: tuple[Panel, ...]


def numbers(selections: Selections, rule: str) -> SelectionNumbers | None:
    """Return the settings of each predictor with something to choose; None where nothing is chosen.

    Scores and accuracies are means over folds by their images, then seeds, then held-out environments.

    Args:
        selections: the rows of one setting.
        rule: one that looks at sources alone.
    """
    panels = []
    for predictor in predictors_of(selections):
        plain = [m for m in selections.parts if m.is_plain and m.predictor == predictor]
        methods = [*plain, *shown_methods(selections, predictor)]
        clouds = [cloud for method in methods if (cloud := _cloud(selections, method, rule))]
        if sum(len(cloud.source) for cloud in clouds) > 2:
            panels.append(_panel(clouds))
    return SelectionNumbers(tuple(panels)) if panels else None


def _panel(clouds: Sequence[Cloud]) -> Panel:
    drawn = [_thinned(cloud) for cloud in clouds]
    rho = spearman(*(np.concatenate([getattr(c, of) for c in clouds]) for of in ("source", "held_out")))
    thinned = any(len(a.source) < len(b.source) for a, b in zip(drawn, clouds, strict=True))
    return Panel(clouds[0].method.predictor_label, tuple(drawn), rho, thinned)


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


def spearman(x: Array, y: Array) -> float | None:
    """Return the rank correlation of two arrays of one length; None with fewer than eight, or where one is constant."""
    if len(x) < 8:
        return None
    a, b = (average_ranks(np.round(values, 9)) for values in (x, y))
    a, b = a - a.mean(), b - b.mean()
    length = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / length if length > 0 else None


def draw(numbers: SelectionNumbers) -> Sheet:
    """Draw a panel for each predictor."""
    panels = numbers.panels
    methods = [cloud.method for panel in panels for cloud in panel.clouds]
    looks = {m: Look("#000000", "X", "-") if m.is_plain else look for m, look in looks_of(methods).items()}
    sheet = sheet_of(COLUMN if len(panels) == 1 else PAGE, 2.9)
    grid = sheet.subplots(1, len(panels), squeeze=False)
    for axes, panel in zip(grid[0], panels, strict=True):
        _draw_panel(axes, panel, looks)
        if len(panels) > 1:
            panel_label(axes, panel.predictor)
    grid[0, 0].set_ylabel("Accuracy, held out (%)")
    shown = {method.projection_label: method for method in methods}
    handles = [mark_handle(looks[m]) for m in shown.values()]
    ring = mark_handle(Look(INK, "o", "-", hollow=True), markersize=7.5, markerfacecolor="none")
    legend = legend_above(sheet, [*handles, ring], [*shown, "what the rule picks"])
    arrange(sheet, grid.tolist(), legend=legend, gap=0.16)
    return sheet


def _draw_panel(axes: Axes, panel: Panel, looks: dict[Method, Look]) -> None:
    for cloud in panel.clouds:
        look = looks[cloud.method]
        axes.plot(cloud.source, cloud.held_out, linestyle="none", alpha=0.6, markersize=3, markeredgewidth=0.4,
                  marker=look.marker, color=look.colour)  # fmt: skip
    for cloud in panel.clouds:
        look = looks[cloud.method]
        x, y = cloud.picked
        axes.plot([x], [y], linestyle="none", zorder=4, **{**look.marks(), "markersize": 4.2})
        axes.plot([x], [y], linestyle="none", marker="o", markersize=8, markerfacecolor="none",
                  markeredgecolor=INK, markeredgewidth=0.8, zorder=5)  # fmt: skip
    low = max(axes.get_xlim()[0], axes.get_ylim()[0])
    high = min(axes.get_xlim()[1], axes.get_ylim()[1])
    if low < high:
        axes.plot([low, high], [low, high], color=GREY, linewidth=0.6, linestyle=(0, (2, 2)), zorder=0)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.set_xlabel("Source score (%)")
    if panel.rho is not None:
        axes.annotate(
            f"rank correlation {panel.rho:.2f}", (1, 0), (-3, 4), xycoords="axes fraction",
            textcoords="offset points", fontsize=SMALL, ha="right",
        )  # fmt: skip
