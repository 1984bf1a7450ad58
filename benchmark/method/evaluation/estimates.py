"""Accuracy of images that nobody labelled, estimated from labelled images of the sources. Plain NumPy.

An estimate rests on an assumption that these images cannot test. How far it is from the truth is measured where labels
are known: with each labelled environment in place of the one without.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from scipy.stats import norm

from benchmark.method.arrays import Array, Labels


def confidence(scores: Array, temperature: float | None) -> Array:
    """Return how sure a predictor is of each image by scores, shape (m, classes), minus infinity if not possible.

    The largest probability of their softmax at a temperature; without one, the best score minus the second.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if temperature is None:
        second, best = np.partition(scores, -2, axis=1)[:, -2:].T
        return np.asarray(best - second)
    exponents = (scores - scores.max(axis=1, keepdims=True)) / temperature
    return np.asarray(1 / np.exp(exponents).sum(axis=1))


def threshold(sure: Array, accuracy: float) -> float:
    """Return the confidence above which as many labelled images lie as are classified correctly (share `accuracy`).

    Average thresholded confidence, ATC (Garg et al., 2022, equation 1).
    """
    wrong = len(sure) - round(accuracy * len(sure))
    return float(np.sort(sure)[wrong]) if wrong < len(sure) else float("inf")


def share_above(sure: Array, least: float) -> float:
    """Return the share of images with that confidence at least: the estimate of ATC (Garg et al., 2022, equation 2)."""
    return float(np.mean(np.asarray(sure) >= least))


def agreements(answers: Sequence[Labels]) -> Array:
    """Return on which share of the images each pair of predictors gives the same class, shape (pairs,)."""
    return np.array([np.mean(one == other) for one, other in combinations(answers, 2)])


def aline_estimates(accuracies: Array, sources: Array, targets: Array, images: tuple[int, int]) -> Array | None:
    """Return what the line of agreements makes of accuracies on the sources; None with fewer than three predictors.

    Over pairs of predictors, probit(agreement on the target) is fitted as a line of probit(agreement on the sources);
    accuracies lie on the same line, if the assumption of agreement-on-the-line holds (Baek et al., 2022, section 5,
    ALine-S). If all pairs agree alike on the sources, the line has slope 1. `images` are the numbers of images of
    the sources and of the target: shares of 0 and 1 are moved half an image inwards.
    """
    if len(accuracies) < 3:
        return None
    x, y = _probit(sources, images[0]), _probit(targets, images[1])
    spread = x - x.mean()
    slope = float(spread @ (y - y.mean()) / (spread @ spread)) if np.ptp(x) > 1e-9 else 1.0
    return np.asarray(norm.cdf(y.mean() + slope * (_probit(accuracies, images[0]) - x.mean())))


def _probit(shares: Array, images: int) -> Array:
    return np.asarray(norm.ppf(np.clip(shares, 0.5 / images, 1 - 0.5 / images)))
