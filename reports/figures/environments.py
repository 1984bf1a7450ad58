"""Environments figure: gains of methods over plain prediction in each held-out environment, with intervals."""
# `_KINDS` of every.py lists this module. The figure's name is also in docs/report.md and reports/document/paper.py.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmark.method.evaluation.inference import Interval
from reports.analysis.comparisons import compare
from reports.analysis.methods import Method
from reports.analysis.selections import Selections
from reports.analysis.settings import Setting
from reports.figures import style
from reports.figures.style import draw_interval, of_predictors, shown_methods

MAX_ENVIRONMENTS = 24
AVERAGE = "average"
_TITLE = 18  # largest number of letters of a panel's title, left of the word "plain"
_LINE, _ROOM = 0.075, 0.1  # height of a method in an environment and gap between environments, in inches


@dataclass(frozen=True)
class Panel:
    """Gains of the methods of one predictor.

    Attributes:
        rows: `AVERAGE`, then held-out environments, sorted.
        plain: accuracy of plain prediction in each row, in percent.
        gains: method -> gain in each row, fractions.
        left_out: number of environments that are not drawn for lack of space.
    """

    rows: tuple[str, ...]
    plain: tuple[float, ...]
    gains: Mapping[Method, tuple[Interval, ...]]
    left_out: int


def panels(selections: Selections, rule: str) -> dict[str, Panel]:
    """Return the gains over plain prediction, by label of the predictor; empty with a single environment."""
    names = selections.held_outs

    def panel(plain: Method) -> Panel | None:
        methods = [m for m in shown_methods(selections, plain.predictor) if m.projection != "random" and len(names) > 1]
        compared = [one for m in methods if (one := compare(selections, m, rule, plain)) and [*one.held_outs] == names]
        if not compared:
            return None
        accuracy, seeds, shown = selections.pooled(plain, rule).measure(), compared[0].seeds, names[:MAX_ENVIRONMENTS]
        accuracies = [100 * sum(accuracy[name, seed] for seed in seeds) / len(seeds) for name in shown]
        gains = {one.method: (one.interval, *one.single[: len(shown)]) for one in compared}
        return Panel((AVERAGE, *shown), (100 * compared[0].accuracies[1], *accuracies), gains, len(names) - len(shown))

    return dict(of_predictors(selections, panel))


def draw(panels: style.Panels[Panel]) -> style.Sheet:
    """Draw panels (title, gains), with one row for the average and one for each environment."""
    looks = style.looks_of(method for _, panel in panels for method in panel.gains)
    each = _LINE * max(len(panel.gains) for _, panel in panels) + _ROOM
    heights = [each * max(len(panel.rows) for _, panel in row) for row in style.rows_of(panels)]
    sheet = style.sheet_for(panels, min(sum(heights) + 0.4 * len(heights) + 0.4, style.MAX_HEIGHT))
    titled = [(style.words(title, _TITLE), panel) for title, panel in panels]
    before: tuple[str, ...] = ()
    for i, ([axes], panel) in enumerate(style.on_grid(sheet, titled, ("Accuracy − plain (points)", "", ""))):
        axes.axvline(0, color=style.GREY, linewidth=0.6, zorder=1)
        for row in range(1, len(panel.rows), 2):
            axes.axhspan(row - 0.5, row + 0.5, color="#F4F4F4", linewidth=0, zorder=0)
        axes.axhline(0.5, color=style.GREY, linewidth=0.6)
        for k, (method, intervals) in enumerate(panel.gains.items()):
            for row, interval in enumerate(intervals):
                at = row + 0.72 * ((k + 0.5) / len(panel.gains) - 0.5)
                draw_interval(axes, interval, at, looks[method], 1.1, (2, 3), markersize=3.2)
        # Neighbouring panels with the same rows share their labels.
        named = () if i % style.MAX_COLUMNS and panel.rows == before else panel.rows
        labels, before = [(row, style.words(name, 24), 0.0) for row, name in enumerate(named)], panel.rows
        style.as_rows(axes, len(panel.rows) - 0.5, -0.5, labels)
        style.round_ticks(axes.xaxis, 5)
        for row, accuracy in enumerate(panel.plain):
            style.note(axes, f"{accuracy:.1f}", (1, row), (4, 0), color=style.GREY)
        style.note(axes, "plain", (1, 1), (4, 3), "axes fraction", va="bottom", color=style.GREY)
        axes.grid(axis="x", color=style.LIGHT)
    return style.arrange(sheet, {m.name: look.handle() for m, look in looks.items()}, heights, 0.16)


def caption(panels: Sequence[Panel], setting: Setting) -> str:
    """Return the caption of the figure."""
    left = max(panel.left_out for panel in panels)
    some = f" The first {MAX_ENVIRONMENTS} are drawn, {left} more are in the tables." if left else ""
    return (
        f"Accuracy minus plain prediction's on the same images, in points: average, and each "
        f"{setting.protocol_class.tested} by itself, with 95 % intervals (not adjusted). On the right: accuracy of "
        f"plain prediction in %.{some}"
    )
