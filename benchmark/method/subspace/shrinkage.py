"""Shrinkage: every direction is shrunk by its share of nuisance; there is no rank.

    F = C_z (C_z + lambda N)^-1,        x^ = F z

Let z = x + v, with x the signal of the object and v the variation by interventions and environments. The Wiener filter
is I - C_v C_z^-1, but C_v is known only up to scale. If lambda N replaced C_v, the filter could have negative factors.
F agrees with this filter to first order in lambda, and its factors stay between 0 and 1: for each generalised
eigenvalue m of N against C_z, the factor is 1 / (1 + lambda m) instead of 1 - lambda m. lambda has no unit; lambda 0
changes nothing. `benchmark.method.subspace.nuisance` defines N.

    symmetric   F^(1/2) on images and on texts:
                F^(1/2) = C_z^(1/2) (I + lambda C_z^(-1/2) N C_z^(-1/2))^(-1/2) C_z^(-1/2)
    images      F on images, texts unchanged
    texts       F^T on texts, images unchanged: the same inner products <F z, t> as `images`, but other lengths

If C_z is singular, F is defined as the limit for C_z + eps I with eps to 0. The limit is the identity on directions
without energy in C_z and N, and 0 on directions with energy only in N. For lambda to infinity and rank-deficient N, F
tends to the oblique projection C_z V (V^T C_z V)^-1 V^T, with V a basis of the null space of N. If C_z is centred and N
is B with environment means weighted by numbers of images, this projection is LEACE.

With `covariance` "oas", C_z, C_d and C_w are shrunk toward a multiple of the identity with the same trace, see `oas`.
B is not, since its sample is not of images.

Shrinkage with this N is this project's own method, not CLIP-ICM. Related methods: marginalised denoising (mSDA; Chen et
al. 2012), WCCN and NAP of speaker verification, the calibrated projection of prompt pairs (Chuang et al. 2023, arXiv
2302.00070), Koo-Fu CLIP (arXiv 2602.01127), SHED (arXiv 2605.16973).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, field_validator

from benchmark.method.arrays import Array
from benchmark.method.prompts import Names, Prompt, Templates, fill, resolve_templates
from benchmark.method.subspace.basis import NEGLIGIBLE, Basis, Roots, roots_of
from benchmark.method.subspace.moments import SourceMoments
from benchmark.method.subspace.nuisance import (
    CLASSES,
    Nuisance,
    NuisanceCandidates,
    NuisanceProjection,
    Nuisances,
    cached_for,
    nuisance,
)

Sides = Literal["symmetric", "images", "texts"]
Covariance = Literal["sample", "oas"]
LAMBDAS = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
Lambda = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Filter:
    """Factors of F for all lambda and powers p: F^p = left diag((1 + lambda m)^-p) right + rest rest^T."""

    left: Array  # shape (D, r), r the rank of C_z
    ratios: Array  # m, the generalised eigenvalues of N against C_z, shape (r,), ascending
    right: Array  # shape (r, D)
    rest: Array  # orthonormal basis of directions without energy in C_z and N, as columns

    @classmethod
    def of(cls, c_z: Array, n: Array) -> Self:
        """Return the filter of C_z and N, both symmetric without negative eigenvalues, shape (D, D).

        Take coordinates with C_z = diag(C_1, 0), C_1 of full rank, and N = [[N_11, N_12], [N_21, N_22]]. The limit of F
        is [[F_1, -F_1 N_12 N_22^+], [0, 0]]. Here F_1 = C_1 (C_1 + lambda N_s)^-1, and N_s = N_11 - N_12 N_22^+ N_21 is
        the Schur complement. On the common null space of C_z and N_22 the limit is the identity.
        """
        return cls.from_roots(Roots.of(c_z), n)

    @classmethod
    def from_roots(cls, of_c_z: Roots, n: Array) -> Self:
        """Return the same filter as `of`, from the roots of C_z, so that several N can share these roots."""
        used, unused, roots = of_c_z.used, of_c_z.unused, of_c_z.roots
        of_null, directions = np.linalg.eigh(unused.T @ n @ unused)
        moved = of_null > NEGLIGIBLE * np.trace(n)
        only_n, neither = unused @ directions[:, moved], unused @ directions[:, ~moved]
        of_used = used.T @ n
        coupling = of_used @ only_n / of_null[moved]
        schur = of_used @ used - coupling * of_null[moved] @ coupling.T
        whitened = schur / roots / roots[:, None]
        ratios, q = np.linalg.eigh((whitened + whitened.T) / 2)
        right = (q.T / roots) @ (used.T - coupling @ only_n.T)
        ratios[ratios <= NEGLIGIBLE * ratios.max(initial=0.0)] = 0.0  # a large lambda would amplify rounding
        return cls((used * roots) @ q, ratios, right, neither)

    @cached_property
    def lengths(self) -> Array:
        """The product |left_j| |right_j| for each eigenvector of F, shape (r,), used in rounding bounds."""
        return np.asarray(np.linalg.norm(self.left, axis=0) * np.linalg.norm(self.right, axis=1))

    def power(self, lambda_: float, p: float = 1.0) -> Array:
        """Return F^p, shape (D, D), for p > 0 (1/2 for `symmetric`); at lambda 0, the identity."""
        if lambda_ == 0:
            return np.eye(len(self.left))
        return np.asarray((self.left * (1 + lambda_ * self.ratios) ** -p) @ self.right + self.rest @ self.rest.T)


def oas(c: Array, n: int) -> Array:
    """Return the oracle approximating shrinkage estimate of a second moment C of `n` vectors, both of shape (D, D).

    It is (1 - rho) C + rho tr(C) / D I with rho = (tr(C^2) + tr(C)^2) / ((n + 1) (tr(C^2) - tr(C)^2 / D)), at most 1:
    Chen, Wiesel, Eldar and Hero (2010), equation 23, without its terms in 2 / D, as in scikit-learn.
    """
    squared, trace, dim = float((c * c).sum()), float(np.trace(c)), len(c)
    apart = (n + 1) * (squared - trace**2 / dim)
    rho = min(1.0, (squared + trace**2) / apart) if apart > 0 else 1.0
    return np.asarray((1 - rho) * c + rho * trace / dim * np.eye(dim))


def nuisance_of(sources: SourceMoments, name: Nuisance, covariance: Covariance) -> Array:
    """Return N, shape (D, D), with the estimate `covariance` of C_d or C_w; see `oas`."""
    n = nuisance(sources, name)
    if covariance == "oas" and name in ("interventions", "both"):
        pairs = min((sources.differences(kind).n for kind in sources.kinds()), default=sources.images.n)
        return n + oas(sources.c_d(), pairs) - sources.c_d()
    return oas(n, sources.images.n) if covariance == "oas" and name in ("within_classes", "within_cells") else n


def shrinkage_basis(
    sources: SourceMoments,
    lambda_: float,
    name: Nuisance,
    sides: Sides = "symmetric",
    covariance: Covariance = "sample",
) -> Basis:
    """Return the maps of images and texts; they have no ranks, so there is no spectrum.

    Args:
        sources: moments of the source environments, with the intervention set of C_d.
        lambda_: strength, >= 0, without a unit; 0 changes nothing.
        name: name of the nuisance.
        sides: what F is applied to, see the module docstring.
        covariance: estimate of C_z, C_d and C_w: `sample` (default), or `oas` with the numbers of images and pairs.

    Raises:
        ValueError: the moments lack what the nuisance needs.

    Example:
        >>> import numpy as np
        >>> from benchmark.method.subspace import Moments, SourceMoments, shrinkage_basis
        >>> Z = np.diag([3.0, 6.0, 9.0])
        >>> sources = SourceMoments({"photo": Moments.of(Z, {"shift": Z + [0.0, 0.0, 4.0]})})
        >>> shrinkage_basis(sources, 2.0, "interventions", "images").vectors.diagonal()  # 27 / (27 + 2 * 16)
        array([1.        , 1.        , 0.45762712])
    """

    def made() -> Filter:
        if covariance == "sample":
            return Filter.from_roots(roots_of(sources), nuisance(sources, name))
        return Filter.of(oas(sources.c_z(), sources.images.n), nuisance_of(sources, name, covariance))

    return filtered_basis(cached_for(sources, ("filter", covariance), name, made, again=True), lambda_, sides)


def filtered_basis(made: Filter, lambda_: float, sides: Sides) -> Basis:
    """Return the maps that apply a filter to `sides`, see the module docstring; lambda 0 changes nothing."""
    if lambda_:
        return FilteredBasis(made, lambda_, sides)
    plain = np.eye(len(made.left))
    return Basis(plain) if sides == "symmetric" else Basis(plain, None, plain)


class FilteredBasis(Basis):
    """The maps of a filter. Texts are multiplied by its factors; the D x D matrix is only computed when it is read."""

    _made: Filter
    _sides: Sides
    _strength: tuple[float, float]  # lambda, and the power p of F
    _of_directions: Array  # eigenvalues of F^p, shape (r,)

    def __init__(self, made: Filter, lambda_: float, sides: Sides) -> None:
        power = 0.5 if sides == "symmetric" else 1.0
        of_directions = (1 + lambda_ * made.ratios) ** -power
        known = {"_made": made, "_sides": sides, "_strength": (lambda_, power), "_of_directions": of_directions}
        self.__dict__.update(known, by_environment={})  # sets attributes of a frozen class

    @cached_property
    def _f(self) -> Array:
        return self._made.power(*self._strength)

    @cached_property
    def vectors(self) -> Array:
        """See `Basis`."""
        return np.eye(len(self._made.left)) if self._sides == "texts" else self._f.T

    @cached_property
    def text_vectors(self) -> Array | None:
        """See `Basis`."""
        if self._sides == "symmetric":
            return None
        return self._f if self._sides == "texts" else np.eye(len(self._made.left))

    def of_texts(self, text: Array) -> Array:
        """See `Basis.of_texts`."""
        made = self._made
        if self._sides == "symmetric":  # multiplied by F^(1/2)^T
            return np.asarray(text @ made.right.T * self._of_directions @ made.left.T + text @ made.rest @ made.rest.T)
        return self._times(text) if self._sides == "texts" else text

    def sums(self, t: Array, ranks: Sequence[int]) -> Array:
        """See `Basis.sums`. Only for the rank D alone, the matrix is not computed."""
        if list(ranks) != [t.shape[1]]:
            return super().sums(t, ranks)
        return (t if self._sides == "texts" else self._times(t))[:, None]

    def _times(self, rows: Array) -> Array:
        """Return rows times F^p, shape (n, D)."""
        made = self._made
        return np.asarray(rows @ made.left * self._of_directions @ made.right + rows @ made.rest @ made.rest.T)

    def rounding_bounds(self, t: Array, ranks: Sequence[int]) -> Array:
        """See `Basis.rounding_bounds`. It uses the factors, whose products may lose more digits than the matrix."""
        if list(ranks) != [t.shape[1]]:
            return super().rounding_bounds(t, ranks)
        if self._sides == "texts":
            return np.asarray(np.abs(t).sum(axis=1)[None])
        of_f = self._of_directions @ self._made.lengths + self._made.rest.shape[1]
        return np.asarray(np.linalg.norm(t, axis=1)[None] * of_f)

    def matrices(self) -> tuple[Array, ...]:
        """See `Basis.matrices`. Lengths of the factors are returned instead of F: they are finite or zero if F is."""
        part = self._made.lengths if self._made.ratios.size else self._made.rest
        return part, part


class _ShrinkageProjection(NuisanceProjection):
    """Base class of the projections of this module."""

    full_rank_only: ClassVar[bool] = True
    plain_at_lambda_0: ClassVar[bool] = True
    lambdas: Annotated[tuple[Lambda, ...], Field(min_length=1)] = LAMBDAS
    sides: Sides = "symmetric"
    covariance: Covariance = Field(default="sample", exclude_if=lambda given: given == "sample")
    lambda_: float = Field(default=1.0, ge=0, allow_inf_nan=False)

    @property
    def variant(self) -> str:
        """What F is applied to, and the estimate of the covariances, if not the default."""
        changed = {name: getattr(self, name) for name in ("sides", "covariance")}
        return ", ".join(value for name, value in changed.items() if value != type(self).model_fields[name].default)

    def fit(self, sources: SourceMoments) -> Basis:
        """Fit F on all source images and the nuisance; return the maps that apply F (or its root) to `sides`."""
        return shrinkage_basis(sources, self.lambda_, self.nuisance_name, self.sides, self.covariance)


class Shrinkage(NuisanceCandidates, _ShrinkageProjection, label="Shrinkage", place=5):
    """Shrinkage of variation by interventions and environments; a selection rule chooses lambda and N.

    Fields:
        lambdas: candidate strengths.
        nuisance: `interventions`, `environments` or `both`, or several candidates. Default: all three.
        sides: what F is applied to: `symmetric` (default: its root on images and texts), `images` or `texts`.
        covariance: estimate of C_z and C_d: `sample` (default) or `oas`, shrunk toward the identity.
        lambda_: one strength; a recipe gives `lambdas`.

    Example:
        >>> from benchmark.method.subspace import PROJECTIONS
        >>> shrinkage = PROJECTIONS.create({"name": "shrinkage", "nuisance": ["interventions", "both"]})
        >>> [setting.nuisance for setting in shrinkage.settings]
        ['interventions', 'both']
    """

    nuisance: Nuisances = ("interventions", "environments", "both")


class Fixed(_ShrinkageProjection, label="Fixed shrinkage", role="control", place=6):
    """Shrinkage with fixed N = `both` and lambda 10, without selection and labels: a control for what selection adds.

    Fields:
        lambdas: the strength.
        sides: see `Shrinkage`.
        covariance: see `Shrinkage`.
        lambda_: see `Shrinkage`.
    """

    nuisance_name: ClassVar[Nuisance] = "both"
    lambdas: Annotated[tuple[Lambda, ...], Field(min_length=1, max_length=1)] = (10.0,)


class Isotropic(_ShrinkageProjection, label="Shrinkage (isotropic)", role="control", place=6):
    """Shrinkage with an isotropic nuisance, N = (t / D) I: a control for shrinkage without knowledge of the nuisance.

    Fields:
        lambdas: see `Shrinkage`.
        sides: see `Shrinkage`.
        covariance: see `Shrinkage`.
        lambda_: see `Shrinkage`.
    """

    nuisance_name: ClassVar[Nuisance] = "isotropic"
    uses_scale_only: ClassVar[bool] = True


class IsotropicEnvironments(
    _ShrinkageProjection,
    label="Shrinkage (isotropic + environments)",
    role="control",
    place=6,
):
    """Shrinkage of environment means and of all directions, N = (t / D) I + t B / tr(B), without interventions.

    Reports credit interventions with a gain only if `shrinkage` is better than this control.

    Fields:
        lambdas: see `Shrinkage`.
        sides: see `Shrinkage`.
        covariance: see `Shrinkage`.
        lambda_: see `Shrinkage`.
    """

    nuisance_name: ClassVar[Nuisance] = "isotropic_environments"
    uses_scale_only: ClassVar[bool] = True


class WithinClasses(_ShrinkageProjection, label="Shrinkage (within classes)", role="control", place=6):
    """Shrinkage of the covariance within classes (WCCN): a rival that uses labels.

    Fields:
        environments: `pooled` (default) includes differences of a class between environments, as WCCN includes
            differences between sessions of a speaker. `apart` uses the covariance within the classes of each
            environment, without these differences.
        lambdas: see `Shrinkage`.
        sides: see `Shrinkage`.
        covariance: see `Shrinkage`.
        lambda_: see `Shrinkage`.
    """

    uses_scale_only: ClassVar[bool] = True
    uses_labels: ClassVar[bool] = True
    environments: Literal["pooled", "apart"] = "pooled"

    @property
    def nuisance_name(self) -> Nuisance:
        """The nuisance with C_w: `within_classes` or `within_cells`."""
        return "within_classes" if self.environments == "pooled" else "within_cells"

    @property
    def variant(self) -> str:
        """What F is applied to, and whether environments are `apart`, as text."""
        return ", ".join(filter(None, [super().variant, "" if self.environments == "pooled" else "apart"]))


class WithinPrompts(_ShrinkageProjection, label="Shrinkage (within prompts of classes)", role="control", place=6):
    """Shrinkage of variation between prompts of a class in different templates. N comes only from texts.

    Fields:
        templates: templates of these prompts, independent of the recipe's templates: `openai` (default; 80 of
            open_clip), `simple` (7 of open_clip), or a list of two or more.
        lambdas: see `Shrinkage`.
        sides: see `Shrinkage`.
        covariance: see `Shrinkage`.
        lambda_: see `Shrinkage`.
    """

    nuisance_name: ClassVar[Nuisance] = "within_prompts"
    uses_scale_only: ClassVar[bool] = True
    templates: Templates = "openai"

    @field_validator("templates")
    @classmethod
    def _several(cls, templates: Any) -> Any:
        if isinstance(templates, tuple) and len(set(templates)) < 2:
            raise ValueError("one template has nothing to be compared with; give two or more.")
        return templates

    @property
    def variant(self) -> str:
        """What F is applied to, and the templates, as text; each is left out if it is the default."""
        templates = self.templates if isinstance(self.templates, str) else "own templates"
        return ", ".join(filter(None, [super().variant, "" if templates == "openai" else templates]))

    def prompts(self, names: Names) -> tuple[Prompt, ...]:
        """See `Projection.prompts`: one prompt for each class and template."""
        templates = resolve_templates(self.templates)
        return tuple(
            Prompt((fill(template, name),), CLASSES, label, label=label)
            for label, name in enumerate(names.classes)
            for template in templates
        )
