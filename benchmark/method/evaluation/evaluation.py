"""Rank curves: every holdout of a protocol fitted and tested, with the scores by which selection rules choose.

Every holdout and every leave-one-domain-out fit is a set of source environments and of sides of the split, and every
projection is fitted from their moments. A fit that several holdouts ask for is made once: without {h, s} it serves both
the one that holds out h and leaves out s, and the reverse.

Of predictors whose fits take long, those that only serve a choice are made on some images of each source environment,
and full-size ones where a rule picks.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmark.method.arrays import Array, Labels, Normalize, scaled
from benchmark.method.evaluation.cells import Cells, Half
from benchmark.method.evaluation.checked import checked_basis
from benchmark.method.evaluation.classifier import Classified, Classifier, Heads, ImageSet, Known
from benchmark.method.evaluation.curves import RankCurve, Scored, combined
from benchmark.method.evaluation.embedded import Embedded
from benchmark.method.evaluation.metrics import ACCURACY, CURVES, SCORED, Answers, Metric, accuracy, mean_accuracy
from benchmark.method.evaluation.protocols import Holdout, Test
from benchmark.method.evaluation.roles import Roles
from benchmark.method.evaluation.sampling import sampled
from benchmark.method.evaluation.selection import RULES, SOURCE_RULES, best_of, best_point
from benchmark.method.evaluation.spans import Shifts, Spans, spans_of
from benchmark.method.evaluation.splits import Split
from benchmark.method.predictors import Predictor
from benchmark.method.subspace import Basis, Moments, Projection, SourceMoments
from benchmark.method.subspace.moments import CROSS, Placebo

Sides = frozenset[int]
Halves = tuple[Half, ...]
Sources = tuple[tuple[int, ...], Sides, Halves]  # environments, sides and halves of the classes that are fitted on
# Sources, and whether some of their images were fitted on -> classifiers of the plain space by predictor.
Plain = dict[tuple[Sources, bool], dict[str, Heads]]


@dataclass(frozen=True)
class Method:
    """What is fitted and evaluated for every holdout.

    Attributes:
        projection: how the basis is estimated from the moments of source environments.
        predictor: predicts inside the subspace.
        ranks: numbers of directions kept, ascending.
        weights: kind of intervention -> weight in C_d; None weighs all kinds of the cells alike.
        placebo: what replaces C_d in every fit, see `subspace.placebos`; None for nothing.
        metrics: what is computed of scores where rules pick; by default the built-in metrics of scores.
    """

    projection: Projection
    predictor: Predictor
    ranks: tuple[int, ...]
    weights: Mapping[str, float] | None = None
    placebo: Placebo | None = None
    metrics: tuple[Metric, ...] = SCORED

    def labels_used(self, labels: Labels) -> int:
        """Return of how many training images projection or predictor use the label."""
        everywhere = self.projection.uses_labels or CROSS in (self.weights or {})
        return len(labels) if everywhere else self.predictor.labels_used(labels)

    @property
    def fewest_sources(self) -> int:
        """From how many source environments on there is anything to fit: pairs across environments need two."""
        return max(self.projection.fewest_sources, 2 if CROSS in (self.weights or {}) else 1)


@dataclass(frozen=True)
class _Fitted:
    """One basis fitted on some sources.

    Attributes:
        basis: the basis.
        train: the images that the basis is fitted on, shape (n,).
        n_fit: number of those that the predictor is fitted on.
        classified: what the predictor makes of the images that judge and of those that are tested.
        moments: what the basis is fitted on.
    """

    basis: Basis
    train: NDArray[np.bool_]
    n_fit: int
    classified: Classified
    moments: SourceMoments


@dataclass(frozen=True)
class _Scores:
    """What the sources say of a holdout's points, each of shape (settings, ranks).

    Attributes:
        training_domain: accuracy on the judging images.
        lodo: leave-one-domain-out accuracy, or None.
        images: number of labelled images that are looked at for either.
        notes: what the fits have to say that are made for the choice alone, each with its name.
    """

    training_domain: Array
    lodo: Array | None
    images: int
    notes: tuple[str, ...]

    def of(self, rule: str) -> Array | None:
        """Return the scores that a rule looks at."""
        scores: Array | None = getattr(self, RULES[rule].score)
        return scores


@dataclass(frozen=True)
class _LeftOut:
    """What leave-one-domain-out fits say of a holdout's points.

    Attributes:
        accuracy: mean over the left-out sources, shape (settings, ranks); None where no source can be left out.
        notes: what the fits have to say, each with the source that it is without.
    """

    accuracy: Array | None = None
    notes: tuple[str, ...] = ()


class Evaluation:
    """Rank curves on one data set, split and normalisation.

    Args:
        data: the embeddings.
        cells: the moments of the same embeddings with the same split, scaled as `normalize` says.
        split: how images are cut into sides.
        normalize: scale embeddings to unit length `before` the projection, `after` it, `both` or `none`.
        fold: the tested fold, from 0; None for an 80/20 split.
        seed: of everything random in a predictor.
        device: torch device for predictors that are trained on torch.
        lodo: whether to make the leave-one-domain-out fits.
        selection_images: most images of a source environment that fits and scores take which only serve a choice, of
            predictors that say `samples`; None (default) for all.
        plain: classifiers of the plain space that evaluations of the same data, split and scale found; what is found
            here is added.
    """

    def __init__(
        self,
        data: Embedded,
        cells: Cells,
        split: Split,
        normalize: Normalize,
        fold: int | None = None,
        seed: int = 0,
        device: str = "cpu",
        lodo: bool = True,
        selection_images: int | None = None,
        plain: Plain | None = None,
    ) -> None:
        self._data, self._cells, self._normalize = data, cells, normalize
        self._roles = Roles(data, split, fold)
        self._turn = self._roles.turn
        self._seed, self._device, self._with_lodo = seed, device, lodo
        self._moments: dict[Sources, SourceMoments] = {}
        self._plain: Plain = {} if plain is None else plain
        self._known: dict[tuple[Sources, bool], Known] = {}
        self._most = selection_images
        self._few: dict[bytes, NDArray[np.bool_]] = {}
        self._shifts: dict[tuple[tuple[int, ...], tuple[int, ...], Halves], Shifts] = {}

    def curves(self, method: Method, holdouts: Sequence[Holdout]) -> Iterator[RankCurve]:
        """Yield the rank curves of every holdout, test by test and setting by setting.

        There is none of a holdout with fewer sources than the method needs. After base and new classes comes what
        stands for both.

        Args:
            method: what is fitted.
            holdouts: those of a protocol, as `Protocol.holdouts` returns them.

        Raises:
            ValueError: an answer of projection or predictor that does not fit; names it.
        """
        holdouts = [holdout for holdout in holdouts if len(holdout.sources) >= method.fewest_sources]
        fits = self._left_out_fits(method, holdouts) if self._with_lodo else {}
        for holdout in holdouts:
            judges = holdout.judges(self._turn)
            keys = [(holdout.without(s), holdout.halves, s) for s in judges]
            of_holdout = {key[-1]: fits[key] for key in keys if key in fits}
            accuracies = np.array([of_fit for of_fit, _ in of_holdout.values()])
            notes = [
                f"lodo without {self._data.environments[source]}: {note}"
                for source, (_, of_fit) in of_holdout.items()
                for note in of_fit
            ]
            left_out = _LeftOut(mean_accuracy(accuracies), tuple(notes)) if of_holdout else _LeftOut()
            yield from self._curves_of(holdout, method, judges, left_out)

    def samples(self, predictor: Predictor) -> bool:
        """Return whether fits of a predictor that only serve a choice are made on some of the images."""
        counts = np.bincount(self._data.environment)
        return predictor.samples and self._most is not None and int(counts.max()) > self._most

    def with_full_fits(
        self, methods: Sequence[Method], curves: Sequence[Sequence[RankCurve]], holdouts: Sequence[Holdout]
    ) -> list[list[RankCurve]]:
        """Return rank curves with a fit to all images in the place of that to some, where a rule picks.

        Which is for each holdout the point with the highest score among all methods, and among their last ranks. Where
        no source can score, it is the one with the highest tested accuracy: of a bound there is nothing else.

        Args:
            methods: those that a rule chooses among, with one predictor; the curves are theirs.
            curves: for each method its rank curves, as `curves` yields them.
            holdouts: those of the curves.
        """
        refined = [list(of_method) for of_method in curves]
        for holdout in holdouts:
            for (number, setting, rank), rules in self._picks(methods, curves, holdout).items():
                method, judges = methods[number], holdout.judges(self._turn)
                alone = replace(method, predictor=method.predictor.settings[setting], ranks=(rank,))
                full = {
                    (c.test_split, c.class_half): c for c in self._curves_of(holdout, alone, judges, _LeftOut(), True)
                }
                for i, curve in enumerate(refined[number]):
                    if (curve.held_out, curve.setting) == (holdout.name, setting):
                        of_test = full[curve.test_split, curve.class_half]
                        refined[number][i] = curve.with_full_fit(of_test, rank, method.ranks.index(rank), rules)
        return refined

    def _picks(
        self, methods: Sequence[Method], curves: Sequence[Sequence[RankCurve]], holdout: Holdout
    ) -> dict[tuple[int, int, int], tuple[str, ...]]:
        """Return (number of a method, setting, rank) -> the rules that pick it."""
        judged, ranks = bool(holdout.judges(self._turn)), methods[0].ranks
        own = [
            (i, curve) for i, of_method in enumerate(curves) for curve in of_method if curve.held_out == holdout.name
        ]
        picks: dict[tuple[int, int, int], tuple[str, ...]] = {}
        for test in dict.fromkeys((curve.test_split, curve.class_half) for _, curve in own):
            there = [(i, curve) for i, curve in own if (curve.test_split, curve.class_half) == test]
            for rule in SOURCE_RULES:
                scores = [getattr(c, RULES[rule].score) if judged else c.metrics[ACCURACY.key] for _, c in there]
                for only in (None, ranks[-1]):
                    if best := best_of(scores, ranks, only):
                        (number, curve), index = there[best[0]], best[1]
                        key, found = (number, curve.setting, ranks[index]), (rule,) if judged and not only else ()
                        picks[key] = tuple(dict.fromkeys([*picks.get(key, ()), *found]))
        return picks

    def _curves_of(
        self, holdout: Holdout, method: Method, judges: Sequence[int], without: _LeftOut, full: bool = False
    ) -> Iterator[RankCurve]:
        """Yield the rank curves of one holdout; `full`: the tested fits are to all images, whatever the predictor."""
        few = self.samples(method.predictor)
        judging = [self._of_source(holdout, source, self._turn.judging, few) for source in judges]
        # DomainBed's oracle chooses by the out-split where the in-split is tested.
        outs = [replace(test, split="out_20") for test in holdout.tests if test.split == "in_80"]
        tests = [self._of_test(test) for test in (*holdout.tests, *outs)]
        lodo = without.accuracy
        fitted, choosing = self._tested_and_choosing_fit(holdout, method, judging, tests, lodo, few, few and not full)
        left_out = [] if lodo is None else judges
        looked_at = [*judging, *(self._of_source(holdout, s, self._turn.judging_left_out, few) for s in left_out)]
        images = len(np.unique(np.concatenate([of_source.rows for of_source in looked_at]))) if looked_at else 0
        own = () if choosing is fitted.classified else choosing.notes
        notes = (*(f"choosing fit: {note}" for note in own), *without.notes)
        scores = _Scores(choosing.training_domain, lodo, images, notes)
        correct = fitted.classified.correct
        accuracies = {
            (test.environments, test.half): accuracy(of_test)
            for test, of_test in zip(outs, correct[len(holdout.tests) :], strict=True)
        }
        spans = self._spans(holdout, method, fitted)
        base: list[RankCurve] = []
        for i, test in enumerate(holdout.tests):
            target_out = accuracies[test.environments, test.half] if test.split == "in_80" else None
            curves = self._curves_of_test(holdout.name, test, tests[i], method, fitted, i, scores, target_out, spans)
            yield from curves
            if test.half == "base":
                base = curves
            elif test.half == "new" and base:
                yield from combined(base, curves)

    def _tested_and_choosing_fit(
        self,
        holdout: Holdout,
        method: Method,
        judging: Sequence[ImageSet],
        tests: Sequence[ImageSet],
        lodo: Array | None,
        few: bool,
        few_tested: bool,
    ) -> tuple[_Fitted, Classified]:
        """Return the tested fit, and what the fit by which rules choose makes of the judging images: often the same.

        `few` and `few_tested`: whether the choosing and the tested fit are to some of the images.
        """
        turn, sources, looks_closer = self._turn, holdout.sources, not few_tested
        if turn.one_fit:
            fitted = self._fitted(holdout, sources, turn.fitted, method, judging, tests, few_tested, lodo, looks_closer)
            return fitted, fitted.classified
        choosing = self._fitted(holdout, sources, turn.learned, method, judging, [], few, lodo, looks_closer).classified
        return self._fitted(holdout, sources, turn.fitted, method, [], tests, few_tested, choosing=choosing), choosing

    def _curves_of_test(
        self,
        held_out: str,
        test: Test,
        images: ImageSet,
        method: Method,
        fitted: _Fitted,
        number: int,
        scores: _Scores,
        target_out: Array | None,
        spans: Spans,
    ) -> list[RankCurve]:
        """Return the rank curves of a holdout's test with that number, setting by setting."""
        data, classified, spectrum = self._data, fitted.classified, fitted.basis.spectrum
        tested, order = self._roles.named(images.rows)
        labels_fit = method.labels_used(data.label[fitted.train])
        curves = []
        for setting, correct in enumerate(classified.correct[number]):
            answers = Answers(correct[:, order], tested.label, len(data.classes))
            lodo = None if scores.lodo is None else scores.lodo[setting].tolist()
            curves.append(
                RankCurve(
                    setting=setting,
                    held_out=held_out,
                    test_split=test.split,
                    class_half=test.half,
                    training_domain=scores.training_domain[setting].tolist(),
                    lodo=lodo,
                    target_out=None if target_out is None else target_out[setting].tolist(),
                    metrics={m.key: np.asarray(m.compute(answers)).tolist() for m in CURVES},
                    correct=answers.correct,
                    tested=tested,
                    scored=_scored(classified.scored[number], scores, setting),
                    predictions={
                        index: of_point[order]
                        for (index, of_setting), of_point in classified.predictions[number].items()
                        if of_setting == setting
                    },
                    n_train=int(fitted.train.sum()),
                    n_selection=fitted.n_fit if fitted.n_fit < fitted.train.sum() else None,
                    labels_fit=labels_fit,
                    labels_choice=scores.images,
                    notes=(*classified.notes, *scores.notes),
                    spectrum=None if spectrum is None else spectrum.tolist(),
                    spans=spans,
                )
            )
        return curves

    def _spans(self, holdout: Holdout, method: Method, fitted: _Fitted) -> Spans:
        """Return what the tested fit removes of the shifts of class means, by the sums that it is fitted on.

        Those of what is tested are of the same sides of it: its labels enter this number and nothing else.
        """
        tested = {e for test in holdout.tests for e in test.environments}
        targets = tuple(sorted(tested - set(holdout.sources)))
        key = (holdout.sources, targets, holdout.halves)
        if key not in self._shifts:
            sums = [self._cells.sum_of(e, self._turn.fitted, holdout.halves) for e in targets]
            self._shifts[key] = Shifts.of(fitted.moments, [one for one in sums if one is not None])
        return spans_of(fitted.basis, fitted.moments, self._shifts[key], method.ranks)

    def _left_out_fits(
        self, method: Method, holdouts: Sequence[Holdout]
    ) -> dict[tuple[tuple[int, ...], Halves, int], tuple[Array, tuple[str, ...]]]:
        """Return (remaining sources, classes, left-out source) -> accuracy there, shape (settings, ranks); notes."""
        few = self.samples(method.predictor)
        wanted: dict[tuple[tuple[int, ...], Halves], tuple[Holdout, dict[int, ImageSet]]] = {}
        for holdout in holdouts:
            for source in holdout.judges(self._turn):
                if len(remaining := holdout.without(source)) >= method.fewest_sources:
                    _, tests = wanted.setdefault((remaining, holdout.halves), (holdout, {}))
                    tests[source] = self._of_source(holdout, source, self._turn.judging_left_out, few)
        fits = {}
        for (remaining, halves), (holdout, tests) in wanted.items():
            fitted = self._fitted(holdout, remaining, self._turn.learned, method, [], list(tests.values()), few)
            for source, correct in zip(tests, fitted.classified.correct, strict=True):
                fits[remaining, halves, source] = accuracy(correct), fitted.classified.notes
        return fits

    def _fitted(
        self,
        holdout: Holdout,
        sources: tuple[int, ...],
        sides: Sides,
        method: Method,
        judging: Sequence[ImageSet],
        tests: Sequence[ImageSet],
        few: bool,
        lodo: Array | None = None,
        looks_closer: bool = True,
        choosing: Classified | None = None,
    ) -> _Fitted:
        """Fit projection and predictor on some sides of `sources`, and classify the images of `tests`.

        Args:
            holdout: whose classes are fitted on.
            sources: positions of the environments: those of the holdout, or all but one of them.
            sides: what is fitted on of each.
            method: what is fitted.
            judging: images of the sources by which rules select.
            tests: images that are tested.
            few: whether the predictor is fitted on some of the images alone.
            lodo: leave-one-domain-out accuracy, shape (settings, ranks), where it is known.
            looks_closer: whether scores are looked at where rules pick; default true.
            choosing: what the fit gives by which rules choose, where that is another one.
        """
        train = self._roles.of_sources(holdout, sources, sides)
        basis, moments = self._basis(holdout, sources, sides, method, tests)
        fitted_on = self._sampled(train) if few else train
        key = (sources, sides, holdout.halves), few
        known = self._known.setdefault(key, Known(self._plain.setdefault(key, {})))
        c_d = moments.c_d() if method.predictor.uses_c_d else None
        settings = self._normalize, self._seed, self._device, known, c_d, self.samples(method.predictor), method.metrics
        classifier = Classifier(method.predictor, method.ranks, self._data, basis, fitted_on, *settings)
        classified = classifier.classify(judging, tests, lodo, choosing, looks_closer)
        return _Fitted(basis, train, int(fitted_on.sum()), classified, moments)

    def basis_of(self, holdout: Holdout, method: Method) -> Basis:
        """Return the basis of the tested fit of a holdout, of a projection that looks at no target."""
        return self._basis(holdout, holdout.sources, self._turn.fitted, method, ())[0]

    def _basis(
        self, holdout: Holdout, sources: tuple[int, ...], sides: Sides, method: Method, tests: Sequence[ImageSet]
    ) -> tuple[Basis, SourceMoments]:
        """Fit the projection on some sides of `sources`; return the basis, and what it is fitted on."""
        projection = method.projection
        moments = self._source_moments(sources, sides, holdout.halves)
        moments = moments.reweighted(method.weights, method.placebo)
        if projection.looks_at_target_images:
            moments = moments.with_targets(self._targets(sources, tests))
        return checked_basis(projection.fit(moments), projection.name, self._data.z.shape[1]), moments

    def _sampled(self, which: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return some of these images of each environment, the same ones whenever it is asked."""
        assert self._most is not None
        key = np.packbits(which).tobytes()
        if key not in self._few:
            self._few[key] = sampled(which, self._data.environment, self._data.label, self._most, self._seed)
        return self._few[key]

    def _source_moments(self, sources: tuple[int, ...], sides: Sides, halves: Halves) -> SourceMoments:
        key = (sources, sides, halves)
        if key not in self._moments:
            names = {s: self._data.environments[s] for s in sources}
            self._moments[key] = self._cells.sources(names, None, sides, halves)
        return self._moments[key]

    def _targets(self, sources: tuple[int, ...], tests: Sequence[ImageSet]) -> dict[str, Moments]:
        """Return the moments of the images of `tests`, without labels, for each environment that is no source."""
        rows = np.unique(np.concatenate([images.rows for images in tests])) if tests else np.zeros(0, dtype=np.int64)
        environments = self._data.environment[rows]
        return {
            self._data.environments[e]: Moments.of(scaled(self._data.z[rows[environments == e]], self._normalize))
            for e in np.unique(environments)
            if e not in sources
        }

    def _of_source(self, holdout: Holdout, source: int, sides: Sides, few: bool) -> ImageSet:
        """Return images of a source environment, of the fitted classes alone; `few`: some of them."""
        which = self._roles.of_sources(holdout, (source,), sides)
        return self._images(self._sampled(which) if few else which, source)

    def _of_test(self, test: Test) -> ImageSet:
        return self._images(self._roles.of_test(test), test.environments[0])

    def _images(self, which: NDArray[np.bool_], environment: int) -> ImageSet:
        """Return images of one or more environments, `environment` among them.

        Their `classes` are those that they can have, where it is not all.
        """
        rows = np.flatnonzero(which)
        return ImageSet(rows, self._data.label[rows], self._data.candidates.get(environment))


def _scored(of_test: Mapping[tuple[int, int], Scored], scores: _Scores, setting: int) -> dict[str, Scored]:
    """Return rule -> what scores say at the point that it picks, for rules that pick one of this setting."""
    points = {rule: best_point(scores.of(rule)) for rule in SOURCE_RULES}
    return {
        rule: of_test[point] for rule, point in points.items() if point and point[1] == setting and point in of_test
    }
