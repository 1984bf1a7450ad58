"""The plan of tests: which gains are shown, in which accuracy, and what explains them (METHOD section 11). No words.

A gain is a method minus plain prediction with the same predictor, in one setting. It is judged by the data set's
metric and by class-balanced accuracy, in three families over all pairs of a method and a setting, each adjusted by Holm
(1979). If the gain in the metric is significant, three tests look for its cause: environment means, interventions and
shrinking. Each is an intersection-union test (Berger, 1982) of several differences, all of which must be above 0; Holm
runs over the three.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from benchmark.method.evaluation.inference import CONFIDENCE, Interval
from benchmark.method.evaluation.multiplicity import holm

ALPHA = 1 - CONFIDENCE
HELPS = "helps"
METRIC_ONLY = "helps in the metric only"
BALANCED_ONLY = "helps in class-balanced accuracy only"
TRADES = "trades"
HURTS = "hurts"
NO_DIFFERENCE = "no difference"
KINDS = (HELPS, METRIC_ONLY, BALANCED_ONLY, TRADES, HURTS, NO_DIFFERENCE)

AnyInterval = TypeVar("AnyInterval", bound=Interval)


@dataclass(frozen=True)
class Gain:
    """A method minus plain prediction; NaN p-values where it cannot be said.

    Attributes:
        metric: in the data set's metric.
        balanced: in class-balanced accuracy; equal to `metric` where that is the metric.
    """

    metric: Interval
    balanced: Interval


@dataclass(frozen=True)
class JudgedGain:
    """A gain as one of all that are judged together; p-values are two-sided, NaN where it cannot be said.

    Attributes:
        gain: what is judged.
        p_metric: of no difference in the metric, adjusted.
        p_balanced: of no difference in class-balanced accuracy, adjusted.
        p_both: of the larger p of the two where both are above 0, else of 1, adjusted.
        family: number of gains that are judged together, without those of which nothing can be said.
        kind: one of `KINDS`.
    """

    gain: Gain
    p_metric: float
    p_balanced: float
    p_both: float
    family: int

    @property
    def shown(self) -> bool:
        """Whether the gain in the metric is significant; only then are the three questions tested."""
        return self.p_metric <= ALPHA and self.gain.metric.estimate > 0

    @property
    def kind(self) -> str:
        """What is shown.

        `HELPS`: above 0 in both, by `p_both`. `TRADES`: one above, the other below 0. `HURTS`: below 0 in one or both,
        above in none. `METRIC_ONLY`, `BALANCED_ONLY`: above 0 in one; in the metric too where each is shown by its own
        family and both together are not.
        """
        shown = ((self.p_metric, self.gain.metric), (self.p_balanced, self.gain.balanced))
        metric, balanced = (np.sign(one.estimate) if p <= ALPHA else 0 for p, one in shown)  # p may be NaN
        if self.p_both <= ALPHA:
            return HELPS
        if metric * balanced < 0:
            return TRADES
        if metric < 0 or balanced < 0:
            return HURTS
        return METRIC_ONLY if metric > 0 else BALANCED_ONLY if balanced > 0 else NO_DIFFERENCE


def judged_gains(gains: Sequence[Gain]) -> list[JudgedGain]:
    """Return the gains of all judged methods in all settings, each as one of their families, in their order."""
    p = np.array([(one.metric.p, one.balanced.p) for one in gains]).reshape(-1, 2)
    up = np.array([one.metric.estimate > 0 and one.balanced.estimate > 0 for one in gains], dtype=bool)
    unknown = np.isnan(p)
    both = np.where(unknown.any(axis=1), np.nan, np.where(up, p.max(axis=1), 1.0))
    families = (holm(of_family).tolist() for of_family in (p[:, 0], p[:, 1], both))
    family = int((~unknown.all(axis=1)).sum())
    return [JudgedGain(one, m, b, of_both, family) for one, m, b, of_both in zip(gains, *families, strict=True)]


def p_of_question(parts: Sequence[Interval | None]) -> float:
    """Return the p-value of an intersection-union test: that not all of some differences are above 0.

    It is the largest of the two-sided p-values of its parts; a part that is not above 0, is missing (None) or has no
    p-value has p = 1. Without parts it is 1.
    """
    return max((_p_above(one) for one in parts), default=1.0)


def _p_above(part: Interval | None) -> float:
    if part is None or not part.estimate > 0:
        return 1.0
    p = part.p
    return 1.0 if np.isnan(p) else p


def answered(questions: Mapping[str, Sequence[Interval | None]]) -> dict[str, float]:
    """Return question -> p-value, adjusted by Holm over all of them: those of one method in one setting.

    Args:
        questions: question -> its parts, see `p_of_question`. One that cannot be asked has none, and counts.
    """
    p = holm([p_of_question(parts) for parts in questions.values()])
    return dict(zip(questions, p.tolist(), strict=True))


def adjusted_interval(interval: AnyInterval, family: int) -> AnyInterval:
    """Return an interval that holds together with all others of its family: what bounds say beside "Holm".

    Bonferroni's: each at 1 - (1 - confidence) / family. It has 0 in it wherever Holm shows no difference; where Holm
    shows one it may have it too, since Holm is stronger.
    """
    return replace(interval, confidence=1 - (1 - interval.confidence) / max(1, family))
