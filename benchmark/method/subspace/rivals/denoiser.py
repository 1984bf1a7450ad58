"""The least-squares denoiser: the linear map from intervened embeddings back to the original ones.

    W = C_z,do (C_do,do + eps I)^-1,    eps = lambda trace(C_do,do) / D,    x^ = W z

    C_z,do    = (1/n) sum z z^do^T,      C_do,do = (1/n) sum z^do z^do^T, the mean over the kinds of the set

W minimises (1/n) sum |z - W z^do|^2 + eps |W|^2. It is one layer of mSDA without its nonlinearity (Chen et al., ICML
2012, arXiv 1206.4683), with interventions instead of feature dropout. It uses only pairs, no environments or labels.
For large lambda, W tends to C_z,do up to a factor, not to the identity.
"""

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from benchmark.method.subspace.basis import Basis, Projection
from benchmark.method.subspace.moments import SourceMoments

Ridge = Annotated[float, Field(gt=0, allow_inf_nan=False)]
RIDGES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)


class Denoiser(Projection, label="Least-squares denoiser", role="rival", place=7):
    """Multiply images by W = C_z,do (C_do,do + eps I)^-1, eps = lambda trace(C_do,do) / D; texts are unchanged.

    A selection rule chooses lambda.

    Fields:
        lambdas: candidate ridges, relative to the mean energy per direction.
        lambda_: one ridge; a recipe gives `lambdas`.
    """

    full_rank_only: ClassVar[bool] = True
    uses_interventions: ClassVar[bool] = True
    uses_products: ClassVar[bool] = True
    lambdas: Annotated[tuple[Ridge, ...], Field(min_length=1)] = RIDGES
    lambda_: Ridge = 0.1

    def fit(self, sources: SourceMoments) -> Basis:
        """Return the map W of images, from all source images and their views."""
        c_z_do, c_do = sources.products()
        ridge = self.lambda_ * np.trace(c_do) / sources.dim
        w_transposed = np.linalg.solve(c_do + ridge * np.eye(sources.dim), c_z_do.T)  # C_do,do is symmetric
        return Basis(w_transposed, None, np.eye(sources.dim))
