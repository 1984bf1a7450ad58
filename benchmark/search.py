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
from typing import Any, Protocol

import numpy as np

from benchmark.evaluation.protocols import folds_of
from benchmark.interventions import Intervention
from benchmark.recipe import LAMBDA, Recipe, SearchSpec
from benchmark.source import Source, labels_of
from benchmark.trials import Trial, trials_of

Point = Mapping[str, float]  # parameter (`lambda`, or `KIND.PARAMETER`) -> value
DIGITS = 3  # significant ones of a searched value: equal points are equal, and labels stay short


class Suggester(Protocol):
    """Says which points to try next."""

    def ask(self, n: int) -> list[Point]:
        """Return the next `n` points."""

    def tell(self, scores: Sequence[float | None]) -> None:
        """Take the scores of the points asked for last, None for one that failed; higher is better."""


class RandomSuggester:
    """Points at random, log-uniform where both bounds are above zero.

    Args:
        space: parameter -> (low, high).
        seed: of the generator.
    """

    def __init__(self, space: Mapping[str, tuple[float, float]], seed: int) -> None:
        self._space, self._rng = space, np.random.default_rng(seed)

    def ask(self, n: int) -> list[Point]:
        """See `Suggester.ask`."""
        return [{name: self._draw(*bounds) for name, bounds in self._space.items()} for _ in range(n)]

    def tell(self, scores: Sequence[float | None]) -> None:
        """See `Suggester.tell`; nothing is learnt."""

    def _draw(self, low: float, high: float) -> float:
        if low > 0:
            return _rounded(float(np.exp(self._rng.uniform(np.log(low), np.log(high)))))
        return _rounded(float(self._rng.uniform(low, high)))


class OptunaSuggester:
    """Points by Optuna's tree-structured Parzen estimator, after `startup` ones at random.

    Args:
        space, seed: as for `RandomSuggester`.
        startup: points before scores are looked at.
    """

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
        """See `Suggester.ask`."""
        self._asked = [self._study.ask(self._space) for _ in range(n)]
        return [{name: _rounded(value) for name, value in trial.params.items()} for trial in self._asked]

    def tell(self, scores: Sequence[float | None]) -> None:
        """See `Suggester.tell`."""
        for trial, score in zip(self._asked, scores, strict=True):
            if score is None:
                self._study.tell(trial, state=self._failed)
            else:
                self._study.tell(trial, score)


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def suggester(spec: SearchSpec, space: Mapping[str, tuple[float, float]]) -> Suggester:
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
        space: parameter -> (low, high).
    """

    trial: Trial
    seeds: tuple[int, ...]
    space: Mapping[str, tuple[float, float]]

    def trials(self, source: Source, point: Point, kinds: Mapping[str, Intervention]) -> list[Trial]:
        """Return the trials of one point, one for each seed.

        Args:
            source: of the study.
            point: a value for each parameter of the space.
            kinds: of the recipe, by label.
        """
        chosen = self.trial.intervention_set
        if chosen is not None and (changed := changed_kinds(point, kinds)):
            labels = tuple(changed[k].label if k in changed else k for k in labels_of(source, chosen))
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


def studies_of(recipe: Recipe, sources: Sequence[Source]) -> list[Study]:
    """Return the studies of a recipe: one for each searched method and held-out environment.

    Where all of these share one fit, as in a shift, they share the study. Strengths are searched for those kinds that a
    method's intervention set has.
    """
    studies = []
    for trial, space in searched_trials(recipe):
        if trial.seed != recipe.sweep.seeds[0]:
            continue
        folds = folds_of(trial.protocol, trial.environments(sources), recipe.sweep.test_splits)
        for held_out in [fold.name for fold in folds] if trial.fits_apart else [None]:
            studies.append(Study(replace(trial, held_out=held_out, lambdas=()), recipe.sweep.seeds, space))
    return studies


def searched_trials(recipe: Recipe) -> list[tuple[Trial, dict[str, tuple[float, float]]]]:
    """Return the trials that a search stands in for, as the grid would have them, each with its space."""
    names = [dataset.name for dataset in recipe.datasets]
    whole = recipe.model_copy(update={"sweep": recipe.sweep.model_copy(update={"search": None})})
    found = [
        (t, recipe.search_space(names[t.source % len(names)], t.projection, t.intervention_set))
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
