"""The invariant projection of CLIP-ICM (arXiv 2405.15289, section 4).

    minimise over A A^T = I_k :   (1/N) sum || A^T A z_i - z_i ||^2            (reconstruct)
                                + lambda (1/N) sum || A z_i - A z_i^do ||^2    (be consistent under the intervention)
    = trace(C_z) - trace(A M A^T),   M = C_z - lambda C_d

    z_i     embedding of image i, shape (D,);  z_i^do  its embedding after an intervention
    A       the projection, shape (k, D) with orthonormal rows; k is the rank, the number of directions kept
    C_z     = (1/N) sum z_i z_i^T,  the second moment of embeddings
    C_d     = (1/N) sum (z_i - z_i^do)(z_i - z_i^do)^T,  the same for interventional differences, averaged over kinds

So the rows of the minimiser are the eigenvectors of the k LARGEST eigenvalues of M. One basis serves every rank: A is
its first k columns, transposed. The authors' released code keeps the smallest eigenvalues; this order is available as
`released` and never used silently.
"""

import copy
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from benchmark.method.arrays import Array
from benchmark.method.subspace.basis import Basis, c_z_eigenbasis, eigenbasis
from benchmark.method.subspace.moments import Moments, SourceMoments
from benchmark.method.subspace.nuisance import Nuisance, NuisanceCandidates, Nuisances, cached_for, nuisance

Order = Literal["largest", "released"]


def invariant_basis(
    moments: Moments | SourceMoments,
    lambda_: float,
    order: Order = "largest",
    centered: bool = False,
    name: Nuisance = "interventions",
) -> Basis:
    """Return the eigenvectors of M = C_z - lambda C_d, shape (D, D). Rank k keeps the first k.

    For `SourceMoments`, the decomposition is cached. Both orders and all trials of a worker share it.

    Args:
        moments: sums over the images and, unless lambda_ is 0, over their interventional differences.
        lambda_: weight of the consistency term, >= 0. With 0 the basis equals that of PCA, and no differences are
            needed.
        order: `largest` (default), the minimiser, or `released`, the order of the authors' code.
        centered: whether C_z is the covariance of z. Default False, as in the paper.
        name: for `SourceMoments`, the nuisance N that replaces C_d. Default: C_d itself.

    Raises:
        ValueError: there are no images, or lambda_ > 0 and there are no interventional pairs.

    Example:
        >>> import numpy as np
        >>> from benchmark.method.subspace import Moments, invariant_basis
        >>> Z = np.diag([3.0, 6.0, 9.0])
        >>> moments = Moments.of(Z, {"shift": Z + [0.0, 0.0, 4.0]})  # C_z = diag(3, 12, 27), C_d = diag(0, 0, 16)
        >>> basis = invariant_basis(moments, lambda_=2.0)
        >>> basis.spectrum  # 12, 3 and 27 - 2 * 16: the direction that the intervention moves comes last
        array([12.,  3., -5.])
        >>> basis.vectors[:, :2].T  # A of rank 2
        array([[0., 1., 0.],
               [1., 0., 0.]])
    """

    def decomposed() -> Basis:
        m = moments.c_z(centered)
        if lambda_:
            m = m - lambda_ * (moments.c_d() if isinstance(moments, Moments) else nuisance(moments, name))
        return eigenbasis(m, largest_first=False, single=single)

    single = isinstance(moments, SourceMoments) and moments.for_choice
    if isinstance(moments, Moments):
        made = decomposed()
    else:
        what = "eigenbasis", centered, lambda_, single
        made = cached_for(moments, what, name, decomposed) if lambda_ else c_z_eigenbasis(moments, centered)
    return made.reversed() if order == "largest" else copy.copy(made)  # `made` is cached, and gets no further arrays


def objective(a: Array, moments: Moments | SourceMoments, lambda_: float) -> tuple[float, float]:
    """Return the two terms of the objective: reconstruction, and lambda times consistency.

    Args:
        a: the projection A, shape (k, D), orthonormal rows.
        moments: sums over the images and, unless lambda_ is 0, over their interventional differences.
        lambda_: weight of the consistency term, >= 0.
    """
    c_z = moments.c_z()
    reconstruction = np.trace(c_z) - np.trace(a @ c_z @ a.T)
    consistency = lambda_ * np.trace(a @ moments.c_d() @ a.T) if lambda_ else 0.0
    return float(reconstruction), float(consistency)


class ICM(NuisanceCandidates, label="CLIP-ICM", place=4):
    """CLIP-ICM: directions with high energy and little displacement by interventions come first.

    Directions are the eigenvectors of C_z - lambda C_d by decreasing eigenvalue, see `invariant_basis`.

    Fields:
        order: `largest` (default), the minimiser, or `released`, the order of the authors' code.
        centered: whether C_z is the covariance of z. Default false, as in the paper.
        nuisance: matrix N weighed against C_z, see `benchmark.method.subspace.nuisance`: `interventions` (default; C_d
            alone as in the paper), `environments` or `both`. If there are several, a selection rule chooses one. Values
            other than the default make another method: truncation with the nuisance of shrinkage.
        lambda_: weight of the consistency term; a recipe gives it as `sweep.lambdas`.

    Example:
        >>> import numpy as np
        >>> from benchmark.method.subspace import PROJECTIONS, Moments, SourceMoments
        >>> Z = np.diag([3.0, 6.0, 9.0])
        >>> sources = SourceMoments({"photo": Moments.of(Z, {"shift": Z + [0.0, 0.0, 4.0]})})
        >>> PROJECTIONS.create("icm").at(lambda_=2.0).fit(sources).spectrum
        array([12.,  3., -5.])
    """

    plain_at_full_rank: ClassVar[bool] = True
    order: Order = "largest"
    centered: bool = False
    nuisance: Nuisances = "interventions"
    lambda_: float = Field(default=1.0, ge=0, allow_inf_nan=False)

    def fit(self, sources: SourceMoments) -> Basis:
        """Return the eigenvectors of M over all source images. M contains C_d, or the nuisance that replaces it."""
        return invariant_basis(sources, self.lambda_, self.order, self.centered, self.nuisance_name)

    @property
    def takes_placebo(self) -> bool:
        """See `Projection.takes_placebo`. False for the released order, which keeps what interventions move."""
        return self.order == "largest" and super().takes_placebo

    @property
    def variant(self) -> str:
        """The candidates for N as text; empty for C_d alone, as in the paper."""
        return "" if self.nuisance == "interventions" else super().variant or "equal N"
