"""Search over lambda and strengths of interventions, by what source environments say and nothing else.

A study belongs to one held-out environment (or to all variants of a shift, which is fitted once): its settings are
judged by that fold's scores on its sources, so that even the choice of which settings are tried has seen nothing of
what is held out. Points come in rounds: those of a round are known before any of it runs, so that their views are
embedded together. Suggestions depend on the seed and the scores before them alone: a search that is run again asks for
the same points, and finds their rows.

A trial fits in closed form and reports once, so there is nothing that a scheduler could end early.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.method.evaluation.selection import source_scores
from benchmark.method.interventions import Intervention
from benchmark.recipe.specs import LAMBDA, SearchSpec
from benchmark.store.rows import read_source_scores
from benchmark.sweep.subject import Subject
from benchmark.sweep.suggest import Point, suggester
from benchmark.sweep.trials import Trial


@dataclass(frozen=True)
class Study:
    """What is searched by itself: one method with one held-out environment, or all variants of a shift.

    Attributes:
        trial: with the first seed and without a lambda; what all trials of the study share.
        seeds: over which a point's score is averaged.
    """

    trial: Trial
    seeds: tuple[int, ...]

    @property
    def space(self) -> Mapping[str, tuple[float, float]]:
        """What is searched: parameter -> (low, high)."""
        return self.trial.spec.space

    def trials(self, subject: Subject, point: Point) -> list[Trial]:
        """Return the trials of one point, one for each seed.

        Args:
            subject: of the study, with the views of the point.
            point: a value for each parameter of the space.
        """
        spec = self.trial.spec
        intervention_set = spec.intervention_set
        if intervention_set and (changed := changed_kinds(point, self.trial.subject.interventions.by_label())):
            labels = self.trial.subject.labels_of(intervention_set)
            kinds = tuple(changed[label].label if label in changed else label for label in labels)
            name = f"{intervention_set.name} [{', '.join(kind.label for kind in changed.values())}]"
            intervention_set = intervention_set.model_copy(update={"kinds": kinds, "name": name})
        spec = replace(spec, lambdas=(point.get(LAMBDA, 0.0),), intervention_set=intervention_set, space={})
        return [
            replace(self.trial, subject=subject.at_draw(number), spec=replace(spec, seed=seed))
            for number, seed in enumerate(self.seeds)
        ]


class Search:
    """The studies of a recipe, round by round: ask for points, run their trials, tell the scores.

    Args:
        spec: how is searched.
        studies: what is searched; each has a suggester of its own.
    """

    def __init__(self, spec: SearchSpec, studies: Sequence[Study]) -> None:
        self._spec, self._studies = spec, studies
        self._suggesters = [suggester(spec, study.space) for study in studies]
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
        """Return the trials of the round, none twice.

        Args:
            subjects: by key, with the views that `ask` said are needed.
        """
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

    Where all environments share one fit, as in a shift, they share the study. A fold is judged by the next one alone,
    unlike those of trials with a grid, which all other folds judge: every point of a search costs fits of its own.
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
