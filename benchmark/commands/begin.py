"""What can begin before the commands are imported, which takes a second. Imports nothing heavy."""

from collections.abc import Iterator
from contextlib import contextmanager

from benchmark.backbones.describe import begun
from benchmark.recipe.recipe import Recipe


@contextmanager
def first_backbone_loading(recipe: Recipe) -> Iterator[None]:
    """Let a recipe's first backbone load beside, while the block imports the commands and starts Ray."""
    if recipe.is_imported:
        yield
        return
    with begun(recipe.backbones[0].with_absolute_paths()):
        yield
