"""Answers of several methods to the same images, as what the inference module takes."""

from collections import UserDict
from collections.abc import Collection, Iterable, Mapping, Sequence
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


@dataclass(frozen=True)
class Pooled:
    """The answers of a method on what is held out with one seed, under one rule: all folds together.

    Attributes:
        correct: whether each tested image is classified correctly, shape (m,).
        tested: these images.
    """

    correct: NDArray[np.bool_]
    tested: Tested


@dataclass(frozen=True)
class Size:
    """How much was tested.

    Attributes:
        units: number of different units over all seeds: groups where images come in groups, else images.
        units_per_seed: of one seed, averaged over the seeds.
        images_per_seed: number of different images of one seed, averaged over the seeds.
    """

    units: int
    units_per_seed: float
    images_per_seed: float


@dataclass(frozen=True, kw_only=True)
class Accuracies:
    """Accuracies of methods on the same images.

    Attributes:
        held_outs: what is held out, sorted.
        seeds: seeds, ascending; each has answers on all that is held out.
        accuracies: of every method on what is held out under a seed, shape (methods, seeds, held_outs).
        size: how much was tested.
        shared: whether an image is tested with several held-outs, as in pairs of environments.
    """

    held_outs: tuple[str, ...]
    seeds: tuple[int, ...]
    accuracies: NDArray[np.float64]
    size: Size
    shared: bool

    @cached_property
    def means(self) -> NDArray[np.float64]:
        """Accuracy of every method on what is held out, averaged over seeds, shape (methods, held_outs)."""
        return np.asarray(self.accuracies.mean(axis=1))


@dataclass(frozen=True, kw_only=True)
class Estimate(Accuracies):
    """An accuracy, or a difference of two on the same images, averaged over what is held out, with its interval.

    Attributes:
        interval: of the accuracy, or of the first minus the second.
    """

    interval: ImageInterval


@dataclass(frozen=True, kw_only=True)
class MethodAnswers(Accuracies):
    """Answers of methods to the same images.

    Attributes:
        correct: whether each image is answered correctly, shape (methods, n).
        label: class of each image, shape (n,).
        scores: what counts, with values of shape (methods, n): correctness, or what adds up to class-balanced accuracy,
            or to the harmonic mean of base and new classes; environments are numbered in the order of `held_outs`.
    """

    correct: NDArray[np.bool_]
    label: NDArray[np.int64]
    scores: Scores

    @property
    def estimate(self) -> Estimate:
        """The accuracy of the first method, or that minus the second's."""
        first, *others = self.scores.values
        means = self.means.mean(axis=1)
        interval = inference.image_interval(replace(self.scores, values=first - others[0] if others else first))
        exact = float(means[0] - means[1]) if others else float(means[0])
        shared = {one.name: getattr(self, one.name) for one in fields(Accuracies)}
        # Of harmonic means the interval's own estimate is a first-order one.
        return Estimate(interval=replace(interval, estimate=exact), **shared)


class Answered(UserDict[Key, Pooled]):
    """(held_out, seed) -> the answers of a method there; and what they come to, computed only once.

    Args:
        pooled: the answers.
        n_classes: number of classes.
        n_base: number of base classes where base and new classes are taken together; None elsewhere.
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

    def measure(self, metric: Metric = ACCURACY) -> dict[Key, float]:
        """Return a metric of correctness on what is held out under a seed; of base and new classes for both."""
        if metric not in self._measures:
            half = "all" if self.n_base is None else "harmonic"
            about = {"class_half": half, "n_base": self.n_base, "n_classes": self.n_classes}
            every = self.values()
            of_sets = measured([one.correct for one in every], [one.tested for one in every], about, [metric])
            self._measures[metric] = dict(zip(self, of_sets[metric.key].tolist(), strict=True))
        return self._measures[metric]

    def of(self, held_outs: Collection[str]) -> "Answered":
        """Return the answers to some of what is held out alone."""
        part = Answered({key: one for key, one in self.items() if key[0] in held_outs}, self.n_classes, self.n_base)
        part._measures = {metric: {key: of_all[key] for key in part} for metric, of_all in self._measures.items()}
        return part

    def estimate(
        self, minus: "Answered | None" = None, held_out: str | None = None, metric: Metric = ACCURACY
    ) -> Estimate | None:
        """Return the accuracy with its interval, or None without answers.

        Args:
            minus: answers whose accuracy on the same images is subtracted.
            held_out: of which alone; by default the average over all that all were tested on, by the seeds that have
                it all.
            metric: accuracy, or class-balanced accuracy.
        """
        asked = minus, held_out, metric
        if asked not in self._estimates:
            self.measure(metric)  # of all at once
            of_all = [self] if minus is None else [self, minus]
            answers = together(of_all if held_out is None else [one.of([held_out]) for one in of_all], metric)
            self._estimates[asked] = None if answers is None else answers.estimate
        return self._estimates[asked]


def together(methods: Sequence[Answered], metric: Metric = ACCURACY) -> MethodAnswers | None:
    """Return the answers that methods gave to the same images, or None where there are none.

    What is held out counts if all methods were tested on the same images of it under some seed, and a seed counts if it
    has everything that is held out.

    Args:
        methods: `Selections.pooled` of each method.
        metric: what counts: accuracy, or class-balanced accuracy.
    """
    first, *others = methods
    common = [key for key in first if all(key in other and other[key].tested == first[key].tested for other in others)]
    held_outs = sorted({held_out for held_out, _ in common})
    there = set(common)
    seeds = sorted(s for s in {s for _, s in common} if all((h, s) in there for h in held_outs))
    if not seeds:
        return None
    keys = [(h, s) for s in seeds for h in held_outs]
    tested = [first[key].tested for key in keys]
    correct = np.stack([np.concatenate([method[key].correct for key in keys]) for method in methods])
    scores = replace(_places(tuple(tested), len(held_outs)), values=correct.astype(np.float64))
    label = np.concatenate([images.label for images in tested])
    new = None if (n_base := methods[0].n_base) is None else label >= n_base
    scores = inference.balanced_contributions(scores, label, new) if metric == BALANCED else scores
    scores = scores if new is None else inference.harmonic_contributions(scores, new)
    size = size_of(tuple(tuple(tested[i : i + len(held_outs)]) for i in range(0, len(tested), len(held_outs))))
    accuracies = [[of_method[key] for key in keys] for of_method in (method.measure(metric) for method in methods)]
    return MethodAnswers(
        correct=correct,
        label=label,
        scores=scores,
        held_outs=tuple(held_outs),
        seeds=tuple(seeds),
        accuracies=np.array(accuracies).reshape(len(methods), len(seeds), len(held_outs)),
        size=size,
        shared=size.images_per_seed < correct.shape[1] / len(seeds),
    )


@lru_cache(maxsize=16)  # most methods of a setting were tested on the same images, of all and of each held-out
def _places(tested: tuple[Tested, ...], held_outs: int) -> Scores:
    """Return scores of nothing: where the answers to these images belong, seed by seed and held-out by held-out."""
    sizes = [len(images) for images in tested]
    seed, environment = (np.repeat(index, sizes) for index in divmod(np.arange(len(tested)), held_outs))
    return Scores(np.zeros(sum(sizes)), environment, seed, np.concatenate([images.unit for images in tested]))


@lru_cache(maxsize=64)  # a column of a table asks once for each method, with equal images
def size_of(by_seed: tuple[tuple[Tested, ...], ...]) -> Size:
    """Return how much was tested, from the tested images of each seed."""
    units = [_different(images.unit for images in of_seed) for of_seed in by_seed]
    images = [len(_different(images.position for images in of_seed)) for of_seed in by_seed]
    return Size(len(_different(units)), float(np.mean([len(u) for u in units])), float(np.mean(images)))


def _different(arrays: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
    # Numbers are nearly sorted, where sorting takes a tenth of what numpy's unique does.
    together_ = np.sort(np.concatenate(list(arrays)), kind="stable")
    return together_[np.concatenate([[True], together_[1:] != together_[:-1]])]
