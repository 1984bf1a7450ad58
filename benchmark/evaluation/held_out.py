"""The `held_out` protocol: fit on the source environments' in-splits, test on the environment left out.

Every held-out environment and every leave-one-domain-out fold is a set of excluded environments, and every
projection is fitted from the moments of the others. One fit without {h, s} serves two folds: h held out and s left out,
and the reverse.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.evaluation.cells import Cells
from benchmark.evaluation.embedded import Embedded, scaled
from benchmark.predictors import Predictor, Rotated
from benchmark.recipe import Normalize, TestSplit
from benchmark.subspace import Basis, SourceMoments
from benchmark.subspace.moments import CROSS

Labels = NDArray[np.int64]
Fit = Callable[[SourceMoments], Basis]
BLOCK = 16_384  # images that are rotated at once where no predictor is trained


@dataclass(frozen=True)
class _Setting:
    """What is fitted and evaluated for every held-out environment."""

    fit: Fit
    predictor: Predictor
    ranks: tuple[int, ...]
    weights: Mapping[str, float] | None


@dataclass(frozen=True)
class RankCurve:
    """Accuracies of one held-out environment against the rank kept; every list runs over the ranks.

    Attributes:
        held_out: name of the environment.
        training_domain: mean accuracy on the out-splits of the source environments.
        lodo: mean accuracy over folds that leave out one source environment too; None with fewer than three
            environments.
        target: test split -> accuracy on it.
        worst_class: test split -> accuracy of the class it is lowest for.
        correct: test split -> correctness of every image, shape (ranks, n_test).
        n_train: training images.
        spectrum: eigenvalues of the basis fitted on the sources, or None.
    """

    held_out: str
    training_domain: list[float]
    lodo: list[float] | None
    target: dict[TestSplit, list[float]]
    worst_class: dict[TestSplit, list[float]]
    correct: dict[TestSplit, NDArray[np.bool_]]
    n_train: int
    spectrum: list[float] | None


class HeldOut:
    """The protocol on one data set, seed and normalisation.

    Args:
        data: the embeddings.
        cells: the moments of the same embeddings with the split of `seed`, scaled as `normalize` says.
        seed: trial seed of the splits, and of everything random in a predictor.
        normalize: scale embeddings to unit length `before` the projection, `after` it, `both` or `none`.
        device: torch device for predictors that are trained on torch.
    """

    def __init__(self, data: Embedded, cells: Cells, seed: int, normalize: Normalize, device: str = "cpu") -> None:
        self._data, self._cells, self._seed, self._normalize = data, cells, seed, normalize
        self._device = device
        self._out = data.out[seed]
        self._members = [data.environment == e for e in range(len(data.environments))]
        self._sources: dict[tuple[int, ...], SourceMoments] = {}

    @property
    def lodo_split(self) -> TestSplit:
        """The split of a left-out source environment that is tested on.

        DomainBed takes the in-split; where images come in groups that would show groups seen in training, so there
        it is the out-split.
        """
        return "out_20" if self._data.grouped else "in_80"

    def curves(
        self,
        fit: Fit,
        predictor: Predictor,
        ranks: Sequence[int],
        test_splits: Sequence[TestSplit],
        weights: Mapping[str, float] | None = None,
    ) -> Iterator[RankCurve]:
        """Yield the rank curve of every held-out environment, in the order of their names.

        Args:
            fit: returns the basis for the moments of source environments.
            predictor: predicts inside the subspace.
            ranks: numbers of directions kept, ascending.
            test_splits: of the held-out environment.
            weights: kind of intervention -> weight in C_d; by default all kinds of the cells alike.
        """
        one = _Setting(fit, predictor, tuple(ranks), weights)
        lodo = self._lodo_folds(one)
        for held_out in range(len(self._members)):
            yield self._curve(held_out, one, test_splits, lodo)

    def _curve(
        self,
        held_out: int,
        one: _Setting,
        test_splits: Sequence[TestSplit],
        lodo: dict[tuple[int, int], NDArray[np.float64]],
    ) -> RankCurve:
        sources = [e for e in range(len(self._members)) if e != held_out]
        tests = [self._rows(s, "out_20") for s in sources] + [self._rows(held_out, t) for t in test_splits]
        basis, n_train, predicted = self._fit_and_predict(sources, one, tests)
        source_curves = [
            _accuracy(p, self._data.label[rows]) for p, rows in zip(predicted, tests[: len(sources)], strict=False)
        ]
        correct: dict[TestSplit, NDArray[np.bool_]] = {}
        worst: dict[TestSplit, list[float]] = {}
        for split, rows, classes in zip(test_splits, tests[len(sources) :], predicted[len(sources) :], strict=True):
            correct[split] = classes == self._data.label[rows]
            worst[split] = _worst_class(correct[split], self._data.label[rows])
        folds = [lodo[held_out, s] for s in sources if (held_out, s) in lodo]
        return RankCurve(
            held_out=self._data.environments[held_out],
            training_domain=np.nanmean(source_curves, axis=0).tolist(),
            lodo=np.nanmean(folds, axis=0).tolist() if folds else None,
            target={split: _mean(hits).tolist() for split, hits in correct.items()},
            worst_class=worst,
            correct=correct,
            n_train=n_train,
            spectrum=None if basis.spectrum is None else basis.spectrum.tolist(),
        )

    def _lodo_folds(self, one: _Setting) -> dict[tuple[int, int], NDArray[np.float64]]:
        """Return (held_out, left_out source) -> accuracy curve on the left-out source."""
        environments = range(len(self._members))
        folds: dict[tuple[int, int], NDArray[np.float64]] = {}
        if len(environments) < (4 if CROSS in (one.weights or {}) else 3):
            return folds  # pairs across environments need two sources in every fold
        for pair in combinations(environments, 2):
            remaining = [e for e in environments if e not in pair]
            tests = [self._rows(e, self.lodo_split) for e in pair]
            _, _, predicted = self._fit_and_predict(remaining, one, tests)
            first, second = (_accuracy(p, self._data.label[rows]) for p, rows in zip(predicted, tests, strict=True))
            folds[pair[1], pair[0]], folds[pair[0], pair[1]] = first, second
        return folds

    def _fit_and_predict(
        self,
        sources: Sequence[int],
        one: _Setting,
        tests: Sequence[NDArray[np.bool_]],
    ) -> tuple[Basis, int, list[Labels]]:
        """Fit projection and predictor on the in-splits of `sources` and predict the images of `tests`."""
        train = np.any([self._rows(s, "in_80") for s in sources], axis=0)
        basis = one.fit(self._moments(sources).reweighted(one.weights))
        if one.predictor.uses_training_images:
            problem = self._problem(basis, train, tests)
            return basis, int(train.sum()), one.predictor.predict(problem, one.ranks)
        # Without training nothing ties the images together, and a large data set need not be rotated at once.
        positions = [np.flatnonzero(rows) for rows in tests]
        predicted = [np.empty((len(one.ranks), len(rows)), dtype=np.int64) for rows in positions]
        for rows, labels in zip(positions, predicted, strict=True):
            for first in range(0, len(rows), BLOCK):
                block = slice(first, first + BLOCK)
                problem = self._problem(basis, train[:0], [rows[block]])
                (labels[:, block],) = one.predictor.predict(problem, one.ranks)
        return basis, int(train.sum()), predicted

    def _moments(self, sources: Sequence[int]) -> SourceMoments:
        key = tuple(sources)
        if key not in self._sources:
            names = {s: self._data.environments[s] for s in sources}
            self._sources[key] = self._cells.sources(names, None)
        return self._sources[key]

    def _problem(self, basis: Basis, train: NDArray[Any], tests: Sequence[NDArray[Any]]) -> Rotated:
        data = self._data
        rotate = lambda rows: scaled(data.z[rows], self._normalize) @ basis.vectors  # noqa: E731
        return Rotated(
            train=rotate(train) if len(train) else np.empty((0, data.z.shape[1])),
            labels=data.label[train] if len(train) else data.label[:0],
            text=data.text.astype(np.float64) @ basis.vectors,
            tests=[rotate(rows) for rows in tests],
            renormalize=self._normalize in ("after", "both"),
            environments=data.environment[train] if len(train) else data.environment[:0],
            logit_scale=data.logit_scale,
            seed=self._seed,
            device=self._device,
        )

    def _rows(self, environment: int, split: TestSplit) -> NDArray[np.bool_]:
        members = self._members[environment]
        if split == "full":
            return members
        return members & (self._out if split == "out_20" else ~self._out)


def _accuracy(predicted: Labels, labels: Labels) -> NDArray[np.float64]:
    """Return the accuracy for every rank; NaN where there is no image."""
    return _mean(predicted == labels)


def _mean(correct: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the mean over images for every rank, NaN where there is none."""
    return np.asarray(correct.mean(axis=1)) if correct.shape[1] else np.full(len(correct), np.nan)


def _worst_class(correct: NDArray[np.bool_], labels: Labels) -> list[float]:
    """Return, for every rank, the accuracy of the class (of those present) for which it is lowest."""
    if not len(labels):
        return [math.nan] * len(correct)
    per_class = [correct[:, labels == c].mean(axis=1) for c in np.unique(labels)]
    return np.min(per_class, axis=0).tolist()
