"""icm-bench: does a vision-language model hold up in an unseen environment, and does an invariant subspace help?

`benchmark.run(recipe)` does what `icm-bench run` does. Nothing heavy is imported until it is used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.recipe import Recipe as Recipe
    from benchmark.recipe import load_recipe as load_recipe
    from benchmark.stages import run as run
    from benchmark.subspace import InvariantProjection as InvariantProjection

_HOMES = {
    "InvariantProjection": "benchmark.subspace",
    "Recipe": "benchmark.recipe",
    "load_recipe": "benchmark.recipe",
    "run": "benchmark.stages",
}
__all__ = ["InvariantProjection", "Recipe", "load_recipe", "run"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    import importlib

    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'benchmark' has no attribute '{name}'")
