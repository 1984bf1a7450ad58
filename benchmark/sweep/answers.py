"""What picked rows predicted, image by image: their trials are fitted again, by the code that made the rows.

Rows keep whether each image is classified correctly, and not as what. So the trial is evaluated again with a predictor
that answers as its own does and notes what it answers. What only serves choices is left out, where that changes no
tested fit; a fit that started from earlier ones (of smaller lambdas, of the ranks before) does so again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from json import dumps
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from benchmark.common.errors import IcmBenchError
from benchmark.method.arrays import Array, Labels
from benchmark.method.evaluation.classifier import ImageSet, Together
from benchmark.method.evaluation.evaluation import Evaluation, Method
from benchmark.method.evaluation.protocols import Holdout
from benchmark.method.evaluation.roles import Roles
from benchmark.method.evaluation.spans import Spans
from benchmark.method.predictors import Predictor, Problem
from benchmark.method.subspace import Basis, Projection
from benchmark.store.details import Pick
from benchmark.sweep.inputs import Inputs
from benchmark.sweep.trials import Trial

Spot = tuple[str, str, str, int]  # projection, what is held out, setting of the predictor, rank


class AnswersDifferError(IcmBenchError):
    """A trial that was fitted again gives other answers than its rows."""


@dataclass(frozen=True)
class Predicted:
    """What one pick predicted.

    Attributes:
        classes: number of the predicted class of each tested image, in the order of the row, shape (n,).
        margins: best score minus the second, NaN where there is none or it is infinite, shape (n,).
        rows: positions of the tested images in the data, shape (n,).
        basis: what was fitted.
    """

    classes: Labels
    margins: NDArray[np.float32]
    rows: Labels
    basis: Basis = field(repr=False)


@dataclass
class _Heard:
    """What a predictor answered in one tested fit, for all its images: those that judge, then those that are tested."""

    classes: list[Labels] = field(default_factory=list)
    margins: list[NDArray[np.float32]] = field(default_factory=list)


@dataclass
class _Notes:
    """Where listeners note what is answered.

    Attributes:
        wanted: what is to be noted.
        at: projection and holdout of the tested fit that is being made; None while another fit is.
        is_last: whether no wanted fit starts at that one.
        heard: by place.
    """

    wanted: frozenset[Spot]
    at: tuple[str, str] | None = None
    is_last: bool = False
    heard: dict[Spot, _Heard] = field(default_factory=dict)

    def spot(self, setting: Predictor, rank: int) -> Spot | None:
        """Return the place of what is answered now, if it is wanted."""
        spot = (*self.at, repr(setting), rank) if self.at else None
        return spot if spot in self.wanted else None

    def ranks(self, problem: Problem, ranks: Sequence[int]) -> list[int]:
        """Return the ranks at which a predictor must be fitted, ascending: those at which wanted ones may start too.

        Classifiers at rank D that are known from the plain space are turned and not fitted: they start nowhere.
        """
        if not (self.at and self.is_last):
            return list(ranks)
        wanted = {rank for *at, _, rank in self.wanted if tuple(at) == self.at}
        turned = {rank for _, rank in problem.rotated} & {problem.text.shape[1]}
        fitted = max(wanted - turned, default=0)
        # The classifiers at rank D come last, and those of lower ranks may start at them without their being asked for.
        return [rank for rank in ranks if rank <= fitted or rank in wanted]


class _Listener:
    """A predictor that answers as another one does, and notes the answers of tested fits.

    Not derived from `Predictor`: what is not here the other one says, so that nobody can tell it from that.
    """

    def __init__(self, predictor: Predictor, notes: _Notes) -> None:
        self._predictor, self._notes = predictor, notes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._predictor, name)

    def __repr__(self) -> str:
        return repr(self._predictor)

    @cached_property
    def settings(self) -> tuple["_Listener", ...]:
        """See `Predictor.settings`."""
        return tuple(_Listener(setting, self._notes) for setting in self._predictor.settings)

    def text_factors(self, text: Array, ranks: Sequence[int]) -> None:
        """See `Predictor.text_factors`: dot products that are faster say which are correct, and not as what."""

    def predict(self, problem: Problem, ranks: Sequence[int]) -> list[Labels]:
        """See `Predictor.predict`: asked block by block, of predictors that learn from no images."""
        predicted = self._predictor.predict(problem, ranks)
        for index, rank in enumerate(ranks):
            if spot := self._notes.spot(self._predictor, rank):
                ((scores,),) = self._predictor.scores(problem, [rank])
                heard = self._notes.heard.setdefault(spot, _Heard())
                heard.classes.append(np.asarray(predicted[0][index], dtype=np.int64))
                heard.margins.append(margins_of(scores, problem.candidates[0] if problem.candidates else None))
        return predicted

    def scores_of_settings(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:
        """See `Predictor.scores_of_settings`: asked once for a fit, of predictors that are trained."""
        settings, fitted = self._predictor.settings, self._notes.ranks(problem, ranks) if problem.tests else list(ranks)
        nothing = [np.zeros((len(z), problem.n_classes)) for z in problem.tests]
        of_points = self._predictor.scores_of_settings(problem, fitted)
        for rank in ranks:
            for setting in settings:
                of_point = next(of_points) if rank in fitted else nothing
                if problem.tests and (spot := self._notes.spot(setting, rank)):
                    self._notes.heard[spot] = _heard(problem, of_point)
                yield of_point


def _heard(problem: Problem, of_point: Sequence[Array]) -> _Heard:
    """Return what scores of all sets of a problem say."""
    allowed = problem.candidates or [None] * len(problem.tests)
    pairs = [(np.asarray(scores), classes) for scores, classes in zip(of_point, allowed, strict=True)]
    best = [s.argmax(axis=1) if c is None else c[s[:, c].argmax(axis=1)] for s, c in pairs]
    return _Heard(best, [margins_of(s, c) for s, c in pairs])


def margins_of(scores: Array, classes: Labels | None = None) -> NDArray[np.float32]:
    """Return best score minus the second of each image, NaN where it is infinite or there is no second, shape (m,).

    Args:
        scores: shape (m, n_classes).
        classes: those that are possible; None for all.
    """
    possible = np.asarray(scores, dtype=np.float64) if classes is None else np.asarray(scores[:, classes], np.float64)
    if possible.shape[1] < 2:
        return np.full(len(possible), np.nan, dtype=np.float32)
    second, best = np.partition(possible, -2, axis=1)[:, -2:].T
    with np.errstate(invalid="ignore"):
        margins = best - second
    return np.where(np.isfinite(margins), margins, np.nan).astype(np.float32)


@dataclass(frozen=True)
class _Fit:
    """A tested fit: its basis, and all images that its predictor was asked about."""

    basis: Basis
    together: Together
    judging: int
    one_by_one: bool

    def of_test(self, heard: _Heard, number: int) -> tuple[Labels, NDArray[np.float32]]:
        """Return what was heard about the test with that number."""
        if not self.one_by_one:
            which = slice(self.judging + number, self.judging + number + 1)
            return self.together.of_sets(heard.classes, which)[0], self.together.of_sets(heard.margins, which)[0]
        lengths = [len(rows) for _, rows in self.together.places]
        first = sum(lengths[: self.judging + number])
        block = slice(first, first + lengths[self.judging + number])
        return np.concatenate(heard.classes)[block], np.concatenate(heard.margins)[block]


class _Refit(Evaluation):
    """An evaluation that keeps its tested fits, and can leave out what only serves choices."""

    notes: _Notes
    tested_only: bool
    fits: dict[tuple[str, str], _Fit]
    last: dict[tuple[object, ...], tuple[str, str]]  # sources -> the last fit to them

    def _tested_and_choosing_fit(self, holdout: Holdout, method: Method, *args: Any) -> Any:
        if not self.tested_only:
            return super()._tested_and_choosing_fit(holdout, method, *args)
        _judging, tests, _lodo, _few, few_tested = args
        fitted = self._fitted(
            holdout, holdout.sources, self._turn.fitted, method, [], tests, few_tested, temperatures={}
        )
        return fitted, fitted.classified

    def _spans(self, *args: Any, **named: Any) -> Spans:  # noqa: ARG002
        return Spans()

    def _fitted(
        self,
        holdout: Holdout,
        sources: tuple[int, ...],
        sides: frozenset[int],
        method: Method,
        judging: Sequence[ImageSet],
        tests: Sequence[ImageSet],
        *args: Any,
        **named: Any,
    ) -> Any:
        tested = bool(tests) and sources == holdout.sources and sides == self._turn.fitted
        at = repr(method.projection), holdout.name
        self.notes.at = at if tested else None
        self.notes.is_last = self.last.get((sources, holdout.halves)) == at
        if tested and not method.predictor.uses_training_images:  # its blocks are put together, of this fit alone
            self.notes.heard = {spot: heard for spot, heard in self.notes.heard.items() if spot[:2] != at}
        fitted = super()._fitted(holdout, sources, sides, method, judging, tests, *args, **named)
        self.notes.at = None
        if tested:
            together = Together.of(judging, tests, self._data.label)
            one_by_one = not method.predictor.uses_training_images
            self.fits[at] = _Fit(fitted.basis, together, len(judging), one_by_one)
        return fitted


def answers_of(trial: Trial, inputs: Inputs, picks: Sequence[Pick], device: str = "cpu") -> list[Predicted]:
    """Return what each pick of a trial predicted.

    Args:
        trial: whose rows were picked.
        inputs: what it is evaluated on.
        picks: of its rows, at least one.
        device: torch device for predictors that are trained on torch.

    Raises:
        AnswersDifferError: the answers are not those of a row; names the trial.
    """
    spec = trial.spec
    points = [_point_of(trial, pick) for pick in picks]
    wanted = frozenset(
        (repr(_projection(trial, *place)), pick.held_out, repr(setting), pick.rank)
        for pick, (place, setting) in zip(picks, points, strict=True)
    )
    notes = _Notes(wanted)
    all_of_it = _takes_all(trial, inputs)
    settings = spec.split, spec.normalize, spec.fold, spec.draw_seed, device, all_of_it, spec.selection_images
    refit = _Refit(inputs.data, inputs.cells, *settings, inputs.plain)
    refit.notes, refit.tested_only, refit.fits, refit.last = notes, not all_of_it, {}, {}
    last: dict[str, tuple[int, int]] = {}
    for pick, (place, _) in zip(picks, points, strict=True):
        last[pick.held_out] = max(place, last.get(pick.held_out, place))
    exact = {(pick.held_out, place) for pick, (place, _) in zip(picks, points, strict=True)}
    if all_of_it:
        _evaluate_all(trial, refit, notes)
    else:
        _evaluate_tested(trial, refit, notes, last, exact)
    return [
        _checked(trial, inputs, pick, _predicted(trial, inputs, refit, pick, place, setting))
        for pick, (place, setting) in zip(picks, points, strict=True)
    ]


def _projection(trial: Trial, setting: int, lambda_: int) -> Projection:
    spec = trial.spec
    return spec.settings[setting].at(lambda_=spec.lambdas[lambda_], seed=spec.draw_seed)


def _point_of(trial: Trial, pick: Pick) -> tuple[tuple[int, int], Predictor]:
    """Return positions of the pick's setting and lambda in the order in which a trial goes through them; predictor."""
    spec = trial.spec
    for s, setting in enumerate(spec.settings):
        params = dumps({k: v for k, v in setting.params.items() if k != "order"})
        for i, lambda_ in enumerate(spec.lambdas):
            of_row = lambda_ if setting.at(lambda_=lambda_, seed=spec.draw_seed).uses_lambda else None
            if (params, of_row) == (pick.projection_params, pick.lambda_):
                of_predictor = [p for p in spec.predictor.settings if dumps(p.params) == pick.predictor_params]
                if of_predictor and pick.rank in spec.ranks:
                    return (s, i), of_predictor[0]
    raise _differs(trial, pick, "it has no such setting any more")


def _takes_all(trial: Trial, inputs: Inputs) -> bool:
    """Return whether the tested fits cannot be told from the trial as a whole.

    That is where some of them are made where scores are highest, and where a fit that leaves a source out is one that
    another holdout is tested with: it would be the start of the other.
    """
    spec = trial.spec
    if not spec.predictor.uses_training_images:
        return False
    most = spec.selection_images
    if spec.predictor.samples and most is not None and int(np.bincount(inputs.data.environment).max()) > most:
        return True
    tested = {(h.sources, h.halves) for h in trial.holdouts}
    return any((h.without(s), h.halves) in tested for h in trial.holdouts for s in h.sources)


def _methods(trial: Trial, notes: _Notes, setting: int) -> list[Method]:
    spec = trial.spec
    weights, listener = (
        trial.subject.weights_of(spec.intervention_set),
        cast("Predictor", _Listener(spec.predictor, notes)),
    )
    return [Method(_projection(trial, setting, i), listener, spec.ranks, weights) for i in range(len(spec.lambdas))]


def _evaluate_all(trial: Trial, refit: _Refit, notes: _Notes) -> None:
    """Go through a trial as `evaluate` does."""
    for setting in range(len(trial.spec.settings)):
        methods = _methods(trial, notes, setting)
        curves = [list(refit.curves(method, trial.holdouts)) for method in methods]
        if refit.samples(trial.spec.predictor):
            refit.with_full_fits(methods, curves, trial.holdouts)


def _evaluate_tested(
    trial: Trial,
    refit: _Refit,
    notes: _Notes,
    last: Mapping[str, tuple[int, int]],
    exact: set[tuple[str, tuple[int, int]]],
) -> None:
    """Make the tested fits of what is picked; of trained predictors those before them too, at which they start.

    Args:
        trial: the trial.
        refit: its evaluation.
        notes: where answers are noted.
        last: what is held out -> positions of the last setting and lambda that are picked for it.
        exact: what is held out, with positions of setting and lambda, of every pick.
    """
    trained = trial.spec.predictor.uses_training_images
    of_sources: dict[object, tuple[int, int]] = {}
    for holdout in trial.holdouts:
        if holdout.name in last:  # holdouts with the same sources start at each other's fits
            key = holdout.sources, holdout.halves
            of_sources[key] = max(last[holdout.name], of_sources.get(key, last[holdout.name]))
    for holdout in trial.holdouts:
        if (key := (holdout.sources, holdout.halves)) in of_sources:
            refit.last[key] = repr(_projection(trial, *of_sources[key])), holdout.name
    for setting in range(len(trial.spec.settings)):
        for i, method in enumerate(_methods(trial, notes, setting)):
            place = setting, i
            holdouts = [
                h
                for h in trial.holdouts
                if (place <= of_sources.get((h.sources, h.halves), (-1, -1)) if trained else (h.name, place) in exact)
            ]
            for _ in refit.curves(method, holdouts):
                pass


def _predicted(
    trial: Trial, inputs: Inputs, refit: _Refit, pick: Pick, place: tuple[int, int], setting: Predictor
) -> Predicted:
    """Return what was noted of a pick, in the order of its row."""
    projection = repr(_projection(trial, *place))
    fit = refit.fits[projection, pick.held_out]
    heard = refit.notes.heard[projection, pick.held_out, repr(setting), pick.rank]
    roles = Roles(inputs.data, trial.spec.split, trial.spec.fold)
    holdout = next(h for h in trial.holdouts if h.name == pick.held_out)
    halves = ("base", "new") if pick.class_half == "harmonic" else (pick.class_half,)
    classes, margins, places = [], [], []
    for half in halves:  # as `combined` puts them together
        number = next(i for i, t in enumerate(holdout.tests) if (t.split, t.half) == (pick.test_split, half))
        rows = np.flatnonzero(roles.of_test(holdout.tests[number]))
        order = roles.named(rows)[1]
        of_test, of_margins = fit.of_test(heard, number)
        classes.append(of_test[order])
        margins.append(of_margins[order])
        places.append(rows[order])
    return Predicted(np.concatenate(classes), np.concatenate(margins), np.concatenate(places), fit.basis)


def _checked(trial: Trial, inputs: Inputs, pick: Pick, predicted: Predicted) -> Predicted:
    """Return what a pick predicted, after comparing it with the bits of its row."""
    if len(predicted.classes) != pick.n:
        raise _differs(trial, pick, f"{len(predicted.classes)} images are tested in place of {pick.n}")
    correct = predicted.classes == inputs.data.label[predicted.rows]
    if wrong := int((correct != pick.answers).sum()):
        raise _differs(trial, pick, f"{wrong:,} of {pick.n:,} answers differ")
    return predicted


def _differs(trial: Trial, pick: Pick, what: str) -> AnswersDifferError:
    return AnswersDifferError(
        f"The trial {trial.id} ({trial.label}) cannot be shown image by image: fitted again, at rank {pick.rank} "
        f"without {pick.held_out} {what}; delete rows/{trial.id}.parquet in the store and run the recipe again."
    )
