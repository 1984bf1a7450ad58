"""Trials: the units of work of a sweep, what their rows depend on, and how a trial becomes rows.

A trial holds what shares work: all folds of a protocol, their leave-one-domain-out fits, all lambdas and all ranks of
one (data set, backbone, intervention set, projection, normalisation, predictor, protocol, seed).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.method.arrays import Normalize
from benchmark.method.evaluation.protocols import Fold, Protocol
from benchmark.method.evaluation.splits import Split
from benchmark.method.predictors import Predictor
from benchmark.method.subspace import Projection
from benchmark.recipe.recipe import Recipe
from benchmark.recipe.specs import InterventionSet
from benchmark.sweep.subject import Subject


@dataclass(frozen=True)
class Trial:
    """One unit of work of a sweep.

    Attributes:
        source: position in the list of sources.
        protocol: see the recipe.
        intervention_set: None where the projection looks at no intervention.
        projection, normalize, predictor, seed: see the recipe.
        lambdas: (0.0,) where the projection has none.
        shifts: positions of the sources that `imagenet_shift` tests on.
        held_out: the only fold to be made, or None for all of the protocol: a search looks at one at a time.
    """

    subject: int
    protocol: Protocol
    intervention_set: InterventionSet | None
    projection: Projection
    normalize: Normalize
    predictor: Predictor
    seed: int
    lambdas: tuple[float, ...]
    shifts: tuple[int, ...] = ()
    held_out: str | None = None

    @property
    def split(self) -> Split:
        """The split that the protocol fits on with this seed."""
        return Split(self.seed, self.protocol.halves_apart)

    def label(self, subject: Subject) -> str:
        """Return the trial in words, for the list of those that failed and for whoever watches."""
        chosen = f", {self.intervention_set.name}" if self.intervention_set else ""
        held_out = f" without {self.held_out}" if self.held_out else ""
        lambda_ = f", lambda {self.lambdas[0]:g}" if self.projection.uses_lambda and len(self.lambdas) == 1 else ""
        return (
            f"{subject.manifest.name}, {subject.facts.label}: {self.projection.label}{chosen}{lambda_} + "
            f"{self.predictor.label}, normalize {self.normalize}, {self.protocol.name}{held_out}, seed {self.seed}"
        )

    def environments(self, subjects: Sequence[Subject]) -> list[str]:
        """Return the names of the environments that the protocol sees."""
        own = subjects[self.subject].manifest
        return [own.name, *(subjects[i].manifest.name for i in self.shifts)] if self.shifts else own.environments

    def fold_count(self, environments: int) -> int:
        """Return how many folds there are to make, for a source with so many environments."""
        if self.held_out:
            return 1
        return self.protocol.fold_count(1 + len(self.shifts) if self.shifts else environments)

    def folds(self, subjects: Sequence[Subject], recipe: Recipe) -> list[Fold]:
        """Return the folds to be made."""
        every = self.protocol.folds(self.environments(subjects), recipe.sweep.test_splits)
        return [fold for fold in every if self.held_out in (None, fold.name)]

    def settings(self) -> dict[str, Any]:
        """Return all that distinguishes the trial from others of the same source, in plain data."""
        chosen = self.intervention_set
        return {
            "protocol": self.protocol.name,
            "intervention_set": chosen.model_dump(mode="json") if chosen else None,
            "projection": self.projection.model_dump(mode="json"),
            "normalize": self.normalize,
            "predictor": self.predictor.model_dump(mode="json"),
            "seed": self.seed,
            "lambdas": list(self.lambdas),
            "held_out": self.held_out,
        }


def trials_of(recipe: Recipe) -> list[Trial]:
    """Return every trial of a recipe's grid; what is searched has none.

    Projections that look at no intervention are not repeated for each set, and those without a lambda not for each
    lambda. Sources are numbered backbone by backbone, data sets in the recipe's order within each.
    """
    sweep, names = recipe.sweep, [dataset.name for dataset in recipe.datasets]
    return [
        Trial(
            subject=first + position,
            protocol=protocol,
            intervention_set=intervention_set,
            projection=projection,
            normalize=normalize,
            predictor=predictor,
            seed=seed,
            lambdas=sweep.lambdas if projection.uses_lambda else (0.0,),
            shifts=tuple(first + i for i in recipe.shifts()) if protocol.across_sets else (),
        )
        for first in range(0, len(recipe.backbones) * len(names), len(names))
        for position, name in enumerate(names)
        for protocol in recipe.protocols_for(name)
        for predictor in sweep.predictors
        for projection in sweep.projections
        for intervention_set in (recipe.intervention_sets() if projection.uses_interventions else (None,))
        if not recipe.search_space(name, projection, intervention_set)
        for normalize in sweep.normalize
        for seed in sweep.seeds
    ]


def row_count(recipe: Recipe, trials: Iterable[Trial], environments: Sequence[int]) -> int:
    """Return the number of result rows of trials; `environments` has the number for each source."""
    return sum(
        len(trial.lambdas)
        * trial.fold_count(n)
        * len(trial.protocol.test_splits(recipe.sweep.test_splits))
        * len(trial.protocol.class_halves)
        for trial in trials
        for n in [environments[trial.subject]]
    )
