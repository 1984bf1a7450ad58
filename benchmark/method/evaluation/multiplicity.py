"""Many comparisons at once: adjusted p-values, ranks of methods and who is level with the best."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from benchmark.method.evaluation.inference import CONFIDENCE, ImageInterval, Scores, difference_interval
from benchmark.method.evaluation.metrics import Array


def holm(p_values: Sequence[float] | Array) -> Array:
    """Return p-values adjusted by Holm (1979): of those up to alpha, one is a false claim in at most alpha of cases.

    The smallest of m is multiplied by m, the next by m - 1 and so on; none is below one before it, nor above 1.

    Args:
        p_values: shape (m,). NaN, for a comparison that could not be made, stays and does not count.
    """
    p = np.asarray(p_values, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    adjusted = np.full(p.shape, np.nan)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return adjusted


@dataclass(frozen=True)
class Ranking:
    """What all pairwise differences of some methods say of their order; methods by their number.

    Attributes:
        differences: of every pair (i, j) with i < j: the interval of method i minus method j, not adjusted.
        adjusted: p-value of every pair, adjusted by Holm over all pairs.
        highest: best rank of each method that is not excluded, 1 for the best, shape (methods,).
        lowest: worst rank of each method that is not excluded, shape (methods,).
        tied_with_best: which methods are not separated from the one with the best mean (itself included), shape
            (methods,): bold in tables. All False where there are too few units to compare, and where all means are
            equal, since none is better than another.
    """

    differences: dict[tuple[int, int], ImageInterval]
    adjusted: dict[tuple[int, int], float]
    highest: NDArray[np.int64]
    lowest: NDArray[np.int64]
    tied_with_best: NDArray[np.bool_]


def rank_intervals(scores: Scores, confidence: float = CONFIDENCE) -> Ranking:
    """Rank methods by all their pairwise differences, adjusted by Holm.

    A method's rank is at best one more than the methods that are separated from it and better, and at worst the number
    of methods less those that are separated and worse. With `confidence` all of these intervals hold at once (Mogstad,
    Romano, Shaikh and Wilhelm, 2024).

    Args:
        scores: correctness of at least one method on the same images: values of shape (methods, n).
        confidence: with which no pair is separated wrongly.
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
