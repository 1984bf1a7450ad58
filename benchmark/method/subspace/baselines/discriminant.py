"""Linear discriminant directions, which separate classes without using interventions."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from benchmark.method.subspace import basis
from benchmark.method.subspace.moments import SourceMoments


class Discriminant(basis.Projection, label="Discriminant", role="rival"):
    """Generalised eigenvectors v of S_b v = w (S_w + regularization * trace(S_w) / D * I) v by decreasing w.

    S_b and S_w are the scatter between and within classes over all source images, divided by the number of images. So
    S_b + S_w is the covariance (Fisher 1936; Rao 1948). This uses class labels of source images. If the moments contain
    only base classes, new classes are not used.

    As for `generalized`, the first k columns are an orthonormal basis of the span of the first k eigenvectors. S_b has
    rank (number of classes) - 1, or less if class means coincide. The rest of the space is ordered by decreasing
    eigenvalue of C_z within it. `spectrum` has the ratios w, then these eigenvalues.

    Fields:
        regularization: share of the mean variance that is added to S_w, so that S_w is invertible even with fewer
            images than dimensions.

    Raises:
        ValueError: fewer than two classes have images, or the images of each class all have the same embedding.
    """

    plain_at_full_rank: ClassVar[bool] = True
    uses_labels: ClassVar[bool] = True
    regularization: float = Field(default=1e-3, gt=0, allow_inf_nan=False)

    def fit(self, sources: SourceMoments) -> basis.Basis:
        """Return the discriminant directions, then the rest of the space by energy."""
        c_z, images = sources.c_z(), sources.images
        filled = images.counts > 0
        if filled.sum() < 2:
            raise ValueError(f"A discriminant needs images of at least two classes, not of {filled.sum()}.")
        counts = images.counts[filled, None]
        means = images.sums[filled] / counts - images.total / images.n
        centres = (np.sqrt(counts / images.n) * means).T  # S_b is this matrix times its transpose
        between, squared_length = centres @ centres.T, np.trace(c_z)
        within = sources.c_z(centered=True) - between
        if np.trace(within) <= basis.NEGLIGIBLE * squared_length:
            raise ValueError("The embeddings of each class are all equal: there is no scatter within classes.")
        ratios, vectors = basis.generalized_eigenvectors(between, basis.regularized(within, self.regularization))
        rank = basis.span(centres, squared_length).shape[1]
        first = basis.ordered_orthonormal(vectors[:, :rank])
        rest, energies = basis.by_energy(basis.complement(first), c_z)
        return basis.Basis(np.hstack([first, rest]), np.hstack([ratios[:rank], energies]))
