"""Placebos: replacements of C_d with other directions, to test whether its directions matter.

    rotated    Q C_d Q^T, Q uniformly random orthogonal (Haar): the same spectrum, other directions
    matched    C_z^(1/2) Q (C_z^(-1/2) C_d C_z^(-1/2)) Q^T C_z^(1/2): the same generalised eigenvalues against C_z,
               hence the same amount of shrinkage in other directions
    borrowed   C_d of another data set under the same encoder, scaled to the trace of the real one
    shuffled   second moment of z - z_do with z_do of another image (see `evaluation.cells.partners`), scaled likewise

A placebo replaces only C_d. B (see `nuisance`) and its scale t, the trace of the original C_d, are unchanged. Selection
rules choose lambda (or the rank) and N for a placebo in the same way as for the original. Q depends only on the draw:
it is the same for every environment, fold, leave-one-out fit and seed. A further placebo needs a name in `PlaceboName`
(`benchmark/recipe/sets.py`) and a case in `placebos_of` (`benchmark/sweep/evaluate.py`).

If C_z is singular, `matched` uses only the part of C_d within the range of C_z. Q is then replaced by the orthogonal
matrix nearest to its part in that range, which is uniformly random too.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from benchmark.method.arrays import Array
from benchmark.method.subspace.basis import roots_of
from benchmark.method.subspace.moments import SourceMoments


@lru_cache(maxsize=2)  # all fits of one draw use the same matrix
def haar(dim: int, seed: int, draw: int) -> Array:
    """Return the read-only orthogonal matrix Q of a draw: uniformly random (Haar), shape (dim, dim)."""
    gaussian = np.random.default_rng([seed, draw]).standard_normal((dim, dim))
    q, r = np.linalg.qr(gaussian)
    q = np.asarray(q * np.where(r.diagonal() < 0, -1.0, 1.0))  # Q is uniform only if the diagonal of R is positive
    q.flags.writeable = False
    return q


@dataclass(frozen=True)
class _Drawn:
    """Base class of placebos with a random matrix Q."""

    seed: int  # seed of all draws
    draw: int  # number of the draw


@dataclass(frozen=True)
class Rotated(_Drawn):
    """The placebo Q C_d Q^T."""

    def __call__(self, c_d: Array, sources: SourceMoments) -> Array:
        """Return the placebo of C_d, shape (D, D)."""
        q = haar(sources.dim, self.seed, self.draw)
        return np.asarray(q @ c_d @ q.T)


@dataclass(frozen=True)
class Matched(_Drawn):
    """The placebo C_z^(1/2) Q (C_z^(-1/2) C_d C_z^(-1/2)) Q^T C_z^(1/2)."""

    def __call__(self, c_d: Array, sources: SourceMoments) -> Array:
        """Return the placebo of C_d, shape (D, D)."""
        roots, q = roots_of(sources), haar(sources.dim, self.seed, self.draw)
        within = roots.used.T @ q @ roots.used
        if roots.unused.shape[1]:
            left, _, right = np.linalg.svd(within)
            within = left @ right
        whitened = roots.used.T @ c_d @ roots.used / roots.roots / roots.roots[:, None]
        half = roots.used * roots.roots
        return np.asarray(half @ (within @ whitened @ within.T) @ half.T)


@dataclass(frozen=True, eq=False)  # compared by identity, so that each matrix has its own cache entries
class Borrowed:
    """The placebo C_d of another data set, scaled to the trace of the real C_d."""

    second_moment: Array  # C_d of the other data set, shape (D, D)

    def __call__(self, c_d: Array, sources: SourceMoments) -> Array:  # noqa: ARG002
        """Return the placebo of C_d, (D, D). ValueError: interventions on the other data set move nothing."""
        return _scaled(self.second_moment, c_d)


@dataclass(frozen=True)
class Shuffled:
    """The placebo C_d of pairs of different images, scaled to the trace of the real C_d."""

    kind: str  # kind under which the moments have the differences of these pairs

    def __call__(self, c_d: Array, sources: SourceMoments) -> Array:
        """Return the placebo of C_d, (D, D). ValueError: there are no pairs of different images."""
        return _scaled(sources.differences(self.kind).moment(), c_d)


def _scaled(placebo: Array, c_d: Array) -> Array:
    if not (trace := np.trace(placebo)) > 0:
        raise ValueError("The pairs of a placebo do not differ: it cannot be scaled to the trace of C_d.")
    return np.asarray(np.trace(c_d) / trace * placebo)
