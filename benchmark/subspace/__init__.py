"""The method: moments of embeddings, projections estimated from them. No Ray, no files: arrays in, arrays out."""

from typing import TYPE_CHECKING, Any

from benchmark.registry import Registry
from benchmark.subspace.basis import Basis, Projection
from benchmark.subspace.invariant import invariant_basis, objective
from benchmark.subspace.moments import Differences, Moments, SourceMoments

if TYPE_CHECKING:
    from benchmark.subspace.estimator import InvariantProjection as InvariantProjection

PROJECTIONS: Registry[Projection] = Registry(
    "projection",
    Projection,  # type: ignore[type-abstract]
    {
        "identity": "benchmark.subspace.baselines:Identity",
        "pca": "benchmark.subspace.baselines:PCA",
        "random": "benchmark.subspace.baselines:RandomOrthonormal",
        "icm": "benchmark.subspace.invariant:ICM",
        "generalized": "benchmark.subspace.generalized:Generalized",
        "drop_top": "benchmark.subspace.drop_top:DropTop",
        "environment_means": "benchmark.subspace.environment_means:EnvironmentMeans",
        "leace": "benchmark.subspace.leace:Leace",
        "discriminant": "benchmark.subspace.discriminant:Discriminant",
    },
)

__all__ = [
    "PROJECTIONS",
    "Basis",
    "Differences",
    "InvariantProjection",
    "Moments",
    "Projection",
    "SourceMoments",
    "invariant_basis",
    "objective",
]


def __getattr__(name: str) -> Any:
    if name == "InvariantProjection":  # scikit-learn takes a second to import, which no worker needs
        from benchmark.subspace.estimator import InvariantProjection

        return InvariantProjection
    raise AttributeError(f"module 'benchmark.subspace' has no attribute '{name}'")
