"""Metrics of one set of test images: one table of accuracies, and calibration. Arrays in, numbers out.

A metric is one entry of `METRICS`: the columns of result rows, what selection hands on and the columns of the metrics
tables all iterate it. To add one, add an entry.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
BINS = 15  # of confidences, as in Guo et al. (2017)


@dataclass(frozen=True)
class Answers:
    """Which images were classified correctly, at every rank.

    Attributes:
        correct: boolean array of shape (..., m).
        labels: class index of each image, shape (m,).
        classes: number of classes.
    """

    correct: NDArray[np.bool_]
    labels: NDArray[np.int64]
    classes: int

    @cached_property
    def accuracy(self) -> Array:
        """The share of correct images, shape (...,); NaN where there is none."""
        return accuracy(self.correct)

    @cached_property
    def by_class(self) -> Array:
        """Accuracy of every class, shape (..., classes); NaN for a class without images."""
        return per_class(self.correct, self.labels, self.classes)


@dataclass(frozen=True)
class AnswersOfSets(Answers):
    """Answers to several sets of images, which stand one after the other: in place of ranks there are sets.

    Attributes:
        of: number of each image's set, shape (m,); `correct` is of that shape too.
        sets: number of sets.
    """

    of: NDArray[np.int64]
    sets: int

    @cached_property
    def accuracy(self) -> Array:
        """The share of correct images of each set, shape (sets,); NaN where there is none."""
        return _shares(self.of, self.correct, self.sets)

    @cached_property
    def by_class(self) -> Array:
        """Accuracy of every class in each set, shape (sets, classes); NaN for a class without images."""
        place = self.of * self.classes + self.labels
        return _shares(place, self.correct, self.sets * self.classes).reshape(self.sets, self.classes)


def _shares(place: NDArray[np.int64], correct: NDArray[np.bool_], places: int) -> Array:
    with np.errstate(invalid="ignore"):
        return np.asarray(np.bincount(place, correct, places) / np.bincount(place, minlength=places))


@dataclass(frozen=True)
class Metric:
    """One number for every rank, computed from the answers on the tested images.

    Attributes:
        name: column of the result rows, which holds its rank curve.
        compute: answers -> curve, shape (...,), from their `accuracy` and `by_class`: several sets have these at once.
        combine: curves on base and on new classes -> the curve that stands for both.
        title: heading in the report's table.
        heading: column of `metrics.csv`.
        percent: whether it is a share, which tables show in percent.
    """

    name: str
    compute: Callable[[Answers], Array]
    combine: Callable[[Any, Any], Array]
    title: str
    heading: str
    percent: bool = True

    def shown(self, value: float) -> float:
        """Return a value as tables show it."""
        return 100 * value if self.percent else value


def accuracy(correct: NDArray[np.bool_]) -> Array:
    """Return the share of correct images, over the last axis; NaN where there is none."""
    return np.asarray(correct.mean(axis=-1)) if correct.shape[-1] else np.full(correct.shape[:-1], np.nan)


def mean_accuracy(accuracies: Array) -> Array:
    """Return the mean over the first axis, without sets of images that have no accuracy (NaN); NaN where none has."""
    known = ~np.isnan(accuracies)
    count = known.sum(axis=0)
    return np.asarray(np.where(count, np.where(known, accuracies, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan))


def per_class(correct: NDArray[np.bool_], labels: NDArray[np.int64], classes: int) -> Array:
    """Return the accuracy of every class, shape (..., classes); NaN for a class without images.

    Args:
        correct: shape (..., m).
        labels: class of each image, shape (m,).
        classes: number of classes.
    """
    counts = np.bincount(labels, minlength=classes)
    rows = correct.reshape(math.prod(correct.shape[:-1]), len(labels))
    hits = np.array([np.bincount(labels, weights=row, minlength=classes) for row in rows]).reshape(-1, classes)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(counts, hits / counts, np.nan).reshape(*correct.shape[:-1], classes))


def worst_class(by_class: Array) -> Array:
    """Return the lowest accuracy of a class that has images; NaN where none has."""
    lowest = np.where(np.isnan(by_class), np.inf, by_class).min(axis=-1)
    return np.asarray(np.where(np.isinf(lowest), np.nan, lowest))


def balanced(by_class: Array) -> Array:
    """Return the mean accuracy over the classes that have images; NaN where none has."""
    known = ~np.isnan(by_class)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, by_class, 0.0).sum(axis=-1) / known.sum(axis=-1))


def harmonic_mean(a: Any, b: Any) -> Array:
    """Return 2 a b / (a + b); 0 where both are."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return np.asarray(2 * a * b / np.where(a + b > 0, a + b, 1.0))


ACCURACY = Metric("target", lambda answers: answers.accuracy, harmonic_mean, "accuracy", "accuracy")
# Reports name the class and its number of images beside it.
WORST_CLASS = Metric(
    "worst_class", lambda answers: worst_class(answers.by_class), np.minimum, "worst class", "worst_class_accuracy"
)
METRICS = [
    ACCURACY,
    WORST_CLASS,
    Metric("balanced", lambda answers: balanced(answers.by_class), harmonic_mean, "balanced", "balanced_accuracy"),
]


def confidence_gaps(logits: Array, labels: NDArray[np.int64], temperature: float) -> Array:
    """Return, for each bin of confidences, the sum of (correct - confidence) over its images, shape (BINS,).

    The confidence is the softmax of the predicted class; bins are `BINS` equal parts of 0..1. Sums of parts of the
    images add up to those of the whole.

    Args:
        logits: shape (m, classes); minus infinity for a class that cannot be predicted.
        labels: shape (m,).
        temperature: divides the logits.
    """
    from scipy.special import log_softmax  # a fifth of a second to import, and plans read no scores

    confidence = np.exp(log_softmax(logits / temperature, axis=1).max(axis=1))
    correct = logits.argmax(axis=1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return np.asarray(np.bincount(bins, weights=correct - confidence, minlength=BINS), dtype=np.float64)


def calibration_error(gaps: Array, n: int) -> float:
    """Return the expected calibration error: sum over bins of n_bin / n |accuracy - mean confidence|.

    Guo et al. (2017, arXiv 1706.04599), equation 3; NaN without images.

    Args:
        gaps: what `confidence_gaps` returns for all images, shape (BINS,).
        n: number of images.
    """
    return float(np.abs(gaps).sum() / n) if n else float("nan")
