"""Effective-robustness figure: held-out accuracy against source accuracy of backbones and methods, on logit axes."""
# `all_drawings` of every.py makes it. The figure's name is also in docs/report.md and reports/document/paper.py.

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axis import Axis
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator
from scipy.special import expit, logit

from benchmark.method.evaluation.inference import CONFIDENCE, clopper_pearson
from reports.analysis.backbones import LOGIT_CLIP, ZERO_SHOT, AccuracyLine, point_of
from reports.analysis.methods import ICM, PLAIN, SHRINKAGE, Method
from reports.analysis.selections import SettingResults
from reports.analysis.settings import grouped
from reports.figures import style
from reports.figures.style import shown_methods
from reports.text.captions import number, split_words, total_size, unit_words

_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99)


@dataclass(frozen=True)
class Dot:
    """One backbone with one method.

    Attributes:
        method: the method.
        source: source accuracy, a fraction.
        target: held-out accuracy, a fraction.
        source_bar: Clopper-Pearson interval for the number of validation images; None if unknown.
        target_bar: Clopper-Pearson interval for the number of test images (or groups).
    """

    method: Method
    source: float
    target: float
    source_bar: tuple[float, float] | None
    target_bar: tuple[float, float]


@dataclass(frozen=True)
class RobustnessNumbers:
    """Numbers of the robustness figure, for settings that differ only in the backbone.

    Attributes:
        dots: plain zero-shot of every backbone, then the other methods.
        line: line through plain zero-shot of all backbones.
        above: method except plain prediction -> distance above the line in points, averaged over backbones.
    """

    dots: tuple[Dot, ...]
    line: AccuracyLine
    above: dict[Method, float]


def numbers(group: Sequence[SettingResults]) -> RobustnessNumbers | None:
    """Return the dots of settings that differ only in the backbone.

    Return None if fewer than `MIN_BACKBONES` backbones have plain zero-shot. The rule of the report selects the
    configuration of each method, see `point_of`.
    """
    dots = []
    for _, selections in group:
        n_labels, units = selections.rows["labels_choice"].dropna(), total_size(selections).units_per_seed
        n = float(n_labels.median()) if len(n_labels) else 0.0
        # `shown_methods` has PCA, random, CLIP-ICM and shrinkage only: another projection must be added there too.
        methods = [m for m in shown_methods(selections, "zero_shot") if m.projection in (ICM, SHRINKAGE)]
        for method in (*(m for m in selections.parts if m == ZERO_SHOT), *methods):
            if point := point_of(selections, method):
                source_bar = clopper_pearson(point[0] * n, n, CONFIDENCE) if n > 0 else None
                target_bar = clopper_pearson(point[1] * units, units, CONFIDENCE)
                dots.append(Dot(method, *point, source_bar, target_bar))
    plain = [dot for dot in dots if dot.method == ZERO_SHOT]
    line = AccuracyLine(tuple(d.source for d in plain), tuple(d.target for d in plain), len(plain))
    if not line.known:
        return None
    above = {
        method: float(np.mean([100 * (dot.target - line.expected(dot.source)[0]) for dot in own]))
        for method, own in grouped(dots, lambda dot: dot.method).items()
        if method != ZERO_SHOT
    }
    return RobustnessNumbers(tuple(sorted(dots, key=lambda dot: dot.method.place)), line, above)


def draw(numbers: RobustnessNumbers) -> style.Sheet:
    """Draw all backbones in a figure of column width."""
    looks = style.looks_of(dot.method for dot in numbers.dots)
    looks[ZERO_SHOT] = style.Look(style.BLACK, "s", "-", hollow=True)
    sheet = style.sheet_of(style.COLUMN, 3.1)
    axes = sheet.add_subplot()
    axes.set(xscale="logit", yscale="logit")
    sources = [end for dot in numbers.dots for end in (dot.source, *(dot.source_bar or ()))]
    targets = [end for dot in numbers.dots for end in dot.target_bar]
    x, y = _logit_axis(axes.xaxis, sources), _logit_axis(axes.yaxis, targets)
    along = expit(np.linspace(logit(x[0]), logit(x[1]), 60))
    middle, low, high = np.array([numbers.line.expected(float(source)) for source in along]).T
    axes.fill_between(along, low, high, color=style.GREY, alpha=0.16, linewidth=0)
    axes.plot(along, middle, color=style.GREY, linewidth=0.9)
    axes.plot(along, along, color=style.GREY, linewidth=0.6, linestyle=(0, (2, 2)))
    for dot in numbers.dots:
        look = looks[dot.method]
        bars: dict[str, Any] = {"color": look.colour, "linewidth": 0.6, "alpha": 0.7}
        axes.plot([dot.source] * 2, dot.target_bar, **bars)
        if dot.source_bar:
            axes.plot(dot.source_bar, [dot.target] * 2, **bars)
        axes.plot([dot.source], [dot.target], **look.marks(markersize=3.4, zorder=3))
    axes.set(xlim=x, ylim=y, xlabel="Accuracy on sources (%)", ylabel="Accuracy, held out (%)")
    legend = {"Plain" if m.projection == PLAIN else m.name: look.handle() for m, look in looks.items()}
    line = Line2D([], [], color=style.GREY, linewidth=0.9)
    return style.arrange(sheet, {**legend, "line of plain, 95 %": line})


def _logit_axis(axis: Axis, shares: Sequence[float]) -> tuple[float, float]:
    """Set percent ticks that do not overlap on a logit axis, and return axis limits that include all `shares`."""
    low, high = np.clip([min(shares), max(shares)], LOGIT_CLIP, 1 - LOGIT_CLIP)
    start, end = logit(low) - 0.1, logit(high) + 0.1
    ticks: list[float] = []
    for tick in _TICKS:
        if start <= logit(tick) <= end and (not ticks or logit(tick) - logit(ticks[-1]) > (end - start) / 10):
            ticks.append(tick)
    axis.set_ticks(ticks, labels=[f"{100 * tick:g}" for tick in ticks])
    axis.set_minor_locator(NullLocator())
    return float(expit(start)), float(expit(end))


def caption(numbers: RobustnessNumbers, group: Sequence[SettingResults]) -> str:
    """Return the caption of the figure."""
    setting, selections = group[0]
    above = "; ".join(f"{method.name} {style.signed(points)}" for method, points in numbers.above.items())
    mean = f" Mean distance from the line in points: {above}." if above else ""
    return (
        f"Zero-shot accuracy on the {setting.protocol_class.tested} against accuracy on the sources, logit axes, "
        f"{numbers.line.backbones} backbones. Line: least squares through plain zero-shot, with its 95 % prediction "
        "interval; dashes: equal accuracy. Bars: Clopper and Pearson's 95 % intervals for the number of images."
        f"{mean} {setting.dataset}; protocol {setting.protocol}; test split {split_words(setting)}; n = "
        f"{number(total_size(selections).units_per_seed)} {unit_words(setting)} per seed. Rule {selections.rule}."
    )
