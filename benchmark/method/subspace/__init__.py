"""The method: moments of embeddings, and projections estimated from them. No Ray, no files: arrays in, arrays out.

If you add a name, explain it in docs/comparisons.md and run `make docs`, which writes docs/recipe.md. tests/docs checks
that both pages have every name.
"""

import importlib
from typing import TYPE_CHECKING, Any

from benchmark.common.registry import Registry
from benchmark.method.subspace.basis import Basis, Projection
from benchmark.method.subspace.invariant import invariant_basis, objective
from benchmark.method.subspace.moments import Differences, Moments, SourceMoments
from benchmark.method.subspace.shrinkage import shrinkage_basis

if TYPE_CHECKING:
    from benchmark.method.subspace.estimator import InvariantProjection, Shrinkage


PROJECTIONS: Registry[Projection] = Registry(
    "projection",
    Projection,  # type: ignore[type-abstract]
    {
        "identity": "benchmark.method.subspace.baselines.identity:Identity",
        "pca": "benchmark.method.subspace.baselines.plain:PCA",
        "random": "benchmark.method.subspace.baselines.plain:RandomOrthonormal",
        "icm": "benchmark.method.subspace.invariant:ICM",
        "shrinkage": "benchmark.method.subspace.shrinkage:Shrinkage",
        "fixed": "benchmark.method.subspace.shrinkage:Fixed",
        "isotropic": "benchmark.method.subspace.shrinkage:Isotropic",
        "isotropic_environments": "benchmark.method.subspace.shrinkage:IsotropicEnvironments",
        "within_classes": "benchmark.method.subspace.shrinkage:WithinClasses",
        "within_prompts": "benchmark.method.subspace.shrinkage:WithinPrompts",
        "calibrated": "benchmark.method.subspace.rivals.calibrated:Calibrated",
        "denoiser": "benchmark.method.subspace.rivals.denoiser:Denoiser",
        "nap": "benchmark.method.subspace.rivals.nap:NAP",
        "centring": "benchmark.method.subspace.rivals.centring:Centring",
        "channels": "benchmark.method.subspace.rivals.channels:Channels",
        "biased_prompts": "benchmark.method.subspace.rivals.biased_prompts:BiasedPrompts",
        "roboshot": "benchmark.method.subspace.rivals.roboshot:RoboShot",
        "own_mean": "benchmark.method.subspace.rivals.own_environment:OwnMean",
        "coral": "benchmark.method.subspace.rivals.own_environment:Coral",
        "generalized": "benchmark.method.subspace.baselines.generalized:Generalized",
        "drop_top": "benchmark.method.subspace.baselines.drop_top:DropTop",
        "environment_means": "benchmark.method.subspace.baselines.environment_means:EnvironmentMeans",
        "leace": "benchmark.method.subspace.baselines.leace:Leace",
        "discriminant": "benchmark.method.subspace.baselines.discriminant:Discriminant",
    },
)

__all__ = [
    "PROJECTIONS",
    "Basis",
    "Differences",
    "InvariantProjection",
    "Moments",
    "Projection",
    "Shrinkage",
    "SourceMoments",
    "invariant_basis",
    "objective",
    "shrinkage_basis",
]


def __getattr__(name: str) -> Any:
    if name in ("InvariantProjection", "Shrinkage"):  # importing scikit-learn takes a second, and no worker needs it
        return getattr(importlib.import_module("benchmark.method.subspace.estimator"), name)
    raise AttributeError(f"module 'benchmark.method.subspace' has no attribute '{name}'")
