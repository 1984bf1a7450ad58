"""Numbers of the board: accuracies, rank intervals and ties of all entries, for each group and over data sets.

Entries of a group are compared on the images that all of them answered. Differences and their intervals are those of
`benchmark.method.evaluation.inference`. Under one seed the variance of the difference of entries i and j over clusters
is a sum of squares of differences of contributions u, so all pairs follow from one Gram matrix K:

    V_ij = G / (G - 1) sum_g (u_i(g) - u_j(g))^2 = G / (G - 1) (K_ii + K_jj - 2 K_ij)

Over data sets, the difference of two entries is its mean over the sets that have both, as `inference.pooled_interval`.
Holm adjusts the p-values of all pairs. Entries that look at the target are bounds: they have no rank.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import stdtr

from benchmark.common.errors import IcmBenchError
from benchmark.method.arrays import Array, Ints, Mask
from benchmark.method.evaluation.inference import (
    ImageInterval,
    Scores,
    harmonic_contributions,
    image_intervals,
    pooled_interval,
)
from benchmark.method.evaluation.multiple_testing import holm, rank_bounds
from benchmark.method.evaluation.seed_variance import MIN_UNITS
from benchmark.results.packed import IDENTITY, Entry, GroupKey, Groups, Images

_BLOCK = 2**25  # number of values that are in memory at once
_NEAR = 1e-9  # a Gram matrix gives no variance below this share of the variances of both entries


@dataclass(frozen=True)
class Row:
    """One line of the board: an entry in one group, or over data sets."""

    key: GroupKey  # without fingerprint, folds and seeds if it is the mean over data sets
    sets: tuple[str, ...]  # names of the data sets
    entry: Entry
    interval: ImageInterval  # accuracy, averaged over held-out environments; a harmonic mean for such a group
    images: int  # number of images that all entries answered
    ranked: int  # number of entries with a rank
    best_rank: int | None  # best and worst rank in the interval; None for bounds
    worst_rank: int | None
    tied_with_best: bool

    def record(self) -> dict[str, Any]:
        """Return the line of `board.csv`: column -> value; None if unknown. Accuracies are fractions."""
        key, interval = self.key, self.interval
        accuracies = {"accuracy": interval.estimate, "low": interval.low, "high": interval.high}
        return {
            "sets": "; ".join(self.sets),
            "overall": not key.fingerprint,
            **{name: getattr(key, name) for name in ("protocol", "test_split", "class_half")},
            "folds": key.folds or None,
            "seeds": " ".join(map(str, key.seeds)),
            "fingerprint": key.fingerprint,
            **dict(zip(IDENTITY, self.entry.identity, strict=True)),
            **{"is_plain": self.entry.is_plain, "bound": self.entry.marked, "made_up": self.entry.made_up},
            **{name: None if np.isnan(value) else round(value, 6) for name, value in accuracies.items()},
            **{name: getattr(self, name) for name in ("best_rank", "worst_rank", "ranked", "tied_with_best", "images")},
        }


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Differences of all pairs of entries i < j in the order of `itertools.combinations`, shape (pairs,)."""

    estimate: Array
    variance: Array  # NaN if unknown
    freedom: Array
    clusters: Ints

    @property
    def p(self) -> Array:
        """Two-sided p-values, as `ImageInterval.p`."""
        with np.errstate(divide="ignore", invalid="ignore"):
            p = 2 * stdtr(self.freedom, -abs(self.estimate) / np.sqrt(self.variance))
        constant = np.where(self.estimate == 0, 1.0, 2.0 ** (1 - self.clusters))
        return np.asarray(np.where(self.variance == 0, constant, p))


@dataclass(frozen=True, eq=False)
class _Standings:
    """Results of one group, or over data sets. Entries are sorted by identity; pairs are those without bounds."""

    key: GroupKey
    entries: Sequence[Entry]
    intervals: Sequence[ImageInterval]
    sets: Sequence[tuple[str, ...]]  # data sets of each entry
    images: Sequence[int]
    pairs: _Pairs

    def rows(self) -> list[Row]:
        """Return rows by accuracy, bounds last. Entries with fewer data sets follow others, and are not the best."""
        every = [*zip(self.sets, self.entries, self.intervals, self.images, strict=True)]
        ranked = [(sets, interval) for sets, entry, interval, _ in every if not entry.marked]
        most = max((len(sets) for sets, _ in ranked), default=0)
        means = np.array([one.estimate if len(sets) == most else np.nan for sets, one in ranked])
        standing: Iterator[tuple[Any, ...]] = iter(())
        if ranked:
            ranks = rank_bounds(self.pairs.estimate, holm(self.pairs.p), means)
            i, j = np.triu_indices(len(means), 1)
            best = int(np.nan_to_num(means, nan=-np.inf).argmax())
            for one, other in ((i, j), (j, i)):
                ranks[2][other[(one == best) & np.isnan(self.pairs.estimate)]] = False  # no data set has both
            standing = zip(*(of_all.tolist() for of_all in ranks), strict=True)
        rows = [
            Row(self.key, sets, entry, one, n, len(ranked), *((None, None, False) if entry.marked else next(standing)))
            for sets, entry, one, n in every
        ]
        return sorted(rows, key=lambda x: (x.entry.marked, -len(x.sets), -np.nan_to_num(x.interval.estimate)))


def board(groups: Groups) -> list[Row]:
    """Return the rows of the board: means over data sets first, where there are several, then each group by name.

    The rows of one view are sorted by accuracy, bounds last. If a data set has several groups of the same protocol,
    test split and class half, the one with the most entries counts in means over data sets.

    Raises:
        IcmBenchError: the entries of a group have no common image in an environment.
    """
    standings = [_standings(key, *group) for key, group in sorted(groups.items())]
    alike: dict[tuple[str, str, str], dict[str, _Standings]] = defaultdict(dict)
    for one in standings:
        of_sets = alike[one.key.protocol, one.key.test_split, one.key.class_half]
        other = of_sets.setdefault(one.key.dataset, one)
        if len(one.entries) > len(other.entries):
            of_sets[one.key.dataset] = one
    over_sets = [_over_sets(list(several.values())) for several in alike.values() if len(several) > 1]
    return [row for one in (*over_sets, *standings) for row in one.rows()]


def _standings(key: GroupKey, images: Images, entries: Sequence[Entry]) -> _Standings:
    entries = sorted(entries, key=lambda one: one.identity)
    common = _common(key, images, entries)
    where = [
        np.unique(of_all[common], return_inverse=True)[1] for of_all in (images.held_out, images.seed, images.unit)
    ]
    new = images.half[common] == "new" if key.class_half == "harmonic" else None
    correct = np.array([one.correct[common] for one in entries])
    _, first, alike = np.unique(np.packbits(correct, axis=1), axis=0, return_index=True, return_inverse=True)
    frame = Scores(np.zeros((1, int(common.sum()))), *where)

    def scores_of(rows: Ints) -> Scores:  # of distinct answers: many methods answer like plain prediction
        scores = replace(frame, values=correct[first[rows]].astype(np.float64))
        return scores if new is None else harmonic_contributions(scores, new)

    intervals = [x for rows in _blocks(len(first), frame) for x in image_intervals(scores_of(rows))]
    of_entry = alike.reshape(-1)
    ranked = np.array([k for k, one in zip(of_entry, entries, strict=True) if not one.marked], dtype=np.int64)
    i, j = np.triu_indices(len(ranked), 1)
    estimate, variance, freedom = (of_all[ranked[i], ranked[j]] for of_all in _differences(scores_of, len(first)))
    pairs = _Pairs(estimate, variance, freedom, np.full(len(i), frame.clusters))
    facts = [(key.dataset,)] * len(entries), [len(np.unique(images.sample[common]))] * len(entries)
    return _Standings(key, entries, [intervals[k] for k in of_entry], *facts, pairs)


def _common(key: GroupKey, images: Images, entries: Sequence[Entry]) -> Mask:
    """Return a mask of the images that all entries answered; refuse a group without any in an environment."""
    common = np.asarray(np.array([one.answered for one in entries]).all(axis=0), dtype=bool)
    halves = images.half if key.class_half == "harmonic" else np.full(len(common), "all")
    cells = list(zip(images.held_out.tolist(), images.seed.tolist(), halves.tolist(), strict=True))
    if missing := set(cells) - {cell for cell, there in zip(cells, common, strict=True) if there}:
        fewest = min(entries, key=lambda one: int(one.answered.sum()))
        raise IcmBenchError(
            f"The records of {key.dataset} have no common image in the environment {min(missing)[0]}; remove "
            f"{fewest.record}, which has the fewest images."
        )
    return common


def _blocks(rows: int, frame: Scores) -> list[Ints]:
    """Return row numbers in blocks whose values fit into memory."""
    size = max(1, _BLOCK // frame.values.shape[-1])
    return [np.arange(start, min(start + size, rows)) for start in range(0, rows, size)]


def _differences(scores_of: Callable[[Ints], Scores], rows: int) -> tuple[Array, Array, Array]:
    """Return estimate, variance and degrees of freedom of all differences of two rows, shape (rows, rows) each.

    `scores_of` returns the scores of some rows. A variance is NaN if it is unknown.
    """
    frame = scores_of(np.arange(1))
    blocks, clusters = _blocks(rows, frame), frame.clusters
    means, gram = np.empty(rows), np.empty((rows, rows))
    for k, block in enumerate(blocks):
        scores = scores_of(block)
        means[block] = scores.means.mean(axis=(-2, -1))
        for other in blocks[: k + 1]:
            added = scores.added if other is block else scores_of(other).added
            gram[np.ix_(block, other)] = scores.added @ added.T
            gram[np.ix_(other, block)] = gram[np.ix_(block, other)].T
    estimate, freedom = means[:, None] - means, np.full((rows, rows), clusters - 1.0)
    both = gram.diagonal()[:, None] + gram.diagonal()
    variance = clusters / max(1, clusters - 1) * (both - 2 * gram)
    np.fill_diagonal(variance, 0.0)
    if frame.min_clusters < MIN_UNITS:
        return estimate, np.full_like(variance, np.nan), freedom
    exact = np.triu(variance <= _NEAR * both if frame.seeds == 1 else np.full((rows, rows), True), 1)
    i, j = np.nonzero(exact)
    for block in _blocks(len(i), frame):
        scores = scores_of(i[block])
        scores = replace(scores, values=scores.values - scores_of(j[block]).values)
        for a, b, one in zip(i[block], j[block], image_intervals(scores), strict=True):
            estimate[a, b], estimate[b, a] = one.estimate, -one.estimate
            variance[a, b] = variance[b, a] = one.standard_error**2
            freedom[a, b] = freedom[b, a] = one.degrees_of_freedom
    return estimate, variance, freedom


def _over_sets(several: Sequence[_Standings]) -> _Standings:
    """Return the means over data sets; pairs are pooled over the sets that have both, as by `pooled_interval`."""
    found: dict[tuple[tuple[str, ...], bool], list[tuple[Entry, ImageInterval, str, int]]] = defaultdict(list)
    for one in several:
        for entry, interval, n in zip(one.entries, one.intervals, one.images, strict=True):
            found[entry.identity, entry.marked].append((entry, interval, one.key.dataset, n))
    every = [[*zip(*found[key], strict=True)] for key in sorted(found)]
    entries = [of_sets[0] for of_sets, *_ in every]
    number = {one.identity: k for k, one in enumerate(one for one in entries if not one.marked)}
    n = len(number)
    estimate, variance, freedom, clusters = np.full((4, len(several), n * (n - 1) // 2), np.nan)
    for k, one in enumerate(several):
        own = np.array([number[entry.identity] for entry in one.entries if not entry.marked], dtype=np.int64)
        first, second = np.triu_indices(len(own), 1)
        i, j = own[first], own[second]  # i < j
        at = i * (2 * n - i - 1) // 2 + j - i - 1
        estimate[k, at], variance[k, at], freedom[k, at], clusters[k, at] = vars(one.pairs).values()
    shared = ~np.isnan(estimate)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(shared, variance / shared.sum(axis=0) ** 2, 0.0)
        pooled, means = parts.sum(axis=0), np.where(shared, estimate, 0.0).sum(axis=0) / shared.sum(axis=0)
        satterthwaite = pooled**2 / np.where(shared, parts**2 / freedom, 0.0).sum(axis=0)
    highest, lowest = np.where(shared, estimate, -np.inf).max(axis=0), np.where(shared, estimate, np.inf).min(axis=0)
    pooled[(pooled == 0) & (highest > lowest)] = np.nan
    pairs = _Pairs(means, pooled, satterthwaite, np.nansum(clusters, axis=0))
    intervals = [pooled_interval(of_sets) for _, of_sets, *_ in every]
    key = replace(several[0].key, fingerprint="", folds=0, seeds=())
    return _Standings(key, entries, intervals, [sets for *_, sets, _ in every], [sum(n) for *_, n in every], pairs)
