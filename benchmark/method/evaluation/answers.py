"""Correctness of methods on the same test images, in arrays that `benchmark.method.evaluation.inference` takes."""

from collections import UserDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from benchmark.method.evaluation import inference
from benchmark.method.evaluation.inference import ImageInterval, Scores
from benchmark.method.evaluation.metrics import ACCURACY, BALANCED, Metric
from benchmark.method.evaluation.selection import measured
from benchmark.method.evaluation.tested import Tested

Key = tuple[str, int]  # held_out, seed
Tests = frozenset[tuple[Key, Tested]]  # a frozenset caches its hash


@dataclass(frozen=True, slots=True)
class Pooled:
    """Correct answers of one method under one rule, on one held-out environment and seed, all folds together.

    Attributes:
        correct: whether each test image is classified correctly, shape (m,).
        tested: the test images.
    """

    correct: NDArray[np.bool_]
    tested: Tested


@dataclass(frozen=True)
class Size:
    """Number of tested units and images.

    Attributes:
        units: number of distinct units over all seeds. A unit is a group if the data set has groups, else an image.
        units_per_seed: number of distinct units per seed, mean over seeds.
        images_per_seed: number of distinct images per seed, mean over seeds.
    """

    units: int
    units_per_seed: float
    images_per_seed: float


@dataclass(frozen=True, kw_only=True)
class Accuracies:
    """Accuracies of methods on the same images.

    Attributes:
        held_outs: held-out environments, sorted.
        seeds: seeds with answers on all held-out environments, ascending.
        accuracies: accuracies, shape (methods, seeds, held_outs).
        size: number of tested units and images.
        shared: whether some image is tested in several of `held_outs`, as when these are pairs of environments.
    """

    held_outs: tuple[str, ...]
    seeds: tuple[int, ...]
    accuracies: NDArray[np.float64]
    size: Size
    shared: bool

    @cached_property
    def means(self) -> NDArray[np.float64]:
        """Accuracies averaged over seeds, shape (methods, held_outs)."""
        return np.asarray(self.accuracies.mean(axis=1))


@dataclass(frozen=True, kw_only=True)
class Estimate(Accuracies):
    """An accuracy, or a difference of two accuracies on the same images, averaged over held-out environments.

    Attributes:
        interval: the accuracy, or the first accuracy minus the second, with its confidence interval.
    """

    interval: ImageInterval


@dataclass(frozen=True, kw_only=True)
class MethodAnswers(Accuracies):
    """Predictions of methods on the same images.

    Attributes:
        correct: whether each image is classified correctly, shape (methods, n).
        label: class of each image, shape (n,).
        scores: contribution of each image to the metric, shape (methods, n). For plain accuracy it is 1 if the image
            is classified correctly, else 0. Environments are numbered in the order of `held_outs`.
    """

    correct: NDArray[np.bool_]
    label: NDArray[np.int64]
    scores: Scores

    @property
    def estimate(self) -> Estimate:
        """For one method, the estimate of its accuracy; for two, of the first accuracy minus the second."""
        first, *others = self.scores.values
        means = self.means.mean(axis=1)
        interval = inference.image_interval(replace(self.scores, values=first - others[0] if others else first))
        exact = float(means[0] - means[1]) if others else float(means[0])
        shared = {one.name: getattr(self, one.name) for one in fields(Accuracies)}
        # For harmonic means the interval's own estimate is a first-order approximation.
        return Estimate(interval=replace(interval, estimate=exact), **shared)


class Answered(UserDict[Key, Pooled]):
    """Mapping (held_out, seed) -> `Pooled` of one method, with cached metrics and estimates.

    Args:
        pooled: correctness for each held-out environment and seed.
        n_classes: number of classes.
        n_base: number of base classes for harmonic means of base and new classes; None otherwise.
    """

    def __init__(self, pooled: Mapping[Key, Pooled], n_classes: int, n_base: int | None = None) -> None:
        super().__init__(pooled)
        self.n_classes, self.n_base = n_classes, n_base
        self._measures: dict[Metric, dict[Key, float]] = {}
        self._estimates: dict[tuple[Answered | None, str | None, Metric], Estimate | None] = {}

    def __eq__(self, other: object) -> bool:
        return self is other  # arrays are not compared

    def __hash__(self) -> int:
        return id(self)

    @cached_property
    def tests(self) -> Tests:
        """All pairs of a key (held_out, seed) and its test images."""
        return frozenset((key, one.tested) for key, one in self.data.items())

    def measure(self, metric: Metric = ACCURACY) -> dict[Key, float]:
        """Return a metric for each (held_out, seed); with `n_base`, its harmonic mean over base and new classes."""
        if metric not in self._measures:
            half = "all" if self.n_base is None else "harmonic"
            about = {"class_half": half, "n_base": self.n_base, "n_classes": self.n_classes}
            every = self.data.values()
            of_sets = measured([one.correct for one in every], [one.tested for one in every], about, [metric])
            self._measures[metric] = dict(zip(self, of_sets[metric.key].tolist(), strict=True))
        return self._measures[metric]

    def of(self, held_outs: Collection[str]) -> "Answered":
        """Return a copy with only the given held-out environments."""
        part = Answered({key: one for key, one in self.items() if key[0] in held_outs}, self.n_classes, self.n_base)
        part._measures = {metric: {key: of_all[key] for key in part} for metric, of_all in self._measures.items()}
        return part

    def estimate(
        self, minus: "Answered | None" = None, held_out: str | None = None, metric: Metric = ACCURACY
    ) -> Estimate | None:
        """Return a metric with its interval or, if `minus` is given, the metric minus the same metric of `minus`.

        The metric is averaged over held-out environments. Return None if there are no (common) test images.
        """
        asked = minus, held_out, metric
        if asked not in self._estimates:
            self.measure(metric)  # for all keys at once
            of_all = [self] if minus is None else [self, minus]
            answers = together(of_all if held_out is None else [one.of([held_out]) for one in of_all], metric)
            self._estimates[asked] = None if answers is None else answers.estimate
        return self._estimates[asked]


def together(methods: Sequence[Answered], metric: Metric = ACCURACY) -> MethodAnswers | None:
    """Return the predictions of methods on their common test images; None if no seed is included.

    A held-out environment is included if there is a seed under which all methods were tested on the same of its
    images. A seed is included if this is so in all included environments.
    """
    common = _common(tuple(dict.fromkeys(method.tests for method in methods)))
    if common is None:
        return None
    keys = [(h, s) for s in common.seeds for h in common.held_outs]
    correct = np.stack([np.concatenate([method.data[key].correct for key in keys]) for method in methods])
    scores = replace(common.scores, values=correct.astype(np.float64))
    new = None if (n_base := methods[0].n_base) is None else common.label >= n_base
    scores = inference.balanced_contributions(scores, common.label, new) if metric == BALANCED else scores
    scores = scores if new is None else inference.harmonic_contributions(scores, new)
    accuracies = [[of_method[key] for key in keys] for of_method in (method.measure(metric) for method in methods)]
    by_seed = np.reshape(accuracies, (len(methods), len(common.seeds), -1))
    return replace(common, correct=correct, scores=scores, accuracies=by_seed)


@lru_cache(maxsize=16)  # most methods of a setting have the same tests
def _common(methods: tuple[Tests, ...]) -> MethodAnswers | None:
    """Return the test images that all methods share, as `MethodAnswers` of no method; see `together`."""
    first, *others = (dict(tests) for tests in methods)
    there = {key for key, tested in first.items() if all(other.get(key) == tested for other in others)}
    held_outs = sorted({held_out for held_out, _ in there})
    seeds = sorted(s for s in {s for _, s in there} if all((h, s) in there for h in held_outs))
    if not seeds:
        return None
    by_seed = [[first[h, s] for h in held_outs] for s in seeds]
    tested = [images for of_seed in by_seed for images in of_seed]
    cell = np.repeat(np.arange(len(tested)), [*map(len, tested)])
    unit, label = (np.concatenate([getattr(images, name) for images in tested]) for name in ("unit", "label"))
    size, none = size_of(by_seed), np.empty((0, len(label)))
    return MethodAnswers(
        correct=none.astype(bool),
        label=label,
        scores=Scores(none.sum(axis=0), cell % len(held_outs), cell // len(held_outs), unit),
        held_outs=tuple(held_outs),
        seeds=tuple(seeds),
        accuracies=none,
        size=size,
        shared=size.images_per_seed < len(label) / len(seeds),
    )


def size_of(by_seed: Sequence[Sequence[Tested]]) -> Size:
    """Return the number of tested units and images, from the test images of each seed."""
    units = [np.unique(np.concatenate([images.unit for images in of_seed])) for of_seed in by_seed]
    of_units = [*map(len, units)]
    grouped = any(images.group is not None for of_seed in by_seed for images in of_seed)
    positions = (np.concatenate([images.position for images in of_seed]) for of_seed in by_seed)
    of_images = [len(np.unique(of_seed)) for of_seed in positions] if grouped else of_units
    return Size(len(np.unique(np.concatenate(units))), float(np.mean(of_units)), float(np.mean(of_images)))
