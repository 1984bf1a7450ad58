"""Metrics of one test set, computed from correctness, predicted classes or scores; and calibration.

A metric is a class with one method. Built-in metrics are in `BUILT_IN` and have names in `METRICS`; for a new name, run
`make docs`, which writes docs/recipe.md. A metric in `CURVES` is also a column of the rows: see `VERSION` in
`benchmark/store/rows.py`. A recipe names user-defined metrics as `module:Class`.
"""

import math
import re
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np

from benchmark.common.registry import Component, Registry
from benchmark.method.arrays import Array as Array
from benchmark.method.arrays import Ints, Mask

BINS = 15  # number of bins of confidences, as in Guo et al. (2017)
TOP = 5


@dataclass(frozen=True)
class Answers:
    """Predictions of a method for test images, the input of metrics.

    Attributes:
        correct: whether each image is classified correctly, shape (..., m), e.g. (ranks, m).
        labels: class index of each image, shape (m,).
        classes: number of classes; for metrics of scores, the number of possible classes.
        predicted: predicted class of each image, shape (m,); empty (default) for metrics of correctness.
        scores: score of each class for each image, shape (m, classes); empty (default) for metrics that need no scores.
    """

    correct: Mask
    labels: Ints
    classes: int
    predicted: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    scores: Array = field(default_factory=lambda: np.empty((0, 0)))

    @cached_property
    def probabilities(self) -> Array:
        """The softmax of the scores, in double precision, shape (m, classes)."""
        made = np.array(self.scores, dtype=np.float64)
        np.exp(np.subtract(made, made.max(axis=1, keepdims=True), out=made), out=made)
        return np.divide(made, made.sum(axis=1, keepdims=True), out=made)

    @cached_property
    def accuracy(self) -> Array:
        """The share of correct images, shape (...,); NaN without images."""
        return accuracy(self.correct)

    @cached_property
    def by_class(self) -> Array:
        """Accuracy of every class, shape (..., classes); NaN for a class without images."""
        counts = np.bincount(self.labels, minlength=self.classes)
        rows = self.correct.reshape(math.prod(self.correct.shape[:-1]), len(self.labels))
        hits = np.array([np.bincount(self.labels, weights=row, minlength=self.classes) for row in rows])
        with np.errstate(invalid="ignore"):
            shares = np.where(counts, hits.reshape(-1, self.classes) / counts, np.nan)
        return np.asarray(shares.reshape(*self.correct.shape[:-1], self.classes))


@dataclass(frozen=True, kw_only=True)
class AnswersOfSets(Answers):
    """Predictions for several concatenated sets of images. Metrics have one value for each set.

    Attributes:
        of: index of the set of each image, ascending, shape (m,); `correct` has the same shape.
        sets: number of sets.
    """

    of: Ints
    sets: int

    @cached_property
    def accuracy(self) -> Array:
        """The share of correct images of each set, shape (sets,); NaN without images."""
        ends = np.searchsorted(self.of, np.arange(self.sets), side="right")
        sizes, right = (np.diff(one, prepend=0) for one in (ends, np.append(0, np.cumsum(self.correct))[ends]))
        with np.errstate(invalid="ignore"):
            return np.asarray(right / sizes)

    @cached_property
    def by_class(self) -> Array:
        """Accuracy of every class in each set, shape (sets, classes); NaN for a class without images."""
        place = self.of * self.classes + self.labels
        places = self.sets * self.classes
        with np.errstate(invalid="ignore"):
            shares = np.bincount(place, self.correct, places) / np.bincount(place, minlength=places)
        return np.asarray(shares.reshape(self.sets, self.classes))


Needs = Literal["correct", "predictions", "scores"]


class Metric(Component):
    """Base class of metrics: a metric is one number for each set of test images.

    To add one, derive from this class in a separate file, write `compute`, and name it `module:Class` in
    `sweep.metrics` of a recipe, or as the `metric` of a data set. A new attribute of this base class must also be named
    in docs/adding.md; tests/docs/test_adding.py checks this.

    Attributes:
        needs: input of `compute`. `correct`: `Answers.correct`, for all ranks or sets at once. `predictions` (default):
            predicted classes, which rows have at the points that source rules select. `scores`: scores at these points,
            which only exist during the sweep.
        needs_likelihood: whether scores must be logits. Default false.
        title: heading in tables; by default the name of the class.
        heading: column of `metrics.csv`; by default the title in lower case.
        percent: whether tables show it in percent. Default true.
        column: column of the result rows with the rank curve; empty (default) if there is none.

    Example:
        >>> class ErrorRate(Metric):
        ...     title = "error rate"
        ...     def compute(self, answers: Answers) -> float:
        ...         return float((answers.predicted != answers.labels).mean())
        >>> labels, predicted = np.array([0, 1, 1, 1]), np.array([0, 1, 0, 1])
        >>> ErrorRate().compute(Answers(labels == predicted, labels, 2, predicted))
        0.25
        >>> ErrorRate.heading
        'error_rate'
    """

    needs: ClassVar[Needs] = "predictions"
    needs_likelihood: ClassVar[bool] = False
    title: ClassVar[str] = ""
    heading: ClassVar[str] = ""
    percent: ClassVar[bool] = True
    column: ClassVar[str] = ""

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        cls.title = vars(cls).get("title") or cls.__name__
        cls.heading = vars(cls).get("heading") or re.sub(r"\W+", "_", cls.title.lower())

    @abstractmethod
    def compute(self, answers: Answers) -> Array | float:
        """Return the value, NaN if undefined: an array of shape (...,) if `needs` is `correct`, else a number."""

    def combine(self, base: Any, new: Any) -> Array:
        """Return the value for base and new classes together. Default: their harmonic mean."""
        return harmonic_mean(base, new)

    def over(self, environments: Array) -> float:
        """Return the value over all held-out environments. Default: the mean."""
        return float(environments.mean())

    @property
    def key(self) -> str:
        """Key of the metric in rows: its column if it has one, otherwise its name with parameters."""
        return self.column or self.label

    def shown(self, value: float) -> float:
        """Return a value in the unit of tables, in percent if `percent`."""
        return 100 * value if self.percent else value


def accuracy(correct: Mask) -> Array:
    """Return the share of correct images over the last axis; NaN without images."""
    return np.asarray(correct.mean(axis=-1)) if correct.shape[-1] else np.full(correct.shape[:-1], np.nan)


def harmonic_mean(a: Any, b: Any) -> Array:
    """Return 2 a b / (a + b); 0 if both are 0."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return np.asarray(2 * a * b / np.where(a + b > 0, a + b, 1.0))


class Accuracy(Metric):
    """The share of images that are classified correctly."""

    needs, column, title = "correct", "target", "accuracy"

    def compute(self, answers: Answers) -> Array:
        """See `Metric.compute`."""
        return answers.accuracy


class WorstClass(Metric):
    """The lowest accuracy of a class with images. Reports name the class and its number of images."""

    needs, column, title = "correct", "worst_class", "worst class"
    heading = "worst_class_accuracy"

    def compute(self, answers: Answers) -> Array:
        """See `Metric.compute`."""
        by_class = answers.by_class
        lowest = np.where(np.isnan(by_class), np.inf, by_class).min(axis=-1)
        return np.asarray(np.where(np.isinf(lowest), np.nan, lowest))

    def combine(self, base: Any, new: Any) -> Array:
        """See `Metric.combine`."""
        return np.asarray(np.minimum(base, new))


class Balanced(Metric):
    """The mean accuracy over classes with images."""

    needs, column, title = "correct", "balanced", "balanced"
    heading = "balanced_accuracy"

    def compute(self, answers: Answers) -> Array:
        """See `Metric.compute`."""
        by_class = answers.by_class
        known = ~np.isnan(by_class)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.where(known, by_class, 0.0).sum(axis=-1) / known.sum(axis=-1))


class MacroF1(Metric):
    """The mean over classes with images of F1 = 2 TP / (2 TP + FP + FN), as in WILDS for iWildCam."""

    title = "macro-F1"

    def compute(self, answers: Answers) -> float:
        """See `Metric.compute`."""
        images, predicted = (np.bincount(c, minlength=answers.classes) for c in (answers.labels, answers.predicted))
        hits = np.bincount(answers.labels[answers.predicted == answers.labels], minlength=answers.classes)
        there = images > 0
        return float((2 * hits[there] / (images + predicted)[there]).mean()) if there.any() else math.nan


class Top5(Metric):
    """The share of images whose class is among the five with the highest scores; ties go to the first class."""

    needs, title = "scores", "top-5"
    heading = "top5_accuracy"

    def compute(self, answers: Answers) -> float:
        """See `Metric.compute`."""
        own = np.take_along_axis(answers.scores, answers.labels[:, None], axis=1)
        first = np.arange(answers.classes) < answers.labels[:, None]
        before = (answers.scores > own) | ((answers.scores == own) & first)
        return float((before.sum(axis=1) < TOP).mean())


class LogLoss(Metric):
    """The mean negative log-likelihood of the images' classes, in nats."""

    needs, needs_likelihood, title, percent = "scores", True, "NLL", False

    def compute(self, answers: Answers) -> float:
        """See `Metric.compute`."""
        with np.errstate(divide="ignore"):
            return float(-np.log(np.take_along_axis(answers.probabilities, answers.labels[:, None], axis=1)).mean())


class Auroc(Metric):
    """The mean one-vs-rest area under the ROC curve of the probabilities, over classes with images."""

    needs, needs_likelihood, title = "scores", True, "AUROC"

    def compute(self, answers: Answers) -> float:
        """See `Metric.compute`."""
        counts, areas = np.bincount(answers.labels, minlength=answers.classes), []
        for c in np.flatnonzero((counts > 0) & (counts < len(answers.labels))).tolist():
            own, every = answers.probabilities[answers.labels == c, c], np.sort(answers.probabilities[:, c])
            ranks = (every.searchsorted(own, "left") + every.searchsorted(own, "right") + 1) / 2
            n = len(own)
            areas.append((ranks.sum() - n * (n + 1) / 2) / (n * (len(every) - n)))
        return float(np.mean(areas)) if areas else math.nan


class WorstEnvironment(Accuracy):
    """The lowest accuracy of a held-out environment. Reports name the environment."""

    column, title = "", "worst environment"
    heading = "worst_environment_accuracy"

    def over(self, environments: Array) -> float:
        """See `Metric.over`."""
        return float(environments.min())


class Calibration(Metric):
    """The expected calibration error, see `calibration_error`. Rows also have the error after temperature scaling."""

    needs, needs_likelihood, title = "scores", True, "ECE"

    def compute(self, answers: Answers) -> float:
        """See `Metric.compute`."""
        return calibration_error(confidence_gaps(answers.scores, answers.labels, 1.0), len(answers.labels))


ACCURACY, WORST_CLASS, BALANCED = Accuracy(), WorstClass(), Balanced()
WORST_ENVIRONMENT, ECE = WorstEnvironment(), Calibration()
CURVES: tuple[Metric, ...] = (ACCURACY, WORST_CLASS, BALANCED)  # rows have a value at every rank
SCORED: tuple[Metric, ...] = (Top5(), LogLoss(), Auroc())  # computed by the sweep from scores at selected points
BUILT_IN: tuple[Metric, ...] = (*CURVES, MacroF1(), *SCORED, WORST_ENVIRONMENT, ECE)
METRICS = Registry(
    "metric",
    Metric,  # type: ignore[type-abstract]
    {
        "accuracy": f"{__name__}:Accuracy",
        "worst_class": f"{__name__}:WorstClass",
        "balanced": f"{__name__}:Balanced",
        "macro_f1": f"{__name__}:MacroF1",
        "top5": f"{__name__}:Top5",
        "nll": f"{__name__}:LogLoss",
        "auroc": f"{__name__}:Auroc",
        "worst_environment": f"{__name__}:WorstEnvironment",
        "ece": f"{__name__}:Calibration",
    },
)


def of_scores(among: Iterable[Metric], scores: Array, labels: Ints, likely: bool) -> dict[str, float]:
    """Return a dictionary, key -> value of each metric, from scores of shape (m, classes); empty without images.

    `likely`: whether scores are logits. Otherwise metrics with `needs_likelihood` are left out.
    """
    if not len(labels):
        return {}
    predicted = scores.argmax(axis=1)
    answers = Answers(predicted == labels, labels, scores.shape[1], predicted, scores)
    return {one.key: float(one.compute(answers)) for one in among if likely or not one.needs_likelihood}


def confidence_gaps(logits: Array, labels: Ints, temperature: float) -> Array:
    """Return, for each bin of confidences, the sum of (correct - confidence) over its images, shape (BINS,).

    The confidence is the softmax of logits / temperature at the predicted class. Bins are `BINS` equal parts of 0 to 1.
    Results for disjoint sets of images can be added.
    """
    from scipy.special import log_softmax  # a fifth of a second to import, and plans read no scores

    confidence = np.exp(log_softmax(logits / temperature, axis=1).max(axis=1))
    correct = logits.argmax(axis=1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return np.asarray(np.bincount(bins, weights=correct - confidence, minlength=BINS), dtype=np.float64)


def calibration_error(gaps: Array, n: int) -> float:
    """Return the expected calibration error: sum over bins of n_bin / n |accuracy - mean confidence|.

    Guo et al. (2017, arXiv 1706.04599), equation 3. `gaps` are the `confidence_gaps` of all n images. NaN without
    images.
    """
    return float(np.abs(gaps).sum() / n) if n else float("nan")
