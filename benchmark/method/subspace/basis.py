"""The ordered basis that every projection estimates. Its first k columns are the projection of rank k."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np

from benchmark.common.registry import Component
from benchmark.method.arrays import Array
from benchmark.method.prompts import Names, Prompt
from benchmark.method.subspace.moments import SourceMoments


@dataclass(frozen=True)
class Basis:
    """A map of images and one of texts: an ordered basis of the embedding space, or a map without ranks.

    Attributes:
        vectors: directions as columns, shape (D, D); A_inv of rank k is `vectors[:, :k].T`. Orthonormal, so that rank D
            is a rotation; erasure (`leace`) is oblique, and its rank D is the erased space. For maps without ranks,
            such as shrinkage, the transpose of the matrix that multiplies images.
        spectrum: values that order the directions, shape (D,), or None without such values.
        text_vectors: the map of texts, shape (D, D); None (default) if it is `vectors`.
        offset: vector subtracted from images before the map, shape (D,); None (default) for none.
        text_share: share of the mean class text that is subtracted from each class text before the map, default 0.0.
        by_environment: name of an environment -> its own map of images, for test-time adaptation. Empty by default.
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
        """Whether images and texts are mapped by one matrix each, which can be exported."""
        return self.offset is None and not self.text_share and not self.by_environment

    @cached_property
    def is_rotation(self) -> bool:
        """Whether the basis is orthonormal for images and texts: at rank D only coordinates change."""
        gram = self.vectors.T @ self.vectors
        return self.is_linear and self.text_vectors is None and bool(np.abs(gram - np.eye(len(gram))).max() < 1e-9)

    def of_images(self, z: Array) -> Array:
        """Return the coordinates of image embeddings, both of shape (n, D)."""
        return np.asarray((z if self.offset is None else z - self.offset) @ self.vectors)

    def of_texts(self, text: Array) -> Array:
        """Return the coordinates of the texts of all classes, both of shape (n_classes, D)."""
        offset = self.text_offset(text)
        return np.asarray((text if offset is None else text - offset) @ self.texts)

    def to_image_space(self, t: Array) -> Array:
        """Return t V^T, whose dot products with images are scores, for texts t in coordinates, (n_classes, D)."""
        return np.asarray(t @ self.vectors.T)

    def rounding_bounds(self, t: Array) -> Array:
        """Return an upper bound of sum_i |t_i| |v_i| for texts t in coordinates, (n_classes,), for rounding errors."""
        return np.asarray(np.abs(t) @ np.linalg.norm(self.vectors, axis=0))

    def matrices(self) -> tuple[Array, ...]:
        """Return the matrices of the two maps."""
        return self.vectors, self.texts

    def text_offset(self, text: Array) -> Array | None:
        """Return the vector subtracted from each class text, shape (D,); None for none."""
        return np.asarray(self.text_share * text.mean(axis=0)) if self.text_share else None

    def reversed(self) -> "Basis":
        """Return the basis with directions and spectrum in reverse order, without other fields."""
        spectrum = None if self.spectrum is None else np.ascontiguousarray(self.spectrum[::-1])
        return Basis(np.ascontiguousarray(self.vectors[:, ::-1]), spectrum)

    def energy(self, second_moment: Array) -> Array:
        """Return v^T C v for every direction, shape (D,), for a second moment C of shape (D, D).

        With C_z it is the energy of a direction, with C_d the displacement by interventions along it; their cumulative
        sums over k give the two terms of the objective (trace(C_z) minus the first, lambda times the second).
        """
        return np.asarray(np.einsum("dk,dk->k", self.vectors, second_moment @ self.vectors))


class Projection(Component):
    """Base class of projections, which estimate a basis from the moments of the source environments.

    To add one, derive from this class in a separate file, write `fit`, and give the class a name in
    `PROJECTIONS` (or name it `module:Class` in the recipe). A projection with a consistency weight has the field
    `lambda_`, a random one the field `seed`; their values come from the sweep. Class keywords define how reports
    show it, see `benchmark.common.registry.Presentation`.

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

    swept: ClassVar[tuple[str, ...]] = ("lambda_", "seed")  # set by a sweep; not in recipes, labels and their hashes
    uses_interventions: ClassVar[bool] = False
    # Whether interventions only determine a scale: one intervention set is enough.
    uses_scale_only: ClassVar[bool] = False
    uses_products: ClassVar[bool] = False  # whether it uses `SourceMoments.products`
    uses_labels: ClassVar[bool] = False  # whether it uses class labels of images
    looks_at_target_images: ClassVar[bool] = False  # whether it uses `sources.targets`; tables mark it
    full_rank_only: ClassVar[bool] = False  # whether its only rank is D
    plain_at_full_rank: ClassVar[bool] = False  # whether rank D is a rotation: predictions are plain ones
    plain_at_lambda_0: ClassVar[bool] = False  # whether at lambda 0 images and texts are unchanged

    @property
    def uses_lambda(self) -> bool:
        """Whether it has a consistency weight to be swept."""
        return "lambda_" in type(self).model_fields

    @property
    def own_lambdas(self) -> tuple[float, ...] | None:
        """The projection's own grid of lambda (field `lambdas`); None: the sweep's grid."""
        return getattr(self, "lambdas", None)

    @property
    def settings(self) -> "tuple[Projection, ...]":
        """Candidates of a selection rule besides lambda: projections with one value of each grid."""
        return (self,)

    @property
    def min_sources(self) -> int:
        """Minimum number of source environments: two if it uses differences between them. Default 1."""
        return 1

    @property
    def takes_placebo(self) -> bool:
        """Whether it is also fitted to placebos of C_d: if it uses directions of C_d, not only its scale."""
        return False

    @property
    def params(self) -> dict[str, Any]:
        """All parameters of a recipe, defaults included, without those set by a sweep."""
        return {name: value for name, value in super().params.items() if name not in (*self.swept, "lambdas")}

    def at(self, *, lambda_: float | None = None, seed: int | None = None) -> Self:
        """Return this projection with other values of swept fields; fields that it lacks are ignored.

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
        """Return the projection to use without interventional pairs: itself, a reduced one, or None."""
        return None if self.uses_interventions and not self.uses_scale_only else self

    def prompts(self, names: Names) -> tuple[Prompt, ...]:
        """Return the prompts that `fit` gets from `sources.prompts`, the same for all settings. Default: none.

        Args:
            names: of classes, environments and templates.
        """
        del names
        return ()

    @property
    def order_name(self) -> str | None:
        """The order of the eigenvectors, if it is a parameter; else None."""
        return getattr(self, "order", None)

    @abstractmethod
    def fit(self, sources: SourceMoments) -> Basis:
        """Return the basis.

        Args:
            sources: moments of the training images of the source environments, environment by environment.

        Raises:
            ValueError: the moments lack what the projection needs.
        """


def eigenbasis(matrix: Array, largest_first: bool) -> Basis:
    """Return the eigenvectors of a symmetric matrix, shape (D, D), in order of their eigenvalues.

    `numpy.linalg.eigh` orders them ascending; `largest_first` reverses that. Signs are fixed (the entry of largest
    magnitude is positive), so that equal input gives equal output.
    """
    eigenvalues, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    ascending = Basis(with_fixed_signs(vectors), eigenvalues)
    return ascending.reversed() if largest_first else ascending


def with_fixed_signs(vectors: Array) -> Array:
    """Return `vectors` with column signs such that the entry of largest magnitude is positive."""
    largest_entry = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None, :], axis=0)
    return np.ascontiguousarray(vectors * np.where(largest_entry < 0, -1.0, 1.0))
