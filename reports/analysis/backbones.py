"""Analyses over several backbones: effective robustness and the trend of a gain.

**Effective robustness**: how far a method's held-out accuracy lies above a line at the method's source accuracy. The
line is fitted through plain prediction of all backbones except the evaluated one. Over models, held-out accuracy is
close to linear in source accuracy on logit scales (Miller et al., 2021, arXiv 2107.04649). A robust model lies above
the line (Taori et al., 2020, arXiv 2007.00644, section 2). Both accuracies are means over held-out environments and
seeds. The 95 % prediction interval is for plain prediction of one more backbone.

**Trend**: does a method gain less on a better encoder? The gain over plain prediction is regressed on plain accuracy:

    gain_b = intercept + slope plain_b,   least squares over n backbones b with equal weights

The slope gets a t interval (n - 2 degrees of freedom). The gain contains plain accuracy with a negative sign, so
test noise biases the slope downwards. Regression on the mean of both accuracies (Oldham, 1962) is unbiased if both have
equal noise. Both slopes are reported. Backbones of one family are not a random sample.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit, stdtrit

from benchmark.method.evaluation.inference import CONFIDENCE
from benchmark.method.evaluation.metrics import Array
from reports.analysis.comparisons import Comparison, compare
from reports.analysis.methods import PLAIN, Method, plain_for
from reports.analysis.selections import Selections, SettingResults, complete_estimate, mean_over_tests
from reports.analysis.settings import Setting

# Including the evaluated backbone. docs/report.md and `_NEEDS` of reports/document/paper.py state this number.
MIN_BACKBONES = 8
ZERO_SHOT, LINEAR_PROBE = (Method(PLAIN, None, predictor) for predictor in ("zero_shot", "linear_probe"))
LOGIT_CLIP = 1e-3  # accuracies are clipped to [LOGIT_CLIP, 1 - LOGIT_CLIP] before the logit


@dataclass(frozen=True)
class ValueInterval:
    """A number with the lower and upper end of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class AccuracyLine:
    """Line through the plain accuracies of backbones, for one predictor.

    Attributes:
        source: source accuracy of each backbone except the evaluated one, fractions.
        target: held-out accuracy of the same backbones, fractions.
        backbones: number of backbones including the evaluated one; random weights and duplicates of the same weights
            do not count.
    """

    source: tuple[float, ...] = ()
    target: tuple[float, ...] = ()
    backbones: int = 0

    @property
    def known(self) -> bool:
        """Whether the line can be fitted: enough backbones with differing source accuracies."""
        return self.backbones >= MIN_BACKBONES and len(set(self.source)) > 1

    def expected(self, source: float) -> tuple[float, float, float]:
        """Return the expected held-out accuracy and the ends of its 95 % prediction interval, fractions.

        The half-width in logits is t s sqrt(1 + 1 / n + (x_0 - m)^2 / sum (x - m)^2). Here x_0 is the logit of
        `source`, and x are the logits of the n backbones' source accuracies, with mean m. s^2 is the sum of squared
        residuals divided by n - 2, and t the quantile of Student's t distribution with n - 2 degrees of freedom.
        """
        x, y = _logit(np.array(self.source)), _logit(np.array(self.target))
        slope, spread, error = _fit(x, y)
        away = float(_logit(np.array(source)) - x.mean())
        middle = float(y.mean()) + slope * away
        half = error * float(np.sqrt(1 + 1 / len(x) + away**2 / spread))
        return float(expit(middle)), float(expit(middle - half)), float(expit(middle + half))

    def above(self, source: float, target: float) -> ValueInterval | None:
        """Return how far the accuracy `target` lies above the line, in points; None if the line or `source` is unknown.

        The interval is `target` minus the upper and lower end of the prediction interval. Arguments are fractions.
        """
        if not self.known or np.isnan(source):
            return None
        middle, low, high = self.expected(source)
        return ValueInterval(100 * (target - middle), 100 * (target - high), 100 * (target - low))


# `ZERO_SHOT` and `LINEAR_PROBE`, in this order -> the line through the other backbones.
Lines = Mapping[Method, AccuracyLine]


def lines_of(parts: Sequence[SettingResults]) -> list[Lines]:
    """Return two lines (zero-shot, linear probe) for each setting, fitted to settings with other backbones.

    The settings that a line is fitted to differ from its own setting only in the backbone.
    """
    points: dict[object, dict[str, tuple[float, float]]] = {}
    for setting, selections in parts:
        for method in (ZERO_SHOT, LINEAR_PROBE) if not setting.random_weights else ():
            if point := point_of(selections, method):
                key = (method, *_group_key(setting, selections))
                points.setdefault(key, {})[setting.backbone_fingerprint] = point

    def line(method: Method, setting: Setting, selections: Selections) -> AccuracyLine:
        every = points.get((method, *_group_key(setting, selections)), {})
        others = [point for fingerprint, point in every.items() if fingerprint != setting.backbone_fingerprint]
        return AccuracyLine(tuple(x for x, _ in others), tuple(y for _, y in others), len(every))

    return [{method: line(method, *part) for method in (ZERO_SHOT, LINEAR_PROBE)} for part in parts]


def _group_key(setting: Setting, selections: Selections) -> tuple[object, ...]:
    """Return the grouping key of settings that differ only in the backbone."""
    shared = setting.without("backbone", "backbone_fingerprint", "prompts")
    return (setting.templates, *shared, tuple(selections.held_outs))


def point_of(selections: Selections, method: Method) -> tuple[float, float] | None:
    """Return a method's source and held-out accuracy at the picks of the rule, fractions; None if one is unknown.

    The source accuracy is that on validation images of the sources, by which `training_domain` chooses.
    """
    rule = selections.rule
    estimate = complete_estimate(selections, selections.pooled(method, rule)) if method in selections.parts else None
    if estimate is None:
        return None
    picks = selections.picks(method, rule)
    source = mean_over_tests(picks.where(np.isin(picks["seed"], estimate.seeds)), "training_domain")
    target = float(estimate.means.mean())
    return None if np.isnan(source + target) else (source, target)


def _logit(p: Array) -> Array:
    return np.asarray(logit(np.clip(p, LOGIT_CLIP, 1 - LOGIT_CLIP)))


def _fit(x: Array, y: Array) -> tuple[float, float, float]:
    """Return the least-squares slope of y on x, the sum of (x - mean)^2, and t s (t quantile times residual SD)."""
    away, n = x - x.mean(), len(x)
    spread = float(away @ away)
    slope = float(away @ y) / spread
    rest = y - y.mean() - slope * away
    return slope, spread, float(stdtrit(n - 2, (1 + CONFIDENCE) / 2)) * float(np.sqrt(rest @ rest / (n - 2)))


def slope_of(x: Array, y: Array) -> ValueInterval | None:
    """Return the least-squares slope of y on x with its 95 % interval.

    None with fewer than three points, or if x is constant.
    """
    if len(x) < 3 or not np.ptp(x) > 0:
        return None
    value, spread, error = _fit(x, y)
    half = error / float(np.sqrt(spread))
    return ValueInterval(value, value - half, value + half)


def same_but_backbone(parts: Sequence[SettingResults]) -> list[list[SettingResults]]:
    """Return groups of `MIN_BACKBONES` or more settings that differ only in the backbone.

    Settings with random weights or with fits on target labels are left out. Of settings with the same weights, the
    last one is kept.
    """
    alike: dict[object, dict[str, SettingResults]] = {}
    for setting, selections in parts:
        if not (setting.random_weights or setting.protocol_class.looks_at_target):
            alike.setdefault(_group_key(setting, selections), {})[setting.backbone_fingerprint] = (setting, selections)
    return [[*group.values()] for group in alike.values() if len(group) >= MIN_BACKBONES]


@dataclass(frozen=True)
class Trend:
    """Regression of a method's gain on accuracy, over backbones.

    Attributes:
        compared: comparison of the method with plain prediction, for each of the n backbones that have both.
        plain: plain accuracies in percent, shape (n,).
        gain: gains over plain prediction in points, shape (n,).
        on_plain: slope of the gain on plain accuracy.
        on_mean: slope of the gain on the mean of plain accuracy and the method's accuracy.
    """

    compared: tuple[Comparison, ...]
    plain: Array
    gain: Array
    on_plain: ValueInterval | None
    on_mean: ValueInterval | None


def trend_of(parts: Sequence[SettingResults], method: Method, rule: str) -> Trend | None:
    """Return the trend of a method's gain; None if fewer than `MIN_BACKBONES` have the method and plain prediction."""
    found = []
    for _, selections in parts:
        plain_method = plain_for(method, selections.parts)
        if plain_method and method in selections.parts and (one := compare(selections, method, rule, plain_method)):
            found.append(one)
    if len(found) < MIN_BACKBONES:
        return None
    ours, plain = 100 * np.array([one.accuracies for one in found]).T
    gain = ours - plain
    return Trend(tuple(found), plain, gain, slope_of(plain, gain), slope_of(plain + gain / 2, gain))
