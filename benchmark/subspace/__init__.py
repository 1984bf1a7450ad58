"""The method: moments of embeddings, projections estimated from them. No Ray, no files: arrays in, arrays out."""

from benchmark.registry import Registry
from benchmark.subspace.basis import Basis, Projection
from benchmark.subspace.invariant import InvariantProjection, invariant_basis, objective
from benchmark.subspace.moments import Moments

PROJECTIONS: Registry[Projection] = Registry(
    "projection",
    Projection,  # type: ignore[type-abstract]
    {
        "identity": "benchmark.subspace.baselines:Identity",
        "pca": "benchmark.subspace.baselines:PCA",
        "random": "benchmark.subspace.baselines:RandomOrthonormal",
        "icm": "benchmark.subspace.invariant:ICM",
    },
)

__all__ = [
    "PROJECTIONS",
    "Basis",
    "InvariantProjection",
    "Moments",
    "Projection",
    "invariant_basis",
    "objective",
]
