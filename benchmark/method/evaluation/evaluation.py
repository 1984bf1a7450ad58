"""Evaluation: fits and tests every holdout of a protocol in every fold, and returns rank curves with selection scores.

A fit is identified by its source environments and sides of the split, see `fits`. If several holdouts or folds need the
same fit, it is made once. Every projection is fitted from moments. `work_of` in `benchmark/sweep/work.py` estimates the
work: if the fits change, change it too.

For slow predictors, fits for model selection use a subsample of each source and fold, and the selected points (rank and
setting) are refitted on all images. All predictors are validated on a subsample of each source and fold.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from benchmark.method.arrays import Array, Labels, Mask, Normalize, scaled
from benchmark.method.evaluation.cells import HALVES, Cells
from benchmark.method.evaluation.checked import checked_basis
from benchmark.method.evaluation.classifier import Choice, Classifier, FitCache, Heads, ImageSet, Point, Results, spaced
from benchmark.method.evaluation.curves import RankCurve, Scored, combined
from benchmark.method.evaluation.embedded import Embedded
from benchmark.method.evaluation.fits import Case, Sources, blocks_by_fit, cases_of
from benchmark.method.evaluation.metrics import ACCURACY, CURVES, SCORED, Answers, Metric, accuracy
from benchmark.method.evaluation.protocols import Holdout, Test
from benchmark.method.evaluation.roles import Roles
from benchmark.method.evaluation.selection import PLAIN, SCORES, best_of, best_point, best_points
from benchmark.method.evaluation.source_scores import Given, ValidationImages
from benchmark.method.evaluation.spans import Shifts, Spans, spans_of
from benchmark.method.evaluation.splits import IN, IN_FOLDS, Split, sampled, split_seed
from benchmark.method.predictors import Predictor
from benchmark.method.predictors.base import fitted_temperature
from benchmark.method.subspace import Basis, Moments, Projection, SourceMoments
from benchmark.method.subspace.baselines.identity import Identity
from benchmark.method.subspace.moments import CROSS, Budget, Placebo, size_of

MAX_HEADS = 2**29  # bytes of classifiers that are kept as starts of later fits to the same images
MAX_BASES = MAX_SHIFTS = 2**27  # bytes of bases of the best methods, and of shifts, that are kept during a trial
Notes = tuple[str, ...]
ValidationAnswers = Mapping[Sources, Given]  # validation block -> correctness or predicted classes of one fit


@dataclass
class Plain:
    """Cache of plain prediction, shared by evaluations of the same data, split and scale."""

    # (sources, whether the fit uses a subsample) -> predictor -> classifiers
    heads: dict[tuple[Sources, bool], dict[str, Heads]] = field(default_factory=dict)
    # predictor, training images and validation images -> correctness or predicted classes
    validation: dict[tuple[object, ...], Given] = field(default_factory=dict)
    # predictor and validation images -> the same at the setting with the highest score, shape (n,)
    best: dict[tuple[object, ...], Given | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """A projection and a predictor, fitted and evaluated for every holdout.

    Attributes:
        projection: estimates the basis from the moments of the source environments.
        predictor: predicts inside the subspace.
        ranks: numbers of directions kept, ascending.
        weights: kind of intervention -> weight in C_d; None (default): equal weights of all kinds.
        placebo: replaces C_d in every fit, see `subspace.placebos`; None (default): no placebo.
        metrics: metrics of scores, computed at selected points. Default: the built-in ones.
    """

    projection: Projection
    predictor: Predictor
    ranks: tuple[int, ...]
    weights: Mapping[str, float] | None = None
    placebo: Placebo | None = None
    metrics: tuple[Metric, ...] = SCORED

    def labels_used(self, labels: Labels) -> int:
        """Return the number of training images whose label the projection or predictor uses."""
        everywhere = self.projection.uses_labels or CROSS in (self.weights or {})
        return len(labels) if everywhere else self.predictor.labels_used(labels)

    @property
    def min_sources(self) -> int:
        """Minimum number of source environments; pairs across environments need two."""
        return max(self.projection.min_sources, 2 if CROSS in (self.weights or {}) else 1)


@dataclass(frozen=True)
class FitSettings:
    """How an evaluation splits images, scales embeddings and fits.

    Attributes:
        split: how images are cut into sides.
        normalize: when embeddings are scaled to unit length: `before` the projection, `after` it, `both` or `none`.
        fold: the only tested fold, from 0, validated on the next fold alone, as in a search. None (default): every fold
            is tested, with validation on all others; without folds, the 80/20 split is used.
        seed: seed of all randomness in a fit.
        device: torch device for predictors trained with torch.
        lodo: whether to make leave-one-domain-out fits. Default true.
        selection_images: maximum number of validation images per source and fold. For predictors with `samples` also
            the maximum number of training images per source and fold in fits that only serve selection. In the in-split
            of an 80/20 split the maximum is `IN_FOLDS` times as large. None (default): all images.
        train_share: share of the folds that each fit learns from, see `fits.turns_of`. Default: all.
        metric: metric that selection rules maximise; it must not need scores. Default: accuracy.
    """

    split: Split
    normalize: Normalize
    fold: int | None = None
    seed: int = 0
    device: str = "cpu"
    lodo: bool = True
    selection_images: int | None = None
    metric: Metric = ACCURACY
    train_share: float = 1.0


@dataclass(frozen=True)
class _Fitted:
    """One basis fitted on some sources, and a predictor in its coordinates."""

    method: Method
    classifier: Classifier
    train: Mask  # training images of the basis, shape (n,)
    moments: SourceMoments  # moments that the basis is fitted to


class _Validated(NamedTuple):
    """Predictions of a fit for the validation images, and warnings of the fit."""

    answers: ValidationAnswers
    notes: Notes


class _Score(NamedTuple):
    """Selection scores, and standard errors of the gain over plain prediction, both of shape (settings, ranks)."""

    values: Array | None
    errors: Array | None = None
    notes: Notes = ()  # warnings of fits that only serve selection, each with the name of the fit


@dataclass(frozen=True)
class _SourceScores:
    """Selection scores of a holdout in one fold."""

    by_rule: Mapping[str, _Score]  # rule of `SCORES` -> scores; there are none for `lodo` if no source can be left out
    images: int = 0  # number of labelled validation images
    notes: Notes = ()  # warnings of fits that only serve selection, each with the name of the fit

    def columns(self, setting: int) -> dict[str, Any]:
        """Return the fields of `RankCurve` with the scores of one setting."""
        columns: dict[str, Any] = {}
        for rule, score in self.by_rule.items():
            for name, curve in ((rule, score.values), (f"{rule}_se", score.errors)):
                columns[name] = None if curve is None else curve[setting].tolist()
        return columns


@dataclass
class _ScoredCase:
    """Selection scores of one method in one holdout and fold."""

    case: Case
    scores: _SourceScores | None  # None if the tested fit also serves for selection
    curves: Sequence[RankCurve] = ()  # test results of this case
    # bases of the fits for selection on all sources; empty if they take too much memory and are to be fitted again
    bases: Mapping[Sources, Basis] = field(default_factory=dict)
    rules: Sequence[str] = ()  # rules of `SCORES` under which this method is the best one

    @property
    def nbytes(self) -> int:
        """Number of bytes of the bases."""
        return sum(map(size_of, self.bases.values()))


class Evaluation:
    """Evaluates methods on one data set with one split and normalisation.

    Args:
        data: the embeddings.
        cells: the moments of the same embeddings and split, with the scale of `settings.normalize`.
        settings: how to split, scale and fit.
        plain: cache of classifiers and predictions of plain prediction. Evaluations of the same data, split and
            normalisation share it and add to it. Default: an empty cache.
    """

    def __init__(self, data: Embedded, cells: Cells, settings: FitSettings, plain: Plain | None = None) -> None:
        self._data, self._cells, self._settings, self._plain = data, cells, settings, plain or Plain()
        self._roles = Roles(data, settings.split)
        self._known: dict[tuple[Sources, bool], FitCache] = {}
        self._subsamples: dict[Sources, Mask] = {}
        self._row_numbers: dict[Sources, Labels] = {}
        self._validation_images: dict[tuple[Sources, ...], ValidationImages] = {}
        self._shifts: dict[tuple[object, ...], Shifts] = {}
        self._budget_of_shifts = Budget(MAX_SHIFTS)

    def curves(self, method: Method, holdouts: Sequence[Holdout]) -> Iterator[RankCurve]:
        """Yield the rank curves of every holdout and fold, test by test and setting by setting.

        Holdouts with fewer sources than the method needs are skipped. After the curves of base and new classes comes
        the curve of their harmonic mean. ValueError: a projection or predictor, which the message names, returned an
        invalid result.
        """
        yield from self.curves_of([method], holdouts)[0]

    def curves_of(self, methods: Sequence[Method], holdouts: Sequence[Holdout]) -> list[list[RankCurve]]:
        """Return the rank curves of several methods that rules choose among, such as one projection at several lambdas.

        With folds, metrics of scores (such as calibration) are computed only for the methods with the highest selection
        score in a holdout and fold.
        """
        every: list[list[_ScoredCase]] = []
        for method in methods:
            room = MAX_BASES - sum(one.nbytes for cases in every for one in cases)
            every.append(list(self._scored_cases(method, holdouts, room)))
            for of_case in zip(*every, strict=True):  # frees the bases of all other methods
                for one, rules in zip(of_case, _highest(of_case), strict=True):
                    one.rules, one.bases = rules, one.bases if rules else {}
        curves: list[list[RankCurve]] = [[] for _ in methods]
        for method, of_method, cases in zip(methods, curves, every, strict=True):
            few = self.samples(method.predictor)
            for one in cases:
                of_method += one.curves
                if one.scores is not None:
                    choice = _NO_CHOICE if few else self._choice(method, one.case, one.scores, one.rules, one.bases)
                    of_method += self._tested(method, one.case, choice, one.scores, few)
        return curves

    def samples(self, predictor: Predictor) -> bool:
        """Return whether the predictor's fits for selection use a subsample of the images."""
        most, side = self._settings.selection_images, self._data.side[self._settings.split]
        if most is None or not predictor.samples:
            return False
        counts = np.bincount(self._data.environment * (1 + int(side.max())) + side)
        return int(counts.max()) > most * self._folds_in(IN)

    def _cases(self, holdouts: Sequence[Holdout], method: Method) -> list[Case]:
        settings, grouped = self._settings, self._data.group is not None
        given = settings.split, grouped, settings.fold, method.min_sources, settings.train_share
        cases = cases_of(holdouts, *given)
        return cases if settings.lodo else [replace(case, lodo=()) for case in cases]

    def _scored_cases(self, method: Method, holdouts: Sequence[Holdout], room: int) -> Iterator[_ScoredCase]:
        """Yield selection scores for each holdout and fold, or curves if the tested fit also serves for selection.

        Together they have up to `room` bytes of bases.
        """
        cases, budget = self._cases(holdouts, method), Budget(room)
        lodo = {
            fit: self._validate(method, fit, blocks)[0]
            for fit, blocks in blocks_by_fit(pair for case in cases for pair in case.lodo).items()
        }
        # Holdouts with the same sources share the fits on all sources.
        for _, group in groupby(cases, key=lambda case: (case.holdout.sources, case.holdout.halves)):
            alike = list(group)
            if alike[0].turn.one_fit:
                yield from (_ScoredCase(case, None, list(self._in_one_fit(method, case, lodo))) for case in alike)
                continue
            validated, bases = dict[Sources, _Validated](), dict[Sources, Basis]()
            for fit, blocks in blocks_by_fit(pair for case in alike for pair in case.training_domain).items():
                validated[fit], bases[fit] = self._validate(method, fit, blocks)
            for case in alike:
                scores = self._scores(method, case, validated, self._score(method, case.lodo, lodo))
                one = _ScoredCase(case, scores, (), {fit: bases[fit] for fit in blocks_by_fit(case.training_domain)})
                yield one if budget.reserve(one.nbytes) else replace(one, bases={})

    def _in_one_fit(self, method: Method, case: Case, lodo: Mapping[Sources, _Validated]) -> Iterator[RankCurve]:
        """Yield the rank curves of a holdout whose tested fit also serves for selection."""
        blocks, tests = [block for _, block in case.training_domain], self._tests(case)
        validation, of_lodo = [self._concatenated(blocks)] if blocks else [], self._score(method, case.lodo, lodo)
        few = self.samples(method.predictor)
        fitted = self._fitted(case.tested, method, tests, few)
        score = self._validation_set(blocks).score if blocks else None
        found = fitted.classifier.classify(validation, tests, _NO_CHOICE if few else None, score, of_lodo.values)
        answers = self._split_by_block(blocks, found.validation[0]) if blocks else {}
        own = {case.tested: _Validated(answers, ())}
        yield from self._curves_of(case, fitted, found, tests, self._scores(method, case, own, of_lodo))

    def _validate(self, method: Method, fit: Sources, blocks: Sequence[Sources]) -> tuple[_Validated, Basis]:
        """Fit on some sources and predict validation images; return the predictions and the basis.

        A projection that uses target images is fitted again for each validation block.
        """
        alone = method.projection.looks_at_target_images
        answers: dict[Sources, Given] = {}
        for part in [[block] for block in blocks] if alone else [blocks]:
            sets = [self._concatenated(part)]
            fitted = self._fitted(fit, method, sets, self.samples(method.predictor))
            found = fitted.classifier.classify(sets, [])
            answers |= self._split_by_block(part, found.validation[0])
        return _Validated(answers, found.notes), fitted.classifier.basis

    def _score(
        self, method: Method, pairs: Sequence[tuple[Sources, Sources]], validated: Mapping[Sources, _Validated]
    ) -> _Score:
        """Return selection scores, with standard errors of the difference to the best setting of plain prediction."""
        if not pairs:
            return _Score(None)
        notes: list[str] = []
        for fit, block in pairs:
            (source,) = block.environments
            left_out = source not in fit.environments
            what = f"lodo without {self._data.environments[source]}" if left_out else "choosing fit"
            notes += [f"{what}: {note}" for note in validated[fit].notes]
        images = self._validation_set([block for _, block in pairs])
        given = np.concatenate([validated[fit].answers[block] for fit, block in pairs], axis=-1)
        key = repr(method.predictor), repr(method.weights) if method.predictor.uses_interventions else "", tuple(pairs)
        if key not in self._plain.best:
            plain = np.concatenate(
                [self._plain_answers(method, fit, block, validated[fit].answers) for fit, block in pairs], axis=-1
            )
            best = best_point(images.score(plain))
            self._plain.best[key] = None if best is None else plain[best[1], best[0]]
        best_plain = self._plain.best[key]
        error = None if best_plain is None else images.error(given, best_plain)
        return _Score(images.score(given), error, tuple(notes))

    def _plain_answers(self, method: Method, fit: Sources, block: Sources, answers: ValidationAnswers) -> Given:
        """Return correctness or classes of plain prediction on one validation block, shape (settings, 1, m)."""
        predictor, dim = method.predictor, self._data.z.shape[1]
        if method.projection.name == PLAIN and method.placebo is None and method.ranks == (dim,):
            return answers[block]
        weights = repr(method.weights) if predictor.uses_interventions else ""
        learns = predictor.uses_training_images or predictor.uses_c_d
        key = repr(predictor), weights, fit if learns else None, block
        if key not in self._plain.validation:
            plain = replace(method, projection=Identity(), ranks=(dim,), placebo=None)
            found = self._validate(plain, fit, [*answers])[0].answers
            self._plain.validation |= {(*key[:3], other): given for other, given in found.items()}
        return self._plain.validation[key]

    def _scores(self, method: Method, case: Case, by_fit: Mapping[Sources, _Validated], lodo: _Score) -> _SourceScores:
        found = self._score(method, case.training_domain, by_fit)
        if found.values is None:
            found = _Score(np.full((len(method.predictor.settings), len(method.ranks)), np.nan))
        rows = [self._rows(block) for block in {block for _, block in (*case.training_domain, *case.lodo)}]
        images = len(np.unique(np.concatenate(rows))) if rows else 0
        notes = tuple(dict.fromkeys([*found.notes, *lodo.notes]))
        return _SourceScores({"training_domain": found, "lodo": lodo}, images, notes)

    def _choice(
        self, method: Method, case: Case, scores: _SourceScores, rules: Sequence[str], bases: Mapping[Sources, Basis]
    ) -> Choice:
        """Return the selected points. Points that `rules` select get temperatures, fitted on all validation images."""
        if not case.training_domain:
            return _NO_CHOICE
        picks = frozenset().union(*(best_points(score.values) for score in scores.by_rule.values()))
        best = {best_point(scores.by_rule[rule].values) for rule in rules}
        points = sorted(point for point in best if point is not None)
        if not method.predictor.has_likelihood:
            return Choice(picks, dict.fromkeys(points))
        blocks_of, few = blocks_by_fit(case.training_domain), self.samples(method.predictor)
        some = spaced([self._concatenated(blocks) for blocks in blocks_of.values()])
        labels = np.concatenate([images.labels for images in some])
        temperatures: dict[Point, float | None] = {}
        for point in points:
            logits = []
            for fit, images in zip(blocks_of, some, strict=True):
                fitted = self._fitted(fit, method, [images], few, bases.get(fit))
                logits.append(fitted.classifier.logits(images, point))
            temperatures[point] = fitted_temperature(np.concatenate(logits), labels)
        return Choice(picks, temperatures)

    def _tested(
        self, method: Method, case: Case, choice: Choice, scores: _SourceScores, few: bool
    ) -> Iterator[RankCurve]:
        tests = self._tests(case)
        fitted = self._fitted(case.tested, method, tests, few)
        yield from self._curves_of(case, fitted, fitted.classifier.classify([], tests, choice), tests, scores)

    def with_full_fits(
        self, methods: Sequence[Method], curves: Sequence[Sequence[RankCurve]], holdouts: Sequence[Holdout]
    ) -> list[list[RankCurve]]:
        """Return rank curves whose selected points are refitted on all images instead of a subsample.

        For each holdout, fold and rule of `SCORES` two points are refitted: the point with the highest score among all
        points of all methods, and the point with the highest score among those at the last rank. If no source has
        validation images, which happens only in protocols that are bounds, the highest test accuracy decides.
        """
        refined = [list(of_method) for of_method in curves]
        for case in self._cases(holdouts, methods[0]):
            for (number, setting, rank), rules in full_fit_points(methods, curves, case).items():
                alone = replace(methods[number], predictor=methods[number].predictor.settings[setting], ranks=(rank,))
                own = [
                    (i, curve)
                    for i, curve in enumerate(refined[number])
                    if (curve.held_out, curve.fold, curve.setting) == (case.holdout.name, case.fold, setting)
                ]
                choice = self._choice(alone, case, _NO_SCORES, SCORES, {})
                found = self._tested(alone, case, choice, _NO_SCORES, few=False)
                full = {(c.test_split, c.class_half): c for c in found}
                for i, curve in own:
                    of_test = full[curve.test_split, curve.class_half]
                    refined[number][i] = curve.with_full_fit(of_test, rank, methods[number].ranks.index(rank), rules)
        return refined

    def _tests(self, case: Case) -> list[ImageSet]:
        """Return the test sets of a holdout in one fold, then the sets of `_oracle_tests`."""
        sets, data = [], self._data
        for test in (*case.holdout.tests, *_oracle_tests(case)):
            rows = np.flatnonzero(self._roles.of_test(test, case.turn))
            sets.append(ImageSet(rows, data.label[rows], data.candidates.get(test.environments[0])))
        return sets

    def _curves_of(
        self, case: Case, fitted: _Fitted, found: Results, tests: Sequence[ImageSet], scores: _SourceScores
    ) -> Iterator[RankCurve]:
        """Yield the rank curves of one holdout in one fold."""
        data, holdout, spectrum = self._data, case.holdout, fitted.classifier.basis.spectrum
        of_outs = zip(_oracle_tests(case), found.correct[len(holdout.tests) :], strict=True)
        accuracies = {(test.environments, test.half): accuracy(of_test) for test, of_test in of_outs}
        spans, labels_fit = self._spans(case, fitted), fitted.method.labels_used(data.label[fitted.train])
        n_train, n_fit = int(fitted.train.sum()), int(fitted.classifier.train.sum())
        base: list[RankCurve] = []
        for i, test in enumerate(holdout.tests):
            tested, order = self._roles.named(tests[i].rows)
            target_out = accuracies[test.environments, test.half] if test.split == "in_80" else None
            curves = []
            for setting, correct in enumerate(found.correct[i]):
                answers = Answers(correct[:, order], tested.label, len(data.classes))
                points = found.predictions[i].items()
                curve = RankCurve(
                    setting=setting,
                    held_out=holdout.name,
                    fold=case.fold,
                    test_split=test.split,
                    class_half=test.half,
                    **scores.columns(setting),
                    target_out=None if target_out is None else target_out[setting].tolist(),
                    metrics={m.key: np.asarray(m.compute(answers)).tolist() for m in CURVES},
                    correct=answers.correct,
                    tested=tested,
                    scored=_scored(found.scored[i], scores, setting),
                    predictions={index: of_point[order] for (index, s), of_point in points if s == setting},
                    n_train=n_train,
                    n_selection=n_fit if n_fit < n_train else None,
                    labels_fit=labels_fit,
                    labels_choice=scores.images,
                    notes=(*found.notes, *scores.notes),
                    spectrum=None if spectrum is None else spectrum.tolist(),
                    spans=spans,
                )
                curves.append(curve)
            yield from curves
            if test.half == "new" and base:
                yield from combined(base, curves)
            base = curves if test.half == "base" else base

    def _spans(self, case: Case, fitted: _Fitted) -> Spans:
        """Return the shares of the shifts of class means that the tested fit removes.

        Class means of the target are computed with its labels, from the same sides of the split. No other result uses
        these means.
        """
        fit = case.tested
        tested = {e for test in case.holdout.tests for e in test.environments}
        targets = tuple(sorted(tested - set(fit.environments)))
        key = fit, targets
        if (shifts := self._shifts.get(key)) is None:
            sums = [self._cells.sum_of(e, fit.sides, fit.halves) for e in targets]
            shifts = Shifts.of(fitted.moments, [one for one in sums if one is not None])
            if self._budget_of_shifts.reserve(shifts.nbytes):
                self._shifts[key] = shifts
        return spans_of(fitted.classifier.basis, fitted.moments, shifts, fitted.method.ranks)

    def _fitted(
        self, fit: Sources, method: Method, sets: Sequence[ImageSet], few: bool, basis: Basis | None = None
    ) -> _Fitted:
        """Fit the projection (unless `basis` is given), and set up the predictor in its coordinates.

        Projections with `looks_at_target_images` also use the images in `sets`. With `few`, the predictor is fitted to
        a subsample.
        """
        settings, predictor = self._settings, method.predictor
        train = self._mask(fit)
        moments = self._moments(fit, method, sets)
        classifier = Classifier(
            predictor=predictor,
            ranks=method.ranks,
            data=self._data,
            basis=basis or self._basis(fit, method, moments),
            train=self._sampled(fit) if few else train,
            normalize=settings.normalize,
            seed=self._seed_of(fit),
            device=settings.device,
            known=self._known_of(fit, few),
            c_d=moments.c_d() if predictor.uses_c_d else None,
            single=self.samples(predictor),
            score_metrics=method.metrics,
            validation_classes=settings.metric.needs == "predictions",
            for_choice=fit.for_choice,
        )
        return _Fitted(method, classifier, train, moments)

    def _known_of(self, fit: Sources, few: bool) -> FitCache:
        """Return the cache of fits to the same images. New caches are kept up to `MAX_HEADS` in total."""
        key = fit, few
        if key not in self._known and sum(known.nbytes for known in self._known.values()) <= MAX_HEADS:
            self._known[key] = FitCache(self._plain.heads.setdefault(key, {}))
        return self._known.get(key) or FitCache(self._plain.heads.get(key, {}))

    def basis_of(self, holdout: Holdout, method: Method) -> Basis:
        """Return the basis of a holdout's first tested fit. The projection must not use target images."""
        fit = self._cases([holdout], method)[0].tested
        return self._basis(fit, method, self._moments(fit, method, ()))

    def _basis(self, fit: Sources, method: Method, moments: SourceMoments) -> Basis:
        projection = method.projection
        if self._settings.split.folds and "seed" in type(projection).model_fields:
            projection = projection.at(seed=self._seed_of(fit))
        return checked_basis(projection.fit(moments), projection.name, self._data.z.shape[1])

    def _moments(self, fit: Sources, method: Method, sets: Sequence[ImageSet]) -> SourceMoments:
        """Return the moments that a projection is fitted to."""
        names = {s: self._data.environments[s] for s in fit.environments}
        moments = self._cells.sources(names, None, fit.sides, fit.halves)
        moments = moments.reweighted(method.weights, method.placebo, fit.for_choice)
        if method.projection.looks_at_target_images:
            # Moments of each environment outside the sources, without labels.
            rows = np.unique(np.concatenate([images.rows for images in sets])) if sets else np.zeros(0, dtype=np.int64)
            data, of_row = self._data, self._data.environment[rows]
            targets = {
                data.environments[e]: Moments.of(scaled(data.z[rows[of_row == e]], self._settings.normalize))
                for e in np.unique(of_row)
                if e not in fit.environments
            }
            moments = moments.with_targets(targets)
        return moments

    def _seed_of(self, fit: Sources) -> int:
        """Return the random seed of a fit. With folds it depends on the training set."""
        seed = self._settings.seed
        return split_seed(seed, fit.environments, sorted(fit.sides)) if self._settings.split.folds else seed

    def _sampled(self, images: Sources) -> Mask:
        """Return a mask of a random subsample of each environment and side, drawn independently for each side."""
        every, settings, data = self._mask(images), self._settings, self._data
        if settings.selection_images is None:
            return every
        if images not in self._subsamples:
            self._subsamples[images] = np.zeros(len(every), dtype=bool)
            for side in images.sides:
                which = self._mask(replace(images, sides=frozenset([side])))
                most, seed = settings.selection_images * self._folds_in(side), split_seed(settings.seed, side)
                self._subsamples[images] |= sampled(which, data.environment, data.label, most, seed)
        return self._subsamples[images]

    def _folds_in(self, side: int) -> int:
        return IN_FOLDS if not self._settings.split.folds and side == IN else 1

    def _mask(self, images: Sources) -> Mask:
        half = "all" if images.halves == HALVES else images.halves[0]
        return self._roles.mask(images.environments, images.sides, half)

    def _rows(self, block: Sources) -> Labels:
        if block not in self._row_numbers:
            self._row_numbers[block] = np.flatnonzero(self._sampled(block))
        return self._row_numbers[block]

    def _concatenated(self, blocks: Sequence[Sources]) -> ImageSet:
        """Return the images of some validation blocks, concatenated. Any class is possible for source images."""
        rows = np.concatenate([self._rows(block) for block in blocks])
        return ImageSet(rows, self._data.label[rows])

    def _split_by_block(self, blocks: Sequence[Sources], given: Given) -> dict[Sources, Given]:
        """Return validation block -> its part of `given`, whose last axis runs over the images of all blocks."""
        ends = np.cumsum([len(self._rows(block)) for block in blocks])
        return dict(zip(blocks, np.split(given, ends[:-1], axis=-1), strict=True))

    def _validation_set(self, blocks: Sequence[Sources]) -> ValidationImages:
        """Return the images of some validation blocks, ordered by source."""
        key = tuple(blocks)
        if key not in self._validation_images:
            rows = [self._rows(block) for block in blocks]
            source = np.repeat([block.environments[0] for block in blocks], [len(r) for r in rows])
            every, data = np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64), self._data
            cluster = every if data.group is None else data.group[every]
            made = ValidationImages(self._settings.metric, data.label[every], source, cluster, len(data.classes))
            self._validation_images[key] = made
        return self._validation_images[key]


_NO_CHOICE = Choice(frozenset(), {})
_NO_SCORES = _SourceScores(  # for full fits, whose only point is selected already
    {"training_domain": _Score(np.zeros((1, 1))), "lodo": _Score(None)}
)


def full_fit_points(
    methods: Sequence[Method], curves: Sequence[Sequence[RankCurve]], case: Case
) -> dict[tuple[int, int, int], tuple[str, ...]]:
    """Return the points to refit on all images: (method, setting, rank) -> rules that select the point."""
    validated, ranks = bool(case.training_domain), methods[0].ranks
    named = case.holdout.name, case.fold
    own = [(i, c) for i, of_method in enumerate(curves) for c in of_method if (c.held_out, c.fold) == named]
    picks: dict[tuple[int, int, int], tuple[str, ...]] = {}
    for test in dict.fromkeys((curve.test_split, curve.class_half) for _, curve in own):
        there = [(i, curve) for i, curve in own if (curve.test_split, curve.class_half) == test]
        for rule in SCORES:
            scores = [getattr(c, rule) if validated else c.metrics[ACCURACY.key] for _, c in there]
            for only in (None, ranks[-1]):
                if best := best_of(scores, ranks, only):
                    (number, curve), index = there[best[0]], best[1]
                    key, found = (number, curve.setting, ranks[index]), (rule,) if validated and not only else ()
                    picks[key] = tuple(dict.fromkeys([*picks.get(key, ()), *found]))
    return picks


def _highest(cases: Sequence[_ScoredCase]) -> list[list[str]]:
    """Return for each method the list of rules under whose score no method is better."""
    rules: list[list[str]] = [[] for _ in cases]
    for rule in SCORES:
        every = [None if one.scores is None else one.scores.by_rule[rule].values for one in cases]
        best = [-np.inf if curve is None or np.isnan(curve).all() else np.nanmax(curve) for curve in every]
        for number, value in enumerate(best):
            if value == max(best) > -np.inf:
                rules[number].append(rule)
    return rules


def _oracle_tests(case: Case) -> list[Test]:
    """Return tests on the out-splits. If the in-split is tested, DomainBed's oracle selects by these tests."""
    return [replace(test, split="out_20") for test in case.holdout.tests if test.split == "in_80"]


def _scored(of_test: Mapping[Point, Scored], scores: _SourceScores, setting: int) -> dict[str, Scored]:
    """Return rule -> metrics of scores at its selected point, for the rules that select a point of this setting."""
    points = {rule: best_point(score.values) for rule, score in scores.by_rule.items()}
    return {
        rule: of_test[point] for rule, point in points.items() if point and point[1] == setting and point in of_test
    }
