"""A projection from a function, for tests."""

from collections.abc import Callable
from typing import Any

from benchmark.method.subspace import Basis, Projection, SourceMoments


class Wrapped(Projection):
    """A projection whose `fit` is any function of the moments."""

    def __init__(self, fit: Callable[[SourceMoments], Basis], **fields: Any) -> None:
        super().__init__(**fields)
        object.__setattr__(self, "_fit", fit)

    def fit(self, sources: SourceMoments) -> Basis:
        """See `Projection.fit`."""
        basis: Basis = self._fit(sources)  # type: ignore[attr-defined]
        return basis
