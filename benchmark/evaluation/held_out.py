"""The `held_out` protocol: fit on the source environments' in-splits, test on the environment left out.

Every held-out environment and every leave-one-domain-out fold is a set of excluded environments, and every
projection comes from a subtraction of moments. One fit without {h, s} serves two folds: h held out and s left out, and
the reverse.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from benchmark.evaluation.embedded import Embedded, unit_length
from benchmark.predictors import Predictor, Rotated
from benchmark.recipe import Normalize, TestSplit
from benchmark.subspace import Basis, Moments

Labels = NDArray[np.int64]
Fit = Callable[[Moments], Basis]


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
    """The protocol on one data set, seed and normalisation; moments are summed once for all projections.

    Args:
        data: the embeddings.
        seed: trial seed of the splits.
        pairs: views that form interventional pairs with the originals, each of shape (n, D).
        normalize: scale embeddings to unit length `before` the projection, `after` it, `both` or `none`.
    """

    def __init__(self, data: Embedded, seed: int, pairs: Sequence[NDArray[np.float32]], normalize: Normalize) -> None:
        before = normalize in ("before", "both")
        scale = unit_length if before else lambda z: np.asarray(z, dtype=np.float64)
        self._data, self._renormalize = data, normalize in ("after", "both")
        self._z, self._out = scale(data.z), data.out[seed]
        self._members = [data.environment == e for e in range(len(data.environments))]
        scaled_pairs = [scale(view) for view in pairs]
        self._moments = [
            Moments.of(self._z[rows], [view[rows] for view in scaled_pairs])
            for rows in (self._rows(e, "in_80") for e in range(len(self._members)))
        ]

    @property
    def lodo_split(self) -> TestSplit:
        """The split of a left-out source environment that is tested on.

        DomainBed takes the in-split; where images come in groups that would show groups seen in training, so there
        it is the out-split.
        """
        return "out_20" if self._data.grouped else "in_80"

    def rows(self, held_out: int, split: TestSplit) -> NDArray[np.int64]:
        """Return the positions of the images of a split of an environment."""
        return np.flatnonzero(self._rows(held_out, split))

    def curves(
        self, fit: Fit, predictor: Predictor, ranks: Sequence[int], test_splits: Sequence[TestSplit]
    ) -> Iterator[RankCurve]:
        """Yield the rank curve of every held-out environment, in the order of their names."""
        environments = range(len(self._members))
        lodo = self._lodo_folds(fit, predictor, ranks)
        for held_out in environments:
            yield self._curve(held_out, fit, predictor, ranks, test_splits, lodo)

    def _curve(
        self,
        held_out: int,
        fit: Fit,
        predictor: Predictor,
        ranks: Sequence[int],
        test_splits: Sequence[TestSplit],
        lodo: dict[tuple[int, int], NDArray[np.float64]],
    ) -> RankCurve:
        sources = [e for e in range(len(self._members)) if e != held_out]
        tests = [self._rows(s, "out_20") for s in sources] + [self._rows(held_out, t) for t in test_splits]
        basis, n_train, predicted = self._fit_and_predict(sources, fit, predictor, ranks, tests)
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
            target={split: hits.mean(axis=1).tolist() for split, hits in correct.items()},
            worst_class=worst,
            correct=correct,
            n_train=n_train,
            spectrum=None if basis.spectrum is None else basis.spectrum.tolist(),
        )

    def _lodo_folds(
        self, fit: Fit, predictor: Predictor, ranks: Sequence[int]
    ) -> dict[tuple[int, int], NDArray[np.float64]]:
        """Return (held_out, left_out source) -> accuracy curve on the left-out source."""
        environments = range(len(self._members))
        folds: dict[tuple[int, int], NDArray[np.float64]] = {}
        if len(environments) < 3:
            return folds
        for pair in combinations(environments, 2):
            remaining = [e for e in environments if e not in pair]
            tests = [self._rows(e, self.lodo_split) for e in pair]
            _, _, predicted = self._fit_and_predict(remaining, fit, predictor, ranks, tests)
            first, second = (_accuracy(p, self._data.label[rows]) for p, rows in zip(predicted, tests, strict=True))
            folds[pair[1], pair[0]], folds[pair[0], pair[1]] = first, second
        return folds

    def _fit_and_predict(
        self,
        sources: Sequence[int],
        fit: Fit,
        predictor: Predictor,
        ranks: Sequence[int],
        tests: Sequence[NDArray[np.bool_]],
    ) -> tuple[Basis, int, list[Labels]]:
        """Fit projection and predictor on the in-splits of `sources` and predict the images of `tests`."""
        moments = self._moments[sources[0]]
        for source in sources[1:]:
            moments = moments + self._moments[source]
        basis = fit(moments)
        train = np.any([self._rows(s, "in_80") for s in sources], axis=0)
        problem = Rotated(
            train=self._z[train] @ basis.vectors if predictor.uses_training_images else np.empty((0, moments.dim)),
            labels=self._data.label[train],
            text=self._data.text.astype(np.float64) @ basis.vectors,
            tests=[self._z[rows] @ basis.vectors for rows in tests],
            renormalize=self._renormalize,
        )
        return basis, int(train.sum()), predictor.predict(problem, ranks)

    def _rows(self, environment: int, split: TestSplit) -> NDArray[np.bool_]:
        members = self._members[environment]
        if split == "full":
            return members
        return members & (self._out if split == "out_20" else ~self._out)


def _accuracy(predicted: Labels, labels: Labels) -> NDArray[np.float64]:
    """Return the accuracy for every rank; NaN where there is no image."""
    if not len(labels):
        return np.full(len(predicted), np.nan)
    return np.asarray((predicted == labels).mean(axis=1))


def _worst_class(correct: NDArray[np.bool_], labels: Labels) -> list[float]:
    """Return, for every rank, the accuracy of the class (of those present) for which it is lowest."""
    per_class = [correct[:, labels == c].mean(axis=1) for c in np.unique(labels)]
    return np.min(per_class, axis=0).tolist()
