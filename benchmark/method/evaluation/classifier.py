"""One fit, many ranks: the classes that a predictor gives sets of images, and how sure it is where rules pick.

A predictor that learns from images is fitted once, by one call of its `scores`: as the ranks come by, what a rule may
yet pick is held, and calibrated at the end. One that learns from none is asked block by block: its predictions are
cheap, and there may be many images.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmark.method.arrays import Array, Labels, Normalize, scaled
from benchmark.method.evaluation import metrics
from benchmark.method.evaluation.curves import Calibration
from benchmark.method.evaluation.embedded import Embedded
from benchmark.method.evaluation.selection import best_index
from benchmark.method.predictors import Predictor, Problem
from benchmark.method.subspace import Basis

BLOCK = 16_384  # images that are rotated at once where no predictor is trained
MAX_CALIBRATED = 5_000  # source images, evenly spaced, from which a temperature is fitted


@dataclass(frozen=True)
class ImageSet:
    """Images that are tested together.

    Attributes:
        rows: their positions in the data set, shape (m,).
        labels: their classes, shape (m,).
        classes: the classes that they can have, or None for all.
    """

    rows: Labels
    labels: Labels
    classes: Labels | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: slice) -> "ImageSet":
        return ImageSet(self.rows[which], self.labels[which], self.classes)

    def blocks(self) -> Iterator[tuple[slice, "ImageSet"]]:
        """Yield the images in blocks, each with its place."""
        for first in range(0, len(self), BLOCK):
            block = slice(first, first + BLOCK)
            yield block, self[block]

    def possible(self, logits: Array) -> Array:
        """Return the columns of the classes that are possible."""
        return logits if self.classes is None else logits[:, self.classes]

    def named(self, positions: Labels) -> Labels:
        """Return positions among the possible classes as classes."""
        return positions if self.classes is None else self.classes[positions]

    def positions(self) -> Labels:
        """Return the labels as positions among the possible classes."""
        if self.classes is None:
            return self.labels
        order = np.argsort(self.classes)
        return np.asarray(order[np.searchsorted(self.classes, self.labels, sorter=order)])

    def accuracy(self, predicted: Labels) -> Array:
        """Return the accuracy of predicted classes, shape (..., m), over the last axis; NaN without images."""
        return metrics.accuracy(predicted == self.labels)


Sliceable = TypeVar("Sliceable", ImageSet, Array)


@dataclass(frozen=True)
class Classified:
    """What one fit gives.

    Attributes:
        training_domain: mean accuracy on the validation sets at every rank; NaN where there is none.
        predicted: predicted classes of each test set, shape (ranks, m).
        calibrations: for each test set, position of a rank -> calibration there.
    """

    training_domain: list[float]
    predicted: list[Labels]
    calibrations: list[dict[int, Calibration]]


@dataclass(frozen=True)
class Classifier:
    """A predictor in the coordinates of a basis.

    Attributes:
        predictor: the predictor.
        ranks: numbers of directions kept, ascending.
        data: the embeddings.
        basis: the basis, fitted on the sources.
        train: which images a predictor may learn from, shape (n,).
        normalize: see `Evaluation`.
        seed: seed of everything random in the predictor.
        device: torch device on which a predictor may be trained.
    """

    predictor: Predictor
    ranks: tuple[int, ...]
    data: Embedded
    basis: Basis
    train: NDArray[np.bool_]
    normalize: Normalize
    seed: int
    device: str

    def classify(
        self, validation: Sequence[ImageSet], tests: Sequence[ImageSet], lodo: list[float] | None = None
    ) -> Classified:
        """Return the predictions for `tests`, with calibrations at the ranks that rules pick by the sources.

        Args:
            validation: images of the sources by which rules select; without any, nothing is calibrated.
            tests: images that are tested.
            lodo: leave-one-domain-out accuracy at every rank, where it is known.
        """
        run = self._in_one_fit if self.predictor.uses_training_images else self._block_by_block
        return run(validation, tests, lodo)

    def _in_one_fit(
        self, validation: Sequence[ImageSet], tests: Sequence[ImageSet], lodo: list[float] | None
    ) -> Classified:
        passed = _RankPass(validation, tests, len(self.ranks), self.predictor.has_likelihood, best_index(lodo))
        scores = self.predictor.scores(self._problem(self.train, [*validation, *tests]), self.ranks)
        for of_rank in scores:
            passed.take(of_rank)
            del of_rank  # or the scores of two ranks would be held while the next are made
        return passed.result()

    def _block_by_block(
        self, validation: Sequence[ImageSet], tests: Sequence[ImageSet], lodo: list[float] | None
    ) -> Classified:
        judged = [images.accuracy(self._predicted_and_calibrated(images, {})[0]) for images in validation]
        training_domain = _mean(np.reshape(judged, (len(judged), len(self.ranks))))
        picks = {best_index(training_domain), best_index(lodo)} if self.predictor.has_likelihood and judged else set()
        indices = sorted(index for index in picks if index is not None)
        temperatures = self._temperatures(validation, indices)
        classified = [self._predicted_and_calibrated(images, temperatures) for images in tests]
        return Classified(training_domain, [p for p, _ in classified], [c for _, c in classified])

    def _temperatures(self, validation: Sequence[ImageSet], indices: list[int]) -> dict[int, float]:
        """Return position of a rank -> temperature fitted on the sources, for the ranks at `indices`."""
        if not indices:
            return {}
        spaced = _spaced(validation)
        images = ImageSet(*(np.concatenate([getattr(s, name) for s in spaced]) for name in ("rows", "labels")))
        scores = self.predictor.scores(self._untrained(images), [self.ranks[i] for i in indices])
        return {i: metrics.fitted_temperature(z, images.labels) for i, (z,) in zip(indices, scores, strict=True)}

    def _predicted_and_calibrated(
        self, images: ImageSet, temperatures: dict[int, float]
    ) -> tuple[Labels, dict[int, Calibration]]:
        """Return the predicted classes, shape (ranks, m), and the calibrations at the ranks with a temperature."""
        predicted = np.empty((len(self.ranks), len(images)), dtype=np.int64)
        gaps = {index: np.zeros((2, metrics.BINS)) for index in temperatures}
        ranks = [self.ranks[index] for index in temperatures]
        for place, block in images.blocks():
            problem = self._untrained(block)
            (positions,) = self.predictor.predict(problem, self.ranks)
            predicted[:, place] = block.named(positions)
            scores = self.predictor.scores(problem, ranks) if ranks else ()
            for (index, temperature), (logits,) in zip(temperatures.items(), scores, strict=True):
                gaps[index] += _gaps(logits, block.positions(), temperature)
        n = len(images)
        return predicted, {index: _calibration(gaps[index], n, t) for index, t in temperatures.items()}

    def _untrained(self, images: ImageSet) -> Problem:
        """Return the problem of images among the classes that they can have, without training images."""
        return self._problem(self.train[:0], [ImageSet(images.rows, images.labels)], images.classes)

    def _problem(self, train: NDArray[np.bool_], sets: Sequence[ImageSet], classes: Labels | None = None) -> Problem:
        """Return the problem in the coordinates of the basis; `train` may be empty, `classes` some of the classes."""
        data, text, vectors = self.data, self.data.text.astype(np.float64), self.basis.vectors
        trained = len(train) > 0
        return Problem(
            train=scaled(data.z[train], self.normalize) @ vectors if trained else np.empty((0, data.z.shape[1])),
            labels=data.label[train] if trained else data.label[:0],
            text=(text if classes is None else text[classes]) @ vectors,
            tests=[scaled(data.z[images.rows], self.normalize) @ vectors for images in sets],
            renormalize=self.normalize in ("after", "both"),
            environments=data.environment[train] if trained else data.environment[:0],
            logit_scale=data.logit_scale,
            seed=self.seed,
            device=self.device,
            candidates=tuple(images.classes for images in sets),
        )


@dataclass
class _RankPass:
    """What is made of scores as the ranks come by.

    The rank that `lodo` picks is known before, and calibrated as it comes. The one with the highest accuracy on the
    validation sets is known at the end: the best so far is held.

    Attributes:
        validation: images of the sources by which rules select.
        tests: images that are tested.
        ranks: number of ranks.
        has_likelihood: whether there is anything to calibrate.
        lodo_pick: position of the rank that `lodo` picks, or None.
    """

    validation: Sequence[ImageSet]
    tests: Sequence[ImageSet]
    ranks: int
    has_likelihood: bool
    lodo_pick: int | None

    def __post_init__(self) -> None:
        self._index = 0
        self._calibrations: dict[int, list[Calibration]] = {}
        self._held: tuple[int, list[Array], list[Array]] | None = None
        self._predicted = [np.empty((self.ranks, len(images)), dtype=np.int64) for images in self.tests]
        self._accuracies = np.full((len(self.validation), self.ranks), -1.0)  # below all that are still to come

    def take(self, scores: Sequence[Array]) -> None:
        """Note what the next rank's scores say of the validation sets and of the test sets."""
        index = self._index
        self._index += 1
        of_validation, of_tests = scores[: len(self.validation)], scores[len(self.validation) :]
        for i, (images, logits) in enumerate(zip(self.validation, of_validation, strict=True)):
            self._accuracies[i, index] = images.accuracy(_argmax(images, logits))
        for images, predicted, logits in zip(self.tests, self._predicted, of_tests, strict=True):
            predicted[index] = _argmax(images, logits)
        if self.has_likelihood and self.validation:
            spaced = _spaced(of_validation)
            if index == self.lodo_pick:
                self._calibrations[index] = self._calibrated(spaced, of_tests)
            if index == best_index(_mean(self._accuracies)):
                # A predictor may use its arrays again at the next rank.
                copies = [[logits.copy() for logits in of_sets] for of_sets in (spaced, of_tests)]
                self._held = None if index in self._calibrations else (index, copies[0], copies[1])

    def result(self) -> Classified:
        """Return everything, once all ranks have come by."""
        if self._held:
            index, of_validation, of_tests = self._held
            self._calibrations[index] = self._calibrated(of_validation, of_tests)
        by_test = [
            {index: of_tests[i] for index, of_tests in self._calibrations.items()} for i in range(len(self.tests))
        ]
        return Classified(_mean(self._accuracies), self._predicted, by_test)

    def _calibrated(self, of_validation: Sequence[Array], of_tests: Sequence[Array]) -> list[Calibration]:
        """Return the calibration on each test set, with the temperature that fits the validation images best."""
        labels = np.concatenate([images.labels for images in _spaced(self.validation)])
        temperature = metrics.fitted_temperature(np.concatenate(of_validation), labels)
        return [
            _calibration(_gaps(images.possible(logits), images.positions(), temperature), len(images), temperature)
            for images, logits in zip(self.tests, of_tests, strict=True)
        ]


def _argmax(images: ImageSet, logits: Array) -> Labels:
    return images.named(images.possible(logits).argmax(axis=1))


def _mean(accuracies: Array) -> list[float]:
    """Return the mean over sets of images at every rank, without those that have none; NaN without sets."""
    return np.nanmean(accuracies, axis=0).tolist() if len(accuracies) else [float("nan")] * accuracies.shape[1]


def _spaced(sets: Sequence[Sliceable]) -> list[Sliceable]:
    """Return some images of each set, evenly spaced: `MAX_CALIBRATED` together, and one more of each set at most."""
    step = max(1, -(-sum(map(len, sets)) // MAX_CALIBRATED))
    return [images[::step] for images in sets]


def _gaps(logits: Array, labels: Labels, temperature: float) -> Array:
    """Return the gaps between accuracy and confidence as they are and with a temperature, shape (2, BINS)."""
    return np.stack([metrics.confidence_gaps(logits, labels, t) for t in (1.0, temperature)])


def _calibration(gaps: Array, n: int, temperature: float) -> Calibration:
    error, scaled_error = (metrics.calibration_error(row, n) for row in gaps)
    return Calibration(error, scaled_error, temperature)
