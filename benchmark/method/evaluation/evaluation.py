"""Rank curves: every fold of a protocol fitted and tested, with the scores by which selection rules choose.

Every fold and every leave-one-domain-out fit is a set of source environments, and every projection is fitted from the
moments of these. A fit that several folds ask for is made once: without {h, s} it serves both the fold that holds out h
and leaves out s, and the reverse.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmark.method.arrays import Array, Labels, Normalize
from benchmark.method.evaluation.cells import Cells, Half
from benchmark.method.evaluation.classifier import Classified, Classifier, ImageSet
from benchmark.method.evaluation.curves import Calibration, RankCurve, Selected, combined
from benchmark.method.evaluation.embedded import Embedded
from benchmark.method.evaluation.metrics import METRICS, Answers
from benchmark.method.evaluation.protocols import Fold, Test, TestSplit
from benchmark.method.evaluation.selection import RULES, best_index
from benchmark.method.evaluation.splits import Split, base_classes
from benchmark.method.predictors import Predictor
from benchmark.method.subspace import Basis, SourceMoments
from benchmark.method.subspace.moments import CROSS

Fit = Callable[[SourceMoments], Basis]
Sources = tuple[tuple[int, ...], tuple[Half, ...]]  # environments that are fitted on, and halves of the classes


@dataclass(frozen=True)
class _Setting:
    """What is fitted and evaluated for every fold: arguments of `Evaluation.curves`."""

    fit: Fit
    predictor: Predictor
    ranks: tuple[int, ...]
    weights: Mapping[str, float] | None


@dataclass(frozen=True)
class _Fitted:
    """One basis fitted on some sources.

    Attributes:
        basis: the basis.
        train: the images that it and the predictor are fitted on, shape (n,).
        classified: what the predictor makes of the images that are judged and tested.
    """

    basis: Basis
    train: NDArray[np.bool_]
    classified: Classified


class Evaluation:
    """Rank curves on one data set, split and normalisation.

    Args:
        data: the embeddings.
        cells: the moments of the same embeddings with the same split, scaled as `normalize` says.
        split: in-split and out-split; its seed is that of everything random in a predictor.
        normalize: scale embeddings to unit length `before` the projection, `after` it, `both` or `none`.
        device: torch device for predictors that are trained on torch.
        lodo: whether to make the leave-one-domain-out fits.
    """

    def __init__(
        self,
        data: Embedded,
        cells: Cells,
        split: Split,
        normalize: Normalize,
        device: str = "cpu",
        lodo: bool = True,
    ) -> None:
        self._data, self._cells, self._split, self._normalize = data, cells, split, normalize
        self._device, self._with_lodo = device, lodo
        self._moments: dict[Sources, SourceMoments] = {}

    @property
    def lodo_split(self) -> TestSplit:
        """The split of a left-out source environment that is tested on.

        DomainBed takes the in-split; where images come in groups that would show groups seen in training, so there
        it is the out-split.
        """
        return "in_80" if self._data.group is None else "out_20"

    def curves(
        self,
        fit: Fit,
        predictor: Predictor,
        ranks: Sequence[int],
        folds: Sequence[Fold],
        weights: Mapping[str, float] | None = None,
    ) -> Iterator[RankCurve]:
        """Yield the rank curves of every fold, test by test; after base and new classes comes what stands for both.

        Args:
            fit: returns the basis for the moments of source environments.
            predictor: predicts inside the subspace.
            ranks: numbers of directions kept, ascending.
            folds: the folds of a protocol, as `Protocol.folds` returns them.
            weights: kind of intervention -> weight in C_d; by default all kinds of the cells alike.
        """
        setting = _Setting(fit, predictor, tuple(ranks), weights)
        left_out = self._left_out_accuracies(setting, folds) if self._with_lodo else {}
        for fold in folds:
            accuracies = [left_out[key] for s in fold.judges if (key := (fold.without(s), fold.halves, s)) in left_out]
            lodo = np.nanmean(accuracies, axis=0).tolist() if accuracies else None
            yield from self._curves_of_fold(fold, setting, lodo)

    def _curves_of_fold(self, fold: Fold, setting: _Setting, lodo: list[float] | None) -> Iterator[RankCurve]:
        validation = [fold.images_of(source, "out_20") for source in fold.judges]
        fitted = self._fitted(fold, fold.sources, setting, validation, fold.tests, lodo)
        base: RankCurve | None = None
        predictions = zip(fold.tests, fitted.classified.predicted, fitted.classified.calibrations, strict=True)
        for test, predicted, calibrations in predictions:
            curve = self._curve(fold, test, fitted, lodo, predicted, calibrations)
            yield curve
            if test.half == "base":
                base = curve
            elif test.half == "new" and base:
                yield combined(base, curve)

    def _curve(
        self,
        fold: Fold,
        test: Test,
        fitted: _Fitted,
        lodo: list[float] | None,
        predicted: Labels,
        calibrations: Mapping[int, Calibration],
    ) -> RankCurve:
        """Return the rank curve of one test from the classes predicted for its images, shape (ranks, m)."""
        rows = np.flatnonzero(self._rows(test))
        # A manifest may list environments in turns; answers are kept environment by environment.
        order = np.argsort(self._data.environment[rows], kind="stable")
        rows = rows[order]
        labels, environments = self._data.label[rows], self._data.environment[rows]
        answers = Answers(predicted[:, order] == labels, labels, len(self._data.classes))
        curves = {metric.name: metric.compute(answers).tolist() for metric in METRICS}
        training_domain, spectrum = fitted.classified.training_domain, fitted.basis.spectrum
        return RankCurve(
            held_out=fold.name,
            test_split=test.split,
            class_half=test.half,
            training_domain=training_domain,
            lodo=lodo,
            metrics=curves,
            selected=_selected({**curves, "training_domain": training_domain, "lodo": lodo}, answers, calibrations),
            n_train=int(fitted.train.sum()),
            n_test=len(labels),
            tested={self._data.environments[e]: int((environments == e).sum()) for e in sorted(test.environments)},
            groups=None if self._data.group is None else self._data.group[rows],
            spectrum=None if spectrum is None else spectrum.tolist(),
        )

    def _left_out_accuracies(
        self, setting: _Setting, folds: Sequence[Fold]
    ) -> dict[tuple[tuple[int, ...], tuple[Half, ...], int], Array]:
        """Return (remaining sources, classes, left-out source) -> accuracy on the left-out source at every rank."""
        fewest = 2 if CROSS in (setting.weights or {}) else 1  # pairs across environments need two
        wanted: dict[Sources, tuple[Fold, dict[int, Test]]] = {}
        for fold in folds:
            for source in fold.judges:
                if len(remaining := fold.without(source)) >= fewest:
                    _, tests = wanted.setdefault((remaining, fold.halves), (fold, {}))
                    tests[source] = fold.images_of(source, self.lodo_split)
        accuracies = {}
        for (remaining, halves), (fold, tests) in wanted.items():
            classified = self._fitted(fold, remaining, setting, [], list(tests.values()), None).classified
            for (source, test), predicted in zip(tests.items(), classified.predicted, strict=True):
                accuracies[remaining, halves, source] = self._images(test).accuracy(predicted)
        return accuracies

    def _fitted(
        self,
        fold: Fold,
        sources: tuple[int, ...],
        setting: _Setting,
        validation: Sequence[Test],
        tests: Sequence[Test],
        lodo: list[float] | None,
    ) -> _Fitted:
        """Fit projection and predictor on the in-splits of `sources`, and classify the images of `tests`.

        Args:
            fold: whose classes are fitted on.
            sources: positions of the environments: those of the fold, or all but one of them.
            setting: what is fitted.
            validation: images of the sources by which rules select.
            tests: images that are tested.
            lodo: leave-one-domain-out accuracy at every rank, where it is known.
        """
        train = np.any([self._rows(fold.images_of(source, "in_80")) for source in sources], axis=0)
        basis = setting.fit(self._source_moments(sources, fold.halves).reweighted(setting.weights))
        classifier = Classifier(
            setting.predictor,
            setting.ranks,
            self._data,
            basis,
            train,
            self._normalize,
            self._split.seed,
            self._device,
        )
        judged, tested = ([self._images(test) for test in asked] for asked in (validation, tests))
        return _Fitted(basis, train, classifier.classify(judged, tested, lodo))

    def _source_moments(self, sources: tuple[int, ...], halves: tuple[Half, ...]) -> SourceMoments:
        if (sources, halves) not in self._moments:
            names = {s: self._data.environments[s] for s in sources}
            self._moments[sources, halves] = self._cells.sources(names, None, halves)
        return self._moments[sources, halves]

    def _images(self, test: Test) -> ImageSet:
        """Return the images of a test; `candidates` are the classes that they can have, where it is not all."""
        rows = np.flatnonzero(self._rows(test))
        return ImageSet(rows, self._data.label[rows], self._data.candidates.get(test.environments[0]))

    def _rows(self, test: Test) -> NDArray[np.bool_]:
        """Return which images a test has, shape (n,)."""
        rows = np.isin(self._data.environment, test.environments)
        if test.split != "full":
            out = self._data.out[self._split]
            rows &= out if test.split == "out_20" else ~out
        if test.half != "all":
            new = self._data.label >= base_classes(len(self._data.classes))
            rows &= new if test.half == "new" else ~new
        return rows


def _selected(
    curves: Mapping[str, list[float] | None], answers: Answers, calibrations: Mapping[int, Calibration]
) -> dict[str, Selected]:
    """Return rule -> what is kept of the rank that it picks.

    Args:
        curves: every curve that a rule may look at, by its column.
        answers: on the tested images.
        calibrations: position of a rank -> calibration there.
    """
    selected = {}
    for name, rule in RULES.items():
        index = best_index(curves[rule.score])
        if index is not None:
            calibration = None if rule.looks_at_target else calibrations.get(index)
            selected[name] = Selected(index, answers.correct[index], answers.by_class[index].tolist(), calibration)
    return selected
