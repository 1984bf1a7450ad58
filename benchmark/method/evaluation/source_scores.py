"""Selection scores on source environments, and standard errors of their differences to plain prediction.

A metric is computed on the validation images of each source environment s, with all folds together. The score is its
mean over the S sources. Let d_i be the difference in correctness on image i between a candidate and plain prediction,
mean_s its mean over the n_s images of s, and G the number of clusters. The standard error SE is (METHOD, section 10)

    SE^2 = G / (G - 1) sum_g u(g)^2,   u(g) = sum over sources s and images i of g of (d_i - mean_s) / (n_s S)

A cluster g is a group if images come in groups, otherwise an image. For class-balanced accuracy d_i is centred at the
mean of its class in s, and has the weight 1 / (n_{s,class} C_s S) for C_s classes in s. If a class has one image, its
d_i is centred at mean_s. For other metrics the standard error comes from a delete-a-group jackknife.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np

from benchmark.method.arrays import Array, Labels, Values
from benchmark.method.evaluation.metrics import Accuracy, Answers, Balanced, Metric

SETS = 200  # number of sets of clusters that the jackknife leaves out in turn
Given = Values  # what a predictor gives for images: correctness (bool) or predicted classes (uint16)


@dataclass(frozen=True)
class ValidationImages:
    """Validation images for one held-out environment and fold, ordered by source."""

    metric: Metric  # metric of correctness or of predictions
    label: Labels  # class of each image, shape (n,)
    source: Labels  # number of the source of each image, ascending, shape (n,)
    cluster: Labels  # number of the group of each image, or of the image, shape (n,)
    classes: int  # number of classes

    @cached_property
    def _parts(self) -> list[slice]:
        """Slices of the images of each source."""
        ends = [*(np.flatnonzero(np.diff(self.source)) + 1).tolist(), len(self.source)]
        return [slice(a, b) for a, b in zip([0, *ends], ends, strict=False) if b > a]

    def score(self, given: Given) -> Array:
        """Return the scores of predictions, shape (...,); NaN without images.

        `given`: correctness or predicted classes, shape (..., n).
        """
        values = [self._of_source(given[..., part], self.label[part]) for part in self._parts]
        if not values:
            return np.full(given.shape[:-1], np.nan)
        accuracies = np.array(values)
        known = ~np.isnan(accuracies)
        count = known.sum(axis=0)
        return np.asarray(np.where(count, np.where(known, accuracies, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan))

    def error(self, given: Given, plain: Given) -> Array:
        """Return standard errors of the differences in score to plain prediction, paired by image, shape (...,).

        `given` has the shape (..., n); `plain` is plain prediction, shape (n,). A standard error is 0 if both agree on
        all images, and NaN with fewer than two clusters.
        """
        if self._clusters < 2:
            return np.full(given.shape[:-1], np.nan)
        if not isinstance(self.metric, Accuracy | Balanced):
            return self._jackknife(given, plain)
        # d is -1, 0 or 1 for each image. So its sums over a stratum, and those of its squares, are counts.
        sums, sizes = self._counts(given) - self._counts(plain), np.bincount(self._place)
        _, first = np.unique(self._place, return_index=True)
        source, alone = self._number[first], sizes == 1
        centres = sums / sizes
        of_source = (source[:, None] == np.arange(source.max() + 1)) / np.bincount(self._number)
        centres[..., alone] = (sums @ of_source)[..., source[alone]]
        if self._clusters < len(self.label):  # images come in groups
            d = given.astype(np.float64) - plain
            squares = _summed((d - centres[..., self._place]) * self._weight, self._cluster) ** 2
        else:
            terms = self._counts(given != plain) + centres * (sizes * centres - 2 * sums)
            squares = terms * self._weight[first] ** 2
        return np.asarray(np.sqrt(self._clusters / (self._clusters - 1) * squares.sum(axis=-1)))

    def _counts(self, given: Given) -> Labels:
        """Return the number of true values in each stratum, shape (..., strata)."""
        ordered = given[..., np.argsort(self._place, kind="stable")].astype(np.bool_, copy=False)
        ends = np.bincount(self._place).cumsum().tolist()
        return np.stack([np.count_nonzero(ordered[..., a:b], axis=-1) for a, b in pairwise([0, *ends])], axis=-1)

    def _of_source(self, given: Given, label: Labels) -> Array:
        if self.metric.needs == "correct":
            return np.asarray(self.metric.compute(Answers(given.astype(np.bool_), label, self.classes)))
        curves = given.reshape(-1, len(label)).astype(np.int64)
        answers = (Answers(of_one == label, label, self.classes, of_one) for of_one in curves)
        return np.array([self.metric.compute(one) for one in answers]).reshape(given.shape[:-1])

    @cached_property
    def _cluster(self) -> Labels:
        return np.asarray(np.unique(self.cluster, return_inverse=True)[1])

    @cached_property
    def _clusters(self) -> int:
        return int(self._cluster.max(initial=-1)) + 1

    @cached_property
    def _number(self) -> Labels:
        """Number of the source of each image, from 0."""
        return np.asarray(np.unique(self.source, return_inverse=True)[1])

    @cached_property
    def _place(self) -> Labels:
        """Number of each image's stratum, from 0, in any order. Strata are sources, or classes within a source."""
        if isinstance(self.metric, Accuracy):
            return self._number
        return np.asarray(np.unique(self._number * self.classes + self.label, return_inverse=True)[1])

    @cached_property
    def _weight(self) -> Array:
        """Weight of each image in the score, shape (n,)."""
        _, first = np.unique(self._place, return_index=True)
        places = np.bincount(self._number[first])  # number of strata of each source: 1, or its classes
        return np.asarray(1 / (np.bincount(self._place)[self._place] * places[self._number] * len(places)))

    def _jackknife(self, given: Given, plain: Given) -> Array:
        count = min(SETS, self._clusters)
        of = np.random.default_rng(0).permutation(self._clusters)[self._cluster] % count
        parts = []
        for left_out in range(count):
            kept = of != left_out
            some = replace(self, label=self.label[kept], source=self.source[kept], cluster=self.cluster[kept])
            parts.append(some.score(given[..., kept]) - some.score(plain[kept]))
        values = np.array(parts)
        return np.asarray(np.sqrt((count - 1) / count * ((values - values.mean(axis=0)) ** 2).sum(axis=0)))


def _summed(values: Array, place: Labels) -> Array:
    """Return the sum of values over the images of each stratum, shape (..., strata)."""
    order = np.argsort(place, kind="stable")
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    return np.asarray(np.add.reduceat(values[..., order], starts, axis=-1))
