"""Variance between the means of seeds that their test images do not explain.

Two seeds share some test images, but not all; shared images are classified by a fit of each seed. Let D_shared be the
difference between the means of two seeds on shared clusters, D_apart the difference on other clusters, and v_shared and
v_apart the cluster-robust variances of these differences. With the weights of Aitken (1935), the difference delta of
two seeds and its variance e over images are

    delta = (D_shared / v_shared + D_apart / v_apart) e        e = 1 / (1 / v_shared + 1 / v_apart)

If two seeds agree on shared images, v_shared is small, so this part has a large weight. If one of the two parts is
missing, or has fewer than `MIN_UNITS` clusters in an environment, delta and e are computed from all images together.
Over all pairs of the S seeds

    V_seed = (S - 1) / S  max(0, mean delta^2 - mean e) / 2 / S

The mean of delta^2 / 2 over pairs is a variance with only S - 1 degrees of freedom. If seeds did not differ, its
expectation would be mean e / 2. As in the shrinkage of variances from small samples (Smyth, 2004), the variance is
averaged with this expectation, which has the weight of one degree of freedom. Hence the factor (S - 1) / S and S
degrees of freedom.

With more than `GROUP` seeds, only pairs within up to `MAX_GROUPS` groups of consecutive seeds are used. 256 seeds are
enough: they determine the variance to a tenth, and V_seed is this variance divided by S. The degrees of freedom are
then the number of seeds in these groups, minus one for each group after the first.

All pairs are computed at once. Let c and d be the number of images and the sum of values of each cluster under a seed
in an environment. For a pair of seeds, products of c, d and the indicator that the other seed has the cluster are
summed over clusters. For all pairs these sums are products of (seeds, clusters) matrices. Sums of squared deviations
are expanded into such sums.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np

from benchmark.method.arrays import Array, Floats, Ints, Labels, Mask

MIN_UNITS = 30  # minimum number of clusters in an environment for an interval or a variance
GROUP, MAX_GROUPS = 64, 4  # seeds per group and number of groups, if there are more than `GROUP` seeds
_ROWS = 32  # number of rows of seed matrices that fit into the processor's cache
_EXACT = 2**24  # float32 has all whole numbers up to this one

Matrix = Floats


class Design(NamedTuple):
    """Environment, seed and cluster of each value, all numbered from 0, shape (n,) each."""

    environment: Labels
    seed: Labels
    cluster: Labels

    def of(self, rows: Mask) -> "Design":
        """Return the design of only those values that a mask selects."""
        return Design(*(of_all[rows] for of_all in self))


class Products(NamedTuple):
    """Sums over clusters of products of two factors: the values or counts in one environment, and those in another.

    The fields are value x value, count x value, value x count and count x count. Their shape is (seeds, seeds), or
    (seeds, 1) if they do not depend on another seed.
    """

    values: Array
    counts_values: Array
    values_counts: Array
    counts: Array


Sums = dict[tuple[int, int], Products]  # (environment, environment) -> sums


def seed_variance(values: Array, where: Design, pairs: "SeedPairs | None" = None) -> Array:
    """Return V_seed, the variance of the mean over seeds that test images do not explain, shape (methods,).

    `values`: correctness or a difference of correctness, shape (methods, n). Every seed must have values in every
    environment.
    """
    pairs = pairs or SeedPairs(where)
    seeds = pairs.seeds
    if seeds == 1:
        return np.zeros(len(values))
    found = []
    for of_method in values:
        delta, e = (np.concatenate(of_all) for of_all in zip(*pairs.in_groups(of_method), strict=True))
        found.append(np.mean(np.square(delta)) - np.mean(e))
    return np.asarray((seeds - 1) / seeds * np.maximum(0, np.array(found)) / 2 / seeds)


@dataclass(frozen=True, eq=False)
class SeedPairs:
    """All pairs of seeds. Matrices that do not depend on values are cached; they have one row for each seed."""

    where: Design  # environment, seed and cluster of each value
    # environment -> the same object for the values of this environment; None (default) if unknown
    alone: "Callable[[int], SeedPairs] | None" = None
    _last: "dict[int, tuple[Matrix, tuple[Array, Array, Array]]]" = field(default_factory=dict, repr=False)

    @cached_property
    def seeds(self) -> int:
        """Number of seeds."""
        return int(self.where.seed.max()) + 1

    @cached_property
    def _groups(self) -> "list[tuple[Mask, SeedPairs]]":
        """For each of some evenly spaced groups of at most `GROUP` seeds: a mask of its values, and its pairs."""
        found: list[tuple[Mask, SeedPairs]] = []
        groups = np.array_split(np.arange(self.seeds), -(-self.seeds // GROUP))
        taken = np.unique(np.linspace(0, len(groups) - 1, min(len(groups), MAX_GROUPS)).astype(int))
        for of_group in [groups[i] for i in taken]:
            first, last = of_group[0], of_group[-1]
            inside = (first <= self.where.seed) & (self.where.seed <= last)
            where = self.where.of(inside)
            alone = partial(self._alone_in, len(found)) if self.alone else None
            found.append((inside, SeedPairs(where._replace(seed=where.seed - first), alone)))
        return found

    def _alone_in(self, group: int, environment: int) -> "SeedPairs":
        assert self.alone
        return self.alone(environment)._groups[group][1]

    @property
    def freedom(self) -> int:
        """Degrees of freedom of V_seed: the number of seeds used, minus one for each group after the first."""
        return self.seeds if self.seeds <= GROUP else sum(p.seeds - 1 for _, p in self._groups) + 1

    def in_groups(self, values: Array) -> list[tuple[Array, Array]]:
        """Return for each group of seeds what `differences` returns for its pairs: delta and e.

        `values` are those of one method under all seeds, shape (n,).
        """
        if self.seeds <= GROUP:
            return [self.differences(values)]
        return [pairs.differences(values[inside]) for inside, pairs in self._groups]

    @cached_property
    def _rows(self) -> list[Labels]:
        """Positions of the values of each environment."""
        order = np.argsort(self.where.environment, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(self.where.environment[order])) + 1)

    @cached_property
    def _clusters(self) -> list[tuple[Labels, Labels]]:
        """For each environment: its clusters, ascending; each value's index in a flat (seeds, clusters) matrix."""
        found = []
        for rows in self._rows:
            names, number = np.unique(self.where.cluster[rows], return_inverse=True)
            found.append((names, self.where.seed[rows] * len(names) + number))
        return found

    def _matrix(self, environment: int, values: Array | None) -> Matrix:
        """Return the sum of values of each cluster under each seed, shape (seeds, clusters); for None their number."""
        names, place = self._clusters[environment]
        shape = self.seeds, len(names)
        if values is None:
            return np.asarray(np.bincount(place, minlength=shape[0] * shape[1]).reshape(shape), dtype=np.float32)
        sums = np.bincount(place, values[self._rows[environment]], shape[0] * shape[1])
        return np.asarray(sums.reshape(shape), dtype=np.float64)

    @cached_property
    def _counts(self) -> list[Matrix]:
        """For each environment the number of images of each cluster under each seed, shape (seeds, clusters)."""
        return [self._matrix(e, None) for e in range(len(self._rows))]

    @cached_property
    def _there(self) -> Matrix:
        """Whether each seed has each cluster in any environment, shape (seeds, all clusters)."""
        there = np.zeros((self.seeds, int(self.where.cluster.max()) + 1), dtype=np.float32)
        there[self.where.seed, self.where.cluster] = 1
        return there

    @cached_property
    def _present(self) -> list[Matrix]:
        """For each environment the columns of `_there` for the clusters of this environment."""
        return [self._there[:, names] for names, _ in self._clusters]

    @cached_property
    def _single(self) -> bool:
        """Whether each cluster is a single image of a single environment."""
        once = all(np.array_equal(c, there) for c, there in zip(self._counts, self._present, strict=True))
        return once and not self._common

    @cached_property
    def _common(self) -> list[tuple[int, int, Labels, Labels]]:
        """Pairs of different environments with common clusters, and the indices of these clusters in both."""
        found = []
        for e, (names, _) in enumerate(self._clusters):
            for f, (others, _) in enumerate(self._clusters[:e]):
                _, of_e, of_f = np.intersect1d(names, others, assume_unique=True, return_indices=True)
                found += [(e, f, of_e, of_f)] if len(of_e) else []
        return found

    @cached_property
    def _images(self) -> Array:
        """Number of images of each environment under a seed, shape (environments, seeds, 1)."""
        return _totals(self._counts)

    @cached_property
    def _shared_images(self) -> Array:
        """Number of images of a seed in clusters that another seed also has, (environments, seeds, other seeds)."""
        if self._single and self.alone:
            return np.concatenate([self.alone(e)._shared_images for e in range(len(self._rows))])
        return np.array([_times(c, there) for c, there in zip(self._counts, self._present, strict=True)])

    @cached_property
    def _clusters_of_two(self) -> tuple[Array, Array]:
        """Two (seeds, seeds) matrices: the number of clusters that both seeds have, and that only one has."""
        both = self._shared_images.sum(axis=0) if self._single else _times(self._there, self._there)
        own = self._there.sum(axis=1, dtype=np.float64)[:, None]
        return both, own + own.T - 2 * both

    @cached_property
    def _of_pairs(self) -> "tuple[tuple[Ints, ...], Mask, list[Array]]":
        """Three facts about the pairs of seeds s < t.

        They are: the matrix indices of the pairs; whether shared clusters and other clusters have a difference each;
        and the minimum variances of these two differences.
        """
        some = [(c > 0).astype(np.float32) for c in self._counts]
        shared = self._shared_images
        if not self._single:
            shared = np.array([_times(c, there) for c, there in zip(some, self._present, strict=True)])
        of_seeds = shared.min(axis=0), (_totals(some) - shared).min(axis=0)  # clusters: the minimum over environments
        upper = np.triu_indices(self.seeds, 1)
        fewest = [np.minimum(of_part, of_part.T)[upper] for of_part in of_seeds]
        in_parts = np.minimum(*fewest) >= MIN_UNITS
        # If no prediction differs, the variance is not 0: assume one more image with a different prediction.
        with np.errstate(divide="ignore"):
            return upper, in_parts, [1 / (len(self._rows) * of_part) ** 2 for of_part in fewest]

    def differences(self, values: Array) -> tuple[Array, Array]:
        """Return delta and e of all pairs of seeds, shape (pairs,) each, for values of one method, shape (n,)."""
        d = self._sums(values)
        both, apart = self._clusters_of_two
        upper, in_parts, floors = self._of_pairs
        everything, total = _totals(d), self._own(d, None)
        sums, own, cross = self._with_others(d)
        delta, e = np.zeros(len(in_parts)), np.zeros(len(in_parts))
        if not in_parts.all():
            found = _contrast(self._images, everything, total, both + apart, cross)
            delta, e = (of_all[upper] for of_all in found)
        if not in_parts.any():
            return delta, e
        rest = {key: Products(*(a - b for a, b in zip(total[key], own[key], strict=True))) for key in own}
        with np.errstate(divide="ignore", invalid="ignore"):
            shared = _contrast(self._shared_images, sums, own, both, cross)
            others = _contrast(self._images - self._shared_images, everything - sums, rest, apart, None)
            parts = [[of_all[upper] for of_all in part] for part in (shared, others)]
            weights = [1 / np.maximum(v, floor) for (_, v), floor in zip(parts, floors, strict=True)]
            together = 1 / (weights[0] + weights[1])
            weighted = together * (weights[0] * parts[0][0] + weights[1] * parts[1][0])
        return np.where(in_parts, weighted, delta), np.where(in_parts, together, e)

    def _sums(self, values: Array) -> list[Matrix]:
        """Return for each environment the sums of values by seed and cluster, in float32 if products stay exact."""
        sums = [self._matrix(e, values) for e in range(len(self._rows))]
        whole = all((d == np.rint(d)).all() and np.square(d).sum(axis=1).max() < _EXACT for d in sums)
        return [d.astype(np.float32) for d in sums] if whole else sums

    def _with_others(self, d: Sequence[Matrix]) -> tuple[Array, Sums, Sums]:
        """Return three kinds of sums over the clusters that another seed also has.

        They are the sums of values, the sums of products within a seed (`_own`), and between two seeds (`_cross`).
        """
        if not self._single:
            sums = np.array([_times(v, there) for v, there in zip(d, self._present, strict=True)])
            return sums, self._own(d, self._present), self._cross(d)
        of_each = [self._of_single(e, v) for e, v in enumerate(d)]  # images of one environment count once
        own, cross = {}, {}
        for e, ((of_values, squares, products), images) in enumerate(zip(of_each, self._shared_images, strict=True)):
            own[e, e] = Products(squares, of_values, of_values, images)
            cross[e, e] = Products(products, of_values.T, of_values, images)
        return np.array([of_values for of_values, _, _ in of_each]), own, cross

    def _of_single(self, environment: int, values: Matrix) -> tuple[Array, Array, Array]:
        """Return sums over the images that two seeds share: of values, of squares, and of products of both values.

        Each has the shape (seeds, seeds). The last result is cached, since environments are used together and then each
        alone.
        """
        if self.alone:
            return self.alone(environment)._of_single(0, values)
        if environment not in self._last or not np.array_equal(self._last[environment][0], values):
            there, squares = self._present[environment], values * values
            sums = _times(values, there)
            of_squares = sums if np.array_equal(squares, values) else _times(squares, there)
            self._last[environment] = values, (sums, of_squares, _times(values, values))
        return self._last[environment][1]

    def _own(self, d: Sequence[Matrix], present: Sequence[Matrix] | None) -> Sums:
        """Return sums of products within each seed.

        If `present` is None they are over all clusters, otherwise over the clusters that another seed also has.
        """

        def over(products: Matrix, environment: int, clusters: Labels | slice = slice(None)) -> Array:
            if present is None:
                return products.sum(axis=1, dtype=np.float64)[:, None]
            return _times(products, present[environment][:, clusters])

        found: Sums = {}
        for e, (values, counts) in enumerate(zip(d, self._counts, strict=True)):
            both = over(values if self._single else counts * values, e)  # counts are 0 or 1, so the count is implied
            images = self._images[e] if self._single and present is None else over(counts * counts, e)
            found[e, e] = Products(over(values * values, e), both, both, images)
        for e, f, of_e, of_f in self._common:
            (v, c), (w, n) = (d[e][:, of_e], self._counts[e][:, of_e]), (d[f][:, of_f], self._counts[f][:, of_f])
            found[e, f] = Products(*(over(products, e, of_e) for products in (v * w, c * w, v * n, c * n)))
        return found

    def _cross(self, d: Sequence[Matrix]) -> Sums:
        """Return for each pair of seeds the sums of products of a value or count of one seed and one of the other."""
        found: Sums = {}
        for e, (v, c) in enumerate(zip(d, self._counts, strict=True)):
            mixed = _times(v, c)
            found[e, e] = Products(_times(v, v), mixed.T, mixed, _times(c, c))
        for e, f, of_e, of_f in self._common:
            (v, c), (w, n) = (d[e][:, of_e], self._counts[e][:, of_e]), (d[f][:, of_f], self._counts[f][:, of_f])
            values, counts_values, values_counts, counts = (_times(*pair) for pair in ((v, w), (c, w), (v, n), (c, n)))
            found[e, f] = Products(values, counts_values, values_counts, counts)
            found[f, e] = Products(values.T, values_counts.T, counts_values.T, counts.T)
        return found


def _times(a: Matrix, b: Matrix) -> Array:
    """For each pair of seeds, multiply their values cluster by cluster and add the products; shape (seeds, seeds)."""
    return np.asarray(a @ b.T, dtype=np.float64)


def _totals(matrices: Sequence[Matrix]) -> Array:
    return np.array([of_one.sum(axis=1, dtype=np.float64)[:, None] for of_one in matrices])


def _contrast(images: Array, sums: Array, own: Sums, clusters: Array, cross: Sums | None) -> Array:
    """Return two matrices for pairs of seeds i < j, shape (2, seeds, seeds); other entries are not valid.

    The first is the mean under seed i minus the mean under seed j, the second the variance of this difference over
    clusters. They are computed in blocks of rows that fit into the processor's cache. `images` and `sums`: number of
    images and sum of values, shape (environments, seeds, seeds or 1). `clusters`: number of clusters, shape (seeds,
    seeds). `own` and `cross`: sums of products within a seed and between two seeds.
    """
    seeds, shape = len(clusters), (len(images), len(clusters), len(clusters))
    means, weights = np.broadcast_to(sums / images, shape), np.broadcast_to(1 / (images * len(images)), shape)
    blocks = [slice(begin, begin + _ROWS) for begin in range(0, seeds, _ROWS)]
    squares = np.zeros((seeds, seeds))  # sums over clusters of squared contributions of a seed
    for rows in blocks:
        m, w = means[:, rows], weights[:, rows]
        for (e, f), products in own.items():
            values, counts_values, values_counts, counts = (of_all[rows] for of_all in products)
            added = values - m[e] * counts_values - m[f] * values_counts + m[e] * m[f] * counts
            squares[rows] += (1 if e == f else 2) * w[e] * w[f] * added
    found = np.zeros((2, seeds, seeds))
    for rows in blocks:
        later = slice(rows.start, None)
        m, w = means[:, rows, later], weights[:, rows, later]
        n, v = (of_all[:, later, rows].swapaxes(1, 2) for of_all in (means, weights))  # under the other seed
        of_both = squares[rows, later] + squares[later, rows].T
        for (e, f), products in (cross or {}).items():
            values, counts_values, values_counts, counts = (of_all[rows, later] for of_all in products)
            added = values - m[e] * counts_values - n[f] * values_counts + m[e] * n[f] * counts
            of_both = of_both - 2 * w[e] * v[f] * added
        size = clusters[rows, later]
        found[0, rows, later], found[1, rows, later] = (m - n).mean(axis=0), size / (size - 1) * np.maximum(0, of_both)
    return found
