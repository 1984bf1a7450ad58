"""Confidence intervals for a new environment, over held-out environments and data sets.

The interval over images (`inference`) is too narrow for this: environments differ by more than their images explain.
Here the sampled units are held-out environments, and over several data sets the data sets. If groups of images occur in
several environments, these are dependent, and the interval is too narrow.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.method.arrays import Ints
from benchmark.method.evaluation.inference import CONFIDENCE, Interval
from benchmark.method.evaluation.metrics import Array

MIN_ENVIRONMENTS = 4  # minimum number for an interval
ZERO = 0.0005  # tables show differences below it as 0.0 points


@dataclass(frozen=True)
class OtherEnvironments:
    """Differences in held-out environments, and an interval for a new one."""

    interval: Interval | None  # for the expected difference in a new environment; None with too few environments
    ahead: int  # number of held-out environments with a difference above 0
    tied: int  # number of those whose difference is below `ZERO`
    behind: int  # number of those with a difference below 0


def environment_interval(
    means: Sequence[float] | Array, variances: Sequence[float] | Array | None = None, confidence: float = CONFIDENCE
) -> OtherEnvironments:
    """Return the t interval over at least `MIN_ENVIRONMENTS` held-out environments of one data set.

    The standard error is at least sqrt(sum of variances) / E, that over images, as in `random_effects_interval`:
    otherwise it could be 0 if environments happen to agree.

    Args:
        means: difference in each held-out environment, averaged over seeds (`Scores.environment_means`), shape (E,).
        variances: squared standard error of each over its images, shape (E,). One that is 0 or NaN is replaced by the
            smallest of the others; if none is above 0, and by default, there is no minimum.
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

    effect = mu + data set + environment + images. Both variances by Paule and Mandel (1982), who solve Cochran's Q =
    its degrees of freedom (DerSimonian and Laird's single step is biased where effects differ much): that of
    environments within data sets, then that of the data sets' weighted means. mu is their weighted mean, with the
    interval of Hartung and Knapp (2001): Student's t with K - 1 degrees of freedom for K data sets. The standard error
    is at least 1 / sqrt(sum of weights), that of the weighted mean: otherwise it could be 0 if data sets agree.
    Environments of one data set are not independent: treated as such, with four environments in each of three data
    sets, and equal variances of data sets and environments, intervals cover 74 % and not 95 %.

    An environment with variance 0 gets the smallest variance of the others; if all are 0, all have equal weight and
    there is no minimum.

    Args:
        effects: difference in each held-out environment, shape (n,).
        variances: squared standard error of each over its images, shape (n,).
        sets: number of the data set of each, shape (n,).
        confidence: coverage probability.

    Returns:
        The interval for a new environment of a new data set (None for a single data set), and the counts over all.
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
    """Return variances, replacing those not above 0 by the smallest one above 0, or by `otherwise`."""
    variances = np.asarray(variances, dtype=np.float64)
    seen = variances > 0
    return np.where(seen, variances, variances[seen].min() if seen.any() else otherwise)


def _between(effects: Array, variances: Array, sets: Ints) -> float:
    """Return Paule and Mandel's variance of effects within sets; 0 if their variances explain all differences."""
    from scipy.optimize import brentq  # a third of a second to import, and most reports are of one data set

    freedom = len(effects) - sets.max() - 1

    def excess(between: float) -> float:
        weights = 1 / (between + variances)
        means = np.bincount(sets, weights=weights * effects) / np.bincount(sets, weights=weights)
        return float((weights * (effects - means[sets]) ** 2).sum() - freedom)

    if not freedom or excess(0.0) <= 0:
        return 0.0
    means = np.bincount(sets, weights=effects) / np.bincount(sets)
    most = float(((effects - means[sets]) ** 2).sum() / freedom)  # at which Q cannot be above its degrees of freedom
    return float(brentq(excess, 0.0, most, xtol=1e-15, rtol=1e-12))


def _counts(effects: Array) -> tuple[int, int, int]:
    return int((effects >= ZERO).sum()), int((abs(effects) < ZERO).sum()), int((effects <= -ZERO).sum())
