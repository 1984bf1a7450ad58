"""What of a sweep is left where there are not all views, or not all texts; what goes is said by name.

Imported embeddings may lack views and texts, and vision towers have no texts.
"""

from collections.abc import Collection, Iterator

from benchmark.backbones.facts import Texts
from benchmark.common.errors import some
from benchmark.method.predictors import Predictor
from benchmark.method.prompts import Names
from benchmark.method.subspace import Projection
from benchmark.method.subspace.moments import CROSS
from benchmark.recipe.recipe import Recipe
from benchmark.recipe.sets import TEXT, InterventionSet

Setting = tuple[Projection, InterventionSet | None]
_LEARNS = " (if it needs no texts, let its class say learns_classes = True)"


def kinds_of(recipe: Recipe, dataset: str, texts: Texts = "any") -> tuple[str, ...]:
    """Return the kinds of pairs that a data set has where all views can be made, by which texts can be embedded."""
    text = [TEXT] if recipe.interventions.text and texts == "any" else []
    return (*dict.fromkeys(kind.label for kind in recipe.kinds_for(dataset)), *text, CROSS)


def settings_of(
    recipe: Recipe, dataset: str, predictor: Predictor, kinds: Collection[str], texts: Texts
) -> Iterator[Setting]:
    """Yield each projection that a predictor is tried with, and the intervention set of the fit; None for no set.

    Of projections that need pairs, and have none, what `Projection.without_interventions` leaves is tried; nothing
    comes twice.
    """
    if not _has_texts(predictor, texts):
        return
    projections = [p for p in recipe.sweep.projections_for(predictor) if texts == "any" or not p.uses_prompts]
    asked = {projection.label for projection in projections}
    for projection in projections:
        if sets := recipe.sets_for(dataset, predictor, projection, kinds):
            yield from ((projection, chosen) for chosen in sets)
        elif recipe.sets_for(dataset, predictor, projection) and not predictor.uses_interventions:
            left = projection.without_interventions()
            if left and (left.label == projection.label or left.label not in asked):
                asked.add(left.label)
                yield left, None


def names_environments(projection: Projection) -> bool:
    """Say whether a projection asks for prompts with names of environments, which clusters do not have."""
    return any(prompt.environment is not None for prompt in projection.prompts(Names(("a",), ("b",), ("{}",))))


def _has_texts(predictor: Predictor, texts: Texts) -> bool:
    """Say whether a predictor has the texts that it asks for: of classes, or any where it learns prompts."""
    return texts == "any" or (not predictor.uses_text_tower and (texts == "classes" or predictor.learns_classes))


def not_available(recipe: Recipe, dataset: str, kinds: Collection[str], texts: Texts) -> list[str]:
    """Return, in words, what a sweep lacks because there are not all kinds of pairs or texts; nothing where all are."""
    absent = [kind for kind in kinds_of(recipe, dataset, texts) if kind not in kinds]
    sets = [chosen.name for chosen in recipe.intervention_sets() if not chosen.is_among(kinds)]
    gone: dict[str, list[str]] = {"projection": [], "predictor": []}
    instead = []
    for predictor in recipe.sweep.predictors:
        left = {projection.label for projection, _ in settings_of(recipe, dataset, predictor, kinds, texts)}
        if not left:
            own = ":" in predictor.name and not _has_texts(predictor, texts) and not predictor.uses_text_tower
            gone["predictor"].append(f"{predictor.label}{_LEARNS if own else ''}")
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
    return [*filter(None, words), *([f"instead there is {some(dict.fromkeys(instead))}"] if instead else [])]


def _named(what: str, names: Collection[str]) -> str:
    """Return some names after what they are, or nothing where there are none."""
    distinct = list(dict.fromkeys(names))
    return f"the {what}{'s' if len(distinct) > 1 else ''} {some(distinct)}" if distinct else ""
