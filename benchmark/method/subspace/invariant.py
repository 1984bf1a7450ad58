"""The invariant projection of CLIP-ICM (arXiv 2405.15289, section 4).

    minimise over A A^T = I_k :   (1/N) sum || A^T A z_i - z_i ||^2            (reconstruct)
                                + lambda (1/N) sum || A z_i - A z_i^do ||^2    (be consistent under the intervention)
    = trace(C_z) - trace(A M A^T),   M = C_z - lambda C_d

so the rows of the minimiser are the eigenvectors of the k LARGEST eigenvalues of M. The authors' released code keeps
the smallest ones; that order is offered by name, `released`, and never used silently.
"""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from benchmark.method.arrays import Array
from benchmark.method.subspace.basis import Basis, Projection, eigenbasis
from benchmark.method.subspace.moments import Moments, SourceMoments

Order = Literal["largest", "released"]


def invariant_basis(
    moments: Moments | SourceMoments, lambda_: float, order: Order = "largest", centered: bool = False
) -> Basis:
    """Return the eigenvectors of M = C_z - lambda C_d, shape (D, D), in the order in which they are kept."""
    m = moments.c_z(centered)
    if lambda_:
        m = m - lambda_ * moments.c_d()
    return eigenbasis(m, largest_first=order == "largest")


def objective(a: Array, moments: Moments | SourceMoments, lambda_: float) -> tuple[float, float]:
    """Return the two terms (reconstruction, lambda * consistency) of the objective for A of shape (k, D)."""
    c_z = moments.c_z()
    reconstruction = np.trace(c_z) - np.trace(a @ c_z @ a.T)
    consistency = lambda_ * np.trace(a @ moments.c_d() @ a.T) if lambda_ else 0.0
    return float(reconstruction), float(consistency)


class ICM(Projection):
    """CLIP-ICM as a component of a sweep: see `invariant_basis`.

    `lambda_` (default 1.0) is the weight of the consistency term.
    """

    registered_name: ClassVar[str] = "icm"
    uses_interventions: ClassVar[bool] = True
    order: Order = "largest"
    centered: bool = False
    lambda_: float = Field(default=1.0, ge=0, allow_inf_nan=False)

    def fit(self, sources: SourceMoments) -> Basis:
        return invariant_basis(sources, self.lambda_, self.order, self.centered)
