"""Student's t, the binomial and ranks from `scipy.special`: `scipy.stats` takes most of a second to import."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, betainccinv, betaincinv, ndtri, stdtr, stdtrit

from benchmark.method.arrays import Array


def normal_quantile(p: float) -> float:
    """Return what a standard normal value is below with probability `p`."""
    return float(ndtri(p))


def t_quantile(p: float, freedom: float) -> float:
    """Return what Student's t with so many degrees of freedom is below with probability `p`."""
    return float(stdtrit(freedom, p))


def t_above(t: float, freedom: float) -> float:
    """Return the probability that Student's t with so many degrees of freedom is above `t`."""
    return float(stdtr(freedom, -t))


def sign_test(successes: int, n: int) -> float:
    """Return the two-sided p-value of so many successes of n, at least 1, with probability 1/2: exact."""
    return float(min(1.0, 2 * bdtr(min(successes, n - successes), n, 0.5)))


def clopper_pearson(successes: float, n: float, confidence: float) -> tuple[float, float]:
    """Return Clopper and Pearson's (1934) exact interval of a share; counts may be means over seeds."""
    alpha = (1 - confidence) / 2
    low = float(betaincinv(successes, n - successes + 1, alpha)) if successes else 0.0
    high = float(betainccinv(successes + 1, n - successes, alpha)) if successes < n else 1.0
    return low, high


def ranks(values: Array) -> NDArray[np.float64]:
    """Return the rank of each value, from 1; equal values have the mean of theirs."""
    _, number, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[number])
