"""What can take part: without an encoder of texts what asks for texts cannot, nor without names what asks for these."""

from benchmark.backbones.facts import Texts
from benchmark.method.predictors import Predictor
from benchmark.method.prompts import Names
from benchmark.method.subspace import Projection
from benchmark.recipe.sets import TEXT, InterventionSet


def predictor_possible(predictor: Predictor, texts: Texts) -> bool:
    """Say whether a predictor has the texts that it asks for: of classes, or any where it learns prompts."""
    return texts == "any" or (not predictor.uses_text_tower and (texts == "classes" or predictor.learns_classes))


def projection_possible(projection: Projection, texts: Texts) -> bool:
    """Say whether a projection has the prompts that it asks for."""
    return texts == "any" or not projection.uses_prompts


def names_environments(projection: Projection) -> bool:
    """Say whether a projection asks for prompts with names of environments, which clusters do not have."""
    return any(prompt.environment is not None for prompt in projection.prompts(Names(("a",), ("b",), ("{}",))))


def set_possible(chosen: InterventionSet | None, texts: Texts) -> bool:
    """Say whether an intervention set has the pairs of texts that it asks for."""
    return texts == "any" or chosen is None or TEXT not in chosen.kinds
