"""Directions ordered by the ratio of energy to displacement by interventions; there is no lambda."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from benchmark.method.subspace import basis
from benchmark.method.subspace.moments import SourceMoments


class Generalized(basis.Projection, label="Generalised eigenproblem", role="rival"):
    """Generalised eigenvectors v of C_z v = w (C_d + regularization * trace(C_d) / D * I) v by decreasing w.

    w is the ratio of energy to displacement: the Rayleigh quotient of the two second moments that CLIP-ICM combines in
    M = C_z - lambda C_d (arXiv 2405.15289, section 4). A factor on all embeddings, or on all interventional
    differences, does not change the directions.

    Generalised eigenvectors are not orthonormal, but the basis is: for every k its first k columns span the first k
    eigenvectors. If C_z is singular (fewer images than dimensions), w = 0 in the rest of the space, which is ordered by
    decreasing eigenvalue of C_z within it. `spectrum` has the ratios w, 0 for the rest.

    Fields:
        regularization: share of the mean displacement that is added to C_d, so that the ratio is finite for directions
            that no intervention moves.
        centered: whether C_z is the covariance of z. Default false.

    Raises:
        ValueError: there are no interventional pairs, or interventions move no embedding.
    """

    plain_at_full_rank: ClassVar[bool] = True
    uses_interventions: ClassVar[bool] = True
    regularization: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    centered: bool = False

    def fit(self, sources: SourceMoments) -> basis.Basis:
        """Return an orthonormal basis by decreasing ratio, then the rest of the space by energy."""
        c_z, c_d, squared_length = sources.c_z(self.centered), sources.c_d(), np.trace(sources.c_z())
        if np.trace(c_d) <= basis.NEGLIGIBLE * squared_length:
            raise ValueError("The interventions move no embedding: there is no displacement to divide energies by.")
        ratios, vectors = basis.generalized_eigenvectors(c_z, basis.regularized(c_d, self.regularization))
        rank = int((np.linalg.eigvalsh(c_z) > basis.NEGLIGIBLE * squared_length).sum())
        first = basis.ordered_orthonormal(vectors[:, :rank])
        rest, _ = basis.by_energy(basis.complement(first), c_z)
        return basis.Basis(np.hstack([first, rest]), np.where(np.arange(sources.dim) < rank, ratios, 0.0))
