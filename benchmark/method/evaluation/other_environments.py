"""What may be claimed of environments that were not tested: would a new one say the same?

The interval over images (`inference`) does not answer this: environments differ by more than their images explain. Here
what varies is the held-out environment, and over several data sets the data set. Groups of images that stand in several
environments tie these together, and make such an interval too narrow.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.method.arrays import Ints
from benchmark.method.evaluation.inference import CONFIDENCE, Interval
from benchmark.method.evaluation.metrics import Array

MIN_ENVIRONMENTS = 4  # with fewer, what a new environment would say cannot be answered
ZERO = 0.0005  # tables show differences below it as 0.0 points


@dataclass(frozen=True)
class OtherEnvironments:
    """What held-out environments say of a new one."""

    interval: Interval | None  # for the difference in a new environment's population; None if it cannot be answered
    ahead: int  # number of held-out environments with a difference above 0
    tied: int  # number of those whose difference is below `ZERO`
    behind: int  # number of those with a difference below 0


def environment_interval(
    means: Sequence[float] | Array, variances: Sequence[float] | Array | None = None, confidence: float = CONFIDENCE
) -> OtherEnvironments:
    """Return the t interval over held-out environments of one data set, from `MIN_ENVIRONMENTS` of them on.

    Its error is at least sqrt(sum of variances) / E, what images alone explain, as in `random_effects_interval`:
    without this floor environments that happen to agree would leave no error at all.

    Args:
        means: difference in each held-out environment, averaged over seeds (`Scores.environment_means`), shape (E,).
        variances: squared standard error of each over its images, shape (E,). One that is 0 or NaN counts as the
            smallest of the others; where none is above 0, and by default, there is no floor.
        confidence: of the interval.
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
    """Return a random-effects interval over the held-out environments of several data sets, nested in these.

    effect = mu + data set + environment + images. Both variances by Paule and Mandel (1982), who solve Cochran's Q =
    its degrees of freedom (DerSimonian and Laird's single step is biased where effects differ much): that of
    environments within data sets, then that of the data sets' weighted means. mu is their weighted mean, with the
    interval of Hartung and Knapp (2001): Student's t with one degree of freedom fewer than there are data sets. Its
    error is at least 1 / sqrt(sum of weights), that of the weighted mean: without this floor data sets that happen to
    agree would leave no error at all.
    Environments of one data set are no independent witnesses of others: taken as such, four environments in each of
    three data sets, which differ by as much as their environments do, cover 74 % and not 95 %.

    An environment without observed variation counts as the most certain of the others; where none shows any, all count
    alike and there is no floor.

    Args:
        effects: difference in each held-out environment, shape (n,).
        variances: squared standard error of each over its images, shape (n,).
        sets: number of the data set of each, shape (n,).
        confidence: of the interval.

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
    """Return variances with the smallest one above 0 for those that are not above 0; `otherwise` where none is."""
    variances = np.asarray(variances, dtype=np.float64)
    seen = variances > 0
    return np.where(seen, variances, variances[seen].min() if seen.any() else otherwise)


def _between(effects: Array, variances: Array, sets: Ints) -> float:
    """Return Paule and Mandel's variance of effects within sets; 0 if their variances explain how they differ."""
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
