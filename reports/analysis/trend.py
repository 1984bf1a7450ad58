"""Does the gain survive a better encoder: a method's gain over plain prediction against plain accuracy, over backbones.

    gain_b = intercept + slope plain_b,   least squares over backbones b, each counting alike

with a t interval of n - 2 degrees of freedom for the slope. The gain has the plain accuracy in it, with the opposite
sign, so the noise of a finite test pulls that slope down; against the mean of both accuracies (Oldham, 1962) it does
not, where both have as much of it. Both slopes are said. Backbones of one family are not drawn at random.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from benchmark.method.evaluation.inference import CONFIDENCE
from benchmark.method.evaluation.metrics import Array
from reports.analysis.chosen import Selections
from reports.analysis.comparisons import Comparison, compare
from reports.analysis.methods import Method
from reports.analysis.robustness import MIN_BACKBONES
from reports.analysis.settings import Setting


@dataclass(frozen=True)
class Slope:
    """A least-squares slope, points of gain for a point of accuracy, with its interval.

    Attributes:
        value: the slope.
        low: lower end of its interval.
        high: upper end.
        n: number of backbones.
    """

    value: float
    low: float
    high: float
    n: int


def slope_of(x: Array, y: Array) -> Slope | None:
    """Return the slope of y on x, both of shape (n,); None with fewer than three points, or where x does not vary."""
    away = x - x.mean()
    spread = float(away @ away)
    if len(x) < 3 or not spread > 0:
        return None
    value = float(away @ y) / spread
    rest = y - y.mean() - value * away
    half = float(stdtrit(len(x) - 2, (1 + CONFIDENCE) / 2)) * float(np.sqrt(rest @ rest / (len(x) - 2) / spread))
    return Slope(value, value - half, value + half, len(x))


def same_but_backbone(parts: Sequence[tuple[Setting, Selections]]) -> list[list[tuple[Setting, Selections]]]:
    """Return settings that differ in the backbone alone, together; of `MIN_BACKBONES` or more, no random weights.

    Args:
        parts: settings and their rows, in the order of the report; of two with the same weights the last counts.
    """
    alike: dict[object, dict[str, tuple[Setting, Selections]]] = {}
    for setting, selections in parts:
        if not (setting.random_weights or setting.protocol_class.looks_at_target):
            key = (setting.without_backbone, tuple(selections.held_outs))
            alike.setdefault(key, {})[setting.backbone_fingerprint] = (setting, selections)
    return [[*group.values()] for group in alike.values() if len(group) >= MIN_BACKBONES]


@dataclass(frozen=True)
class Trend:
    """What the gains of a method over backbones say together.

    Attributes:
        compared: the method and plain prediction, of each backbone that has both.
        plain: plain accuracy of each, percent, shape (n,).
        gain: accuracy less that, points, shape (n,).
    """

    compared: tuple[Comparison, ...]
    plain: Array
    gain: Array

    @property
    def ahead(self) -> int:
        """Number of backbones whose gain has an interval above 0."""
        return sum(one.interval.low > 0 for one in self.compared)

    @property
    def on_plain(self) -> Slope | None:
        """The slope of the gain on plain accuracy."""
        return slope_of(self.plain, self.gain)

    @property
    def on_mean(self) -> Slope | None:
        """The slope of the gain on the mean of both accuracies."""
        return slope_of(self.plain + self.gain / 2, self.gain)


def trend_of(parts: Sequence[tuple[Setting, Selections]], method: Method, rule: str) -> Trend | None:
    """Return the trend of a method's gain; None where fewer than `MIN_BACKBONES` have it and plain prediction.

    Args:
        parts: settings that differ in the backbone alone, with their rows.
        method: the method.
        rule: what chooses for it.
    """
    found = [one for _, selections in parts if (one := _compared(selections, method, rule)) is not None]
    if len(found) < MIN_BACKBONES:
        return None
    ours, plain = 100 * np.array([one.accuracies for one in found]).T
    return Trend(tuple(found), plain, ours - plain)


def _compared(selections: Selections, method: Method, rule: str) -> Comparison | None:
    plain = selections.plain_of(method.predictor)
    return compare(selections, method, rule, plain) if plain and method in selections.parts else None
