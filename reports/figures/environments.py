"""Environments: what methods gain over plain prediction in each held-out environment, side by side, with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet
from matplotlib.ticker import MaxNLocator

from reports.analysis.chosen import Selections
from reports.analysis.comparisons import compare
from reports.analysis.methods import Method
from reports.figures.gains import Point, predictors_of, shown_methods
from reports.figures.panels import grid_of, rows_of
from reports.figures.style import (
    COLUMN,
    GREY,
    LIGHT,
    PAGE,
    SMALL,
    TALLEST,
    Look,
    arrange,
    labels_left,
    legend_above,
    looks_of,
    mark_handle,
    panel_label,
    sheet_of,
    words,
)

MAX_ENVIRONMENTS = 24
AVERAGE = "average"
_MAX_PANELS = 2
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
        title: its predictor, or of several data sets its data set, in words.
        environments: what is held out, sorted.
        plain: accuracy of plain prediction on average, then in each of them, percent.
        gains: of each method.
        left_out: number of environments that are not drawn, for want of room.
    """

    title: str
    environments: tuple[str, ...]
    plain: tuple[float, ...]
    gains: tuple[Gains, ...]
    left_out: int


@dataclass(frozen=True)
class EnvironmentNumbers:
    """What methods gain in each environment, a panel for each predictor of one setting, or for each data set."""

    panels: tuple[Panel, ...]


def numbers(selections: Selections, rule: str) -> EnvironmentNumbers | None:
    """Return gains over plain prediction in two environments or more; None where there are none.

    Args:
        selections: the rows of one setting.
        rule: what chooses for every method.
    """
    names = selections.held_outs
    panels = []
    for predictor in predictors_of(selections)[:_MAX_PANELS] if len(names) > 1 else []:
        if panel := _panel(selections, predictor, rule, names):
            panels.append(panel)
    return EnvironmentNumbers(tuple(panels)) if panels else None


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
    left_out = len(names) - len(shown)
    return Panel(gains[0].method.predictor_label, tuple(shown), tuple(accuracies), tuple(gains), left_out)


def draw(numbers: EnvironmentNumbers) -> Sheet:
    """Draw a panel for each predictor or data set: a row for the average and for each environment."""
    panels = numbers.panels
    methods = [gains.method for panel in panels for gains in panel.gains]
    looks = looks_of(methods)
    most = max(len(panel.gains) for panel in panels)
    rows, columns = rows_of(len(panels))
    names = [1 + max(len(panel.environments) for panel in panels[r * columns : (r + 1) * columns]) for r in range(rows)]
    heights = [n * (most * _LINE + _ROOM) for n in names]
    sheet = sheet_of(COLUMN if len(panels) == 1 else PAGE, min(sum(heights) + 0.4 * rows + 0.4, TALLEST))
    grid = grid_of(sheet, len(panels))
    for i, panel in enumerate(panels):
        axes, before = grid[i // columns][i % columns], panels[i - 1].environments if i % columns else None
        assert axes is not None
        _draw_panel(axes, panel, looks, named=panel.environments != before)
        if len(panels) > 1:
            panel_label(axes, words(panel.title, _TITLE))
        if i + columns >= len(panels):
            axes.set_xlabel("Accuracy − plain (points)")
    shown = {method.projection_label: method for method in methods}
    legend = legend_above(sheet, [mark_handle(looks[m]) for m in shown.values()], list(shown))
    arrange(sheet, grid, heights=heights, legend=legend, gap=0.16)
    return sheet


def _draw_panel(axes: Axes, panel: Panel, looks: dict[Method, Look], named: bool) -> None:
    names = [AVERAGE, *panel.environments]
    axes.axvline(0, color=GREY, linewidth=0.6, zorder=1)
    for row in range(1, len(names), 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#F4F4F4", linewidth=0, zorder=0)
    axes.axhline(0.5, color=GREY, linewidth=0.6)
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
        labels_left(axes, [(row, words(name, 24), 0.0) for row, name in enumerate(names)])
    for row, accuracy in enumerate(panel.plain):
        axes.annotate(
            f"{accuracy:.1f}", (1, row), (4, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
            fontsize=SMALL, va="center", color=GREY,
        )  # fmt: skip
    axes.annotate(
        "plain", (1, 1), (4, 3), xycoords="axes fraction", textcoords="offset points", fontsize=SMALL, color=GREY,
        va="bottom",
    )  # fmt: skip
    axes.grid(axis="x", color=LIGHT)
