"""Environments: what methods gain over plain prediction in each held-out environment, side by side, with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet
from matplotlib.ticker import MaxNLocator

from reports.analysis.chosen import Selections
from reports.analysis.comparisons import compare
from reports.analysis.methods import Method
from reports.figures import style
from reports.figures.gains import Point, predictors_of, shown_methods

MAX_ENVIRONMENTS = 24
AVERAGE = "average"
_TITLE = 18  # letters of a panel, before the word on its right
_LINE, _ROOM = 0.075, 0.1  # inches of a method in an environment, and between environments


@dataclass(frozen=True)
class Gains:
    """What one method gains.

    Attributes:
        method: the method.
        average: over all that is held out.
        points: for each of `Panel.environments`; None where there is none.
    """

    method: Method
    average: Point
    points: tuple[Point | None, ...]


@dataclass(frozen=True)
class Panel:
    """What methods of one predictor gain.

    Attributes:
        environments: what is held out, sorted.
        plain: accuracy of plain prediction on average, then in each of them, percent.
        gains: of each method.
        left_out: number of environments that are not drawn, for want of room.
    """

    environments: tuple[str, ...]
    plain: tuple[float, ...]
    gains: tuple[Gains, ...]
    left_out: int


def panels(selections: Selections, rule: str) -> dict[str, Panel]:
    """Return predictor (in words) -> gains over plain prediction, where there are two environments or more.

    Args:
        selections: the rows of one setting.
        rule: what chooses for every method.
    """
    names = selections.held_outs
    made = [_panel(selections, p, rule, names) for p in predictors_of(selections)] if len(names) > 1 else []
    return {panel.gains[0].method.predictor_label: panel for panel in made if panel}


def _panel(selections: Selections, predictor: str, rule: str, names: Sequence[str]) -> Panel | None:
    plain = selections.plain_of(predictor)
    methods = [m for m in shown_methods(selections, predictor) if m.projection != "random"]
    made = [one for m in methods if plain and (one := compare(selections, m, rule, plain))]
    made = [one for one in made if list(one.held_outs) == list(names)]
    if not made or plain is None:
        return None
    accuracy, shown, seeds = selections.pooled(plain, rule).measure(), names[:MAX_ENVIRONMENTS], made[0].seeds
    accuracies = [100 * made[0].accuracies[1]]
    accuracies += [100 * sum(accuracy[h, s] for s in seeds) / len(seeds) for h in shown]
    gains = [Gains(one.method, Point.of(one.interval), tuple(map(Point.of, one.single[: len(shown)]))) for one in made]
    return Panel(tuple(shown), tuple(accuracies), tuple(gains), len(names) - len(shown))


def draw(panels: Sequence[tuple[str, Panel]]) -> Sheet:
    """Draw panels (title, gains): a row for the average and for each environment."""
    methods = [gains.method for _, panel in panels for gains in panel.gains]
    looks = style.looks_of(methods)
    rows, columns = style.rows_of(len(panels))
    most, high = max(len(panel.gains) for _, panel in panels), [0] * rows
    for i, (_, panel) in enumerate(panels):
        high[i // columns] = max(high[i // columns], 1 + len(panel.environments))
    heights = [n * (most * _LINE + _ROOM) for n in high]
    sheet = style.sheet_of(
        style.COLUMN if len(panels) == 1 else style.PAGE, min(sum(heights) + 0.4 * rows + 0.4, style.TALLEST)
    )
    grid = style.grid_of(sheet, len(panels))
    for i, (axes, (_, panel)) in enumerate(zip(style.axes_of(grid), panels, strict=True)):
        alone = i % columns == 0 or panel.environments != panels[i - 1][1].environments
        _draw_panel(axes, panel, looks, named=alone)
    style.label_panels(grid, [style.words(title, _TITLE) for title, _ in panels], "Accuracy − plain (points)", "")
    shown = {method.projection_label: method for method in methods}
    legend = style.legend_above(sheet, [style.mark_handle(looks[m]) for m in shown.values()], list(shown))
    style.arrange(sheet, grid, heights=heights, legend=legend, gap=0.16)
    return sheet


def _draw_panel(axes: Axes, panel: Panel, looks: dict[Method, style.Look], named: bool) -> None:
    names = [AVERAGE, *panel.environments]
    axes.axvline(0, color=style.GREY, linewidth=0.6, zorder=1)
    for row in range(1, len(names), 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#F4F4F4", linewidth=0, zorder=0)
    axes.axhline(0.5, color=style.GREY, linewidth=0.6)
    n = len(panel.gains)
    for k, gains in enumerate(panel.gains):
        look, offset = looks[gains.method], 0.72 * ((k + 0.5) / n - 0.5)
        for row, point in enumerate([gains.average, *gains.points]):
            if point is None:
                continue
            at = row + offset
            if point.known:
                axes.plot([point.low, point.high], [at, at], color=look.colour, linewidth=1.1, zorder=2)
            axes.plot([point.value], [at], linestyle="none", markersize=3.2, zorder=3, **look.marks())
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.set_yticks([])
    if named:
        style.labels_left(axes, [(row, style.words(name, 24), 0.0) for row, name in enumerate(names)])
    grey: dict[str, Any] = {"textcoords": "offset points", "fontsize": style.SMALL, "color": style.GREY}
    for row, accuracy in enumerate(panel.plain):
        axes.annotate(f"{accuracy:.1f}", (1, row), (4, 0), xycoords=("axes fraction", "data"), va="center", **grey)
    axes.annotate("plain", (1, 1), (4, 3), xycoords="axes fraction", va="bottom", **grey)
    axes.grid(axis="x", color=style.LIGHT)
