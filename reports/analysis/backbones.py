"""What several backbones say together: robustness beyond what accuracy makes expect, and the trend of a gain.

**Robustness**: how far a method is above what other backbones without intervention make expect at its accuracy on the
sources. Accuracy on held-out against accuracy on source environments, both averaged over held-out environments and
seeds, lies near a line on a logit scale over models (Miller et al., 2021, arXiv 2107.04649), and a robust model above
it (Taori et al., 2020, arXiv 2007.00644, section 2). Around the line stands a prediction interval: where one more
backbone without any intervention falls in 95 % of cases. A backbone takes no part in the line that it is held against.

**Trend**: does the gain survive a better encoder? A method's gain over plain prediction against plain accuracy:

    gain_b = intercept + slope plain_b,   least squares over backbones b, each counting alike

with a t interval of n - 2 degrees of freedom for the slope. The gain has the plain accuracy in it, with the opposite
sign, so the noise of a finite test pulls that slope down; against the mean of both accuracies (Oldham, 1962) it does
not, where both have as much of it. Both slopes are reported. Backbones of one family are no random sample.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit, stdtrit

from benchmark.method.evaluation.inference import CONFIDENCE
from benchmark.method.evaluation.metrics import Array
from reports.analysis.chosen import Selections, SettingResults, mean_beside, whole_estimate
from reports.analysis.comparisons import Comparison, compare
from reports.analysis.methods import PLAIN, Method
from reports.analysis.settings import Setting

MIN_BACKBONES = 8  # the evaluated one included
ZERO_SHOT, LINEAR_PROBE = (Method(PLAIN, None, predictor) for predictor in ("zero_shot", "linear_probe"))
_RULE = "training_domain"  # by which the points of a line are chosen: the rule that every row has a score of
NEAREST = 1e-3  # of accuracies to 0 and 1: nearer ones count as this near, since logits have no end


@dataclass(frozen=True)
class WithEnds:
    """A number with the lower and the upper end of an interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class AccuracyLine:
    """The line of one method without intervention over backbones.

    Attributes:
        source: accuracy on the sources of each backbone other than the evaluated one, a fraction.
        target: its accuracy on what is held out.
        backbones: number of backbones with such rows, with the evaluated one; random weights and a second name of the
            same weights do not count.
    """

    source: tuple[float, ...] = ()
    target: tuple[float, ...] = ()
    backbones: int = 0

    @property
    def known(self) -> bool:
        """Whether there are backbones enough, and not all at the same accuracy on the sources."""
        return self.backbones >= MIN_BACKBONES and len(set(self.source)) > 1

    def expected(self, source: float) -> tuple[float, float, float]:
        """Return the accuracy that the line makes expect, and lower and upper end of its prediction interval.

        With n backbones at x (logits of source accuracies), residuals of variance s^2 = RSS / (n - 2) and Student's t
        with n - 2 degrees of freedom: t s sqrt(1 + 1 / n + (x_0 - mean)^2 / sum (x - mean)^2), in logits. Accuracies
        are fractions.
        """
        x, y = _logit(np.array(self.source)), _logit(np.array(self.target))
        slope, spread, error = _fit(x, y)
        away = float(_logit(np.array(source)) - x.mean())
        middle = float(y.mean()) + slope * away
        half = error * float(np.sqrt(1 + 1 / len(x) + away**2 / spread))
        return float(expit(middle)), float(expit(middle - half)), float(expit(middle + half))

    def above(self, source: float, target: float) -> WithEnds | None:
        """Return how far an accuracy is above the line (or below), in points; None where there is no line.

        The ends are of the accuracy less the upper and the lower end of the prediction interval. Accuracies are
        fractions.
        """
        if not self.known or np.isnan(source):
            return None
        middle, low, high = self.expected(source)
        return WithEnds(100 * (target - middle), 100 * (target - high), 100 * (target - low))


# The lines of `ZERO_SHOT` and `LINEAR_PROBE`, in this order, the evaluated backbone left out.
Lines = Mapping[Method, AccuracyLine]


def lines_of(parts: Sequence[SettingResults]) -> list[Lines]:
    """Return the lines of each setting, in their order: through settings that differ from it in the backbone alone."""
    points: dict[object, dict[str, tuple[float, float]]] = {}
    for setting, selections in parts:
        for method in (ZERO_SHOT, LINEAR_PROBE) if not setting.random_weights else ():
            if point := point_of(selections, method):
                key = (method, *_alike(setting, selections))
                points.setdefault(key, {})[setting.backbone_fingerprint] = point

    def line(method: Method, setting: Setting, selections: Selections) -> AccuracyLine:
        every = points.get((method, *_alike(setting, selections)), {})
        others = [point for fingerprint, point in every.items() if fingerprint != setting.backbone_fingerprint]
        return AccuracyLine(tuple(x for x, _ in others), tuple(y for _, y in others), len(every))

    return [{method: line(method, *part) for method in (ZERO_SHOT, LINEAR_PROBE)} for part in parts]


def _alike(setting: Setting, selections: Selections) -> tuple[object, ...]:
    """Return what settings that differ in the backbone alone have in common."""
    shared = setting.without("backbone", "backbone_fingerprint", "prompts")
    return (setting.templates, *shared, tuple(selections.held_outs))


def point_of(selections: Selections, method: Method) -> tuple[float, float] | None:
    """Return a method's accuracies on source and on held-out environments, fractions; None where one is unknown.

    The method stands with what `training_domain` picks, whose score is its accuracy on the sources.
    """
    estimate = whole_estimate(selections, selections.pooled(method, _RULE)) if method in selections.parts else None
    if estimate is None:
        return None
    picks = selections.picks(method, _RULE)
    source = mean_beside(picks.where(np.isin(picks["seed"], estimate.seeds)), "training_domain")
    target = float(estimate.means.mean())
    return None if np.isnan(source + target) else (source, target)


def _logit(p: Array) -> Array:
    return np.asarray(logit(np.clip(p, NEAREST, 1 - NEAREST)))


def _fit(x: Array, y: Array) -> tuple[float, float, float]:
    """Return the least-squares slope of y on x, the sum of (x - mean)^2, and t s: half of a unit's 95 % interval."""
    away, n = x - x.mean(), len(x)
    spread = float(away @ away)
    slope = float(away @ y) / spread
    rest = y - y.mean() - slope * away
    return slope, spread, float(stdtrit(n - 2, (1 + CONFIDENCE) / 2)) * float(np.sqrt(rest @ rest / (n - 2)))


def slope_of(x: Array, y: Array) -> WithEnds | None:
    """Return the least-squares slope of y on x, points of gain for a point of accuracy, with its interval.

    None with fewer than three points, or where x does not vary.
    """
    if len(x) < 3 or not np.ptp(x) > 0:
        return None
    value, spread, error = _fit(x, y)
    half = error / float(np.sqrt(spread))
    return WithEnds(value, value - half, value + half)


def same_but_backbone(parts: Sequence[SettingResults]) -> list[list[SettingResults]]:
    """Return settings that differ in the backbone alone, together; of `MIN_BACKBONES` or more, no random weights.

    Of two with the same weights the last counts.
    """
    alike: dict[object, dict[str, SettingResults]] = {}
    for setting, selections in parts:
        if not (setting.random_weights or setting.protocol_class.looks_at_target):
            alike.setdefault(_alike(setting, selections), {})[setting.backbone_fingerprint] = (setting, selections)
    return [[*group.values()] for group in alike.values() if len(group) >= MIN_BACKBONES]


@dataclass(frozen=True)
class Trend:
    """What the gains of a method over backbones say together.

    Attributes:
        compared: the method and plain prediction, of each backbone that has both.
        plain: plain accuracy of each, percent, shape (n,).
        gain: accuracy less that, points, shape (n,).
        on_plain: the slope of the gain on plain accuracy.
        on_mean: the slope of the gain on the mean of both accuracies.
    """

    compared: tuple[Comparison, ...]
    plain: Array
    gain: Array
    on_plain: WithEnds | None
    on_mean: WithEnds | None


def trend_of(parts: Sequence[SettingResults], method: Method, rule: str) -> Trend | None:
    """Return the trend of a method's gain; None where fewer than `MIN_BACKBONES` have it and plain prediction."""
    found = []
    for _, selections in parts:
        plain_method = selections.plain_of(method.predictor)
        if plain_method and method in selections.parts and (one := compare(selections, method, rule, plain_method)):
            found.append(one)
    if len(found) < MIN_BACKBONES:
        return None
    ours, plain = 100 * np.array([one.accuracies for one in found]).T
    gain = ours - plain
    return Trend(tuple(found), plain, gain, slope_of(plain, gain), slope_of(plain + gain / 2, gain))
