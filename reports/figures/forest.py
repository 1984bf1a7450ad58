"""Forest plot: differences of methods to plain prediction and to other baselines in each setting, with intervals."""
# `all_drawings` of every.py makes it. The figure's name is also in docs/report.md and reports/document/paper.py.

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.artist import Artist
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from reports.analysis.comparisons import Comparison
from reports.analysis.settings import Setting, grouped
from reports.figures import style
from reports.figures.style import draw_interval, in_points
from reports.text.captions import number

MAX_LINES = 40
_STROKE: dict[str, Any] = {"marker": "|", "markersize": 6.0}  # mark of comparisons that were not tested
_LINE, _HEAD = 0.15, 0.2  # heights of a comparison and of a group's name, in inches


@dataclass(frozen=True)
class ForestNumbers:
    """Comparisons of a forest plot.

    Attributes:
        groups: (data set, backbone, predictor) -> comparisons, in input order.
        margin: equivalence margin, in points.
        left_out: number of comparisons that are not drawn for lack of space.
    """

    groups: dict[tuple[str, str, str], list[Comparison]]
    margin: float
    left_out: int

    @property
    def lines(self) -> list[Comparison]:
        """All comparisons, from top to bottom."""
        return [one for lines in self.groups.values() for one in lines]

    @property
    def rules(self) -> set[str]:
        """Selection rules of the gains over plain prediction; comparisons by another rule are labelled with it."""
        return {one.rule for one in self.lines if one.baseline.is_plain}


def numbers(compared: Sequence[tuple[Setting, Comparison]], margin: float) -> ForestNumbers:
    """Return at most `MAX_LINES` comparisons. If there are more, only comparisons with plain prediction are kept."""
    drawn = list(compared)
    if len(drawn) > MAX_LINES:
        drawn = ([pair for pair in drawn if pair[1].baseline.is_plain] or drawn)[:MAX_LINES]
    groups = grouped(drawn, lambda one: (one[0].dataset, one[0].backbone_label, one[1].method.predictor_label))
    lines = {key: [one for _, one in of_group] for key, of_group in groups.items()}
    return ForestNumbers(lines, 100 * margin, len(compared) - len(drawn))


def _new(one: Comparison) -> list[float]:
    """Return the two ends of the interval for new environments, in points; empty if there is no such interval."""
    interval = one.others.interval
    return in_points(interval)[1:] if interval and interval.standard_error > 0 else []


def draw(numbers: ForestNumbers) -> style.Sheet:
    """Draw the forest, as wide as a page."""
    lines = numbers.lines
    looks = style.looks_of(one.method for one in lines)
    height = len(lines) * _LINE + len(numbers.groups) * _HEAD + 0.68
    sheet = style.sheet_of(style.PAGE, min(height, style.MAX_HEIGHT))
    axes = sheet.add_subplot()
    axes.axvspan(-numbers.margin, numbers.margin, color=style.LIGHT, linewidth=0, zorder=0)
    axes.axvline(0, color=style.GREY, linewidth=0.6, zorder=1)
    at, labels = 0.0, []
    for key, of_group in numbers.groups.items():
        at += _HEAD
        labels.append((at, style.words(" · ".join(key), 62), 0.0))
        for one in of_group:
            at += _LINE
            # A baseline that is a variant of the method is shown by its variant: "Shrinkage − environments alone".
            ours, theirs = one.method.name, one.baseline.name
            if theirs.startswith(f"{ours} (") and theirs.endswith(")"):
                theirs = theirs[len(ours) + 2 : -1]
            by = f", by {one.rule}" if one.rule not in (numbers.rules or one.rule) else ""
            labels.append((at, style.words(f"{ours} − {theirs}{by}", 58), 8.0))
            if new := _new(one):
                axes.plot(new, [at, at], color=style.GREY, linewidth=0.6, zorder=2)
            look = looks[one.method]
            marks: dict[str, Any] = {"markerfacecolor": look.colour if one.adjusted.differs else "white"}
            marks |= _STROKE if math.isnan(one.adjusted.p) else {}
            draw_interval(axes, one.interval, at, look, 1.8, (3, 4), **marks)
            value, *ends = map(style.signed, in_points(one.interval))
            words = f"{value}  [{', '.join(ends)}]" if ends else f"{value}  no interval"
            style.note(axes, "0.0  same answers" if one.interval.same else words, (1, at), (5, 0))
    axes.set(xlim=_limits(lines), xlabel="Difference of accuracies (points)")
    style.round_ticks(axes.xaxis, 6)
    style.as_rows(axes, at + 0.7 * _LINE, 0.4 * _HEAD, labels)
    dot = style.Look(style.INK, "o", "-")
    legend: dict[str, Artist] = {"separated (Holm)": dot.handle(), "not separated": dot.handle(markerfacecolor="white")}
    if any(math.isnan(one.adjusted.p) for one in lines):
        legend["not tested"] = dot.handle(**_STROKE)
    legend["95 %, these environments"] = Line2D([], [], color=style.INK, linewidth=1.8)
    if any(map(_new, lines)):
        legend["95 %, new environments"] = Line2D([], [], color=style.GREY, linewidth=0.6)
    legend[f"within {style.points_word(numbers.margin)}"] = Patch(color=style.LIGHT)
    return style.arrange(sheet, legend)


def _limits(lines: Sequence[Comparison]) -> tuple[float, float]:
    ends = [end for one in lines for end in in_points(one.interval)]
    low, high = min([*ends, -1.0]), max([*ends, 1.0])
    span = high - low
    # Intervals for new environments may be much wider than all others; they are cut at the panel's edge.
    new = [end for one in lines for end in _new(one)]
    low, high = max(min([low, *new]), low - span / 2), min(max([high, *new]), high + span / 2)
    return low - 0.03 * span, high + 0.03 * span


def caption(numbers: ForestNumbers, compared: Sequence[tuple[Setting, Comparison]]) -> str:
    """Return the caption of the forest."""
    setting = next((one for one, _ in compared if one.random_weights), compared[0][0])
    rules = sorted({one.rule for _, one in compared})
    sizes = [one.size.units_per_seed for _, one in compared]
    n = " to ".join(dict.fromkeys([number(min(sizes)), number(max(sizes))]))
    new = (
        " Thin lines: 95 % for new environments, from 4 held-out ones on, adjusted as gains are; one that leaves the "
        "panel is cut."
    )
    some = f" {numbers.left_out} comparisons with other baselines are not drawn." if numbers.left_out else ""
    return (
        f"{setting.banner}Accuracy of a method minus that of a baseline on the same images, in points. Thick lines: 95 "
        f"% intervals for these environments, cluster-robust over images. Filled: a difference is shown (Holm, 5 %); a "
        f"stroke: not tested.{new if any(map(_new, numbers.lines)) else ''} Grey band: within "
        f"{style.points_word(numbers.margin)}.{some} Protocol and split: {setting.protocol}, {setting.test_split}; "
        f"rule {', '.join(rules)}; n = {n} test units per seed."
    )
