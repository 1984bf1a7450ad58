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

from benchmark.method.interventions import Intervention
from benchmark.recipe.recipe import Recipe
from benchmark.recipe.specs import LAMBDA, SearchSpec
from benchmark.sweep.subject import Subject, labels_of
from benchmark.sweep.suggest import Point
from benchmark.sweep.trials import Trial, trials_of


@dataclass(frozen=True)
class Study:
    """What is searched by itself: one method with one held-out environment, or all variants of a shift.

    Attributes:
        trial: with the first seed and without a lambda; what all trials of the study share.
        seeds: over which a point's score is averaged.
        space: parameter -> (low, high).
    """

    trial: Trial
    seeds: tuple[int, ...]
    space: Mapping[str, tuple[float, float]]

    def trials(self, subject: Subject, point: Point, kinds: Mapping[str, Intervention]) -> list[Trial]:
        """Return the trials of one point, one for each seed.

        Args:
            source: of the study.
            point: a value for each parameter of the space.
            kinds: of the recipe, by label.
        """
        chosen = self.trial.intervention_set
        if chosen is not None and (changed := changed_kinds(point, kinds)):
            labels = tuple(changed[k].label if k in changed else k for k in labels_of(subject, chosen))
            words = ", ".join(kind.label for kind in changed.values())
            chosen = chosen.model_copy(update={"kinds": labels, "name": f"{chosen.name} [{words}]"})
        lambdas = (point[LAMBDA],) if LAMBDA in point else (0.0,)
        return [replace(self.trial, seed=seed, lambdas=lambdas, intervention_set=chosen) for seed in self.seeds]


def changed_kinds(point: Point, kinds: Mapping[str, Intervention]) -> dict[str, Intervention]:
    """Return label -> the kind with the strengths of a point, of the kinds that the point changes."""
    values: dict[str, dict[str, float]] = {}
    for name, value in point.items():
        if name != LAMBDA:
            label, _, parameter = name.rpartition(".")
            values.setdefault(label, {})[parameter] = value
    return {label: kinds[label].at_strength(own) for label, own in values.items()}


def studies_of(recipe: Recipe, subjects: Sequence[Subject]) -> list[Study]:
    """Return the studies of a recipe: one for each searched method and held-out environment.

    Where all of these share one fit, as in a shift, they share the study. Strengths are searched for those kinds that a
    method's intervention set has.
    """
    studies = []
    for trial, space in searched_trials(recipe):
        if trial.seed != recipe.sweep.seeds[0]:
            continue
        folds = trial.protocol.folds(trial.environments(subjects), recipe.sweep.test_splits)
        for held_out in [fold.name for fold in folds] if trial.protocol.fits_apart else [None]:
            studies.append(Study(replace(trial, held_out=held_out, lambdas=()), recipe.sweep.seeds, space))
    return studies


def searched_trials(recipe: Recipe) -> list[tuple[Trial, dict[str, tuple[float, float]]]]:
    """Return the trials that a search stands in for, as the grid would have them, each with its space."""
    names = [dataset.name for dataset in recipe.datasets]
    whole = recipe.model_copy(update={"sweep": recipe.sweep.model_copy(update={"search": None})})
    found = [
        (t, recipe.search_space(names[t.subject % len(names)], t.projection, t.intervention_set))
        for t in trials_of(whole)
    ]
    return [(trial, space) for trial, space in found if space]


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
