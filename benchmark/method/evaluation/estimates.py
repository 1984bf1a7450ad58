"""Accuracy on unlabelled images, estimated from labelled source images, for `icm-bench unlabelled`. Plain NumPy.

Each estimate rests on an assumption that unlabelled images cannot test. So its error is measured with labels: each
labelled environment in turn is treated as unlabelled.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from scipy.stats import norm

from benchmark.method.arrays import Array, Labels


def confidence(scores: Array, temperature: float | None) -> Array:
    """Return the confidence of each image, shape (m,).

    It is the highest softmax probability at `temperature`; without a temperature, the highest score minus the second.
    `scores` has the shape (m, classes), and is minus infinity for impossible classes.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if temperature is None:
        second, best = np.partition(scores, -2, axis=1)[:, -2:].T
        return np.asarray(best - second)
    exponents = (scores - scores.max(axis=1, keepdims=True)) / temperature
    return np.asarray(1 / np.exp(exponents).sum(axis=1))


def threshold(sure: Array, accuracy: float) -> float:
    """Return the confidence that a share `accuracy` of the labelled images exceeds, given their confidences `sure`.

    This is the threshold of average thresholded confidence, ATC (Garg et al., 2022, equation 1).
    """
    wrong = len(sure) - round(accuracy * len(sure))
    return float(np.sort(sure)[wrong]) if wrong < len(sure) else float("inf")


def share_above(sure: Array, least: float) -> float:
    """Return the share of images with a confidence of at least `least`: ATC (Garg et al., 2022, equation 2)."""
    return float(np.mean(np.asarray(sure) >= least))


def agreements(answers: Sequence[Labels]) -> Array:
    """Return the share of equal predictions for each pair of predictors, shape (pairs,)."""
    return np.array([np.mean(one == other) for one, other in combinations(answers, 2)])


def aline_estimates(accuracies: Array, sources: Array, targets: Array, images: tuple[int, int]) -> Array | None:
    """Return the predictors' accuracies on the target, estimated by ALine-S; None for fewer than three predictors.

    Over pairs of predictors, probit(agreement on the target) is regressed on probit(agreement on the sources). If
    agreement-on-the-line holds (Baek et al., 2022, section 5), accuracies lie on the same line. If all pairs agree
    equally on the sources, the slope is 1. `images`: numbers of source images and of target images. Shares of 0 and 1
    are moved inwards by half an image.
    """
    if len(accuracies) < 3:
        return None
    x, y = _probit(sources, images[0]), _probit(targets, images[1])
    spread = x - x.mean()
    slope = float(spread @ (y - y.mean()) / (spread @ spread)) if np.ptp(x) > 1e-9 else 1.0
    return np.asarray(norm.cdf(y.mean() + slope * (_probit(accuracies, images[0]) - x.mean())))


def _probit(shares: Array, images: int) -> Array:
    return np.asarray(norm.ppf(np.clip(shares, 0.5 / images, 1 - 0.5 / images)))
