"""Confidence intervals over test images: would other images of the same environments give the same result?

Every value belongs to an environment, a seed and a cluster. The cluster is the group of the image if images come in
groups, otherwise the image. A cluster contains all predictions for the same object, over environments, seeds and
held-out pairs, so these predictions never count as independent. Folds are pooled first. So under one seed every image
occurs once for each environment (or held-out pair).

Let d_i be the values, with E environments, S seeds and G clusters. Environment e under seed s has n_e values with mean
mean_e:

    u(s, g) = sum over environments e and images i of cluster g of (d_i - mean_e) / (n_e E)
    V_image = G / (G - 1) sum_g (mean_s u(s, g))^2
    V       = V_image + V_seed

V is the variance of the mean over environments and seeds. V_image is the cluster-robust variance (Liang and Zeger,
1986) of the mean of the coefficients in a least squares fit on environment dummies. V_seed is the variance between
seeds that their images do not explain, see `seed_variance`; it is unknown for one seed. Intervals are Student's t with
Satterthwaite's (1946) degrees of freedom V^2 / (V_image^2 / (G - 1) + V_seed^2 / S).

For class-balanced accuracy and harmonic means, `balanced_contributions` and `harmonic_contributions` compute the
values. Other metrics use `jackknife_interval`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from scipy.special import bdtr, betainccinv, betaincinv, ndtri, stdtr, stdtrit  # `scipy.stats` takes a second to import

from benchmark.method.arrays import Array, Labels, Mask
from benchmark.method.evaluation.metrics import harmonic_mean
from benchmark.method.evaluation.seed_variance import MIN_UNITS, Design, SeedPairs, seed_variance


def normal_quantile(p: float) -> float:
    """Return the quantile of the standard normal distribution at probability `p`."""
    return float(ndtri(p))


# What +/- means in tables: the standard error over images, or over seeds.
PlusMinus = Literal["images", "seeds"]
CONFIDENCE = 0.95
MARGIN = 0.01  # equivalence margin of two accuracies: one point
# Difference that is detected with 80 % power at a two-sided level of 5 %, in standard errors: 1.96 + 0.84 = 2.80.
DETECTABLE = normal_quantile(0.975) + normal_quantile(0.8)
# H = 2 a b / (a + b) has the partial derivatives 2 b^2 / (a + b)^2 and 2 a^2 / (a + b)^2, whose sum is at most 2.
HARMONIC_SLOPE = 2.0
SETS = 200  # number of sets of clusters that a jackknife deletes in turn
_DUST = 1e-12  # bound of rounding errors of shares


@dataclass(frozen=True)
class Interval:
    """An estimate with a Student's t interval."""

    estimate: float  # the estimate, in the unit of the values
    standard_error: float  # standard error of the estimate; NaN if unknown, 0 if values do not vary
    degrees_of_freedom: float  # degrees of freedom of Student's t
    confidence: float = CONFIDENCE  # coverage probability

    @property
    def low(self) -> float:
        """Lower end of the interval; NaN if there is no interval."""
        return self.estimate - self._half_width

    @property
    def high(self) -> float:
        """Upper end of the interval; NaN if there is no interval."""
        return self.estimate + self._half_width

    @property
    def p(self) -> float:
        """Two-sided p-value of the hypothesis that the true value is 0; NaN if unknown."""
        if self.standard_error:
            return 2 * t_above(abs(self.estimate / self.standard_error), self.degrees_of_freedom)
        return np.nan if self.estimate else 1.0

    @property
    def plus_minus(self) -> float | None:
        """The standard error for the +/- in tables; None if unknown or 0."""
        return self.standard_error if self.standard_error > 0 else None

    @property
    def _half_width(self) -> float:
        # If all values are 0 (two methods agree everywhere), the interval is 0 [0, 0]; `ImageInterval.may_differ` is
        # about other images. Other constant values give no estimate of the variance.
        if self.standard_error == 0:
            return np.nan if self.estimate else 0.0
        return t_quantile((1 + self.confidence) / 2, self.degrees_of_freedom) * self.standard_error


@dataclass(frozen=True)
class ImageInterval(Interval):
    """An interval over test images."""

    clusters: int = 0  # number of clusters: groups of images if images come in groups, otherwise images
    # smallest number of clusters in an environment (for harmonic means: in one half of its classes) under a seed. Below
    # `MIN_UNITS` there is no interval
    min_clusters: int = 0
    seeds: int = 1  # number of seeds. With one seed, the interval excludes variation between seeds
    # maximum change of the estimate per share of units whose prediction changes, see `Scores`
    slope: float = 1.0

    @property
    def p(self) -> float:
        """P-value as in `Interval.p`; if all values are equal and not 0, the p-value of the sign test."""
        return 2.0 ** (1 - self.clusters) if self.standard_error == 0 and self.estimate else super().p

    @property
    def same(self) -> bool:
        """Whether this is a difference of two methods that agree on all units."""
        return self.standard_error == 0 and self.estimate == 0

    @property
    def may_differ(self) -> float:
        """Clopper and Pearson's upper bound on the share of units, beyond the tested ones, on which two methods differ.

        It is computed for `min_clusters` units, since a difference may occur only in the environment with the fewest
        clusters.
        """
        return clopper_pearson(0, self.min_clusters, self.confidence)[1]


@dataclass(frozen=True)
class Scores:
    """Values of test images for one or several methods, with their environments, seeds and clusters.

    Attributes:
        values: shape (n,), or (methods, n) for several methods on the same images: correctness (0 or 1), a difference
            of correctness (-1, 0, 1), or values from `balanced_contributions` or `harmonic_contributions`.
        environment: number of the environment or held-out pair of each value, shape (n,).
        seed: number of the seed of each value, shape (n,).
        cluster: number of the image's group, or of the image if there are no groups, shape (n,). It is the same in all
            environments and under all seeds.
        half: for harmonic means, number of the half of the classes that the image belongs to, shape (n,). None
            (default) otherwise.
        slope: maximum change of an environment's mean, divided by the share of its images whose prediction changes. It
            is 1 (default) for accuracy and larger for harmonic means and class-balanced accuracy.

    Raises:
        ValueError: shapes differ, there is no value, or a seed lacks an environment.
    """

    values: Array
    environment: Labels
    seed: Labels
    cluster: Labels
    half: Labels | None = None
    slope: float = field(default=1.0, kw_only=True)
    _places: "_Places | None" = field(default=None, repr=False, compare=False, kw_only=True)

    def __post_init__(self) -> None:
        n = self.values.shape[-1]
        for name in ("environment", "seed", "cluster", "half"):
            if (array := getattr(self, name)) is not None and array.shape != (n,):
                raise ValueError(
                    f"Scores have {n} values for each method; their field '{name}' has shape {array.shape}."
                )
        if not n:
            raise ValueError("Scores have no values: no image was tested.")
        if self._places is None or not self._places.are(self):  # otherwise taken from scores of the same images
            object.__setattr__(self, "_places", _Places(self.environment, self.seed, self.cluster, self.half))
        if not self._where.images.all():
            s, e = np.argwhere(self._where.images == 0)[0]
            raise ValueError(
                f"Seed {self._where.seeds[0][s]} has no value in environment {self._where.environments[0][e]}: take "
                "the environments that all seeds have, or the seeds that have all environments."
            )

    @property
    def _where(self) -> "_Places":
        assert self._places is not None  # see __post_init__
        return self._places

    @property
    def pairs(self) -> SeedPairs:
        """All pairs of seeds."""
        return self._where.pairs

    @property
    def seeds(self) -> int:
        """Number of seeds."""
        return len(self._where.seeds[0])

    @property
    def clusters(self) -> int:
        """Number of clusters over all environments and seeds."""
        return len(self._where.clusters[0])

    @property
    def min_clusters(self) -> int:
        """Smallest number of clusters in an environment under a seed; with `half`, in one half of its classes."""
        return self._where.min_clusters

    @cached_property
    def means(self) -> Array:
        """Mean of every environment under every seed, shape (..., seeds, environments)."""
        rows, cell, images = self.values.reshape(-1, self.values.shape[-1]), self._where.cell, self._where.images
        sums = [np.bincount(cell, weights=row, minlength=images.size) for row in rows]
        return np.asarray(sums).reshape(*self.values.shape[:-1], *images.shape) / images

    @property
    def environment_means(self) -> Array:
        """Mean of every environment over seeds, by ascending environment number, shape (..., environments)."""
        return np.asarray(self.means.mean(axis=-2))

    @cached_property
    def added(self) -> Array:
        """Contribution of each cluster g: mean_s u(s, g) as in the module docstring, shape (..., clusters)."""
        rows = self.values.reshape(-1, self.values.shape[-1])
        weights, cell, cluster = self._where.weight, self._where.cell, self._where.clusters[1]
        sums = [
            np.bincount(cluster, weights=(row - means[cell]) * weights, minlength=self.clusters)
            for row, means in zip(rows, self.means.reshape(len(rows), -1), strict=True)
        ]
        return np.asarray(sums, dtype=np.float64).reshape(*self.values.shape[:-1], self.clusters)

    def of(self, environment: int) -> "Scores":
        """Return the scores of one environment."""
        inside, places = self._where.of(environment)
        where = places.environment, places.seed, places.cluster, places.half
        return Scores(self.values[..., inside], *where, slope=self.slope, _places=places)


@dataclass(frozen=True, eq=False)
class _Places:
    """The fields of `Scores` without values, and cached counts."""

    environment: Labels
    seed: Labels
    cluster: Labels
    half: Labels | None
    _alone: "dict[int, tuple[Mask, _Places]]" = field(default_factory=dict, repr=False)
    _classes: list[Any] = field(default_factory=list, repr=False)  # the last labels with their cached counts

    def are(self, scores: Scores) -> bool:
        """Return whether `scores` has the same array objects."""
        return all(getattr(self, name) is getattr(scores, name) for name in ("environment", "seed", "cluster", "half"))

    def of(self, environment: int) -> "tuple[Mask, _Places]":
        """Return a mask of the values of one environment, and the fields for these values."""
        if environment not in self._alone:
            inside = self.environment == environment
            half = None if self.half is None else self.half[inside]
            own = _Places(self.environment[inside], self.seed[inside], self.cluster[inside], half)
            self._alone[environment] = inside, own
        return self._alone[environment]

    @cached_property
    def environments(self) -> tuple[Labels, Labels]:
        """The distinct environment numbers, ascending, and for each value its index among them, shape (n,)."""
        return np.unique(self.environment, return_inverse=True)

    @cached_property
    def seeds(self) -> tuple[Labels, Labels]:
        """The distinct seed numbers, ascending, and for each value its index among them, shape (n,)."""
        return np.unique(self.seed, return_inverse=True)

    @cached_property
    def clusters(self) -> tuple[Labels, Labels]:
        """The distinct cluster numbers, ascending, and for each value its index among them, shape (n,)."""
        return np.unique(self.cluster, return_inverse=True)

    @cached_property
    def cell(self) -> Labels:
        """Number of the (seed, environment) pair of each value, shape (n,)."""
        return self.seeds[1] * len(self.environments[0]) + self.environments[1]

    @cached_property
    def images(self) -> Labels:
        """Number of images, shape (seeds, environments)."""
        shape = len(self.seeds[0]), len(self.environments[0])
        return np.bincount(self.cell, minlength=shape[0] * shape[1]).reshape(shape)

    @cached_property
    def weight(self) -> Array:
        """Weight of each value in the mean over seeds and environments, shape (n,)."""
        return (1 / (self.images.size * self.images)).reshape(-1)[self.cell]

    def classes(self, label: Labels, new: Mask | None) -> tuple[Labels, ...]:
        """Return four arrays that count the values of each class in each part. Labels are the same for all methods.

        A part is a (seed, environment) pair, or one half of the classes in it. The arrays are: the part of each value;
        the index of its class among the classes of all parts; the part of each such class; and its number of values.
        """
        if not (self._classes and self._classes[0] is label and self._classes[1] is new):
            part = np.unique(2 * self.cell + (0 if new is None else new), return_inverse=True)[1]
            numbers = int(label.max()) + 1
            names, place, counts = np.unique(part * numbers + label, return_inverse=True, return_counts=True)
            self._classes[:] = [label, new, (part, place, names // numbers, counts)]
        found: tuple[Labels, ...] = self._classes[2]
        return found

    @cached_property
    def min_clusters(self) -> int:
        """Smallest number of clusters in an environment under a seed; with `half`, in one half of its classes."""
        halves = 1 if self.half is None else 2
        part = self.cell if self.half is None else 2 * self.cell + self.half
        there = np.zeros((halves * self.images.size, len(self.clusters[0])), dtype=bool)
        there[part, self.clusters[1]] = True
        return int(there.sum(axis=1).min())

    @cached_property
    def pairs(self) -> SeedPairs:
        """All pairs of seeds."""
        where = Design(self.environments[1], self.seeds[1], self.clusters[1])
        names = self.environments[0].tolist()
        return SeedPairs(where, (lambda e: self.of(names[e])[1].pairs) if len(names) > 1 else None)


def image_interval(scores: Scores, confidence: float = CONFIDENCE) -> ImageInterval:
    """Return the mean over environments, then seeds, with its interval over images.

    For correctness the mean is an accuracy, and tables show its standard error as +/-. For a difference of correctness
    it is a difference of accuracies. If all values are equal, the standard error is 0; the interval is 0 [0, 0] if the
    values are 0, otherwise there is none. If values differ only between environments, the standard error is NaN.
    """
    return image_intervals(replace(scores, values=scores.values[None]), confidence)[0]


def image_intervals(scores: Scores, confidence: float = CONFIDENCE) -> list[ImageInterval]:
    """Return one interval for every method; the values of `scores` have shape (methods, n)."""
    enough = scores.min_clusters >= MIN_UNITS
    between = seed_variance(scores.values, scores.pairs.where, scores.pairs) if enough else np.zeros(len(scores.values))
    v_image = scores.clusters / max(1, scores.clusters - 1) * np.square(scores.added).sum(axis=-1)
    flat = np.ptp(scores.values, axis=-1) < _DUST
    rows = zip(scores.means.mean(axis=(-2, -1)), v_image, between, flat, strict=True)
    return [_interval(scores, *row, scores.clusters - 1, confidence) for row in rows]


def difference_interval(scores: Scores, method: int, baseline: int, confidence: float = CONFIDENCE) -> ImageInterval:
    """Return the interval of a paired difference: row `method` minus row `baseline` of the values."""
    difference = scores.values[method] - scores.values[baseline]
    return image_interval(replace(scores, values=difference), confidence)


def by_environment(scores: Scores, confidence: float = CONFIDENCE) -> list[ImageInterval]:
    """Return one interval for each environment, by ascending number; the values of `scores` have shape (n,)."""
    return [image_interval(scores.of(e), confidence) for e in scores._where.environments[0].tolist()]


def jackknife_interval(
    difference: Callable[[Mask], Array | float], scores: Scores, confidence: float = CONFIDENCE
) -> ImageInterval:
    """Return the interval over images for a difference in a metric that is not a mean over images, such as macro-F1.

    This is the delete-a-group jackknife (Kott, 1998). Let K = min(`SETS`, G) for G clusters. The clusters are assigned
    at random, with a fixed seed, to K sets, stratified by environment. Let theta_s be the difference under seed s, and
    theta_s(k) the difference without set k:

        c_st = (K - 1) / K sum_k (theta_s(k) - theta_s) (theta_t(k) - theta_t)      V_image = mean_st c_st
        V_seed = (S - 1) / S  max(0, var_s(theta_s) - (mean_s c_ss - mean_{s != t} c_st)) / S

    with K - 1 and S degrees of freedom. For a metric that is a mean, the standard error agrees with `image_interval`
    within 10 %. If no set changes the difference, the interval is 0 [0, 0] for a difference of 0, and otherwise there
    is none.

    Args:
        difference: function of a mask of kept values, shape (n,). It returns the difference in the metric under each
            seed, ascending, shape (seeds,), or a number for one seed. It is called K + 1 times.
        scores: environments, seeds and clusters; `scores.values` is not used.
        confidence: coverage probability.
    """
    environment, _, cluster = scores.pairs.where
    theta = np.atleast_1d(difference(np.ones(len(cluster), dtype=bool)))
    if scores.min_clusters < MIN_UNITS:
        return _interval(scores, theta.mean(), 0.0, 0.0, False, 0, confidence)
    clusters, seeds, sets = scores.clusters, scores.seeds, min(SETS, scores.clusters)
    of_cluster = np.empty(clusters, dtype=np.int64)
    of_cluster[cluster] = environment
    order = np.random.default_rng(0).permutation(clusters)
    dealt = np.empty(clusters, dtype=np.int64)
    dealt[order[np.argsort(of_cluster[order], kind="stable")]] = np.arange(clusters) % sets
    moved = np.array([difference(dealt[cluster] != k) - theta for k in range(sets)]).reshape(sets, seeds)
    c = (sets - 1) / sets * moved.T @ moved
    v_seed = 0.0
    if seeds > 1:
        explained = (seeds * np.trace(c) - c.sum()) / (seeds * (seeds - 1))  # mean c_ss - mean c_st
        v_seed = (seeds - 1) / seeds * max(0.0, theta.var(ddof=1) - explained) / seeds
    flat = bool((abs(theta) < _DUST).all())
    return _interval(scores, theta.mean(), c.mean(), v_seed, flat, sets - 1, confidence)


def _interval(
    scores: Scores, estimate: float, v_image: float, v_seed: float, flat: bool, freedom: int, confidence: float
) -> ImageInterval:
    """Return the interval of an estimate. `flat`: all values are equal. `freedom`: degrees of freedom of v_image."""
    design = scores.clusters, scores.min_clusters, scores.seeds, scores.slope
    if scores.min_clusters < MIN_UNITS:
        return ImageInterval(float(estimate), np.nan, np.nan, confidence, *design)
    v = float(v_image + v_seed)
    estimate = 0.0 if abs(estimate) < _DUST else float(estimate)
    if v < _DUST**2:
        return ImageInterval(estimate, 0.0 if flat else np.nan, freedom, confidence, *design)
    satterthwaite = v**2 / (v_image**2 / freedom + v_seed**2 / scores.pairs.freedom)
    return ImageInterval(estimate, float(np.sqrt(v)), float(satterthwaite), confidence, *design)


def pooled_interval(intervals: Sequence[ImageInterval], confidence: float = CONFIDENCE) -> ImageInterval:
    """Return the interval of the mean over K data sets. Its variance is the sum of the variances / K^2.

    Data sets must have no image in common. Degrees of freedom are Satterthwaite's. If all variances are 0 and the
    estimates differ, the standard error is NaN.
    """
    k = len(intervals)
    estimates = [one.estimate for one in intervals]
    parts = np.array([(one.standard_error / k) ** 2 for one in intervals])
    freedoms = np.array([one.degrees_of_freedom for one in intervals])
    v = parts.sum()
    return ImageInterval(
        float(np.mean(estimates)),
        np.nan if v == 0 and np.ptp(estimates) else float(np.sqrt(v)),
        float(v**2 / (parts**2 / freedoms).sum()) if v else float(freedoms.sum()),
        confidence,
        clusters=sum(one.clusters for one in intervals),
        min_clusters=min(one.min_clusters for one in intervals),
        seeds=min(one.seeds for one in intervals),
        slope=max(one.slope for one in intervals),
    )


def balanced_contributions(scores: Scores, label: Labels, new: Mask | None = None) -> Scores:
    """Return scores whose mean in an environment is the mean accuracy over its classes with images.

    METHOD section 11 explains this. Let an environment have n images of C classes under a seed, n_c of them of class c
    with the mean mean_c, and let B be the mean of mean_c over classes. An image of class c with value d_i gets the
    value

        B + n / (n_c C) (d_i - mean_c)

    It thus adds (d_i - mean_c) / (n_c C E) to the mean over environments. If a class has one image, this image is
    centred at the mean of the environment's images instead, since the mean of its class would give no variation.
    Deviations in the environment are then shifted so that their sum is 0. For a difference of two methods, subtract
    their values. If the smallest class has few units, intervals are too narrow: with 6 groups, 95 % intervals cover 91
    to 93 %.

    Args:
        scores: correctness or a difference of correctness, shape (..., n).
        label: class of the image of each value, shape (n,).
        new: mask of values that belong to new classes, shape (n,). With it each half of the classes is balanced
            separately, as `harmonic_contributions` needs. Default: None.
    """
    part, place, of, n_class = scores._where.classes(label, new)
    images, classes = np.bincount(part), np.bincount(of)
    factor = (images / classes)[of] / n_class
    rows = []
    for row in scores.values.reshape(-1, scores.values.shape[-1]):
        by_class = np.bincount(place, row) / n_class
        centre = np.where(n_class > 1, by_class, (np.bincount(part, row) / images)[of])
        deviations = factor[place] * (row - centre[place])
        moved = np.bincount(of, by_class) / classes - np.bincount(part, deviations) / images
        rows.append(moved[part] + deviations)
    values = np.array(rows).reshape(scores.values.shape)
    return replace(scores, values=values, slope=scores.slope * float(factor.max()))


def harmonic_contributions(scores: Scores, new: Mask) -> Scores:
    """Return scores whose mean in an environment is the harmonic mean of accuracies on base and new classes.

    This is the delta method. In an environment under a seed, let a and b be the accuracies on n_a base and n_b new
    images, H = 2 a b / (a + b) and n = n_a + n_b. An image with correctness c gets the value

        base: H + n / n_a  2 b^2 / (a + b)^2  (c - a)        new: H + n / n_b  2 a^2 / (a + b)^2  (c - b)

    The mean of these values is H, and their variance is the variance of the first-order expansion of H. For a
    difference of two methods, subtract their values. If a and b are both 0, H has no such expansion, so all values and
    intervals are NaN.

    Args:
        scores: correctness on base and new images, shape (..., n); or the result of `balanced_contributions`, for
            class-balanced a and b.
        new: mask of values that belong to new classes, shape (n,).

    Raises:
        ValueError: an environment has no base or no new image under a seed.
    """
    cell, size = scores._where.cell, scores._where.images.size
    counts = np.array([np.bincount(cell[half], minlength=size) for half in (~new, new)])
    if not counts.all():
        missing = "new" if counts[0].all() else "base"
        raise ValueError(f"An environment has no image of a {missing} class: a harmonic mean needs both.")
    rows = []
    for row in scores.values.reshape(-1, scores.values.shape[-1]):
        hits = [np.bincount(cell[half], weights=row[half], minlength=size) for half in (~new, new)]
        a, b = np.array(hits) / counts
        with np.errstate(invalid="ignore"):
            slopes = 2 * np.array([b, a]) ** 2 / (a + b) ** 2 * counts.sum(axis=0) / counts
        half = new.astype(np.int64)
        rows.append(harmonic_mean(a, b)[cell] + slopes[half, cell] * (row - np.array([a, b])[half, cell]))
    values, slope = np.array(rows).reshape(scores.values.shape), HARMONIC_SLOPE * scores.slope
    return replace(scores, values=values, half=new.astype(np.int64), slope=slope)


def smallest_gain(standard_error: float) -> float:
    """Return the gain that is detected with 80 % power: `DETECTABLE` (2.80) standard errors."""
    return DETECTABLE * standard_error


def equivalence(interval: ImageInterval, margin: float = MARGIN) -> float:
    """Return the p-value of the TOST equivalence test (Schuirmann, 1987): small if the true value is within +/- margin.

    If two methods agree on all units, the p-value is exact: the probability that none of `min_clusters` units differs
    if the true share of differing units is `margin` / `slope`. It is at most 5 % if Clopper and Pearson's one-sided
    bound is below this share. If all units have the same difference, and it is not 0, equivalence is never shown.

    Args:
        interval: interval of a difference.
        margin: equivalence margin in the unit of the difference. Default: one point.
    """
    if interval.standard_error == 0:
        return max(0.0, 1 - margin / interval.slope) ** interval.min_clusters if interval.same else 1.0
    t = (margin - abs(interval.estimate)) / interval.standard_error
    return t_above(t, interval.degrees_of_freedom)


def mcnemar(gained: int, lost: int) -> float:
    """Return McNemar's exact two-sided p-value from the numbers of images that only one method classifies correctly.

    It is for one environment and one seed, without groups. It is 1 if both numbers are 0.
    """
    n = gained + lost
    return float(min(1.0, 2 * bdtr(min(gained, lost), n, 0.5))) if n else 1.0


def seeds_standard_error(values: Sequence[float]) -> float:
    """Return DomainBed's +/-: the standard error of the mean over seeds, with ddof 1; NaN for one seed.

    DomainBed itself divides by S (ddof 0). Seeds share images, so this underestimates the uncertainty of a result.
    """
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan


def t_quantile(p: float, freedom: float) -> float:
    """Return the quantile of Student's t with `freedom` degrees of freedom at probability `p`."""
    return float(stdtrit(freedom, p))


def t_above(t: float, freedom: float) -> float:
    """Return the probability that Student's t with `freedom` degrees of freedom is above `t`."""
    return float(stdtr(freedom, -t))


def clopper_pearson(successes: float, n: float, confidence: float) -> tuple[float, float]:
    """Return Clopper and Pearson's (1934) exact interval of a share. Counts may be fractional means over seeds."""
    alpha = (1 - confidence) / 2
    low = float(betaincinv(successes, n - successes + 1, alpha)) if successes else 0.0
    high = float(betainccinv(successes + 1, n - successes, alpha)) if successes < n else 1.0
    return low, high


def ranks(values: Array) -> Array:
    """Return the rank of each value, ascending from 1. Ties get their mean rank."""
    _, number, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[number])
