"""What the means of seeds differ by, beyond what their images explain.

Two seeds test some images both, with the answers of two fits, and others apart. With D_shared the difference of their
means on the images of shared clusters and D_apart that on the others, v_shared and v_apart their cluster-robust
variances, the difference of two seeds and what images explain of it are, weighted as Aitken (1935) does,

    delta = (D_shared / v_shared + D_apart / v_apart) e        e = 1 / (1 / v_shared + 1 / v_apart)

so that fits which agree on the images that both test are not suspected because of the others. Where one kind is
missing, or an environment has fewer than `MIN_UNITS` clusters of it, delta and e are those of all images. Over all
pairs of seeds

    V_seed = (S - 1) / S  max(0, mean delta^2 - mean e) / 2 / S

The mean of delta^2 / 2 over pairs is a variance with S - 1 degrees of freedom, which are few. As is done where many
variances are estimated from little each (Smyth, 2004), it is averaged with what is expected where seeds do not differ,
mean e / 2, that one counting as one more degree: hence the factor (S - 1) / S, and S degrees of freedom.
"""

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmark.method.arrays import Array, Labels

MIN_UNITS = 30  # clusters; with fewer in an environment there is no interval, nor a variance that weighs anything


class Answers(NamedTuple):
    """Where answers belong: numbers from 0 of environment, seed and cluster, shape (n,) each."""

    environment: Labels
    seed: Labels
    cluster: Labels

    def of(self, rows: NDArray[np.bool_]) -> "Answers":
        """Return those of some answers alone."""
        return Answers(*(of_all[rows] for of_all in self))


def seed_variance(values: Array, where: Answers) -> Array:
    """Return V_seed, the part of the variance of the mean over seeds that images do not explain, shape (methods,).

    Args:
        values: correctness or its difference, shape (methods, n).
        where: what they belong to; every seed has every environment.
    """
    seeds = int(where.seed.max()) + 1
    if seeds == 1:
        return np.zeros(len(values))
    squares, explained = [], []
    for s, t in combinations(range(seeds), 2):
        pair = (where.seed == s) | (where.seed == t)
        delta, e = _difference(values[:, pair], where.of(pair), s)
        squares.append(delta**2)
        explained.append(e)
    excess = np.mean(squares, axis=0) - np.mean(explained, axis=0)
    return np.asarray((seeds - 1) / seeds * np.maximum(0, excess) / 2 / seeds)


def _difference(values: Array, where: Answers, first: int) -> tuple[Array, Array]:
    """Return delta and e of two seeds, shape (methods,) each."""
    both = np.intersect1d(where.cluster[where.seed == first], where.cluster[where.seed != first])
    shared = np.isin(where.cluster, both)
    parts = [(values[:, rows], where.of(rows)) for rows in (shared, ~shared)]
    environments = int(where.environment.max()) + 1
    fewest = [min(_clusters_of_cells(of_part, first, environments)) for _, of_part in parts]
    if min(fewest) < MIN_UNITS:
        return _contrast(values, where, first)
    found = [_contrast(*part, first) for part in parts]
    # No answer that changed is not none that ever does: one more image that does is what there may be.
    floors = [1 / (environments * n) ** 2 for n in fewest]
    weights = np.array([1 / np.maximum(v, floor) for (_, v), floor in zip(found, floors, strict=True)])
    e = 1 / weights.sum(axis=0)
    return e * np.sum([w * delta for w, (delta, _) in zip(weights, found, strict=True)], axis=0), e


def _clusters_of_cells(where: Answers, first: int, environments: int) -> Iterator[int]:
    """Yield the number of clusters of each environment under each of two seeds."""
    for of_seed in (where.seed == first, where.seed != first):
        for environment in range(environments):
            yield len(np.unique(where.cluster[of_seed & (where.environment == environment)]))


def _contrast(values: Array, where: Answers, first: int) -> tuple[Array, Array]:
    """Return mean under the first of two seeds minus that under the other, and its variance over clusters."""
    later = (where.seed != first).astype(np.int64)
    cell = 2 * where.environment + later
    counts = np.bincount(cell)
    weights = np.where(later, -1, 1) / counts[cell] / (len(counts) // 2)
    order, starts = np.argsort(cell, kind="stable"), np.concatenate([[0], np.cumsum(counts)[:-1]])
    means = np.add.reduceat(values[:, order], starts, axis=1) / counts
    deviations = (values - means[:, cell]) * weights
    order = np.argsort(where.cluster, kind="stable")
    starts = np.flatnonzero(np.diff(where.cluster[order], prepend=-1))
    u = np.add.reduceat(deviations[:, order], starts, axis=1)
    variance = len(starts) / (len(starts) - 1) * np.square(u).sum(axis=1)
    return (means[:, 0::2] - means[:, 1::2]).mean(axis=1), np.asarray(variance)
