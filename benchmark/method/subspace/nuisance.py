"""The nuisance N of shrinkage and truncation: the second moment, up to scale, of variation unrelated to the object.

    C_d     second moment of interventional differences, the mean over kinds
    B       (1/E) sum_e (mean_e - mean of means)(mean_e - mean of means)^T over the E source environments, with equal
            weight: variation between environments; no label is needed
    t       trace(C_d), or trace(C_z) without interventions: the scale of all nuisances

    interventions           C_d
    environments            t B / tr(B)
    both                    C_d + t B / tr(B)
    isotropic               (t / D) I
    isotropic_environments  (t / D) I + t B / tr(B)
    within_classes          C_w t / tr(C_w), C_w the covariance within classes, which needs labels and includes
                            differences of a class between environments
    within_cells            the same within classes of each environment, without these differences
    within_prompts          C_p t / tr(C_p), C_p the covariance over templates within the prompts of a class: only from
                            texts

The combination with shrinkage is this project's own. Within-class covariance as nuisance is WCCN (Hatch, Kajarekar and
Stolcke, 2006). A further name goes into `Nuisance`, `_KINDS` and, if N needs two environments, `NEEDS_ENVIRONMENTS`.
"""

from abc import abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args

import numpy as np
from pydantic import Field

from benchmark.method.arrays import Array
from benchmark.method.prompts import within_groups
from benchmark.method.subspace.basis import Projection
from benchmark.method.subspace.moments import Moments, SourceMoments

T = TypeVar("T")
Chosen = Literal["interventions", "environments", "both"]
Nuisance = Literal[Chosen, "isotropic", "isotropic_environments", "within_classes", "within_cells", "within_prompts"]
Nuisances = Chosen | Annotated[tuple[Chosen, ...], Field(min_length=1)]
CLASSES = "classes"  # role of the prompts from which C_p is computed
NEEDS_ENVIRONMENTS = frozenset({"environments", "both", "isotropic_environments"})


def nuisance(sources: SourceMoments, name: Nuisance) -> Array:
    """Return N, shape (D, D), symmetric and without negative eigenvalues, see the module docstring.

    ValueError: a second environment, interventional pairs or labels are missing.
    """
    return _KINDS[name](sources)


def cached_for(
    sources: SourceMoments, what: Hashable, name: Nuisance | None, make: Callable[[], T], again: bool = False
) -> T:
    """Return the cached result of `make`, which uses the moments and the nuisance `name` (None: no nuisance).

    `what` must contain everything besides N that the result depends on, see `SourceMoments.cached`. With `again`, the
    last result is held even if the budget is used up, so that fits with other strengths can use it.
    """
    placebo = sources.placebo if name in ("interventions", "both") else None
    key = (what, (name, sources.kinds_key, placebo) if name else None)
    if again:
        return sources.cached_last("filter", key, lambda: sources.cached(key, make, placebo is None))
    return sources.cached(key, make, placebo is None)


def scale(sources: SourceMoments) -> float:
    """Return t, the trace of C_d; without interventions, or if C_d is 0, the trace of C_z.

    A placebo of C_d does not change t, nor terms scaled by t, such as B.
    """
    moved = float(np.trace(sources.original_c_d())) if sources.kinds() else 0.0
    return moved if moved > 0 else float(np.trace(sources.c_z()))


def between_environments(sources: SourceMoments) -> Array:
    """Return B, shape (D, D); environments without images are left out."""
    means = np.stack([m.total / m.n for m in sources.environments.values() if m.n])
    apart = means - means.mean(axis=0)
    b = apart.T @ apart / len(means)
    if len(means) < 2 or np.trace(b) <= 0:
        raise ValueError("Environments have no different means: this nuisance needs two source environments or more.")
    return np.asarray(b)


def within_prompts(sources: SourceMoments) -> Array:
    """Return C_p, shape (D, D), the covariance over templates within a class, pooled over classes."""
    apart = within_groups(sources.prompts(CLASSES))
    c_p = apart.T @ apart / len(apart)
    if np.trace(c_p) <= 0:
        raise ValueError("The prompts of a class are all the same: there is no covariance over templates.")
    return np.asarray(c_p)


def _within(parts: Sequence[Moments]) -> Array:
    n = sum(part.n for part in parts)
    c_w = np.zeros((parts[0].dim, parts[0].dim))
    for part in parts:
        filled = part.counts > 0
        sums = part.sums[filled]
        c_w = c_w + part.outer - (sums / part.counts[filled, None]).T @ sums
    if np.trace(c_w) <= 0:
        raise ValueError("Images of a class do not differ: there is no covariance within classes.")
    return np.asarray(c_w / n)


def _environments(sources: SourceMoments) -> Array:
    return _scaled(sources, between_environments(sources))


def _isotropic(sources: SourceMoments) -> Array:
    return scale(sources) / sources.dim * np.eye(sources.dim)


def _scaled(sources: SourceMoments, c: Array) -> Array:
    return np.asarray(scale(sources) / np.trace(c) * c)


_KINDS: Mapping[Nuisance, Callable[[SourceMoments], Array]] = {
    "interventions": lambda sources: sources.c_d(),
    "environments": _environments,
    "both": lambda sources: sources.c_d() + _environments(sources),
    "isotropic": _isotropic,
    "isotropic_environments": lambda sources: _isotropic(sources) + _environments(sources),
    "within_classes": lambda sources: _scaled(sources, _within([sources.images])),
    "within_cells": lambda sources: _scaled(sources, _within([m for m in sources.environments.values() if m.n])),
    "within_prompts": lambda sources: _scaled(sources, within_prompts(sources)),
}


class NuisanceProjection(Projection):
    """A projection that uses one nuisance N."""

    uses_interventions: ClassVar[bool] = True  # needed at least for the scale of N

    @property
    @abstractmethod
    def nuisance_name(self) -> Nuisance:
        """The name of N."""

    @property
    def min_sources(self) -> int:
        """Minimum number of source environments: two if N includes B, otherwise one."""
        return 2 if self.nuisance_name in NEEDS_ENVIRONMENTS else 1


class NuisanceCandidates(NuisanceProjection):
    """A projection whose field `nuisance` names one or several candidates for N. A selection rule chooses one."""

    @property
    def candidates(self) -> tuple[Chosen, ...]:
        """The candidates for N."""
        given: Any = dict(self)["nuisance"]
        return given if isinstance(given, tuple) else (given,)

    @property
    def nuisance_name(self) -> Chosen:
        """The only candidate for N; ValueError if there are several."""
        if len(names := self.candidates) > 1:
            raise ValueError(f"nuisance: {', '.join(names)} are candidates of a rule; fit one of `settings`.")
        return names[0]

    @property
    def settings(self) -> tuple[Projection, ...]:
        """See `Projection.settings`: one projection for each N."""
        return tuple(type(self)(**{**dict(self), "nuisance": name}) for name in self.candidates)

    def without_interventions(self) -> Projection | None:
        """See `Projection.without_interventions`: the projection with N = `environments`, scaled by trace(C_z)."""
        there = "environments" in self.candidates
        return type(self)(**{**dict(self), "nuisance": "environments"}) if there else None

    @property
    def takes_placebo(self) -> bool:
        """See `Projection.takes_placebo`. False for `environments` alone, which uses only the scale of C_d."""
        return self.candidates != ("environments",)

    @property
    def variant(self) -> str:
        """The names of the candidates for N as text. It is empty if every possible N is a candidate."""
        names = "" if set(self.candidates) == set(get_args(Chosen)) else " or ".join(self.candidates)
        return ", ".join(filter(None, [super().variant, names]))
