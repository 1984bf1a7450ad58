"""The plan of tests: which gains are shown, in which accuracy, and what explains them (METHOD section 11). No words.

A gain is a method minus plain prediction with the same predictor, in one setting. It is judged by the data set's
metric and by class-balanced accuracy, in three families over all pairs of a method and a setting, each adjusted by Holm
(1979). If the gain in the metric is significant, three tests look for its cause: environment means, interventions and
shrinking. Each is an intersection-union test (Berger, 1982) of several differences, all of which must be above 0; Holm
runs over the three.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TypeVar

import numpy as np

from benchmark.method.arrays import Ints, Mask
from benchmark.method.evaluation.inference import CONFIDENCE, ImageInterval, Interval, Scores, difference_interval
from benchmark.method.evaluation.metrics import Array

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
    """A method minus plain prediction; NaN p-values where it cannot be said."""

    metric: Interval  # in the data set's metric
    balanced: Interval  # in class-balanced accuracy; equal to `metric` where that is the metric


@dataclass(frozen=True)
class AdjustedGain:
    """A gain as one of all that are judged together; p-values are two-sided, NaN if it cannot be said."""

    gain: Gain  # what is judged
    p_metric: float  # of no difference in the metric, adjusted
    p_balanced: float  # of no difference in class-balanced accuracy, adjusted
    p_both: float  # of the larger p of the two if both are above 0, else of 1, adjusted
    family: int  # number of gains that are judged together, without those of which nothing can be said

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


def adjusted_gains(gains: Sequence[Gain]) -> list[AdjustedGain]:
    """Return the gains of all judged methods in all settings, each as one of their families, in their order."""
    p = np.array([(one.metric.p, one.balanced.p) for one in gains]).reshape(-1, 2)
    up = np.array([one.metric.estimate > 0 and one.balanced.estimate > 0 for one in gains], dtype=bool)
    unknown = np.isnan(p)
    both = np.where(unknown.any(axis=1), np.nan, np.where(up, p.max(axis=1), 1.0))
    families = (holm(of_family).tolist() for of_family in (p[:, 0], p[:, 1], both))
    family = int((~unknown.all(axis=1)).sum())
    return [AdjustedGain(one, m, b, of_both, family) for one, m, b, of_both in zip(gains, *families, strict=True)]


def p_of_question(parts: Sequence[Interval | None]) -> float:
    """Return the p-value of an intersection-union test: that not all of some differences are above 0.

    It is the largest of the two-sided p-values of its parts; a part that is not above 0, is missing (None) or has no
    p-value has p = 1. Without parts it is 1.
    """
    above = (1.0 if one is None or not one.estimate > 0 else one.p for one in parts)
    return max((1.0 if np.isnan(p) else p for p in above), default=1.0)


def answered(questions: Mapping[str, Sequence[Interval | None]]) -> dict[str, float]:
    """Return question -> p-value of its parts, adjusted by Holm over all: also over one that cannot be asked."""
    p = holm([p_of_question(parts) for parts in questions.values()])
    return dict(zip(questions, p.tolist(), strict=True))


def adjusted_interval(interval: AnyInterval, family: int) -> AnyInterval:
    """Return an interval that holds together with all others of its family: what bounds say beside "Holm".

    Bonferroni's: each at 1 - (1 - confidence) / family. It has 0 in it wherever Holm shows no difference; where Holm
    shows one it may have it too, since Holm is stronger.
    """
    return replace(interval, confidence=1 - (1 - interval.confidence) / max(1, family))


def holm(p_values: Sequence[float] | Array) -> Array:
    """Return p-values adjusted by Holm (1979): of those up to alpha, one is a false claim in at most alpha of cases.

    The smallest of m is multiplied by m, the next by m - 1 and so on; none is below one before it, nor above 1. NaN,
    for a comparison that could not be made, stays and does not count.
    """
    p = np.asarray(p_values, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    adjusted = np.full(p.shape, np.nan)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return adjusted


@dataclass(frozen=True)
class Ranking:
    """What all pairwise differences of some methods say of their order; methods by their number."""

    # of every pair (i, j) with i < j: the interval of method i minus method j, not adjusted
    differences: dict[tuple[int, int], ImageInterval]
    adjusted: dict[tuple[int, int], float]  # p-value of every pair, adjusted by Holm over all pairs
    highest: Ints  # best rank of each method that is not excluded, 1 for the best, shape (methods,)
    lowest: Ints  # worst rank of each method that is not excluded, shape (methods,)
    # which methods are not separated from the one with the best mean (itself included), shape (methods,): bold in
    # tables. All False where there are too few units to compare, and where all means are equal, since none is better
    # than another
    tied_with_best: Mask


def rank_intervals(scores: Scores, confidence: float = CONFIDENCE) -> Ranking:
    """Rank methods by all their pairwise differences, adjusted by Holm.

    A method's rank is at best one more than the methods that are separated from it and better, and at worst the number
    of methods less those that are separated and worse. With `confidence` all of these intervals hold at once (Mogstad,
    Romano, Shaikh and Wilhelm, 2024). Scores are correctness on the same images: values of shape (methods, n).
    """
    methods = len(scores.values)
    pairs = list(combinations(range(methods), 2))
    differences = {(i, j): difference_interval(scores, i, j, confidence) for i, j in pairs}
    adjusted = holm([one.p for one in differences.values()])
    better = np.zeros((methods, methods), dtype=bool)
    for (i, j), p in zip(pairs, adjusted, strict=True):
        if p <= 1 - confidence:  # false for NaN
            winner, loser = (i, j) if differences[i, j].estimate > 0 else (j, i)
            better[winner, loser] = True
    means = scores.environment_means.mean(axis=1)
    best = int(means.argmax())
    comparable = not pairs or (not np.isnan(adjusted).all() and np.ptp(means) > 1e-12)
    return Ranking(
        differences,
        dict(zip(pairs, adjusted.tolist(), strict=True)),
        1 + better.sum(axis=0),
        methods - better.sum(axis=1),
        ~better[best] & comparable,
    )
