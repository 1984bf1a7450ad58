"""The invariant projection as a scikit-learn estimator, for use outside of this suite."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from benchmark.method.arrays import Array
from benchmark.method.subspace.invariant import Order, invariant_basis
from benchmark.method.subspace.moments import Moments


class InvariantProjection(TransformerMixin, BaseEstimator):
    """The invariant projection as a scikit-learn transformer.

    Args:
        lambda_: weight of the consistency term, >= 0; 0 is uncentred PCA. Default 1.0.
        rank: number k of directions kept; None (default) keeps all D.
        order: `largest` (default), the minimiser, or `released`, the order of the authors' code.
        centered: whether C_z is the covariance of z. Default False, as in the paper.

    Attributes:
        components_: A_inv, shape (k, D), orthonormal rows.
        eigenvalues_: eigenvalues of M = C_z - lambda C_d, shape (k,), in the order of the rows of `components_`.
        n_features_in_: embedding width D.

    Example:
        The intervention moves the third coordinate, so it is dropped although the images vary most along it:

        >>> import numpy as np
        >>> from benchmark.method.subspace import InvariantProjection
        >>> Z = np.diag([3.0, 6.0, 9.0])
        >>> Z_do = Z + [0.0, 0.0, 4.0]
        >>> InvariantProjection(lambda_=2.0, rank=2).fit(Z, Z_do).transform(Z)
        array([[0., 3.],
               [6., 0.],
               [0., 0.]])
        >>> InvariantProjection(lambda_=0.0, rank=1).fit(Z).components_
        array([[0., 0., 1.]])
    """

    def __init__(
        self,
        lambda_: float = 1.0,
        rank: int | None = None,
        order: Order = "largest",
        centered: bool = False,
    ) -> None:
        self.lambda_, self.rank, self.order, self.centered = lambda_, rank, order, centered

    def fit(self, X: NDArray[np.floating], y: Any = None, *, Z_do: Any = None) -> "InvariantProjection":
        """Estimate the projection.

        Args:
            X: embeddings z, shape (n, D).
            y: embeddings z^do of the intervened images in the same order, shape (n, D). Not needed, and not
                looked at, with lambda_ = 0.
            Z_do: another name for `y`, shape (n, D); it counts where both are given.

        Raises:
            ValueError: NaN, mismatched shapes, rank above D, negative lambda, an unknown order, or no pairs
                although lambda_ > 0.
        """
        X = validate_data(self, X, dtype=np.float64)
        pairs = Z_do if Z_do is not None else y
        if pairs is None or self.lambda_ == 0:
            return self._fit_moments(Moments.of(X))
        return self._fit_moments(Moments.of(X, {"pairs": np.asarray(pairs)}))

    @classmethod
    def from_moments(cls, moments: Moments, **params: Any) -> "InvariantProjection":
        """Return the projection estimated from moments.

        Args:
            moments: sums over the images and over their differences, all kinds of which count alike.
            params: the parameters of the class, by name.

        Raises:
            ValueError: as `fit` does.
        """
        return cls(**params)._fit_moments(moments)

    def _fit_moments(self, moments: Moments) -> "InvariantProjection":
        rank = moments.dim if self.rank is None else self.rank
        if not 1 <= rank <= moments.dim:
            raise ValueError(f"rank={rank} is not between 1 and D={moments.dim}.")
        if self.lambda_ < 0:
            raise ValueError(f"lambda_={self.lambda_} is negative.")
        if self.order not in ("largest", "released"):
            raise ValueError(f"order={self.order!r} is neither 'largest' nor 'released'.")
        basis = invariant_basis(moments, self.lambda_, self.order, self.centered)
        assert basis.spectrum is not None
        self.n_features_in_ = moments.dim
        self.components_ = np.ascontiguousarray(basis.vectors[:, :rank].T)
        self.eigenvalues_ = basis.spectrum[:rank]
        return self

    def transform(self, X: NDArray[np.floating]) -> Array:
        """Return A_inv z for every row of X, shape (n, k); it works for image and text embeddings alike.

        Args:
            X: embeddings z, shape (n, D).
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        projected: Array = X @ self.components_.T
        return projected
