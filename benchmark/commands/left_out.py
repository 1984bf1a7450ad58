"""What of a recipe a backbone or a data set takes no part in, in a sentence."""

from collections.abc import Iterator

from benchmark.backbones.facts import BackboneFacts, Texts
from benchmark.recipe.recipe import Recipe
from benchmark.sweep.possible import names_environments, predictor_possible, projection_possible, set_possible


def left_out(recipe: Recipe, facts: BackboneFacts) -> str:
    """Return a sentence on what of a recipe a backbone takes no part in; nothing where it takes part in all."""
    names = ", ".join(_impossible(recipe, facts.texts))
    has = "no texts" if facts.texts == "none" else "no texts but those of the classes"
    return f"{facts.label} has {has}, so it has no results of what asks for them: {names}." if names else ""


def nameless(recipe: Recipe) -> list[str]:
    """Return, for each data set with clusters for environments, a sentence on what takes no part there, if any does."""
    named = ", ".join(f"the projection {p.label}" for p in recipe.sweep.all_projections() if names_environments(p))
    sets = [dataset.name for dataset in recipe.datasets if dataset.clusters]
    return [
        f"{name} has clusters for environments, which have no names, so it has no results of what asks for these: "
        f"{named}."
        for name in (sets if named else ())
    ]


def _impossible(recipe: Recipe, texts: Texts) -> Iterator[str]:
    yield from (f"the predictor {p.label}" for p in recipe.sweep.predictors if not predictor_possible(p, texts))
    yield from (
        f"the projection {p.label}" for p in recipe.sweep.all_projections() if not projection_possible(p, texts)
    )
    yield from (f"the intervention set {s.name}" for s in recipe.intervention_sets() if not set_possible(s, texts))
