"""What can begin before the commands are imported, which takes a second. Imports nothing heavy."""

from collections.abc import Iterator
from contextlib import contextmanager

from benchmark.backbones.describe import begun, is_remembered
from benchmark.backbones.models import model_class
from benchmark.recipe.recipe import Recipe


@contextmanager
def first_backbone_loading(recipe: Recipe) -> Iterator[None]:
    """Let a recipe's first backbone load beside, while the block imports the commands and starts Ray.

    Raises:
        IcmBenchError: something of a backbone must be fetched, and cannot be.
    """
    if recipe.is_imported:
        yield
        return
    for spec in recipe.backbones:
        # A class of the user's own is asked where it is loaded; of what is known already, all may be embedded.
        if spec.family and not is_remembered(spec.with_absolute_paths()):
            model_class(spec).check_at_hand(spec)
    with begun(recipe.backbones[0].with_absolute_paths()):
        yield
