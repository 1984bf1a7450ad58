"""The ordered basis that every projection estimates, whose first k columns are the projection of rank k.

The functions after the classes are linear algebra for several projections: spans, generalised eigenvectors, roots of
matrices.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

import numpy as np

from benchmark.common.registry import Component
from benchmark.method.arrays import Array
from benchmark.method.prompts import Names, Prompt
from benchmark.method.subspace.moments import SourceMoments

# Squared lengths below this share of the mean squared length of embeddings count as zero. The corresponding length,
# 1e-6, is above rounding of float32 embeddings and of sums, and below any variation of data.
NEGLIGIBLE = 1e-12
_BLOCK = 64  # largest number of reflections that LAPACK applies at a time, which determines its workspace


@dataclass(frozen=True)
class Basis:
    """The linear maps that a fitted projection applies to images and to texts: an ordered basis, or maps without ranks.

    Attributes:
        vectors: directions as columns, shape (D, D). The projection of rank k is `vectors[:, :k].T`. Directions are
            orthonormal, so rank D is a rotation. Only the directions of erasure (`leace`) are not orthonormal: with it,
            rank D gives embeddings after erasure. For maps without ranks, such as shrinkage, this is the transpose of
            the matrix that multiplies images.
        spectrum: values that order the directions, shape (D,); None (default) if there are none.
        text_vectors: directions for texts, shape (D, D); None (default) if they equal `vectors`.
        offset: vector to subtract from images before the map, shape (D,); None (default): nothing.
        text_share: share of the mean class text to subtract from each class text before the map, default 0.0.
        by_environment: name of an environment -> map of its images, for test-time adaptation. Empty by default.
    """

    vectors: Array
    spectrum: Array | None = None
    text_vectors: Array | None = field(default=None, repr=False)
    offset: Array | None = field(default=None, repr=False)
    text_share: float = field(default=0.0, repr=False)
    by_environment: Mapping[str, "Basis"] = field(default_factory=dict, repr=False)

    @property
    def texts(self) -> Array:
        """Matrix that multiplies texts, shape (D, D)."""
        return self.vectors if self.text_vectors is None else self.text_vectors

    @property
    def is_linear(self) -> bool:
        """Whether images are mapped by one matrix and texts by one matrix. Only such maps can be exported."""
        return self.offset is None and not self.text_share and not self.by_environment

    @cached_property
    def is_rotation(self) -> bool:
        """Whether the basis is orthonormal and the same for images and texts, so that rank D only rotates."""
        gram = self.vectors.T @ self.vectors
        return self.is_linear and self.text_vectors is None and bool(np.abs(gram - np.eye(len(gram))).max() < 1e-9)

    def of_images(self, z: Array) -> Array:
        """Return the coordinates of the image embeddings `z`. Input and result have shape (n, D)."""
        return np.asarray((z if self.offset is None else z - self.offset) @ self.vectors)

    def of_texts(self, text: Array) -> Array:
        """Return the coordinates of the texts of all classes. Input and result have shape (n_classes, D)."""
        offset = self.text_offset(text)
        return np.asarray((text if offset is None else text - offset) @ self.texts)

    def sums(self, t: Array, ranks: Sequence[int]) -> Array:
        """Return sum_{i <= k} t_ci v_i for every rank k, shape (n_classes, ranks, D).

        `t` has the coordinates of the texts, shape (n_classes, D), and v_i is direction i. The dot products of these
        sums with images are the scores.
        """
        sums = np.empty((len(t), len(ranks), len(self.vectors)))
        for i, (a, b) in enumerate(zip([0, *ranks], ranks, strict=False)):
            sums[:, i] = t[:, a:b] @ self.vectors[:, a:b].T
            sums[:, i] += sums[:, i - 1] if i else 0.0
        return sums

    def rounding_bounds(self, t: Array, ranks: Sequence[int]) -> Array:
        """Return an upper bound of sum_{i <= k} |t_ci| |v_i| for every rank k, shape (ranks, n_classes).

        Bounds of rounding errors use it. For `t` and v_i see `sums`.
        """
        sizes = np.cumsum(np.abs(t) * np.linalg.norm(self.vectors, axis=0), axis=1)
        return np.asarray(sizes[:, np.asarray(ranks) - 1].T)

    def matrices(self) -> tuple[Array, ...]:
        """Return the matrices that multiply images and texts."""
        return self.vectors, self.texts

    def text_offset(self, text: Array) -> Array | None:
        """Return the vector to subtract from each class text, shape (D,); None: nothing."""
        return np.asarray(self.text_share * text.mean(axis=0)) if self.text_share else None

    def reversed(self) -> "Basis":
        """Return a basis with directions and spectrum in reverse order; its other fields have their defaults."""
        spectrum = None if self.spectrum is None else np.ascontiguousarray(self.spectrum[::-1])
        return Basis(np.ascontiguousarray(self.vectors[:, ::-1]), spectrum)

    def energy(self, second_moment: Array) -> Array:
        """Return v^T C v for every direction, shape (D,), for a second moment C of shape (D, D).

        For C = C_z this is the energy of a direction, for C = C_d the displacement by interventions along it. Let E_k
        be the sum of the energies of the first k directions, and B_k the sum of their displacements. Then the terms of
        the objective at rank k are trace(C_z) - E_k and lambda B_k.
        """
        return np.asarray(np.einsum("dk,dk->k", self.vectors, second_moment @ self.vectors))


class EigenBasis(Basis):
    """The eigenvectors of a symmetric matrix as V = Q W, of which only the needed columns are computed.

    Q is the product of the Householder reflections that make the matrix tridiagonal, and the columns of W are the
    eigenvectors of that tridiagonal matrix. A product of a few rows with Q is cheap; V takes a third of the time of the
    decomposition.
    """

    _reflections: Array | None  # vectors of the reflections, shape (D - 1, D - 1), see LAPACK's ?sytrd; None for Q = I
    _scales: Array  # factors of the reflections, shape (D - 1,)
    _w: Array  # W, shape (D, D), in the precision of the decomposition

    def __init__(self, reflections: Array | None, scales: Array, w: Array, spectrum: Array) -> None:
        known: dict[str, Any] = {"_reflections": reflections, "_scales": scales, "_w": w, "spectrum": spectrum}
        self.__dict__.update(known, by_environment={})  # sets attributes of a frozen class

    @cached_property
    def vectors(self) -> Array:
        """See `Basis`."""
        return np.ascontiguousarray(self._times_q(self._w.T, "T").T, dtype=np.float64)

    @property
    def is_rotation(self) -> bool:
        """See `Basis`. It is one by construction, in single precision up to rounding."""
        return True

    def of_texts(self, text: Array) -> Array:
        """See `Basis.of_texts`."""
        return np.asarray(self._times_q(text, "N") @ self._w, dtype=np.float64)

    def sums(self, t: Array, ranks: Sequence[int]) -> Array:
        """See `Basis.sums`. With fewer sums than directions, directions that are not known yet are not computed."""
        if "vectors" in vars(self) or len(t) * len(ranks) >= t.shape[1]:
            return super().sums(t, ranks)
        within = Basis(self._w).sums(t, ranks)
        return np.asarray(self._times_q(within.reshape(-1, t.shape[1]), "T").reshape(within.shape), dtype=np.float64)

    def rounding_bounds(self, t: Array, ranks: Sequence[int]) -> Array:
        """See `Basis.rounding_bounds`. In single precision lengths are 1 up to 1e-5."""
        return np.asarray(1.00001 * np.cumsum(np.abs(t), axis=1)[:, np.asarray(ranks) - 1].T)

    def matrices(self) -> tuple[Array, ...]:
        """See `Basis.matrices`. W is returned instead of V: it is finite if V is."""
        return self._w, self._w

    def reversed(self) -> "EigenBasis":
        """See `Basis.reversed`."""
        assert self.spectrum is not None
        return EigenBasis(
            self._reflections, self._scales, *(np.flip(a, axis=-1).copy() for a in (self._w, self.spectrum))
        )

    def _times_q(self, rows: Array, transposed: Literal["N", "T"]) -> Array:
        """Return `rows`, shape (n, D), times Q or its transpose."""
        turned = np.array(rows, dtype=self._w.dtype, order="F")
        if self._reflections is not None:
            from scipy.linalg import get_lapack_funcs  # plans need no scipy

            (ormqr,) = get_lapack_funcs(("ormqr",), (turned,))
            work = _BLOCK * (len(rows) + _BLOCK + 1)
            turned[:, 1:], *_ = ormqr("R", transposed, self._reflections, self._scales, turned[:, 1:], work)
        return turned


class Projection(Component):
    """Base class of projections, which estimate a basis from the moments of the source environments.

    To add one, derive from this class in a separate file, write `fit`, and give the class a name in `PROJECTIONS` (or
    name it `module:Class` in the recipe). A projection with a consistency weight has the field `lambda_`, a random one
    the field `seed`. The sweep sets these fields. Keyword arguments in the class statement define how reports show it,
    see `benchmark.common.registry.Presentation`. A new class attribute must also be named in docs/adding.md;
    tests/docs/test_adding.py checks this.

    Example:
        >>> import numpy as np
        >>> from benchmark.method.subspace import Basis, Moments, Projection, SourceMoments
        >>> class ByVariance(Projection):
        ...     "Coordinates by decreasing second moment."
        ...
        ...     def fit(self, sources: SourceMoments) -> Basis:
        ...         energies = sources.c_z().diagonal()
        ...         order = energies.argsort()[::-1]
        ...         return Basis(np.eye(sources.dim)[:, order], energies[order])
        >>> sources = SourceMoments({"photo": Moments.of(np.array([[1.0, 2.0], [3.0, 4.0]]))})
        >>> ByVariance().fit(sources)
        Basis(vectors=array([[0., 1.],
               [1., 0.]]), spectrum=array([10.,  5.]))
    """

    swept: ClassVar[tuple[str, ...]] = ("lambda_", "seed")  # fields set by a sweep, not in recipes, labels and hashes
    uses_interventions: ClassVar[bool] = False
    # Whether interventions only determine a scale, so that one intervention set is enough.
    uses_scale_only: ClassVar[bool] = False
    uses_products: ClassVar[bool] = False  # whether it uses `SourceMoments.products`
    uses_labels: ClassVar[bool] = False  # whether it uses class labels of images
    looks_at_target_images: ClassVar[bool] = False  # whether it uses `sources.targets`, which tables mark
    full_rank_only: ClassVar[bool] = False  # whether its only rank is D
    plain_at_full_rank: ClassVar[bool] = False  # whether rank D is a rotation, hence plain prediction
    plain_at_lambda_0: ClassVar[bool] = False  # whether lambda 0 leaves images and texts unchanged

    @property
    def uses_lambda(self) -> bool:
        """Whether it has a weight `lambda_` that the sweep sets."""
        return "lambda_" in type(self).model_fields

    @property
    def own_lambdas(self) -> tuple[float, ...] | None:
        """The projection's own grid of lambda (its field `lambdas`); None: the sweep's grid is used."""
        return getattr(self, "lambdas", None)

    @property
    def settings(self) -> "tuple[Projection, ...]":
        """The projections, each with one value of every grid, among which a selection rule chooses (besides lambda)."""
        return (self,)

    @property
    def min_sources(self) -> int:
        """Minimum number of source environments: 1 by default, 2 if it uses differences between environments."""
        return 1

    @property
    def takes_placebo(self) -> bool:
        """Whether it can be fitted to placebos of C_d, because it uses directions of C_d and not only its scale."""
        return False

    @property
    def params(self) -> dict[str, Any]:
        """All parameters, including defaults, except those that a sweep sets."""
        return {name: value for name, value in super().params.items() if name not in (*self.swept, "lambdas")}

    def at(self, *, lambda_: float | None = None, seed: int | None = None) -> Self:
        """Return this projection with other values of fields that a sweep sets. Values for missing fields are ignored.

        Args:
            lambda_: weight of the consistency under interventions, >= 0; None: unchanged.
            seed: random seed, >= 0; None: unchanged.

        Raises:
            ValueError: a value is negative or not finite.

        Example:
            >>> from benchmark.method.subspace import PROJECTIONS
            >>> icm = PROJECTIONS.create({"name": "icm", "order": "released"}).at(lambda_=3.0, seed=7)
            >>> icm.lambda_, icm.label  # nothing is drawn, so there is no seed; recipes and labels know no lambda
            (3.0, 'icm(order=released)')
            >>> PROJECTIONS.create("random").at(lambda_=3.0, seed=7).seed
            7
        """
        given = {"lambda_": lambda_, "seed": seed}
        values = {name: value for name, value in given.items() if value is not None and name in type(self).model_fields}
        return type(self)(**{**dict(self), **values})

    @property
    def uses_prompts(self) -> bool:
        """Whether it uses prompts."""
        return type(self).prompts is not Projection.prompts

    def without_interventions(self) -> "Projection | None":
        """Return the projection to use if there are no interventional pairs.

        This is the projection itself, a reduced one, or None if the projection cannot do without pairs.
        """
        return None if self.uses_interventions and not self.uses_scale_only else self

    def prompts(self, names: Names) -> tuple[Prompt, ...]:
        """Return the prompts that `fit` uses, the same for all settings. Default: none.

        Args:
            names: classes, environments and templates to build prompts from.
        """
        del names
        return ()

    @property
    def order_name(self) -> str | None:
        """The order of the eigenvectors if it is a parameter, otherwise None."""
        return getattr(self, "order", None)

    @abstractmethod
    def fit(self, sources: SourceMoments) -> Basis:
        """Return the basis.

        Args:
            sources: moments of the training images of each source environment.

        Raises:
            ValueError: the moments lack what the projection needs.
        """


def eigenbasis(matrix: Array, largest_first: bool, single: bool = False) -> EigenBasis:
    """Return the eigenvectors of a symmetric matrix, shape (D, D), in order of their eigenvalues.

    Eigenvalues are ascending, or descending with `largest_first`. Signs are fixed: the first entry of each vector is
    not negative. So equal input gives equal output.

    Args:
        matrix: the symmetric matrix.
        largest_first: whether eigenvalues descend.
        single: whether to compute in single precision, in half the time. Default false.

    Raises:
        LinAlgError: a value is NaN or infinite, or the algorithm did not converge.
    """
    from scipy.linalg import get_lapack_funcs  # plans need no scipy

    if len(matrix) < 2:  # which LAPACK's wrappers do not take
        return EigenBasis(None, np.zeros(0), np.eye(len(matrix)), matrix.diagonal())
    scale = float(np.abs(matrix).max()) or 1.0  # so that nothing overflows in single precision
    scaled = (matrix.T / scale).astype(np.float32 if single else np.float64, order="F", copy=False)
    sytrd, stevd = get_lapack_funcs(("sytrd", "stevd"), (scaled,))
    reduced, diagonal, beside, scales, _ = sytrd(scaled, lower=1, lwork=_BLOCK * len(matrix), overwrite_a=1)
    eigenvalues, w, failed = stevd(diagonal, beside)
    if failed or not np.isfinite(scale):
        raise np.linalg.LinAlgError("The eigenvectors of a matrix cannot be computed: it is not finite.")
    w *= np.where(w[0] < 0, -1, 1).astype(w.dtype)  # reflections leave the first entries as they are
    made = EigenBasis(np.asfortranarray(reduced[1:, :-1]), scales, w, scale * eigenvalues.astype(np.float64))
    return made.reversed() if largest_first else made


def with_fixed_signs(vectors: Array) -> Array:
    """Return `vectors` with column signs such that no first entry is negative."""
    return np.ascontiguousarray(vectors * np.where(vectors[:1] < 0, -1.0, 1.0))


def ordered_orthonormal(vectors: Array) -> Array:
    """Return an orthonormal basis, shape (D, k), whose first j columns span the first j of `vectors` for every j.

    It is the Q of the QR decomposition of `vectors`, with fixed signs. The columns of `vectors`, shape (D, k), must be
    linearly independent.
    """
    return with_fixed_signs(np.linalg.qr(vectors)[0])


def complement(subspace: Array) -> Array:
    """Return an orthonormal basis, shape (D, D - k), of the orthogonal complement of `subspace`, shape (D, k).

    For k = 0 this is the identity matrix.
    """
    dim, k = subspace.shape
    return np.asarray(np.linalg.qr(subspace, mode="complete")[0][:, k:]) if k else np.eye(dim)


def by_energy(subspace: Array, second_moment: Array) -> tuple[Array, Array]:
    """Return the principal directions of a second moment within a subspace, shape (D, k), and their energies, (k,).

    The subspace has orthonormal columns, shape (D, k); k may be 0. Energies are decreasing.
    """
    if not subspace.shape[1]:
        return subspace, np.zeros(0)
    within = eigenbasis(subspace.T @ second_moment @ subspace, largest_first=True)
    assert within.spectrum is not None
    return with_fixed_signs(subspace @ within.vectors), within.spectrum


def span(columns: Array, squared_length: float) -> Array:
    """Return an orthonormal basis, shape (D, r), of the column space of a matrix of shape (D, m).

    The numerical rank r is the number of singular values whose square is not negligible against `squared_length`.
    """
    u, s, _ = np.linalg.svd(columns, full_matrices=False)
    return np.asarray(u[:, s**2 > NEGLIGIBLE * squared_length])


def regularized(matrix: Array, regularization: float) -> Array:
    """Return S + regularization * trace(S) / D * I, with S the matrix, shape (D, D)."""
    dim = len(matrix)
    return np.asarray(matrix + regularization * np.trace(matrix) / dim * np.eye(dim))


def generalized_eigenvectors(a: Array, b: Array) -> tuple[Array, Array]:
    """Solve A v = w B v. Return the ratios w = v^T A v / v^T B v, decreasing, and the vectors v as columns.

    A is symmetric and B positive definite, both of shape (D, D). The vectors are orthonormal with respect to B.
    """
    root = np.linalg.cholesky(b)  # B = L L^T, so u = L^T v solves the plain problem L^-1 A L^-T u = w u
    whitened = eigenbasis(np.linalg.solve(root, np.linalg.solve(root, a).T), largest_first=True)
    assert whitened.spectrum is not None
    return whitened.spectrum, np.asarray(np.linalg.solve(root.T, whitened.vectors))


def lost_by_rank(v: Array, t: Array, c: Array) -> Array:
    """Return tr((I - G)^T C (I - G)) for G = V_k T_k^T at every rank k, shape (D,), for any V and T.

    It is tr C - 2 tr(G^T C) + tr(G^T C G). The last term is the sum over the first k rows and columns of the
    elementwise product (V^T C V) * (T^T T). So one cumulative sum gives all ranks.
    """
    c_v = c @ v
    corners = np.cumsum(np.cumsum((v.T @ c_v) * (t.T @ t), axis=0), axis=1).diagonal()
    return np.asarray(np.trace(c) - 2 * np.cumsum((t * c_v).sum(axis=0)) + corners)


@dataclass(frozen=True)
class Roots:
    """The square root of a second moment C of rank r, by eigenvectors: C^(1/2) = used diag(roots) used^T."""

    used: Array  # eigenvectors with nonzero eigenvalue, shape (D, r)
    roots: Array  # square roots of these eigenvalues, shape (r,), ascending
    unused: Array  # a basis of the null space of C, shape (D, D - r)

    @classmethod
    def of(cls, c: Array) -> Self:
        """Return the roots of a symmetric matrix without negative eigenvalues, shape (D, D)."""
        return cls.from_eigenbasis(eigenbasis(c, largest_first=False))

    @classmethod
    def from_eigenbasis(cls, ascending: Basis) -> Self:
        """Return the roots of the matrix with these eigenvectors, in ascending order. The vectors are not copied."""
        energies, u = ascending.spectrum, ascending.vectors
        assert energies is not None
        first = int((energies <= NEGLIGIBLE * energies.sum()).sum())
        return cls(u[:, first:], np.sqrt(energies[first:]), u[:, :first])


def roots_of(sources: SourceMoments) -> Roots:
    """Return the roots of C_z over all source images; cached, so that all nuisances and placebos share them."""
    return sources.cached_last("roots", None, lambda: Roots.from_eigenbasis(c_z_eigenbasis(sources)))


def c_z_eigenbasis(sources: SourceMoments, centered: bool = False) -> Basis:
    """Return the eigenvectors of C_z by ascending eigenvalue; cached."""

    def made() -> Basis:
        found = eigenbasis(sources.c_z(centered), largest_first=False)
        return Basis(found.vectors, found.spectrum)  # roots need all vectors, so the factors are not kept

    return sources.cached((("eigenbasis", centered), None), made)
