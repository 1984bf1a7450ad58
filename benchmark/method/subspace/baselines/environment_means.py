"""Removal of all directions in which environment means differ."""

from typing import ClassVar

import numpy as np

from benchmark.method.arrays import Array
from benchmark.method.subspace.basis import Basis, Projection, by_energy, complement, span
from benchmark.method.subspace.moments import SourceMoments


class EnvironmentMeans(Projection, label="Environment means removed", role="rival"):
    """First the directions orthogonal to all differences of environment means, by decreasing energy; then the rest.

    With E source environments, the vectors mean_e minus the mean of all images span r <= E - 1 dimensions. Directions
    in this span come last. Within the span and outside of it, directions are the eigenvectors of C_z there, by
    decreasing eigenvalue (energy). So up to rank D - r all environments have the same mean, and rank D is a rotation.
    `spectrum` has v^T C_z v for every direction, decreasing within each part.

    With one source environment or equal means nothing is removed, and the result equals `pca`.
    """

    plain_at_full_rank: ClassVar[bool] = True

    def fit(self, sources: SourceMoments) -> Basis:
        """Return a basis: first directions orthogonal to all differences of environment means, then the others."""
        c_z = sources.c_z()
        differences, _ = mean_differences(sources)
        removed = span(differences.T, np.trace(c_z))
        parts = by_energy(complement(removed), c_z), by_energy(removed, c_z)
        return Basis(np.hstack([vectors for vectors, _ in parts]), np.hstack([energies for _, energies in parts]))


def mean_differences(sources: SourceMoments) -> tuple[Array, Array]:
    """Return two arrays with one row or entry for each source environment that has images.

    The first is mean_e minus the mean of all images, shape (E, D). The second is the number of images in the
    environment divided by the number of all images, shape (E,).
    """
    filled = [moments for moments in sources.environments.values() if moments.n]
    means = np.stack([moments.total / moments.n for moments in filled])
    shares = np.array([moments.n for moments in filled]) / sources.images.n
    return means - shares @ means, shares
