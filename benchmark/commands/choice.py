"""Which projection of a recipe a command line means."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from benchmark.common.errors import IcmBenchError, nearest
from benchmark.method.arrays import Normalize
from benchmark.recipe.recipe import Recipe
from benchmark.recipe.specs import SweepSpec
from benchmark.sweep.fitting import Choice
from benchmark.sweep.subject import Subject

T = TypeVar("T")


def choose(recipe: Recipe, subjects: list[Subject], given: dict[str, Any]) -> Choice:
    """Return the projection that the command line picks from a recipe.

    Args:
        recipe: what there is to choose from.
        sources: of the recipe.
        given: labels under `dataset`, `backbone`, `projection` and `intervention_set`, and `lambda_`, `normalize`,
            `seed` and `without`; what is None must be the only one of its kind in the recipe, but for the seed, where
            the first is taken.

    Raises:
        IcmBenchError: something is not in the recipe, or the recipe has several and none was named.
    """
    sweep = recipe.sweep
    dataset = _one("--dataset", given["dataset"], [s.manifest.name for s in subjects], str)
    backbone = _one("--backbone", given["backbone"], [s.facts.label for s in subjects], str)
    subject = next(s for s in subjects if (s.manifest.name, s.facts.label) == (dataset, backbone))
    fitted = [p for p in sweep.projections if not p.full_rank_only]
    if not fitted:
        raise IcmBenchError("The recipe has no projection but the whole space; add one to sweep.projections.")
    preferred = [p for p in fitted if p.uses_interventions and p.order_name != "released"] or fitted
    named = given["projection"] is not None
    projection = _one("--projection", given["projection"], fitted if named else preferred, lambda p: p.label)
    chosen = None
    if projection.uses_interventions:
        sets = recipe.intervention_sets()
        chosen = _one("--intervention-set", given["intervention_set"], sets, lambda s: s.name)
    lambda_ = _lambda(sweep, given["lambda_"]) if projection.uses_lambda else 0.0
    normalize: Normalize = _one("--normalize", given["normalize"], sweep.normalize, str)
    seed = _one("--seed", sweep.seeds[0] if given["seed"] is None else given["seed"], sweep.seeds, int)
    without = tuple(given["without"] or ())
    for name in without:
        if name not in subject.manifest.environments:
            raise IcmBenchError(
                f"--without: {dataset} has no environment '{name}'; {nearest(name, subject.manifest.environments)}"
            )
    if len(without) >= len(subject.manifest.environments):
        raise IcmBenchError("--without: no environment is left to fit the projection on; leave one in.")
    return Choice(subject, projection, chosen, lambda_, normalize, seed, without)


def _lambda(sweep: SweepSpec, given: float | None) -> float:
    """Return the lambda that was named: one of the grid's, or, where there is a search, any within its bounds."""
    if given is None or sweep.search is None:
        return _one("--lambda", given, sweep.lambdas, float)
    low, high = sweep.search.lambdas
    if not low <= given <= high:
        raise IcmBenchError(f"--lambda: {given:g} is not between {low:g} and {high:g}, the bounds of the search.")
    return given


def _one(option: str, given: Any, known: Iterable[T], label: Callable[[T], Any]) -> T:
    """Return the one that was named, or the only one there is."""
    by_label = {label(item): item for item in known}
    if given is None and len(by_label) == 1:
        return next(iter(by_label.values()))
    names = ", ".join(map(str, by_label))
    if given is None:
        raise IcmBenchError(f"{option} is needed, since the recipe has several: {names}.")
    if given not in by_label:
        raise IcmBenchError(f"{option}: '{given}' is not in the recipe, which has {names}.")
    return by_label[given]
