"""What a backbone can take part in: without an encoder of texts, what asks for texts is left out."""

from benchmark.backbones.facts import Texts
from benchmark.method.predictors import Predictor
from benchmark.method.subspace import Projection
from benchmark.recipe.sets import TEXT, InterventionSet


def predictor_possible(predictor: Predictor, texts: Texts) -> bool:
    """Say whether a predictor has the texts that it asks for: of classes, or any where it learns prompts."""
    return texts == "any" or (not predictor.uses_text_tower and (texts == "classes" or predictor.learns_classes))


def projection_possible(projection: Projection, texts: Texts) -> bool:
    """Say whether a projection has the prompts that it asks for."""
    return texts == "any" or not projection.uses_prompts


def set_possible(chosen: InterventionSet | None, texts: Texts) -> bool:
    """Say whether an intervention set has the pairs of texts that it asks for."""
    return texts == "any" or chosen is None or TEXT not in chosen.kinds
