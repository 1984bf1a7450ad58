"""The planned tests (METHOD section 11): significance of gains in two accuracies, and of their causes.

A gain is the result of a method minus the result of plain prediction with the same predictor, in one setting. There are
three families of tests over all pairs of a method and a setting: in the data set's metric, in class-balanced accuracy,
and in both. Each family is adjusted by Holm (1979). If the gain in the metric is significant, three tests look for its
cause: environment means, interventions and shrinking. Each is an intersection-union test (Berger, 1982) of several
differences, which must all be above 0. Holm adjusts these three. `reports/text/verdicts.py` has sentences for each
value of `kind`, and `best_of` in `reports/analysis/verdicts.py` lists the kinds that are a gain.
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
    """Intervals of the gain of a method over plain prediction; their p-values are NaN if unknown."""

    metric: Interval  # difference in the data set's metric
    balanced: Interval  # difference in class-balanced accuracy; equal to `metric` if that is the data set's metric


@dataclass(frozen=True)
class AdjustedGain:
    """A gain, with two-sided p-values that are adjusted over all gains of a family; NaN if unknown."""

    gain: Gain  # the gain
    p_metric: float  # adjusted p-value of no difference in the metric
    p_balanced: float  # adjusted p-value of no difference in class-balanced accuracy
    p_both: float  # adjusted from the larger of the two p-values if both gains are above 0, otherwise from 1
    family: int  # number of gains with a p-value in the family

    @property
    def shown(self) -> bool:
        """Whether the gain in the metric is significant. Only then the three causes are tested."""
        return self.p_metric <= ALPHA and self.gain.metric.estimate > 0

    @property
    def kind(self) -> str:
        """Conclusion of the tests.

        "Above" and "below" mean significantly so. `HELPS`: gains in both accuracies are above 0, by `p_both`. `TRADES`:
        one is above 0, the other below. `HURTS`: one or both are below 0, none above. `METRIC_ONLY`, `BALANCED_ONLY`:
        only this one is above 0. If both are above 0 in their own family, but not by `p_both`, it is `METRIC_ONLY`.
        """
        shown = ((self.p_metric, self.gain.metric), (self.p_balanced, self.gain.balanced))
        metric, balanced = (np.sign(one.estimate) if p <= ALPHA else 0 for p, one in shown)  # false if p is NaN
        if self.p_both <= ALPHA:
            return HELPS
        if metric * balanced < 0:
            return TRADES
        if metric < 0 or balanced < 0:
            return HURTS
        return METRIC_ONLY if metric > 0 else BALANCED_ONLY if balanced > 0 else NO_DIFFERENCE


def adjusted_gains(gains: Sequence[Gain]) -> list[AdjustedGain]:
    """Return the gains in the same order, with p-values adjusted in each of the three families.

    `gains` must contain all methods in all settings.
    """
    p = np.array([(one.metric.p, one.balanced.p) for one in gains]).reshape(-1, 2)
    up = np.array([one.metric.estimate > 0 and one.balanced.estimate > 0 for one in gains], dtype=bool)
    unknown = np.isnan(p)
    both = np.where(unknown.any(axis=1), np.nan, np.where(up, p.max(axis=1), 1.0))
    families = (holm(of_family).tolist() for of_family in (p[:, 0], p[:, 1], both))
    family = int((~unknown.all(axis=1)).sum())
    return [AdjustedGain(one, m, b, of_both, family) for one, m, b, of_both in zip(gains, *families, strict=True)]


def p_of_question(parts: Sequence[Interval | None]) -> float:
    """Return the p-value of an intersection-union test; null hypothesis: not all differences are above 0.

    It is the largest two-sided p-value of the parts. A part that is not above 0, is missing (None) or has no p-value
    counts as p = 1. Without parts the result is 1.
    """
    above = (1.0 if one is None or not one.estimate > 0 else one.p for one in parts)
    return max((1.0 if np.isnan(p) else p for p in above), default=1.0)


def answered(questions: Mapping[str, Sequence[Interval | None]]) -> dict[str, float]:
    """Return a dictionary: question -> p-value, adjusted by Holm over all questions, also those without parts."""
    p = holm([p_of_question(parts) for parts in questions.values()])
    return dict(zip(questions, p.tolist(), strict=True))


def adjusted_interval(interval: AnyInterval, family: int) -> AnyInterval:
    """Return an interval that is simultaneous over `family` gains, to be shown next to Holm p-values.

    It is Bonferroni's interval, with the coverage 1 - (1 - confidence) / family. It contains 0 if Holm's p-value is not
    significant. It may also contain 0 if the p-value is significant, since Holm is more powerful.
    """
    return replace(interval, confidence=1 - (1 - interval.confidence) / max(1, family))


def holm(p_values: Sequence[float] | Array) -> Array:
    """Return p-values adjusted by Holm (1979), which controls the family-wise error rate.

    The smallest of m p-values is multiplied by m, the next by m - 1 and so on. Then they are made monotone and at most
    1. NaN, which means no comparison, stays NaN and does not count in m.
    """
    p = np.asarray(p_values, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    adjusted = np.full(p.shape, np.nan)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return adjusted


@dataclass(frozen=True)
class Ranking:
    """Intervals of the ranks of methods, from all pairwise differences. Methods are numbered from 0."""

    # (i, j) with i < j -> interval of method i minus method j, not adjusted
    differences: dict[tuple[int, int], ImageInterval]
    adjusted: dict[tuple[int, int], float]  # (i, j) -> p-value, adjusted by Holm over all pairs
    highest: Ints  # best rank in the interval of each method, 1 for the best, shape (methods,)
    lowest: Ints  # worst rank in the interval of each method, shape (methods,)
    # mask of methods not significantly different from the one with the best mean, and of this one, shape (methods,).
    # They are bold in tables. All False with too few units, or if all means are equal
    tied_with_best: Mask


def rank_intervals(scores: Scores, confidence: float = CONFIDENCE) -> Ranking:
    """Rank methods by all their pairwise differences, adjusted by Holm.

    The best rank of a method is 1 plus the number of significantly better methods. Its worst rank is the number of
    methods minus the number of significantly worse ones. All rank intervals hold simultaneously with `confidence`
    (Mogstad, Romano, Shaikh and Wilhelm, 2024). `scores.values` is correctness on the same images, shape (methods, n).
    """
    methods = len(scores.values)
    pairs = list(combinations(range(methods), 2))
    differences = {(i, j): difference_interval(scores, i, j, confidence) for i, j in pairs}
    adjusted = holm([one.p for one in differences.values()])
    estimates = np.array([one.estimate for one in differences.values()])
    means = scores.environment_means.mean(axis=1)
    bounds = rank_bounds(estimates, adjusted, means, confidence)
    return Ranking(differences, dict(zip(pairs, adjusted.tolist(), strict=True)), *bounds)


def rank_bounds(
    differences: Array, adjusted: Array, means: Array, confidence: float = CONFIDENCE
) -> tuple[Ints, Ints, Mask]:
    """Return best ranks, worst ranks and the mask of methods tied with the best, as in `Ranking`.

    Args:
        differences: method i minus method j for all pairs i < j in the order of `itertools.combinations`.
        adjusted: their adjusted p-values; NaN if unknown.
        means: mean of each method; the method with the highest is the best one. NaN: it is not the best one.
        confidence: coverage probability.
    """
    i, j = np.triu_indices(len(means), 1)
    shown, ahead = adjusted <= 1 - confidence, differences > 0  # `shown` is false for NaN
    better = np.zeros((len(means), len(means)), dtype=bool)
    better[i[shown & ahead], j[shown & ahead]] = True
    better[j[shown & ~ahead], i[shown & ~ahead]] = True
    best = int(np.nan_to_num(means, nan=-np.inf).argmax())
    comparable = not len(i) or (not np.isnan(adjusted).all() and np.nanmax(means) - np.nanmin(means) > 1e-12)
    return 1 + better.sum(axis=0), len(means) - better.sum(axis=1), ~better[best] & comparable
