"""The invariant projection and shrinkage as scikit-learn estimators, for users outside this package."""

from abc import abstractmethod
from typing import Any, Self, get_args

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from benchmark.method.arrays import Array, Floats, Ints
from benchmark.method.subspace.basis import Basis
from benchmark.method.subspace.invariant import Order, invariant_basis
from benchmark.method.subspace.moments import Moments, SourceMoments
from benchmark.method.subspace.nuisance import Nuisance
from benchmark.method.subspace.shrinkage import Sides, shrinkage_basis


class _OfMoments(TransformerMixin, BaseEstimator):
    """Base class of both estimators, which multiply embeddings by fitted matrices."""

    @classmethod
    def from_moments(cls, moments: Any, **params: Any) -> Self:
        """Return the estimator fitted to moments.

        Args:
            moments: `Moments` for the invariant projection, with equal weight of all kinds of intervention.
                `SourceMoments` for shrinkage, whose intervention set defines C_d.
            params: the parameters of the class, by name.

        Raises:
            ValueError: as `fit` does.
        """
        return cls(**params)._fit_moments(moments)

    @abstractmethod
    def _fit_moments(self, moments: Any) -> Self: ...

    def _mapped(self, X: Floats, components: str) -> Array:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        mapped: Array = X @ getattr(self, components).T
        return mapped

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "components_")  # otherwise scikit-learn would take `lambda_` for a fitted attribute


class InvariantProjection(_OfMoments):
    """The invariant projection as a scikit-learn transformer.

    Args:
        lambda_: weight of the consistency term, >= 0; 0 is uncentred PCA. Default 1.0.
        rank: number k of directions kept; None (default) keeps all D.
        order: which eigenvectors come first. `largest` (default): those of the largest eigenvalues, which minimise the
            objective. `released`: the order of the authors' code.
        centered: whether C_z is the covariance of z. Default False, as in the paper.

    Attributes:
        components_: A_inv, shape (k, D), orthonormal rows.
        eigenvalues_: eigenvalues of M = C_z - lambda C_d, shape (k,), in the order of the rows of `components_`.
        n_features_in_: embedding width D.

    Example:
        The intervention moves the third coordinate. So it is dropped, although images vary most along it:

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
        self, lambda_: float = 1.0, rank: int | None = None, order: Order = "largest", centered: bool = False
    ) -> None:
        self.lambda_, self.rank, self.order, self.centered = lambda_, rank, order, centered

    def fit(self, X: Floats, y: Any = None, *, Z_do: Any = None) -> "InvariantProjection":
        """Estimate the projection.

        Args:
            X: embeddings z, shape (n, D).
            y: embeddings z^do of the intervened images in the same order, shape (n, D). Ignored if lambda_ is 0.
            Z_do: another name for `y`, shape (n, D). If both are given, `Z_do` is used.

        Raises:
            ValueError: NaN, mismatched shapes, rank above D, negative lambda, an unknown order, or no pairs
                although lambda_ > 0.
        """
        X = validate_data(self, X, dtype=np.float64)
        pairs = Z_do if Z_do is not None else y
        if pairs is None or self.lambda_ == 0:
            return self._fit_moments(Moments.of(X))
        return self._fit_moments(Moments.of(X, {"pairs": np.asarray(pairs)}))

    def _fit_moments(self, moments: Moments) -> Self:
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

    def transform(self, X: Floats) -> Array:
        """Return A_inv z for every row z of X, shape (n, k). X may hold image or text embeddings.

        Args:
            X: embeddings z, shape (n, D).
        """
        return self._mapped(X, "components_")


_NUISANCES = get_args(Nuisance)


class Shrinkage(_OfMoments):
    """Shrinkage as a scikit-learn transformer: F = C_z (C_z + lambda N)^-1, with N the nuisance.

    Every direction is shrunk, so there is no rank. See `benchmark.method.subspace.shrinkage` for the formula, and
    `benchmark.method.subspace.nuisance` for N.

    Args:
        lambda_: strength, >= 0, without a unit; 0 changes nothing. Default 10.0, as for the projection `fixed`.
        nuisance: which N: `both` (default; needs pairs and two environments), `interventions` (needs pairs),
            `environments` or `isotropic_environments` (need two environments), `isotropic`, or `within_classes` (needs
            classes).
        sides: what F is applied to: `symmetric` (default: the root of F on images and texts), `images` or `texts`.

    Attributes:
        components_: matrix that multiplies images, shape (D, D): F^(1/2), F or the identity.
        text_components_: matrix that multiplies texts, shape (D, D); equal to `components_` if `sides` is `symmetric`.
        n_features_in_: embedding width D.

    Example:
        The intervention moves the third coordinate. F multiplies it by 27 / (27 + 2 * 16). Images and texts are each
        multiplied by the root of this factor:

        >>> import numpy as np
        >>> from benchmark.method.subspace import Shrinkage
        >>> Z = np.diag([3.0, 6.0, 9.0])
        >>> shrinkage = Shrinkage(lambda_=2.0, nuisance="interventions").fit(Z, Z_do=Z + [0.0, 0.0, 4.0])
        >>> shrinkage.transform(Z).round(2)
        array([[3.  , 0.  , 0.  ],
               [0.  , 6.  , 0.  ],
               [0.  , 0.  , 6.09]])
        >>> shrinkage.transform_texts([[0.0, 0.0, 1.0]]).round(2)
        array([[0.  , 0.  , 0.68]])
    """

    def __init__(self, lambda_: float = 10.0, nuisance: Nuisance = "both", sides: Sides = "symmetric") -> None:
        self.lambda_, self.nuisance, self.sides = lambda_, nuisance, sides

    def fit(self, X: Floats, y: Any = None, *, Z_do: Any = None, environments: Any = None) -> "Shrinkage":
        """Estimate the maps.

        Args:
            X: embeddings z of images, shape (n, D).
            y: class of each image, shape (n,), of any type that sorts. Only used by `within_classes`.
            Z_do: embeddings z^do of the intervened images in the same order, shape (n, D). Default: no interventions.
            environments: environment of each image, shape (n,), of any type that sorts. Default: all in one
                environment.

        Raises:
            ValueError: NaN, mismatched shapes, negative lambda, an unknown nuisance or side, or missing input for N.
        """
        X = validate_data(self, X, dtype=np.float64)
        names, environment = _numbered(environments, len(X), "environments")
        classes, labels = _numbered(y if self.nuisance == "within_classes" else None, len(X), "y")
        if self.lambda_ and self.nuisance == "within_classes" and y is None:
            raise ValueError("within_classes needs the class of each image: give y.")
        pairs = None if Z_do is None else np.asarray(Z_do, dtype=np.float64)
        if pairs is not None and pairs.shape != X.shape:
            raise ValueError(f"Z_do has shape {pairs.shape}, Z has {X.shape}: pairs need the same shape.")
        parts = {}
        for e, name in enumerate(names):
            rows = environment == e
            views = None if pairs is None else {"pairs": pairs[rows]}
            parts[str(name)] = Moments.of(X[rows], views, labels[rows], len(classes))
        return self._fit_moments(SourceMoments(parts))

    def _fit_moments(self, sources: SourceMoments) -> Self:
        if not self.lambda_ >= 0:
            raise ValueError(f"lambda_={self.lambda_} is negative.")
        for name, given, known in (("nuisance", self.nuisance, _NUISANCES), ("sides", self.sides, get_args(Sides))):
            if given not in known:
                raise ValueError(f"{name}={given!r} is none of {', '.join(known)}.")
        plain = Basis(np.eye(sources.dim))  # lambda 0 needs no N, so its input may be missing
        basis = shrinkage_basis(sources, self.lambda_, self.nuisance, self.sides) if self.lambda_ else plain
        self.n_features_in_ = sources.dim
        self.components_ = np.ascontiguousarray(basis.vectors.T)
        self.text_components_ = np.ascontiguousarray(basis.texts.T)
        return self

    def transform(self, X: Floats) -> Array:
        """Return mapped embeddings of images, shape (n, D).

        Args:
            X: embeddings z of images, shape (n, D).
        """
        return self._mapped(X, "components_")

    def transform_texts(self, T: Floats) -> Array:
        """Return mapped embeddings of texts, shape (n, D).

        Args:
            T: embeddings of texts, shape (n, D).
        """
        return self._mapped(T, "text_components_")


def _numbered(given: Any, n: int, name: str) -> tuple[NDArray[np.generic], Ints]:
    """Return the distinct labels, and the index of each image's label. If none are given, all images share one."""
    if given is None:
        return np.zeros(1), np.zeros(n, dtype=np.int64)
    labels = np.asarray(given)
    if labels.shape != (n,):
        raise ValueError(f"{name} has shape {labels.shape}, and there are {n} images: each needs one.")
    different, numbers = np.unique(labels, return_inverse=True)
    return different, numbers.astype(np.int64)
