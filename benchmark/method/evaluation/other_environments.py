"""Confidence intervals for the difference in a new environment, over held-out environments and data sets.

Intervals over images (`inference`) are too narrow for this, since environments differ by more than their images
explain. Here the sampled units are held-out environments, and with several data sets also the data sets. If groups of
images occur in several environments, environments are dependent, and the interval is too narrow.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.method.arrays import Ints
from benchmark.method.evaluation.inference import CONFIDENCE, Interval
from benchmark.method.evaluation.metrics import Array

MIN_ENVIRONMENTS = 4  # minimum number of held-out environments for an interval
ZERO = 0.0005  # tables show smaller differences as 0.0 points


@dataclass(frozen=True)
class OtherEnvironments:
    """Differences in held-out environments, and an interval for a new environment."""

    interval: Interval | None  # for the expected difference in a new environment; None with too few held-out ones
    ahead: int  # number of held-out environments with a difference above 0
    tied: int  # number of held-out environments with an absolute difference below `ZERO`
    behind: int  # number of held-out environments with a difference below 0


def environment_interval(
    means: Sequence[float] | Array, variances: Sequence[float] | Array | None = None, confidence: float = CONFIDENCE
) -> OtherEnvironments:
    """Return the t interval over at least `MIN_ENVIRONMENTS` held-out environments of one data set.

    As in `random_effects_interval`, the standard error is at least the one over images, sqrt(sum of variances) / E.
    Otherwise it could be 0 if environments happen to agree.

    Args:
        means: difference in each held-out environment, averaged over seeds (`Scores.environment_means`), shape (E,).
        variances: squared standard error over images of each difference, shape (E,). A value that is 0 or NaN is
            replaced by the smallest other one. If no value is above 0, or if this is None (default), the standard error
            has no minimum.
        confidence: coverage probability.
    """
    means = np.asarray(means, dtype=np.float64)
    n = len(means)
    if n < MIN_ENVIRONMENTS:
        return OtherEnvironments(None, *_counts(means))
    floor = np.sqrt(_with_smallest(means * 0 if variances is None else variances, 0.0).sum()) / n
    error = max(means.std(ddof=1) / np.sqrt(n), floor)
    return OtherEnvironments(Interval(float(means.mean()), float(error), n - 1, confidence), *_counts(means))


def random_effects_interval(
    effects: Sequence[float] | Array,
    variances: Sequence[float] | Array,
    sets: Sequence[int] | Ints,
    confidence: float = CONFIDENCE,
) -> OtherEnvironments:
    """Return a random-effects interval over held-out environments, nested in several data sets.

    The model is effect = mu + data set + environment + images. Two variances are estimated: first the variance of
    environments within data sets, then the variance of the weighted means of data sets. Each is Paule and Mandel's
    (1982) estimate, for which Cochran's Q equals its degrees of freedom. (DerSimonian and Laird's single step is biased
    if effects differ much.) mu is the weighted mean of data sets, with the interval of Hartung and Knapp (2001):
    Student's t with K - 1 degrees of freedom for K data sets. Its standard error is at least 1 / sqrt(sum of weights).
    Otherwise it could be 0 if data sets agree. Environments of one data set are not independent. If they were treated
    as independent, 95 % intervals would cover only 74 % (three data sets of four environments, equal variances of data
    sets and environments).

    A variance of 0 is replaced by the smallest other one. If all are 0, environments have equal weights, and the
    standard error has no minimum.

    Args:
        effects: difference in each held-out environment, shape (n,).
        variances: squared standard error over images of each effect, shape (n,).
        sets: number of the data set of each effect, shape (n,).
        confidence: coverage probability.

    Returns:
        The interval for a new environment of a new data set (None for a single data set), and the counts over all
        environments.
    """
    effects, known = np.asarray(effects, dtype=np.float64), bool((np.asarray(variances) > 0).any())
    names, sets = np.unique(np.asarray(sets), return_inverse=True)
    if len(names) < 2:
        return OtherEnvironments(None, *_counts(effects))
    variances = _with_smallest(variances, 1.0)
    weights = 1 / (_between(effects, variances, sets) + variances)
    total = np.bincount(sets, weights=weights)
    means, one = np.bincount(sets, weights=weights * effects) / total, np.zeros(len(names), dtype=np.int64)
    weights = 1 / (_between(means, 1 / total, one) + 1 / total)
    mu, freedom = np.average(means, weights=weights), len(names) - 1
    error = np.sqrt((weights * (means - mu) ** 2).sum() / freedom / weights.sum())
    error = max(error, weights.sum() ** -0.5 if known else 0.0)
    return OtherEnvironments(Interval(float(mu), float(error), freedom, confidence), *_counts(effects))


def _with_smallest(variances: Sequence[float] | Array, otherwise: float) -> Array:
    """Replace variances that are not above 0 by the smallest one above 0; if there is none, by `otherwise`."""
    variances = np.asarray(variances, dtype=np.float64)
    seen = variances > 0
    return np.where(seen, variances, variances[seen].min() if seen.any() else otherwise)


def _between(effects: Array, variances: Array, sets: Ints) -> float:
    """Return Paule and Mandel's variance of effects within sets; 0 if the variances explain all differences."""
    from scipy.optimize import brentq  # takes a third of a second to import, and most reports have one data set

    freedom = len(effects) - sets.max() - 1

    def excess(between: float) -> float:
        weights = 1 / (between + variances)
        means = np.bincount(sets, weights=weights * effects) / np.bincount(sets, weights=weights)
        return float((weights * (effects - means[sets]) ** 2).sum() - freedom)

    if not freedom or excess(0.0) <= 0:
        return 0.0
    means = np.bincount(sets, weights=effects) / np.bincount(sets)
    most = float(((effects - means[sets]) ** 2).sum() / freedom)  # there Q is at most its degrees of freedom
    return float(brentq(excess, 0.0, most, xtol=1e-15, rtol=1e-12))


def _counts(effects: Array) -> tuple[int, int, int]:
    return int((effects >= ZERO).sum()), int((abs(effects) < ZERO).sum()), int((effects <= -ZERO).sum())
