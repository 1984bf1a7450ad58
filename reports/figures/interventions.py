"""Interventions figure: for each intervention set the displacement along the shift, the kept shares, and the gain."""
# `_KINDS` of every.py lists this module. The figure's name is also in docs/report.md and reports/document/paper.py.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from benchmark.method.evaluation.inference import Interval
from benchmark.method.evaluation.selection import RULES
from reports.analysis import comparisons, spans
from reports.analysis.methods import ICM, SHRINKAGE, Method, as_rows_of
from reports.analysis.selections import Selections
from reports.analysis.settings import Setting
from reports.figures import style
from reports.figures.style import draw_interval, of_predictors
from reports.text.captions import kinds_of, pairs_of, place_of, set_words

MAX_SETS = 30
# Column of rows -> name of the share and its look. `SHARES` of reports/analysis/spans.py lists the same columns.
_KEPT: Mapping[str, tuple[str, style.Look]] = {
    "energy_removed": ("energy", style.Look(style.GREEN, "^", "-")),
    "shift_removed_sources": ("shift between sources", style.Look(style.BLUE, "s", "-")),
    "shift_removed_target": ("shift to held-out †", style.Look(style.VERMILLION, "o", "-", hollow=True)),
}
_LINE, _DENSE = 0.16, 0.115  # height of a line for one data set and for several, in inches
_MARGINS, _MAX_HEIGHT = 0.85, 6.5  # height of legend and axis, and largest height with several data sets, in inches


@dataclass(frozen=True)
class Line:
    """One intervention set of a method, or one method if there is a single set.

    Attributes:
        of: label of the method whose intervention sets are compared; empty if each line is a method.
        label: name of the set or method.
        moved: displacement by C_d along the shift between sources, 1 for an average direction; None if unknown.
        kept: column in `_KEPT` -> kept share at the rule's picks, in percent; unknown shares are left out.
        gain: accuracy with this set minus the accuracy of plain prediction; None without such a comparison.
    """

    of: str
    label: str
    moved: float | None
    kept: dict[str, float]
    gain: Interval | None


def panels(selections: Selections, rule: str) -> dict[str, list[Line]]:
    """Return the lines of the first predictor that has any, under the key "" (no title); empty if none has lines.

    There is a line for each intervention set of CLIP-ICM, or else of shrinkage. With a single set there is a
    line for each method.
    """
    first = next(of_predictors(selections, lambda plain: _lines(selections, plain, rule)), None)
    return {"": first[1]} if first else {}


def _lines(selections: Selections, plain: Method, rule: str) -> list[Line] | None:
    def line(of: str, label: str, rows: Selections, method: Method) -> Line:
        by = RULES[rule].base if of else rule  # a set that is fixed does not fall back to plain prediction
        shares = spans.picked(rows, method, by)
        kept = {name: 100 * (1 - share) for name in _KEPT if (share := shares[name]) is not None}
        one = comparisons.compare(rows, method, by, plain) if of else None
        return Line(of, label, shares["shift_moved_sources"], kept, one.interval if one else None)

    of_predictor = [m for m in selections.parts if m.predictor == plain.predictor]
    for method in (m for m in of_predictor if m.is_paper or m.is_shrinkage):
        if len(sets := selections.by_set(method)) > 1:
            every, lines = frozenset().union(*map(kinds_of, sets.values())), []
            for name in sorted(sets, key=lambda name: place_of(kinds_of(sets[name]), every, pairs_of(sets[name]))):
                rows = pd.concat([as_rows_of(method, sets[name]), selections.parts[plain]])  # of this set alone
                words = set_words(name, kinds_of(sets[name]), every, pairs_of(sets[name]))
                lines.append(line(method.label, words, Selections(rows, selections.tested), method))
            return lines
    methods = [m for m in of_predictor if m.projection in (ICM, SHRINKAGE) and m.order != "released"]
    lines = [line("", method.name, selections, method) for method in methods]
    return [one for one in lines if one.kept] or None


def lines_of_each(groups: int) -> int:
    """Return the number of lines per data set that fit on a page with `groups` data sets."""
    return MAX_SETS if groups == 1 else min(MAX_SETS, max(1, int((_MAX_HEIGHT - _MARGINS) / _DENSE / groups) - 1))


def draw(groups: style.Panels[Sequence[Line]]) -> style.Sheet:
    """Draw the lines of each data set at page width, in two panels; in three if there are gains.

    Several data sets are stacked, each under its name. Of each data set, the first lines that fit are drawn.
    """
    labels: list[tuple[float, str, float]] = []
    placed: dict[int, Line] = {}  # row -> its line
    for title, own in groups:
        if title:
            labels.append((len(labels), style.words(title), 0.0))
        for line in own[: lines_of_each(len(groups))]:
            placed[len(labels)] = line
            labels.append((len(labels), style.words(line.label), 8.0 if title else 0.0))
    moved = {row: line.moved for row, line in placed.items() if line.moved is not None}
    kept = [(row, share, name) for row, line in placed.items() for name, share in line.kept.items()]
    gains = {row: line.gain for row, line in placed.items() if line.gain is not None}
    shown = [name for name, numbers in (("moved", moved), ("kept", kept), ("gained", gains)) if numbers]
    height = len(labels) * (_LINE if len(groups) == 1 else _DENSE) + _MARGINS
    sheet = style.sheet_of(style.PAGE, min(height, style.MAX_HEIGHT))
    cells = sheet.subplots(1, len(shown), squeeze=False)[0]
    for axes, panel in zip(cells, shown, strict=True):
        for row in placed:
            axes.axhline(row, color="#F0F0F0", linewidth=0.5, zorder=0)
        if panel == "moved":
            axes.axvline(1, color=style.GREY, linewidth=0.6, linestyle=(0, (2, 2)))
            for row, along in moved.items():
                axes.plot([0, along], [row, row], color=style.GREY, linewidth=0.8)
                axes.plot([along], [row], **style.Look(style.BLACK, "D", "-").marks())
            axes.set(xlim=(0, 1.08 * max(1.0, *moved.values())), xlabel="C_d along the shift")
        elif panel == "kept":
            for row, share, name in kept:
                axes.plot([share], [row], **_KEPT[name][1].marks())
            low = min(share for _, share, _ in kept)
            axes.set(xlim=(max(0.0, low - 6) if low > 40 else min(0.0, low) - 2, 102), xlabel="Share kept (%)")
        else:
            axes.axvline(0, color=style.GREY, linewidth=0.6)
            for row, gain in gains.items():
                draw_interval(axes, gain, row, style.Look(style.VERMILLION, "o", "-"), 1.2, (2, 2))
            axes.set_xlabel("Accuracy − plain (points)")
        style.as_rows(axes, len(labels) - 0.4, -0.6, labels if axes is cells[0] else ())
        style.round_ticks(axes.xaxis, 4)
    drawn = {name for _, _, name in kept}
    legend = {f"kept: {words}": look.handle() for name, (words, look) in _KEPT.items() if name in drawn}
    return style.arrange(sheet, legend, gap=0.16)


def caption(panels: Sequence[Sequence[Line]], setting: Setting) -> str:
    """Return the caption of the figure."""
    titles = dict.fromkeys(line.of for lines in panels for line in lines if line.of)
    sets = f"Intervention sets of {' and '.join(titles)}, each as a method of its own. " if titles else ""
    gains = " Right: accuracy minus plain prediction's, 95 % intervals, not adjusted." if titles else ""
    left_out = sum(max(0, len(lines) - lines_of_each(len(panels))) for lines in panels)
    some = f" {left_out} more are not drawn." if left_out else ""
    return (
        f"{sets}C_d along the shift: displacement by interventions (or their placebo) along the shift between source "
        "environments, 1 for an average direction. Kept: share of the embeddings' energy, and of the shift of class "
        f"means, that is kept at the rule's picks. † uses labels of the {setting.protocol_class.tested}, which no rule "
        f"uses.{gains}{some}"
    )
