"""The identity.

It has its own module because every row of results has the standard error of its difference from the identity. So after
a change of this module all rows are computed again.
"""

from typing import ClassVar

import numpy as np

from benchmark.method.subspace.basis import Basis, Projection
from benchmark.method.subspace.moments import SourceMoments


class Identity(Projection, label="Plain", role="plain", place=0):
    """The whole space, unchanged, for plain zero-shot prediction and plain probes."""

    plain_at_full_rank: ClassVar[bool] = True
    full_rank_only: ClassVar[bool] = True

    def fit(self, sources: SourceMoments) -> Basis:
        """Return the identity matrix of the embedding width."""
        return Basis(np.eye(sources.dim))
