"""Linear concept erasure of the environment label: LEACE (Belrose et al. 2023, arXiv 2306.03819)."""

import numpy as np

from benchmark.method.arrays import Array
from benchmark.method.subspace.baselines.environment_means import mean_differences
from benchmark.method.subspace.basis import (
    NEGLIGIBLE,
    Basis,
    Projection,
    by_energy,
    complement,
    ordered_orthonormal,
    span,
    with_fixed_signs,
)
from benchmark.method.subspace.moments import SourceMoments


class Leace(Projection, label="LEACE", role="rival"):
    """Least-squares erasure of the source environment. No linear classifier can predict it from erased embeddings.

    Let x be an embedding and z the one-hot label of its environment, with covariances Sigma over all source images.
    With W = (Sigma_xx^(1/2))^+ and P the orthogonal projection on the column space of W Sigma_xz (theorem 4.3 of the
    paper),

        E = I - W^+ P W,    column j of the basis = E^T v_j,    coordinate j of an embedding = v_j^T (E x),

    where v_j are the orthonormal eigenvectors of the erased covariance E Sigma_xx E^T by decreasing eigenvalue, which
    is `spectrum`. This is the only oblique basis: E is not an orthogonal projection, but the smallest change of
    embeddings that erases the environment. E has rank D - r, with r <= environments - 1. The last r columns are exactly
    zero, so the ranks D - r to D give equal results.

    The same matrix E is applied to images and texts. The paper's eraser also adds the constant (I - E) mean(x), which
    preserves the mean of the images. A probe does not need it, since its intercept absorbs the constant. Zero-shot
    prediction differs: similarities are computed without the part of the mean image along the erased directions.

    E may stretch directions. If environments differ mostly along directions of little variance, erased embeddings can
    vary more than the original ones. The theorem gives no bound for this.

    Directions in which the source images do not vary are unchanged. With one source environment or equal means nothing
    is erased, and the result equals `pca` with `centered`.
    """

    def fit(self, sources: SourceMoments) -> Basis:
        """Return the oblique basis of the erased space; its last r columns are zero."""
        covariance = sources.c_z(centered=True)
        eraser, erased = _eraser(sources, covariance)
        remaining, variances = by_energy(complement(erased), eraser @ covariance @ eraser.T)
        # E^T maps `erased` to 0. Exact zeros come last, after directions of zero variance.
        vectors = np.hstack([with_fixed_signs(eraser.T @ remaining), np.zeros_like(erased)])
        return Basis(vectors, np.hstack([variances, np.zeros(erased.shape[1])]))


def _eraser(sources: SourceMoments, covariance: Array) -> tuple[Array, Array]:
    """Return E, shape (D, D), and an orthonormal basis, shape (D, r), of the directions v with E^T v = 0."""
    differences, shares = mean_differences(sources)
    sigma_xz = differences.T * shares
    variances, u = np.linalg.eigh((covariance + covariance.T) / 2)
    varies = variances > NEGLIGIBLE * np.trace(sources.c_z())
    u, deviations = u[:, varies], np.sqrt(variances[varies])
    # W = U diag(1 / s) U^T, W^+ = U diag(s) U^T, so P in the coordinates of U projects on diag(1 / s) U^T Sigma_xz.
    # A squared singular value is a share of variance explained by the label, so it is compared with 1.
    q = span((u / deviations).T @ sigma_xz, 1.0)
    stretched, whitened = (u * deviations) @ q, (u / deviations) @ q  # W^+ P W = stretched whitened^T
    return np.eye(sources.dim) - stretched @ whitened.T, ordered_orthonormal(whitened)
