"""Selection: what the rule saw on the sources against accuracy on what is held out, of every setting of a method."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet
from matplotlib.ticker import MaxNLocator

from benchmark.method.evaluation.metrics import ACCURACY, Array
from benchmark.method.evaluation.selection import KEY, RULES
from reports.chosen import Selections, held_out_names
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
from reports.methods import Method

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
    rows = selections.parts[method]
    tests = len(rows[list(KEY)].drop_duplicates())
    means, picks = setting_means(rows, RULES[rule].score, tests), selections.picks(method, rule)
    if not means or len(picks) < tests or set(map(str, rows["held_out"])) != set(held_out_names(selections.rows)):
        return None
    keys = list(zip(picks["held_out"], picks["seed"], strict=True))
    picked = [
        100 * _mean(zip(keys, picks[name].tolist(), picks["n_test"].tolist(), strict=True))
        for name in ("score", ACCURACY.name)
    ]
    source, held_out = 100 * np.array(means).T
    return Cloud(method, source, held_out, (picked[0], picked[1]))


def setting_means(rows: pd.DataFrame, score: str, tests: int) -> list[tuple[float, float]]:
    """Return (source score, held-out accuracy), fractions, of each setting and rank that was tested everywhere.

    Args:
        rows: of one method.
        score: column of the rule's scores.
        tests: number of held-out environments, seeds and folds together.
    """
    found: dict[tuple[str, int], list[tuple[tuple[str, int], float, float, float]]] = {}
    names = ["held_out", "seed", "n_test", "ranks", score, ACCURACY.name]
    columns = (rows[name].tolist() for name in [*names, *_SETTING])
    for held_out, seed, n, ranks, scores, accuracies, *setting in zip(*columns, strict=True):
        for rank, of_rule, accuracy in zip(ranks, scores or [], accuracies, strict=False):
            if not math.isnan(of_rule + accuracy):
                found.setdefault((str(setting), rank), []).append(((held_out, seed), of_rule, accuracy, n))
    return [
        (_mean((key, x, n) for key, x, _, n in part), _mean((key, y, n) for key, _, y, n in part))
        for part in found.values()
        if len(part) == tests
    ]


def _mean(tests: Iterable[tuple[tuple[str, int], float, float]]) -> float:
    """Return the mean of (held_out and seed, value, images) over folds by their images, seeds, then held-outs."""
    of_test: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for key, value, n in tests:
        of_test.setdefault(key, []).append((value * n, n))
    of_held_out: dict[str, list[float]] = {}
    for (held_out, _), folds in of_test.items():
        of_held_out.setdefault(held_out, []).append(sum(v for v, _ in folds) / sum(n for _, n in folds))
    return fmean(map(fmean, of_held_out.values()))


def spearman(x: Array, y: Array) -> float | None:
    """Return the rank correlation of two arrays of one length; None with fewer than eight, or where one is constant."""
    if len(x) < 8:
        return None
    a, b = (_ranks(np.round(values, 9)) for values in (x, y))
    a, b = a - a.mean(), b - b.mean()
    length = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / length if length > 0 else None


def _ranks(values: Array) -> Array:
    """Return ranks, of equals their mean."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[place])


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
