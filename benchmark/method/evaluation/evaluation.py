"""Rank curves: every fold of a protocol fitted and tested, with the scores by which selection rules choose.

Every fold and every leave-one-domain-out fit is a set of source environments, and every projection is fitted from the
moments of these. A fit that several folds ask for is made once: without {h, s} it serves both the fold that holds out h
and leaves out s, and the reverse.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmark.method.arrays import Normalize, scaled
from benchmark.method.evaluation import metrics
from benchmark.method.evaluation.cells import Cells, Group
from benchmark.method.evaluation.embedded import Embedded
from benchmark.method.evaluation.metrics import METRICS, Answers
from benchmark.method.evaluation.protocols import ClassHalf, Fold, Test, TestSplit
from benchmark.method.evaluation.selection import RULES, best_index
from benchmark.method.evaluation.splits import Split, base_classes
from benchmark.method.predictors import Predictor, Problem
from benchmark.method.subspace import Basis, SourceMoments
from benchmark.method.subspace.moments import CROSS

Labels = NDArray[np.int64]
Array = NDArray[np.float64]
Fit = Callable[[SourceMoments], Basis]
BLOCK = 16_384  # images that are rotated at once where no predictor is trained
MAX_CALIBRATED = 5_000  # source images, evenly spaced, from which a temperature is fitted


@dataclass(frozen=True)
class Calibration:
    """Expected calibration error on the tested images.

    Attributes:
        error: of the probabilities as they are.
        scaled_error: with the temperature that makes the out-splits of the sources likeliest.
        temperature: that temperature.
    """

    error: float
    scaled_error: float
    temperature: float


@dataclass(frozen=True)
class Selected:
    """What is kept of the rank that a selection rule picks within a row.

    Attributes:
        index: position among the ranks.
        correct: of every tested image, shape (m,), environment by environment; None for a harmonic mean.
        per_class: accuracy of every class, NaN for one without tested images; None for a harmonic mean.
        calibration: None for the oracle, and where scores are no likelihoods.
    """

    index: int
    correct: NDArray[np.bool_] | None
    per_class: list[float] | None
    calibration: Calibration | None = None


@dataclass(frozen=True)
class RankCurve:
    """Metrics of one fold on one set of tested images against the rank kept; every list runs over the ranks.

    Attributes:
        held_out: what is held out, as rows call it.
        test_split: which of its images are tested.
        class_group: which classes they are of; `harmonic` is the harmonic mean of the accuracies on base and new ones.
        training_domain: mean accuracy on the out-splits of the source environments (of the classes fitted on).
        lodo: mean accuracy over fits that leave out one source environment and are tested on it; None where one source
            is all there is.
        metrics: name of each of `METRICS` -> its values on the tested images.
        selected: rule -> what is kept of the rank that it picks; rules without a score are absent.
        n_train, n_test: number of images.
        tested: environment -> its tested images, in the order in which they stand in `Selected.correct`.
        groups: number of the group of each, likewise, shape (m,); None where there are none, and for a harmonic mean.
        spectrum: eigenvalues of the basis fitted on the sources, or None.
    """

    held_out: str
    test_split: TestSplit
    class_group: ClassHalf
    training_domain: list[float]
    lodo: list[float] | None
    metrics: dict[str, list[float]]
    selected: dict[str, Selected]
    n_train: int
    n_test: int
    tested: dict[str, int]
    groups: NDArray[np.int64] | None
    spectrum: list[float] | None


@dataclass(frozen=True)
class _Setting:
    """What is fitted and evaluated for every fold."""

    fit: Fit
    predictor: Predictor
    ranks: tuple[int, ...]
    weights: Mapping[str, float] | None


@dataclass(frozen=True)
class _Tested:
    """What one fit gives: predictions for each set of tested images, and calibrations at some ranks."""

    basis: Basis
    n_train: int
    predicted: list[Labels]
    calibrations: list[dict[int, Calibration]]


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
        self._moments: dict[tuple[tuple[int, ...], tuple[Group, ...]], SourceMoments] = {}

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
        """Yield the rank curves of every fold, test by test; after base and new classes comes their harmonic mean.

        Args:
            fit: returns the basis for the moments of source environments.
            predictor: predicts inside the subspace.
            ranks: numbers of directions kept, ascending.
            folds: of `Protocol.folds`.
            weights: kind of intervention -> weight in C_d; by default all kinds of the cells alike.
        """
        one = _Setting(fit, predictor, tuple(ranks), weights)
        lodo = self._lodo_curves(one, folds) if self._with_lodo else {}
        for fold in folds:
            yield from self._curves_of_fold(fold, one, lodo)

    def _curves_of_fold(
        self, fold: Fold, one: _Setting, lodo: Mapping[tuple[tuple[int, ...], tuple[Group, ...], int], Array]
    ) -> Iterator[RankCurve]:
        left_out = [lodo[key] for s in fold.judges if (key := (fold.without(s), fold.groups, s)) in lodo]
        validation = [fold.images_of(s, "out_20") for s in fold.judges]
        source_scores: dict[str, list[float] | None] = {}

        def chosen(predicted: Sequence[Labels]) -> set[int]:
            """Return the ranks that the rules pick by the sources, now that these are predicted."""
            scores = [self._accuracies(p, t) for p, t in zip(predicted, validation, strict=True)]
            source_scores["training_domain"] = np.nanmean(scores, axis=0).tolist()
            source_scores["lodo"] = np.nanmean(left_out, axis=0).tolist() if left_out else None
            return {i for scores in source_scores.values() if (i := best_index(scores)) is not None}

        tested = self._fit_and_predict(fold, fold.sources, one, validation, fold.tests, chosen)
        halves = []
        for test, predicted, calibrations in zip(fold.tests, tested.predicted, tested.calibrations, strict=True):
            curve = self._curve(fold, test, tested, source_scores, predicted, calibrations)
            yield curve
            if test.group == "base":
                halves = [curve]
            elif test.group == "new":
                yield _harmonic(halves[0], curve)

    def _curve(
        self,
        fold: Fold,
        test: Test,
        tested: _Tested,
        source_scores: Mapping[str, list[float] | None],
        predicted: Labels,
        calibrations: dict[int, Calibration],
    ) -> RankCurve:
        rows = np.flatnonzero(self._rows(test))
        # A manifest may list environments in turns; answers are kept environment by environment.
        order = np.argsort(self._data.environment[rows], kind="stable")
        rows = rows[order]
        labels = self._data.label[rows]
        correct = predicted[:, order] == labels
        answers = Answers(correct, labels, len(self._data.classes))
        curves = {metric.name: metric.compute(answers).tolist() for metric in METRICS}
        selected = {}
        for name, rule in RULES.items():
            index = best_index((curves if rule.looks_at_target else source_scores)[rule.score])
            if index is not None:
                calibration = None if rule.looks_at_target else calibrations.get(index)
                selected[name] = Selected(index, correct[index], answers.by_class[index].tolist(), calibration)
        spectrum, training_domain = tested.basis.spectrum, source_scores["training_domain"]
        assert training_domain is not None
        return RankCurve(
            held_out=fold.name,
            test_split=test.split,
            class_group=test.group,
            training_domain=training_domain,
            lodo=source_scores["lodo"],
            metrics=curves,
            selected=selected,
            n_train=tested.n_train,
            n_test=len(labels),
            tested={
                self._data.environments[e]: int((self._data.environment[rows] == e).sum())
                for e in sorted(test.environments)
            },
            groups=None if self._data.group is None else self._data.group[rows],
            spectrum=None if spectrum is None else spectrum.tolist(),
        )

    def _lodo_curves(
        self, one: _Setting, folds: Sequence[Fold]
    ) -> dict[tuple[tuple[int, ...], tuple[Group, ...], int], Array]:
        """Return (remaining sources, classes, left-out source) -> accuracy on the left-out source."""
        fewest = 2 if CROSS in (one.weights or {}) else 1  # pairs across environments need two
        wanted: dict[tuple[tuple[int, ...], tuple[Group, ...]], tuple[Fold, dict[int, Test]]] = {}
        for fold in folds:
            for source in fold.judges:
                if len(remaining := fold.without(source)) >= fewest:
                    _, tests = wanted.setdefault((remaining, fold.groups), (fold, {}))
                    tests[source] = fold.images_of(source, self.lodo_split)
        found = {}
        for (remaining, groups), (fold, tests) in wanted.items():
            fitted = self._fit_and_predict(fold, remaining, one, [], list(tests.values()))
            for (source, test), predicted in zip(tests.items(), fitted.predicted, strict=True):
                found[remaining, groups, source] = self._accuracies(predicted, test)
        return found

    def _accuracies(self, predicted: Labels, test: Test) -> Array:
        """Return the accuracy at every rank; NaN where there is no image."""
        return metrics.accuracy(predicted == self._data.label[self._rows(test)])

    def _fit_and_predict(
        self,
        fold: Fold,
        sources: tuple[int, ...],
        one: _Setting,
        validation: Sequence[Test],
        tests: Sequence[Test],
        chosen: Callable[[Sequence[Labels]], set[int]] = lambda _: set(),
    ) -> _Tested:
        """Fit projection and predictor on the in-splits of `sources`, and predict the images of `tests`.

        Args:
            fold: whose classes are fitted on.
            sources: which environments: those of the fold, or all but one of them.
            one: what is fitted.
            validation: images of the sources by which rules select.
            tests: images that are tested.
            chosen: takes the predictions for `validation` and returns at which ranks to measure calibration.
        """
        train = np.any([self._rows(fold.images_of(s, "in_80")) for s in sources], axis=0)
        basis = one.fit(self._source_moments(sources, fold.groups).reweighted(one.weights))
        run = self._trained if one.predictor.uses_training_images else self._untrained
        predicted, calibrations = run(basis, train, one, validation, tests, chosen)
        return _Tested(basis, int(train.sum()), predicted, calibrations)

    def _trained(
        self,
        basis: Basis,
        train: NDArray[np.bool_],
        one: _Setting,
        validation: Sequence[Test],
        tests: Sequence[Test],
        chosen: Callable[[Sequence[Labels]], set[int]],
    ) -> tuple[list[Labels], list[dict[int, Calibration]]]:
        """Predict with one predictor fitted on the images of `train`."""
        rows = [np.flatnonzero(self._rows(t)) for t in (*validation, *tests)]
        allowed = [self._candidates(t) for t in (*validation, *tests)]
        problem = self._problem(basis, train, rows, allowed)
        n, found = len(validation), one.predictor.predict(problem, one.ranks)
        calibrations: list[dict[int, Calibration]] = [{} for _ in tests]
        indices = sorted(chosen(found[:n]))
        if indices and one.predictor.has_likelihood:
            kept = [self._spaced(r, rows[:n]) for r in rows[:n]]
            labels = self._data.label[np.concatenate(kept)]
            again = replace(problem, tests=[*self._rotated(basis, kept), *problem.tests[n:]], candidates=())
            scores = one.predictor.scores(again, [one.ranks[i] for i in indices])
            for index, of_rank in zip(indices, scores, strict=True):
                temperature = metrics.fitted_temperature(np.concatenate(of_rank[:n]), labels)
                for own, logits, r, a in zip(calibrations, of_rank[n:], rows[n:], allowed[n:], strict=True):
                    truth = _position(self._data.label[r], a)
                    own[index] = _calibration(_gaps(_among(logits, a), truth, temperature), len(r), temperature)
        return found[n:], calibrations

    def _untrained(
        self,
        basis: Basis,
        train: NDArray[np.bool_],
        one: _Setting,
        validation: Sequence[Test],
        tests: Sequence[Test],
        chosen: Callable[[Sequence[Labels]], set[int]],
    ) -> tuple[list[Labels], list[dict[int, Calibration]]]:
        """Predict block by block: without training nothing ties images together, and there may be many."""
        nobody = train[:0]
        sources = [np.flatnonzero(self._rows(t)) for t in validation]
        judged = [np.empty((len(one.ranks), len(rows)), dtype=np.int64) for rows in sources]
        for rows, labels in zip(sources, judged, strict=True):
            for block in _blocks(len(rows)):
                (labels[:, block],) = one.predictor.predict(
                    self._problem(basis, nobody, [rows[block]], [None]), one.ranks
                )
        indices = sorted(chosen(judged))
        indices = indices if one.predictor.has_likelihood else []
        ranks = [one.ranks[i] for i in indices]
        temperatures = []
        if indices:
            kept = np.concatenate([self._spaced(rows, sources) for rows in sources])
            problem = self._problem(basis, nobody, [kept], [None])
            labels_kept = self._data.label[kept]
            temperatures = [metrics.fitted_temperature(z, labels_kept) for (z,) in one.predictor.scores(problem, ranks)]
        found, calibrations = [], []
        for test in tests:
            rows, classes = np.flatnonzero(self._rows(test)), self._candidates(test)
            labels = np.empty((len(one.ranks), len(rows)), dtype=np.int64)
            gaps = [np.zeros((2, metrics.BINS)) for _ in indices]
            for block in _blocks(len(rows)):
                problem = self._problem(basis, nobody, [rows[block]], [None], classes)
                (own,) = one.predictor.predict(problem, one.ranks)
                labels[:, block] = own if classes is None else classes[own]
                truth = _position(self._data.label[rows[block]], classes)
                scores = one.predictor.scores(problem, ranks) if ranks else ()
                for total, (logits,), temperature in zip(gaps, scores, temperatures, strict=True):
                    total += _gaps(logits, truth, temperature)
            found.append(labels)
            measured = zip(indices, gaps, temperatures, strict=True)
            calibrations.append({index: _calibration(both, len(rows), t) for index, both, t in measured})
        return found, calibrations

    def _source_moments(self, sources: tuple[int, ...], groups: tuple[Group, ...]) -> SourceMoments:
        if (sources, groups) not in self._moments:
            names = {s: self._data.environments[s] for s in sources}
            self._moments[sources, groups] = self._cells.sources(names, None, groups)
        return self._moments[sources, groups]

    def _problem(
        self,
        basis: Basis,
        train: NDArray[np.bool_],
        tests: Sequence[Labels],
        allowed: Sequence[Labels | None],
        classes: Labels | None = None,
    ) -> Problem:
        """Return the problem in the coordinates of a basis; `train` may be empty, `classes` some of the classes."""
        data, text = self._data, self._data.text.astype(np.float64)
        return Problem(
            train=scaled(data.z[train], self._normalize) @ basis.vectors
            if len(train)
            else np.empty((0, data.z.shape[1])),
            labels=data.label[train] if len(train) else data.label[:0],
            text=(text if classes is None else text[classes]) @ basis.vectors,
            tests=self._rotated(basis, tests),
            renormalize=self._normalize in ("after", "both"),
            environments=data.environment[train] if len(train) else data.environment[:0],
            logit_scale=data.logit_scale,
            seed=self._split.seed,
            device=self._device,
            candidates=tuple(allowed),
        )

    def _rotated(self, basis: Basis, tests: Sequence[Labels]) -> list[Array]:
        return [scaled(self._data.z[rows], self._normalize) @ basis.vectors for rows in tests]

    def _candidates(self, test: Test) -> Labels | None:
        """Return the classes that the tested images can have, or None where it is all of them."""
        return self._data.candidates.get(test.environments[0])

    def _spaced(self, rows: Labels, of: Sequence[Labels]) -> Labels:
        """Return some rows, evenly spaced, so that all of `of` together have `MAX_CALIBRATED` at most."""
        return rows[:: max(1, -(-sum(map(len, of)) // MAX_CALIBRATED))]

    def _rows(self, test: Test) -> NDArray[np.bool_]:
        """Return which images a test has, shape (n,)."""
        rows = np.isin(self._data.environment, test.environments)
        if test.split != "full":
            out = self._data.out[self._split]
            rows &= out if test.split == "out_20" else ~out
        if test.group != "all":
            new = self._data.label >= base_classes(len(self._data.classes))
            rows &= new if test.group == "new" else ~new
        return rows


def _harmonic(base: RankCurve, new: RankCurve) -> RankCurve:
    """Return what stands for base and new classes together: of accuracies the harmonic mean, rank by rank."""
    curves = {m.name: np.asarray(m.combine(base.metrics[m.name], new.metrics[m.name])).tolist() for m in METRICS}
    picks = {
        name: best_index(curves[rule.score]) if rule.looks_at_target else base.selected[name].index
        for name, rule in RULES.items()
        if rule.looks_at_target or name in base.selected
    }
    selected = {name: Selected(index, None, None) for name, index in picks.items() if index is not None}
    return replace(
        base,
        class_group="harmonic",
        metrics=curves,
        selected=selected,
        n_test=base.n_test + new.n_test,
        tested={name: n + new.tested[name] for name, n in base.tested.items()},
        groups=None,
    )


def _blocks(n: int) -> list[slice]:
    return [slice(first, first + BLOCK) for first in range(0, n, BLOCK)]


def _among(logits: Array, classes: Labels | None) -> Array:
    """Return the logits of the classes that are possible."""
    return logits if classes is None else logits[:, classes]


def _position(labels: Labels, classes: Labels | None) -> Labels:
    """Return labels as positions among the possible classes."""
    if classes is None:
        return labels
    order = np.argsort(classes)
    return np.asarray(order[np.searchsorted(classes, labels, sorter=order)])


def _gaps(logits: Array, labels: Labels, temperature: float) -> Array:
    """Return the gaps between accuracy and confidence as they are and with a temperature, shape (2, BINS)."""
    return np.stack([metrics.confidence_gaps(logits, labels, t) for t in (1.0, temperature)])


def _calibration(gaps: Array, n: int, temperature: float) -> Calibration:
    error, scaled_error = (metrics.calibration_error(own, n) for own in gaps)
    return Calibration(error, scaled_error, temperature)
