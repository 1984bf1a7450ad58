"""Forest: what methods gain over what could explain the gain away, in every setting, with intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from reports.analysis.comparisons import Comparison
from reports.analysis.methods import Method
from reports.analysis.settings import Setting
from reports.figures import style
from reports.figures.gains import Point

MAX_LINES = 40
_STROKE = {"marker": "|", "markersize": 6.0}  # of what was not tested
_LINE, _HEAD = 0.15, 0.2  # inches of a comparison, and of a group's name


@dataclass(frozen=True)
class Line:
    """One comparison of the forest.

    Attributes:
        method: whose accuracy counts.
        baseline: what is subtracted.
        point: the difference, with its interval for these environments.
        new: mean difference and interval for new environments; None where nothing is said of them.
        separated: whether a difference is shown, adjusted as the comparison was handed over (Holm); None where it was
            not tested.
        same: whether both gave the same answers to everything.
    """

    method: Method
    baseline: Method
    point: Point
    new: Point | None
    separated: bool | None
    same: bool


@dataclass(frozen=True)
class ForestNumbers:
    """The lines of a forest.

    Attributes:
        groups: (data set, backbone, predictor) in words and its lines, in the order in which they came.
        margin: points within which two methods count as level.
        left_out: number of comparisons that are not drawn, for want of room.
    """

    groups: tuple[tuple[tuple[str, ...], tuple[Line, ...]], ...]
    margin: float
    left_out: int

    @property
    def lines(self) -> list[Line]:
        """All lines, from the top down."""
        return [line for _, lines in self.groups for line in lines]


def forest_numbers(compared: Sequence[tuple[Setting, Comparison]], margin: float) -> ForestNumbers:
    """Return the lines of a forest.

    Of more than `MAX_LINES` those with plain prediction are drawn, and of these the first.

    Args:
        compared: settings and comparisons, at least one, of one protocol and split.
        margin: within which two methods count as level, a fraction.
    """
    drawn = list(compared)
    if len(drawn) > MAX_LINES:
        with_plain = [pair for pair in drawn if pair[1].baseline.is_plain]
        drawn = (with_plain or drawn)[:MAX_LINES]
    groups: dict[tuple[str, ...], list[Line]] = {}
    for setting, one in drawn:
        key = (setting.dataset, setting.backbone_label, one.method.predictor_label)
        groups.setdefault(key, []).append(_line(one))
    left_out = len(compared) - len(drawn)
    return ForestNumbers(tuple((key, tuple(lines)) for key, lines in groups.items()), 100 * margin, left_out)


def _line(one: Comparison) -> Line:
    others = one.others.interval
    new = Point.of(others) if others is not None and others.standard_error > 0 else None
    separated = None if math.isnan(one.adjusted.p) else one.adjusted.differs
    return Line(one.method, one.baseline, Point.of(one.interval), new, separated, one.interval.same)


def draw_forest(numbers: ForestNumbers) -> Sheet:
    """Draw the forest, as wide as a page."""
    looks = style.looks_of([line.method for line in numbers.lines])
    tall = len(numbers.lines) * _LINE + len(numbers.groups) * _HEAD + 0.68
    sheet = style.sheet_of(style.PAGE, min(tall, style.TALLEST))
    axes = sheet.add_subplot()
    axes.axvspan(-numbers.margin, numbers.margin, color=style.LIGHT, linewidth=0, zorder=0)
    axes.axvline(0, color=style.GREY, linewidth=0.6, zorder=1)
    at, labels = 0.0, []
    for key, of_group in numbers.groups:
        at += _HEAD
        labels.append((at, style.words(" · ".join(key), 62), 0.0))
        for line in of_group:
            at += _LINE
            _draw_line(axes, line, at, looks[line.method])
            labels.append((at, _versus(line), 8.0))
    axes.set_ylim(at + 0.7 * _LINE, 0.4 * _HEAD)
    axes.set_xlim(*_limits(numbers.lines))
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("Difference of accuracies (points)")
    style.labels_left(axes, labels)
    style.arrange(sheet, [[axes]], legend=_legend(sheet, numbers))
    return sheet


def _versus(line: Line) -> str:
    """Return "Shrinkage − Plain"; of two of one name, what tells the second apart: "Shrinkage − environments alone"."""
    ours, theirs = line.method.projection_label, line.baseline.projection_label
    if theirs.startswith(f"{ours} (") and theirs.endswith(")"):
        theirs = theirs[len(ours) + 2 : -1]
    return style.words(f"{ours} − {theirs}", 58)


def _draw_line(axes: Axes, line: Line, at: float, look: style.Look) -> None:
    if line.new is not None:
        axes.plot([line.new.low, line.new.high], [at, at], color=style.GREY, linewidth=0.6, zorder=2)
    if line.point.known:
        axes.plot([line.point.low, line.point.high], [at, at], color=look.colour, linewidth=1.8, zorder=3)
    marks = {**look.marks(), "markerfacecolor": look.colour if line.separated else "white"}
    marks |= _STROKE if line.separated is None else {}
    axes.plot([line.point.value], [at], linestyle="none", zorder=4, **marks)
    axes.annotate(
        _in_points(line), (1, at), (5, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
        fontsize=style.SMALL, va="center",
    )  # fmt: skip


def _in_points(line: Line) -> str:
    if line.same:
        return "0.0  same answers"
    if not line.point.known:
        return f"{style.signed(line.point.value)}  no interval"
    return f"{style.signed(line.point.value)}  [{style.signed(line.point.low)}, {style.signed(line.point.high)}]"


def _limits(lines: Sequence[Line]) -> tuple[float, float]:
    ends = [line.point.value for line in lines]
    ends += [end for line in lines if line.point.known for end in (line.point.low, line.point.high)]
    low, high = min([*ends, -1.0]), max([*ends, 1.0])
    span = high - low
    # An interval for new environments may be far wider than all else: then it leaves the panel.
    new = [end for line in lines if line.new for end in (line.new.low, line.new.high)]
    low, high = max(min([low, *new]), low - span / 2), min(max([high, *new]), high + span / 2)
    return low - 0.03 * span, high + 0.03 * span


def _legend(sheet: Sheet, numbers: ForestNumbers) -> Legend | None:
    filled, hollow = style.Look(style.INK, "o", "-"), style.Look(style.INK, "o", "-", hollow=True)
    handles = [style.mark_handle(filled), style.mark_handle(hollow), Line2D([], [], color=style.INK, linewidth=1.8)]
    labels = ["separated (Holm)", "not separated", "95 %, these environments"]
    if any(line.separated is None for line in numbers.lines):
        handles.insert(2, style.mark_handle(filled, **_STROKE))
        labels.insert(2, "not tested")
    if any(line.new for line in numbers.lines):
        handles.append(Line2D([], [], color=style.GREY, linewidth=0.6))
        labels.append("95 %, new environments")
    labels.append(f"within {style.points_word(numbers.margin)}")
    return style.legend_above(sheet, [*handles, Patch(color=style.LIGHT)], labels)
