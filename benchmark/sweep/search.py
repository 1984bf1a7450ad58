"""Search over lambda and strengths of interventions, at random or by Optuna, by scores on source environments alone.

Each held-out environment has a study of its own, so that even the choice of settings has seen nothing of it. Points
come in rounds, so that their views are embedded together, and depend on the seed and earlier scores alone: a search
that is run again finds its rows. A trial reports once: there is nothing that a scheduler could end early.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.method.evaluation.selection import source_scores
from benchmark.method.interventions import Intervention
from benchmark.recipe.specs import LAMBDA, SearchSpec
from benchmark.store.rows import read_source_scores
from benchmark.sweep.subject import Subject
from benchmark.sweep.trials import Trial

Point = Mapping[str, float]  # parameter (`lambda`, or `KIND.PARAMETER`) -> value
DIGITS = 3  # significant ones of a searched value: equal points are equal, and labels stay short


class RandomSuggester:
    """Points at random, log-uniform where the lower bound is above zero."""

    def __init__(self, space: Mapping[str, tuple[float, float]], seed: int) -> None:
        self._space, self._rng = space, np.random.default_rng(seed)

    def ask(self, n: int) -> list[Point]:
        """Return the next points."""

        def draw(low: float, high: float) -> float:
            uniform = self._rng.uniform
            return float(np.exp(uniform(np.log(low), np.log(high))) if low > 0 else uniform(low, high))

        return [{name: _rounded(draw(*bounds)) for name, bounds in self._space.items()} for _ in range(n)]

    def tell(self, scores: Sequence[float | None]) -> None:
        """Learn nothing from the scores of the points asked for last."""


class OptunaSuggester:
    """Points by Optuna's tree-structured Parzen estimator, after `startup` ones at random."""

    def __init__(self, space: Mapping[str, tuple[float, float]], seed: int, startup: int = 10) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._failed = optuna.trial.TrialState.FAIL
        self._space: dict[str, Any] = {
            name: optuna.distributions.FloatDistribution(low, high, log=low > 0) for name, (low, high) in space.items()
        }
        self._asked: list[Any] = []

    def ask(self, n: int) -> list[Point]:
        """Return the next points."""
        self._asked = [self._study.ask(self._space) for _ in range(n)]
        return [{name: _rounded(value) for name, value in trial.params.items()} for trial in self._asked]

    def tell(self, scores: Sequence[float | None]) -> None:
        """Take the scores of the points asked for last, None for one that failed; higher is better."""
        for trial, score in zip(self._asked, scores, strict=True):
            self._study.tell(trial, score, state=self._failed if score is None else None)


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def suggester(spec: SearchSpec, space: Mapping[str, tuple[float, float]]) -> RandomSuggester | OptunaSuggester:
    """Return what suggests the points of one study."""
    if spec.method == "optuna":
        return OptunaSuggester(space, spec.seed, min(10, spec.batch))  # 10 as Optuna has it; but learn from a round
    return RandomSuggester(space, spec.seed)


@dataclass(frozen=True)
class Study:
    """What is searched by itself: one method with one held-out environment, or all variants of a shift.

    Attributes:
        trial: with the first seed and without a lambda; what all trials of the study share.
        seeds: over which a point's score is averaged.
    """

    trial: Trial
    seeds: tuple[int, ...]

    def trials(self, subject: Subject, point: Point) -> list[Trial]:
        """Return the trials of one point, one for each seed."""
        spec = self.trial.spec
        intervention_set = spec.intervention_set
        if intervention_set and (changed := changed_kinds(point, self.trial.subject.interventions.by_label())):
            labels = self.trial.subject.labels_of(intervention_set)
            kinds = tuple(changed[label].label if label in changed else label for label in labels)
            name = f"{intervention_set.name} [{', '.join(kind.label for kind in changed.values())}]"
            intervention_set = intervention_set.model_copy(update={"kinds": kinds, "name": name})
        spec = replace(spec, lambdas=(point.get(LAMBDA, 0.0),), intervention_set=intervention_set, space={})
        of_seeds = [(subject.at_draw(number), replace(spec, seed=seed)) for number, seed in enumerate(self.seeds)]
        return [replace(self.trial, subject=drawn, spec=one) for drawn, one in of_seeds]


class Search:
    """The studies of a recipe, round by round: ask for points, run their trials, tell the scores."""

    def __init__(self, spec: SearchSpec, studies: Sequence[Study]) -> None:
        self._spec, self._studies = spec, studies
        self._suggesters = [suggester(spec, study.trial.spec.space) for study in studies]
        self._points: list[list[Point]] = []  # of the round, study by study
        self._trials: list[list[list[Trial]]] = []  # of each point, a trial for each seed

    def ask(self, count: int) -> dict[str, list[Intervention]]:
        """Begin a round of so many points for each study.

        Returns:
            Key of a subject -> the kinds of intervention whose views the points need beside those that there are.
        """
        self._points = [asked.ask(count) for asked in self._suggesters]
        needed: dict[str, dict[str, Intervention]] = {}
        for study, points in zip(self._studies, self._points, strict=True):
            subject = study.trial.subject
            for point in points:
                kinds = changed_kinds(point, subject.interventions.by_label()).values()
                needed.setdefault(subject.key, {}).update({kind.label: kind for kind in kinds})
        return {key: list(by_label.values()) for key, by_label in needed.items()}

    def trials(self, subjects: Mapping[str, Subject]) -> list[Trial]:
        """Return the trials of the round, none twice."""
        self._trials = [
            [study.trials(subjects[study.trial.subject.key], point) for point in points]
            for study, points in zip(self._studies, self._points, strict=True)
        ]
        every = (trial for of_study in self._trials for of_point in of_study for trial in of_point)
        return list({trial.id: trial for trial in every}.values())

    def tell(self, storage: Storage) -> None:
        """End a round: give the suggesters the scores that its trials left in the store.

        Raises:
            IcmBenchError: a finished trial has no score under the rule that is searched by.
        """
        for asked, of_study in zip(self._suggesters, self._trials, strict=True):
            asked.tell([mean_score([self._score(storage, t) for t in of_point]) for of_point in of_study])

    def _score(self, storage: Storage, trial: Trial) -> float | None:
        """Return the score of a trial by its rows' columns on source environments alone; None where it failed."""
        rows = read_source_scores(storage, [trial.id])
        score = source_scores(rows).get(self._spec.rule)
        if rows and score is None:
            raise IcmBenchError(
                f"sweep.search.rule: {trial.label} has no score under '{self._spec.rule}'; leaving a source out takes "
                f"two or more: use rule 'training_domain'."
            )
        return score


def changed_kinds(point: Point, kinds: Mapping[str, Intervention]) -> dict[str, Intervention]:
    """Return label -> the kind with the strengths of a point, of the kinds that the point changes."""
    values: dict[str, dict[str, float]] = {}
    for name, value in point.items():
        if name != LAMBDA:
            label, _, parameter = name.rpartition(".")
            values.setdefault(label, {})[parameter] = value
    return {label: kinds[label].at_strength(strengths) for label, strengths in values.items()}


def studies_of(trials: Sequence[Trial]) -> list[Study]:
    """Return the studies that the trials with a space stand for: one for each method, fold and held-out environment.

    Where all environments share one fit, as in a shift, they share the study. A fold is validated on the next one
    alone, in trials with a grid on all others: every point of a search costs fits of its own.
    """
    seeds = tuple(dict.fromkeys(trial.spec.seed for trial in trials))
    return [
        Study(replace(trial, spec=replace(spec, held_out=held_out)), seeds)
        for trial in trials
        if trial.spec.seed == seeds[0]
        for spec in trial.spec.turns
        for held_out in ([holdout.name for holdout in trial.holdouts] if trial.spec.protocol.fits_apart else [None])
    ]


def rounds_of(spec: SearchSpec) -> list[int]:
    """Return the number of points of each round."""
    full, rest = divmod(spec.samples, spec.batch)
    return [spec.batch] * full + ([rest] if rest else [])


def trial_count(spec: SearchSpec | None, studies: Sequence[Study]) -> int:
    """Return how many trials a search has, where no two points are the same."""
    return sum(spec.samples * len(study.seeds) for study in studies) if spec else 0


def mean_score(scores: Sequence[float | None]) -> float | None:
    """Return the mean over seeds, or None where one is missing."""
    known = [score for score in scores if score is not None and not math.isnan(score)]
    return float(np.mean(known)) if len(known) == len(scores) and known else None
