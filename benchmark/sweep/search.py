"""Search over lambda and intervention strengths, random or by Optuna, using scores on source environments only.

Each held-out environment has its own study, so its images never influence the settings with which they are tested.
Points are suggested in rounds, so that the views of a round are embedded together. Points depend only on the seed and
earlier scores, so a repeated search finds its stored rows. A trial reports only once, so schedulers could not stop it
early.
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
DIGITS = 3  # significant digits of a searched value, for reproducible points and short labels


class RandomSuggester:
    """Suggests random points, one value per parameter: log-uniform if the lower bound is above zero, else uniform."""

    def __init__(self, space: Mapping[str, tuple[float, float]], seed: int) -> None:
        self._space, self._rng = space, np.random.default_rng(seed)

    def ask(self, n: int) -> list[Point]:
        """Return the next `n` points."""

        def draw(low: float, high: float) -> float:
            uniform = self._rng.uniform
            return float(np.exp(uniform(np.log(low), np.log(high))) if low > 0 else uniform(low, high))

        return [{name: _rounded(draw(*bounds)) for name, bounds in self._space.items()} for _ in range(n)]

    def tell(self, scores: Sequence[float | None]) -> None:
        """Ignore the scores of the last points, since points are random."""


class OptunaSuggester:
    """Suggests points by Optuna's tree-structured Parzen estimator, after `startup` random points."""

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
        """Return the next `n` points."""
        self._asked = [self._study.ask(self._space) for _ in range(n)]
        return [{name: _rounded(value) for name, value in trial.params.items()} for trial in self._asked]

    def tell(self, scores: Sequence[float | None]) -> None:
        """Record the scores of the last points; higher is better, None is for a failed point."""
        for trial, score in zip(self._asked, scores, strict=True):
            self._study.tell(trial, score, state=self._failed if score is None else None)


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def suggester(spec: SearchSpec, space: Mapping[str, tuple[float, float]]) -> RandomSuggester | OptunaSuggester:
    """Return a suggester for one study. `SearchSpec.method` (`benchmark/recipe/specs.py`) has the names of methods."""
    if spec.method == "optuna":
        return OptunaSuggester(space, spec.seed, min(10, spec.batch))  # 10 as in Optuna, but at most one round
    return RandomSuggester(space, spec.seed)


@dataclass(frozen=True)
class Study:
    """A separate search for one method with one held-out environment, or with all variants of a shift.

    Attributes:
        trial: template of the study's trials, with the first seed and without lambda.
        seeds: seeds over which the score of a point is averaged.
    """

    trial: Trial
    seeds: tuple[int, ...]

    def trials(self, subject: Subject, point: Point) -> list[Trial]:
        """Return the trials of a point, one for each seed."""
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
    """Runs the studies of a recipe in rounds: `ask` for points, run their `trials`, `tell` the scores."""

    def __init__(self, spec: SearchSpec, studies: Sequence[Study]) -> None:
        self._spec, self._studies = spec, studies
        self._suggesters = [suggester(spec, study.trial.spec.space) for study in studies]
        self._points: list[list[Point]] = []  # study -> points of the round
        self._trials: list[list[list[Trial]]] = []  # study -> point -> trials by seed

    def ask(self, count: int) -> dict[str, list[Intervention]]:
        """Begin a round of `count` points per study.

        Returns:
            Key of a subject -> the kinds of intervention whose views the points need.
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
        """Return the distinct trials of the round."""
        self._trials = [
            [study.trials(subjects[study.trial.subject.key], point) for point in points]
            for study, points in zip(self._studies, self._points, strict=True)
        ]
        every = (trial for of_study in self._trials for of_point in of_study for trial in of_point)
        return list({trial.id: trial for trial in every}.values())

    def tell(self, storage: Storage) -> None:
        """End a round: read the scores of its trials from the store and pass them to the suggesters.

        Raises:
            IcmBenchError: a finished trial has no score under the rule of the search.
        """
        for asked, of_study in zip(self._suggesters, self._trials, strict=True):
            asked.tell([mean_score([self._score(storage, t) for t in of_point]) for of_point in of_study])

    def _score(self, storage: Storage, trial: Trial) -> float | None:
        """Return the score of a trial on its source environments; None if it failed."""
        rows = read_source_scores(storage, [trial.id])
        score = source_scores(rows).get(self._spec.rule)
        if rows and score is None:
            raise IcmBenchError(
                f"sweep.search.rule: {trial.label} has no score under '{self._spec.rule}', which needs two or more "
                f"sources; use rule 'training_domain'."
            )
        return score


def changed_kinds(point: Point, kinds: Mapping[str, Intervention]) -> dict[str, Intervention]:
    """Return label -> kind with the strengths of the point, for all kinds of intervention that the point changes."""
    values: dict[str, dict[str, float]] = {}
    for name, value in point.items():
        if name != LAMBDA:
            label, _, parameter = name.rpartition(".")
            values.setdefault(label, {})[parameter] = value
    return {label: kinds[label].at_strength(strengths) for label, strengths in values.items()}


def studies_of(trials: Sequence[Trial]) -> list[Study]:
    """Return the studies of trials with a search space: one per method, fold and held-out environment.

    If all environments share one fit, as in a shift, they share the study. Every point of a search needs its own fits.
    So a fold is validated on the next fold only, and not on all others as in a grid.
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
    """Return the number of points in each round of a search, round by round."""
    full, rest = divmod(spec.samples, spec.batch)
    return [spec.batch] * full + ([rest] if rest else [])


def trial_count(spec: SearchSpec | None, studies: Sequence[Study]) -> int:
    """Return the number of trials of a search if all points are distinct."""
    return sum(spec.samples * len(study.seeds) for study in studies) if spec else 0


def mean_score(scores: Sequence[float | None]) -> float | None:
    """Return the mean over seeds, or None if a score is missing."""
    known = [score for score in scores if score is not None and not math.isnan(score)]
    return float(np.mean(known)) if len(known) == len(scores) and known else None
