"""Nuisance attribute projection: removal of the leading directions of the nuisance.

    P_j = I - U_j U_j^T,    U_j the j leading eigenvectors of N

Only the nuisance N decides which directions are removed. Truncation weighs N against the energy of embeddings, and
shrinkage keeps a part of every direction. The method comes from speaker verification (Solomonoff, Campbell and Boardman
2005), with the covariance between recording channels as N. Here N is C_d, B or both, see
`benchmark.method.subspace.nuisance`.
"""

from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from benchmark.method.subspace.basis import NEGLIGIBLE, Basis, Projection, eigenbasis
from benchmark.method.subspace.moments import SourceMoments
from benchmark.method.subspace.nuisance import NuisanceCandidates, Nuisances, cached_for, nuisance

Count = Annotated[int, Field(ge=0)]
REMOVED = (0, 1, 2, 4, 8, 16, 32, 64)


class NAP(NuisanceCandidates, label="Nuisance attribute projection", role="rival", place=7):
    """P = I - U U^T on images and texts, U the leading eigenvectors of N; a rule chooses their number and N.

    Directions without nuisance are never removed, and at least one direction stays. So with E source environments,
    `environments` removes at most E - 1 directions.

    Fields:
        removed: number of directions to remove, or several candidates; 0 removes nothing.
        nuisance: `interventions`, `environments` or `both`, or several candidates. Default: all three.

    Example:
        >>> from benchmark.method.subspace import PROJECTIONS
        >>> nap = PROJECTIONS.create({"name": "nap", "removed": [0, 4], "nuisance": "both"})
        >>> [setting.removed for setting in nap.settings]
        [0, 4]
    """

    full_rank_only: ClassVar[bool] = True
    takes_placebo: ClassVar[bool] = False  # only truncation and shrinkage have placebos, not their rivals
    removed: Count | Annotated[tuple[Count, ...], Field(min_length=1)] = REMOVED
    nuisance: Nuisances = ("interventions", "environments", "both")

    @property
    def settings(self) -> tuple[Projection, ...]:
        """See `Projection.settings`: one for each number of directions and each N; smaller numbers come first."""
        given: Any = self.removed
        numbers = given if isinstance(given, tuple) else (given,)
        return tuple(
            type(self)(**{**dict(self), "removed": number, "nuisance": name})
            for number in numbers
            for name in self.candidates
        )

    def fit(self, sources: SourceMoments) -> Basis:
        """Return the orthogonal projection that removes the leading directions of the nuisance."""
        if isinstance(self.removed, tuple):
            raise ValueError("removed: these numbers are candidates of a rule; fit one of `settings`.")
        name = self.nuisance_name
        of_n = cached_for(sources, "nap", name, lambda: eigenbasis(nuisance(sources, name), largest_first=True))
        assert of_n.spectrum is not None
        with_nuisance = int((of_n.spectrum > NEGLIGIBLE * of_n.spectrum.sum()).sum())
        top = of_n.vectors[:, : min(self.removed, with_nuisance, sources.dim - 1)]
        return Basis(np.eye(sources.dim) - top @ top.T)
