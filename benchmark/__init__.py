"""icm-bench: does a vision-language model hold up in an unseen environment, and does an invariant subspace help?

`benchmark.run(recipe)` does what `icm-bench run` does. The module of a public name is imported at its first use.
"""

import sys

if sys.argv[:1] == ["-m"] and {"benchmark.cli", "-mbenchmark.cli"} & {*sys.orig_argv} and not sys.flags.safe_path:
    del sys.path[0]  # `python -m` puts the working directory before installed packages

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

# A folder `reports` without code in the working directory is a namespace package, and hides an editable install. These
# folders of regular packages hide it in turn, wherever they are on the path. `benchmark.common.code` has the variable.
for _folder in (str(Path(__file__).parents[1]), *os.environ.get("ICM_BENCH_OWN_PATH", "").splitlines()):
    if _folder not in sys.path:
        sys.path.append(_folder)

if TYPE_CHECKING:
    from benchmark.backbones.projected_encoder import ProjectedEncoder as ProjectedEncoder
    from benchmark.backbones.projection_files import read_projection as read_projection
    from benchmark.commands.in_memory import evaluate as evaluate
    from benchmark.commands.run import run as run
    from benchmark.common.errors import IcmBenchError as IcmBenchError
    from benchmark.method.evaluation.metrics import Metric as Metric
    from benchmark.method.interventions import Intervention as Intervention
    from benchmark.method.predictors import Predictor as Predictor
    from benchmark.method.subspace import InvariantProjection as InvariantProjection
    from benchmark.method.subspace import Projection as Projection
    from benchmark.method.subspace import Shrinkage as Shrinkage
    from benchmark.recipe.loading import load_recipe as load_recipe
    from benchmark.recipe.recipe import Recipe as Recipe

    __version__: str

# Public name -> its module. Import a new name above too, for type checkers; tests/test_architecture.py imports each.
_HOMES = {
    "EncoderModel": "benchmark.backbones.models",
    "IcmBenchError": "benchmark.common.errors",
    "Intervention": "benchmark.method.interventions",
    "InvariantProjection": "benchmark.method.subspace",
    "Metric": "benchmark.method.evaluation.metrics",
    "Predictor": "benchmark.method.predictors",
    "ProjectedEncoder": "benchmark.backbones.projected_encoder",
    "Projection": "benchmark.method.subspace",
    "Recipe": "benchmark.recipe.recipe",
    "Shrinkage": "benchmark.method.subspace",
    "evaluate": "benchmark.commands.in_memory",
    "load_recipe": "benchmark.recipe.loading",
    "read_projection": "benchmark.backbones.projection_files",
    "run": "benchmark.commands.run",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name == "__version__":  # set in pyproject.toml
        from importlib.metadata import version

        return version("icm-bench")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'benchmark' has no attribute '{name}'")
