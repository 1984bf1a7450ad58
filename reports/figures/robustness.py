"""Effective robustness: held-out against source accuracy over backbones on logit axes, and what methods do to each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator
from scipy.special import betaincinv

from benchmark.method.evaluation.inference import CONFIDENCE
from benchmark.method.evaluation.metrics import Array
from reports.analysis.chosen import Selections
from reports.analysis.methods import ICM, PLAIN, SHRINKAGE, Method
from reports.analysis.robustness import ZERO_SHOT, AccuracyLine
from reports.analysis.settings import Setting
from reports.analysis.whole import mean_beside, whole_estimate
from reports.figures.gains import shown_methods
from reports.figures.style import (
    COLUMN,
    GREY,
    Look,
    arrange,
    legend_above,
    looks_of,
    mark_handle,
    sheet_of,
)
from reports.text.captions import whole_size

_NEAREST = 1e-3
_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99)


@dataclass(frozen=True)
class Dot:
    """One backbone with one method.

    Attributes:
        method: the method.
        backbone: its name.
        source: accuracy on sources, a fraction.
        target: accuracy on what is held out.
        source_bar: Clopper and Pearson's interval for as many images as rules choose by; None where that is unknown.
        target_bar: the same for as many images (or groups) as are tested.
    """

    method: Method
    backbone: str
    source: float
    target: float
    source_bar: tuple[float, float] | None
    target_bar: tuple[float, float]


@dataclass(frozen=True)
class RobustnessNumbers:
    """Backbones of settings that differ in nothing else.

    Attributes:
        dots: plain zero-shot of every backbone, then the other methods.
        line: through plain zero-shot of all backbones.
        above: mean over backbones of points above that line, for each method but plain.
    """

    dots: tuple[Dot, ...]
    line: AccuracyLine
    above: tuple[tuple[Method, float], ...]


def numbers(group: Sequence[tuple[Setting, Selections]]) -> RobustnessNumbers | None:
    """Return the dots of settings that differ in the backbone alone.

    None with fewer than `MIN_BACKBONES` that have plain zero-shot.

    Each method stands with what the rule picks that every row has a score of: `training_domain`; the accuracy on the
    sources is that rule's score there.
    """
    dots = []
    for setting, selections in group:
        methods = [m for m in selections.parts if m == ZERO_SHOT]
        methods += [m for m in shown_methods(selections, "zero_shot") if m.projection in (ICM, SHRINKAGE)]
        dots += [dot for method in methods if (dot := _dot(setting, selections, method))]
    plain = [dot for dot in dots if dot.method == ZERO_SHOT]
    line = AccuracyLine(tuple(d.source for d in plain), tuple(d.target for d in plain), len(plain))
    if not line.known:
        return None
    over: dict[Method, list[float]] = {}
    for dot in dots:
        if dot.method != ZERO_SHOT:
            over.setdefault(dot.method, []).append(100 * (dot.target - line.expected(dot.source)[0]))
    above = tuple((method, float(np.mean(values))) for method, values in over.items())
    return RobustnessNumbers(tuple(sorted(dots, key=lambda dot: dot.method.place)), line, above)


def _dot(setting: Setting, selections: Selections, method: Method) -> Dot | None:
    estimate = whole_estimate(selections, selections.pooled(method, "training_domain"))
    if estimate is None:
        return None
    picks = selections.picks(method, "training_domain")
    source = mean_beside(picks[picks["seed"].isin(estimate.seeds)], "training_domain")
    target = float(estimate.means.mean())
    if np.isnan(source + target):
        return None
    judged = selections.rows["labels_choice"].dropna()
    bar = clopper_pearson(source, float(judged.median())) if len(judged) and judged.median() > 0 else None
    units = whole_size(selections).units_per_seed
    return Dot(method, setting.backbone, source, target, bar, clopper_pearson(target, units))


def clopper_pearson(share: float, n: float) -> tuple[float, float]:
    """Return Clopper and Pearson's exact interval of a share of n; n may be a mean over seeds."""
    successes, tail = share * n, (1 - CONFIDENCE) / 2
    low = 0.0 if successes <= 0 else float(betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if successes >= n else float(betaincinv(successes + 1, n - successes, 1 - tail))
    return low, high


def draw(numbers: RobustnessNumbers) -> Sheet:
    """Draw all backbones in a column's width."""
    methods = list(dict.fromkeys(dot.method for dot in numbers.dots))
    looks = looks_of(methods) | {ZERO_SHOT: Look("#000000", "s", "-", hollow=True)}
    sheet = sheet_of(COLUMN, 3.1)
    axes = sheet.add_subplot()
    sources = [dot.source for dot in numbers.dots]
    sources += [end for dot in numbers.dots for end in dot.source_bar or ()]
    x = np.linspace(_logit(min(sources)) - 0.1, _logit(max(sources)) + 0.1, 60)
    middle, low, high = np.array([numbers.line.expected(float(s)) for s in _share(x)]).T
    axes.fill_between(x, _logit(low), _logit(high), color=GREY, alpha=0.16, linewidth=0)
    axes.plot(x, _logit(middle), color=GREY, linewidth=0.9)
    axes.plot(x, x, color=GREY, linewidth=0.6, linestyle=(0, (2, 2)))
    for dot in numbers.dots:
        look, at = looks[dot.method], (float(_logit(dot.source)), float(_logit(dot.target)))
        bars: dict[str, Any] = {"color": look.colour, "linewidth": 0.6, "alpha": 0.7}
        axes.plot([at[0]] * 2, _logit(np.array(dot.target_bar)), **bars)
        if dot.source_bar:
            axes.plot(_logit(np.array(dot.source_bar)), [at[1]] * 2, **bars)
        axes.plot(*([v] for v in at), linestyle="none", markersize=3.4, zorder=3, **look.marks())
    ends = [end for dot in numbers.dots for end in dot.target_bar]
    _logit_ticks(axes, (float(x[0]), float(x[-1])), (float(_logit(min(ends))) - 0.1, float(_logit(max(ends))) + 0.1))
    axes.set_xlabel("Accuracy on sources (%)")
    axes.set_ylabel("Accuracy, held out (%)")
    handles = [mark_handle(looks[method]) for method in methods]
    labels = ["Plain" if method.projection == PLAIN else method.projection_label for method in methods]
    line = Line2D([], [], color=GREY, linewidth=0.9)
    legend = legend_above(sheet, [*handles, line], [*labels, "line of plain, 95 %"])
    arrange(sheet, [[axes]], legend=legend)
    return sheet


def _logit_ticks(axes: Axes, x: tuple[float, float], y: tuple[float, float]) -> None:
    for axis, set_lim, (low, high) in ((axes.xaxis, axes.set_xlim, x), (axes.yaxis, axes.set_ylim, y)):
        places = [(float(_logit(tick)), tick) for tick in _TICKS]
        shown: list[tuple[float, float]] = []
        for place, tick in places:
            if low <= place <= high and (not shown or place - shown[-1][0] > (high - low) / 10):
                shown.append((place, tick))
        axis.set_ticks([place for place, _ in shown], labels=[f"{100 * tick:g}" for _, tick in shown])
        axis.set_minor_locator(NullLocator())
        set_lim(low, high)


def _logit(p: float | Array) -> Array:
    p = np.clip(p, _NEAREST, 1 - _NEAREST)
    return np.asarray(np.log(p / (1 - p)))


def _share(logit: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-logit)))
