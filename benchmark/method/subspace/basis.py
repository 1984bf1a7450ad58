"""An ordered basis: what every projection estimates. Its first k columns are the projection of rank k."""

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
        vectors: the directions as columns, shape (D, D); A_inv of rank k is `vectors[:, :k].T`. Orthonormal, so that
            rank D is a rotation; erasure (`leace`) is oblique, and there rank D is the erased space. If no rank is
            chosen, as in shrinkage, the transpose of the matrix that images are multiplied by.
        spectrum: what the directions were ordered by, shape (D,), or None if there is no such number.
        text_vectors: the same for texts, shape (D, D), if it is another map; None (default) if it is `vectors`.
        offset: what is subtracted from images before, shape (D,); None (default) for nothing.
        text_share: which share of the mean of the class texts is subtracted from each of them before, default 0.0.
        by_environment: name of an environment -> what its images are mapped by instead, for test-time adaptation. By
            default there is none.
    """

    vectors: Array
    spectrum: Array | None = None
    text_vectors: Array | None = field(default=None, repr=False)
    offset: Array | None = field(default=None, repr=False)
    text_share: float = field(default=0.0, repr=False)
    by_environment: Mapping[str, "Basis"] = field(default_factory=dict, repr=False)

    @property
    def texts(self) -> Array:
        """What texts are multiplied by, shape (D, D)."""
        return self.vectors if self.text_vectors is None else self.text_vectors

    @property
    def is_linear(self) -> bool:
        """Whether images and texts are multiplied by a matrix each, and nothing else: what a file can hold."""
        return self.offset is None and not self.text_share and not self.by_environment

    @cached_property
    def is_rotation(self) -> bool:
        """Whether it only turns the embedding space: at rank D nothing changes but coordinates."""
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
        """Return what images have dot products with, t V^T, for classes' texts in coordinates, both (n_classes, D)."""
        return np.asarray(t @ self.vectors.T)

    def rounding_bounds(self, t: Array) -> Array:
        """Return sum_i |t_i| |v_i| of texts in coordinates, or more, shape (n_classes,): a bound for rounding."""
        return np.asarray(np.abs(t) @ np.linalg.norm(self.vectors, axis=0))

    def matrices(self) -> tuple[Array, ...]:
        """Return the matrices that the maps are made of."""
        return self.vectors, self.texts

    def text_offset(self, text: Array) -> Array | None:
        """Return what is subtracted from each of the texts of all classes, shape (D,); None for nothing."""
        return np.asarray(self.text_share * text.mean(axis=0)) if self.text_share else None

    def reversed(self) -> "Basis":
        """Return the directions and what they were ordered by from the last to the first: a basis with no more."""
        spectrum = None if self.spectrum is None else np.ascontiguousarray(self.spectrum[::-1])
        return Basis(np.ascontiguousarray(self.vectors[:, ::-1]), spectrum)

    def energy(self, second_moment: Array) -> Array:
        """Return v^T C v of every direction, shape (D,), for a second moment C of shape (D, D).

        With C_z it is the energy of a direction, with C_d what interventions move along it; their running sums over
        k are the two terms of the objective (trace(C_z) minus the one, lambda times the other).
        """
        return np.asarray(np.einsum("dk,dk->k", self.vectors, second_moment @ self.vectors))


class Projection(Component):
    """A way to estimate a basis from the moments of the source environments.

    To add one, derive from this class in a file of its own, write `fit`, and give the class a name in
    `PROJECTIONS` (or name it `module:Class` in the recipe). A projection that weighs the consistency under
    interventions has the field `lambda_`, one that draws has the field `seed`; their values come from the sweep.
    Keywords of the class say how reports show it, see `benchmark.common.registry.Presentation`.

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

    swept: ClassVar[tuple[str, ...]] = ("lambda_", "seed")  # set by a sweep: not in recipes, labels and their hashes
    uses_interventions: ClassVar[bool] = False
    # Whether interventions give nothing but the scale of what it weighs: one intervention set does for it.
    uses_scale_only: ClassVar[bool] = False
    uses_products: ClassVar[bool] = False  # whether it asks for `SourceMoments.products`
    uses_labels: ClassVar[bool] = False  # whether it looks at the classes of images
    looks_at_target_images: ClassVar[bool] = False  # whether it is fitted on `sources.targets`: every table marks it
    full_rank_only: ClassVar[bool] = False  # only the whole space makes sense: one rank, D
    plain_at_full_rank: ClassVar[bool] = False  # whether at rank D it only turns the space: predictions are plain ones
    plain_at_lambda_0: ClassVar[bool] = False  # whether at lambda 0 it leaves images and texts as they are

    @property
    def uses_lambda(self) -> bool:
        """Whether there is a weight of the consistency term to be swept."""
        return "lambda_" in type(self).model_fields

    @property
    def own_lambdas(self) -> tuple[float, ...] | None:
        """The grid of lambda, if it is the projection's own (field `lambdas`) and not the sweep's."""
        return getattr(self, "lambdas", None)

    @property
    def settings(self) -> "tuple[Projection, ...]":
        """What a selection rule chooses among beside lambda: projections with one value each of a grid."""
        return (self,)

    @property
    def min_sources(self) -> int:
        """From how many source environments on it can be fitted: two if it looks at what tells them apart."""
        return 1

    @property
    def takes_placebo(self) -> bool:
        """Whether it is fitted for placebos of C_d too: where C_d gives it directions, and not a scale alone."""
        return False

    @property
    def params(self) -> dict[str, Any]:
        """All parameters that a recipe gives, defaults included: those that a sweep sets are left out."""
        return {name: value for name, value in super().params.items() if name not in (*self.swept, "lambdas")}

    def at(self, *, lambda_: float | None = None, seed: int | None = None) -> Self:
        """Return this projection with other swept fields; those that it does not have are ignored.

        Args:
            lambda_: weight of the consistency under interventions, >= 0; None leaves it as it is.
            seed: seed of what the projection draws, >= 0; None leaves it as it is.

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
        """Whether it asks for prompts."""
        return type(self).prompts is not Projection.prompts

    def without_interventions(self) -> "Projection | None":
        """Return what is left of it if there are no interventional pairs: itself, a part of it, or None."""
        return None if self.uses_interventions and not self.uses_scale_only else self

    def prompts(self, names: Names) -> tuple[Prompt, ...]:
        """Return the prompts that `fit` asks `sources.prompts` for, the same for all settings; by default none.

        Args:
            names: of classes, environments and templates.
        """
        del names
        return ()

    @property
    def order_name(self) -> str | None:
        """The order of the eigenvectors, where the projection offers a choice."""
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

    `numpy.linalg.eigh` orders them ascending; `largest_first` turns that round. Signs are fixed (the entry of
    largest magnitude is positive), so that equal input gives equal output.
    """
    eigenvalues, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    ascending = Basis(with_fixed_signs(vectors), eigenvalues)
    return ascending.reversed() if largest_first else ascending


def with_fixed_signs(vectors: Array) -> Array:
    """Return the columns of `vectors` with the entry of largest magnitude of each positive."""
    largest_entry = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None, :], axis=0)
    return np.ascontiguousarray(vectors * np.where(largest_entry < 0, -1.0, 1.0))
