"""Numbers of the board: accuracies, rank intervals and ties of all entries, for each group and over data sets.

Entries of a group are compared on the images that all of them answered. Differences and their intervals are those of
`benchmark.method.evaluation.inference`. Under one seed the variance of the difference of entries i and j over clusters
is a sum of squares of differences of contributions u, so all pairs follow from one Gram matrix K:

    V_ij = G / (G - 1) sum_g (u_i(g) - u_j(g))^2 = G / (G - 1) (K_ii + K_jj - 2 K_ij)

Over data sets, the difference of two entries is its mean over the sets that have both, as `inference.pooled_interval`.
Holm adjusts the p-values of all pairs. Entries that look at the target are bounds: they have no rank.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

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
from benchmark.results.packed import Entry, GroupKey, Groups, Images

_BLOCK = 2**25  # number of values that are in memory at once
_NEAR = 1e-9  # a Gram matrix gives no variance below this share of the variances of both entries


@dataclass(frozen=True)
class Row:
    """One line of the board: an entry in one group, or over data sets."""

    sets: str  # names of the data sets, separated by "; "
    overall: bool  # whether it is the mean over data sets
    protocol: str
    test_split: str
    class_half: str
    folds: str  # empty over data sets, like `seeds` and `fingerprint`
    seeds: str
    fingerprint: str
    model_id: str
    encoder: str
    method: str
    predictor: str
    rule: str
    variant: str
    is_plain: bool
    bound: bool  # whether it looks at the target; then it has no rank
    accuracy: float  # mean over held-out environments; a harmonic mean if `class_half` is "harmonic"
    low: float  # ends of its interval over images; NaN if there is none
    high: float
    best_rank: int | None  # best and worst rank in the interval
    worst_rank: int | None
    ranked: int  # number of entries with a rank
    tied_with_best: bool
    images: int  # number of images that all entries answered
    made_up: bool


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
    """Results of one group. Entries are sorted by identity; pairs are those of the entries that are no bounds."""

    key: GroupKey
    entries: Sequence[Entry]
    intervals: Sequence[ImageInterval]
    images: int
    pairs: _Pairs

    @property
    def ranked(self) -> list[Entry]:
        """The entries with a rank."""
        return [one for one in self.entries if not one.marked]


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
    return [row for rows in (*over_sets, *map(_of_group, standings)) for row in rows]


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
    tested = len(np.unique(images.sample[common]))
    return _Standings(key, entries, [intervals[k] for k in of_entry], tested, pairs)


def _common(key: GroupKey, images: Images, entries: Sequence[Entry]) -> Mask:
    """Return a mask of the images that all entries answered; refuse a group without any in an environment."""
    common = np.array([one.answered for one in entries]).all(axis=0)
    halves = images.half if key.class_half == "harmonic" else np.full(len(common), "all")
    cells = list(zip(images.held_out.tolist(), images.seed.tolist(), halves.tolist(), strict=True))
    if missing := set(cells) - {cell for cell, there in zip(cells, common, strict=True) if there}:
        fewest = min(entries, key=lambda one: int(one.answered.sum()))
        raise IcmBenchError(
            f"The records of {key.dataset} have no common image in the environment {min(missing)[0]}; remove "
            f"{fewest.record}, which has the fewest images."
        )
    return np.asarray(common)


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


def _over_sets(several: Sequence[_Standings]) -> list[Row]:
    """Return the rows of the means over data sets: pairs are pooled over the sets that have both entries."""
    of_entry: dict[tuple[str, ...], list[tuple[_Standings, Entry, ImageInterval]]] = defaultdict(list)
    for of_set in several:
        for entry, interval in zip(of_set.entries, of_set.intervals, strict=True):
            of_entry[entry.identity].append((of_set, entry, interval))
    of_entry = dict(sorted(of_entry.items()))
    entries = [own[0][1] for own in of_entry.values()]
    number = {one.identity: k for k, one in enumerate(one for one in entries if not one.marked)}
    pairs, counts = _pooled(several, number)
    intervals = [pooled_interval([interval for _, _, interval in own]) for own in of_entry.values()]
    sets = [[of_set.key.dataset for of_set, _, _ in own] for own in of_entry.values()]
    images = [sum(of_set.images for of_set, _, _ in own) for own in of_entry.values()]
    means = np.array([one.estimate for one, entry in zip(intervals, entries, strict=True) if not entry.marked])
    number_of_sets = np.array([len(own) for own, entry in zip(sets, entries, strict=True) if not entry.marked])
    means[number_of_sets < number_of_sets.max(initial=0)] = np.nan  # the best has all sets
    i, j = np.triu_indices(len(means), 1)
    highest, lowest, tied = rank_bounds(pairs.estimate, holm(pairs.p), means)
    best = int(np.nan_to_num(means, nan=-np.inf).argmax())
    for one, other in ((i, j), (j, i)):
        tied[other[(one == best) & (counts == 0)]] = False  # no set has both
    key = replace(several[0].key, fingerprint="", folds=0, seeds=())
    return _rows(key, entries, intervals, sets, images, (highest, lowest, tied))


def _pooled(several: Sequence[_Standings], number: Mapping[tuple[str, ...], int]) -> tuple[_Pairs, Ints]:
    """Return all pairs of the numbered entries, pooled as by `inference.pooled_interval`, and their numbers of sets."""
    n = len(number)
    estimate, variance, of_freedom = np.zeros((3, n * (n - 1) // 2))
    least, most = np.full(len(estimate), np.inf), np.full(len(estimate), -np.inf)
    counts, clusters = np.zeros((2, len(estimate)), dtype=np.int64)
    for one in several:
        own = np.array([number[entry.identity] for entry in one.ranked], dtype=np.int64)  # ascending
        first, second = np.triu_indices(len(own), 1)
        i, j = own[first], own[second]
        at = i * (2 * n - i - 1) // 2 + j - i - 1
        estimate[at] += one.pairs.estimate
        variance[at] += one.pairs.variance
        of_freedom[at] += one.pairs.variance**2 / one.pairs.freedom
        least[at], most[at] = np.minimum(least[at], one.pairs.estimate), np.maximum(most[at], one.pairs.estimate)
        counts[at] += 1
        clusters[at] += one.pairs.clusters
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom, estimate, pooled = variance**2 / of_freedom, estimate / counts, variance / counts**2
    pooled[(variance == 0) & (least != most)] = np.nan
    return _Pairs(estimate, pooled, freedom, clusters), counts


def _of_group(one: _Standings) -> list[Row]:
    means = np.array([x.estimate for x, entry in zip(one.intervals, one.entries, strict=True) if not entry.marked])
    ranks = rank_bounds(one.pairs.estimate, holm(one.pairs.p), means)
    sets, images = [[one.key.dataset]] * len(one.entries), [one.images] * len(one.entries)
    return _rows(one.key, one.entries, one.intervals, sets, images, ranks)


def _rows(
    key: GroupKey,
    entries: Sequence[Entry],
    intervals: Sequence[ImageInterval],
    sets: Sequence[Sequence[str]],
    images: Sequence[int],
    ranks: tuple[Ints, Ints, Mask],
) -> list[Row]:
    """Return rows by accuracy, bounds last; `ranks` are those of the entries that are no bounds."""
    rows, standing = [], iter(zip(*(of_all.tolist() for of_all in ranks), strict=True))
    for entry, interval, of, n in zip(entries, intervals, sets, images, strict=True):
        best, worst, tied = (None, None, False) if entry.marked else next(standing)
        rows.append(
            Row(
                "; ".join(of), not key.fingerprint, key.protocol, key.test_split, key.class_half,
                str(key.folds) if key.fingerprint else "", " ".join(map(str, key.seeds)), key.fingerprint,
                *entry.identity, entry.is_plain, entry.marked, interval.estimate, interval.low, interval.high,
                best, worst, len(ranks[0]), tied, n, entry.made_up,
            )
        )  # fmt: skip
    order = sorted(range(len(rows)), key=lambda k: (rows[k].bound, -len(sets[k]), -np.nan_to_num(rows[k].accuracy)))
    return [rows[k] for k in order]
