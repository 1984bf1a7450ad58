"""What of a sweep is left where a data set lacks some views, as imported embeddings may; what goes is said by name."""

from collections.abc import Collection, Iterator

from benchmark.method.predictors import Predictor
from benchmark.method.subspace import Projection
from benchmark.method.subspace.moments import CROSS
from benchmark.recipe.recipe import Recipe
from benchmark.recipe.sets import TEXT, InterventionSet

Setting = tuple[Projection, InterventionSet | None]


def kinds_of(recipe: Recipe, dataset: str) -> tuple[str, ...]:
    """Return the kinds of pairs that a data set has under a recipe whose views can all be made."""
    text = [TEXT] if recipe.interventions.text else []
    return (*dict.fromkeys(kind.label for kind in recipe.kinds_for(dataset)), *text, CROSS)


def settings_of(recipe: Recipe, dataset: str, predictor: Predictor, kinds: Collection[str]) -> Iterator[Setting]:
    """Yield each projection that a predictor is tried with, and the intervention set of the fit; None for no set.

    Of projections that need pairs, and have none, what `Projection.without_interventions` leaves is tried; nothing
    comes twice.

    Args:
        recipe: what is asked for.
        dataset: name of the data set.
        predictor: how classes are predicted.
        kinds: kinds of pairs that are there, see `InterventionSet.is_among`.
    """
    projections = recipe.sweep.projections_for(predictor)
    asked = {projection.label for projection in projections}
    for projection in projections:
        if sets := recipe.sets_for(dataset, predictor, projection, kinds):
            yield from ((projection, chosen) for chosen in sets)
        elif recipe.sets_for(dataset, predictor, projection) and not predictor.uses_interventions:
            left = projection.without_interventions()
            if left and (left.label == projection.label or left.label not in asked):
                asked.add(left.label)
                yield left, None


def left_out(recipe: Recipe, dataset: str, kinds: Collection[str]) -> list[str]:
    """Return, in words, what a sweep lacks because a data set lacks kinds of pairs; nothing where it has all.

    Args:
        recipe: what is asked for.
        dataset: name of the data set.
        kinds: kinds of pairs that are there, see `InterventionSet.is_among`.
    """
    absent = [kind for kind in kinds_of(recipe, dataset) if kind not in kinds]
    sets = [chosen.name for chosen in recipe.intervention_sets() if not chosen.is_among(kinds)]
    gone: dict[str, list[str]] = {"projection": [], "predictor": []}
    instead = []
    for predictor in recipe.sweep.predictors:
        left = {projection.label for projection, _ in settings_of(recipe, dataset, predictor, kinds)}
        if not left:
            gone["predictor"].append(predictor.label)
            continue
        for projection in recipe.sweep.projections_for(predictor):
            bare = projection.without_interventions()
            if projection.label in left:
                continue
            if bare is None or bare.label not in left:
                gone["projection"].append(projection.label)
            else:
                instead.append(f"{bare.label} for {projection.label}")
    words = [_named("view", absent), _named("intervention set", sets)]
    words += [_named(what, names) for what, names in gone.items()]
    return [*filter(None, words), *([f"instead there is {', '.join(dict.fromkeys(instead))}"] if instead else [])]


def _named(what: str, names: Collection[str]) -> str:
    """Return some names after what they are, or nothing where there are none."""
    distinct = list(dict.fromkeys(names))
    return f"the {what}{'s' if len(distinct) > 1 else ''} {', '.join(distinct)}" if distinct else ""
