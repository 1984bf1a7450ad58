"""Sufficient statistics of the data for the method (arXiv 2405.15289, section 4).

Moments add and subtract like sets of images. So an environment or a fold is held out by leaving out its sums, and an
intervention set is chosen by weights. Neither needs the images again. If a change alters the sums, increase `VERSION`
in `benchmark/store/moments.py`, which stores them.
"""

import copy
import operator
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any, TypeVar

import numpy as np

from benchmark.method.arrays import Array, Floats, Ints, finite
from benchmark.method.prompts import GroupsOfPrompts

T = TypeVar("T")
CacheId = tuple[Hashable, Hashable]  # name of a cached object, what it depends on besides the images (or None)

MAX_KEPT_BYTES = 3 * 2**28  # bytes of sums and decompositions that a worker caches for later fits and trials
LAST = 7  # number of (D, D) matrices held for the next fit on the same sums: C_d, roots and a filter
TOGETHER = "kinds together"  # name of the kind that is a weighted sum of several kinds
CROSS = "cross_environment"  # pairs of images of one class from two source environments, without interventions


@dataclass(frozen=True)
class Outer:
    """A (D, D) matrix sum_i w_i t_i that is computed each time it is needed, since its terms take less memory.

    A term is another sum, a (D, D) matrix, or an array of n < D vectors x, shape (n, D), for sum x x^T.
    """

    terms: tuple[tuple[float, "Array | Outer"], ...]  # pairs (w_i, t_i)

    @classmethod
    def of(cls, x: Array) -> "Array | Outer":
        """Return sum x x^T over the rows of `x`: as the rows if they are few, else as the matrix."""
        return _compact(cls(((1.0, x.copy()),)), x.shape[1]) if len(x) < x.shape[1] else np.asarray(x.T @ x)

    @classmethod
    def add(cls, first: "Array | Outer", second: "Array | Outer", weight: float = 1.0) -> "Array | Outer":
        """Return first + weight * second; a sum that refers to both, unless both are matrices."""
        if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
            return np.asarray(first + weight * second)
        terms = first.terms if isinstance(first, Outer) else ((1.0, first),)
        return cls((*terms, (weight, second)))

    @property
    def size(self) -> int:
        """Number of vectors of D numbers in all terms; a matrix has D."""
        return sum(term.size if isinstance(term, Outer) else len(term) for _, term in self.terms)

    def matrix(self) -> Array:
        """Return the matrix, shape (D, D). Matrices are added in turn; vectors are multiplied all at once."""
        vectors, total = list[Array](), None
        for weight, term in self.terms:
            if (of_term := _vectors(term, weight)) is not None:
                vectors += of_term
            elif total is None:
                total = weight * _matrix(term)
            else:
                total += weight * _matrix(term)
        if vectors:
            x = np.concatenate(vectors)
            total = x.T @ x if total is None else total + x.T @ x
        assert total is not None
        return np.asarray(total)


def _matrix(of: Array | Outer) -> Array:
    return of.matrix() if isinstance(of, Outer) else of


def _vectors(of: Array | Outer, weight: float) -> list[Array] | None:
    """Return arrays of vectors whose products add up to weight * of; None if a matrix is among the terms."""
    if isinstance(of, np.ndarray):
        return None if weight < 0 or len(of) == of.shape[1] else [of if weight == 1.0 else np.sqrt(weight) * of]
    found: list[Array] = []
    for share, term in of.terms:
        if (of_term := _vectors(term, weight * share)) is None:
            return None
        found += of_term
    return found


def _added(of: Array | Outer) -> Array | Outer:
    return of if _vectors(of, 1.0) is not None else _matrix(of)


def _compact(of: Array | Outer, dim: int) -> Array | Outer:
    """Return a matrix of width `dim` as it is held: as vectors only while they take an eighth of the memory.

    Products of vectors are computed in each fit, which takes longer than adding matrices if there are many vectors.
    """
    return of.matrix() if isinstance(of, Outer) and 8 * of.size > dim else of


@dataclass(frozen=True)
class Differences:
    """Sums over interventional differences d = z - z^do of one kind, in float64.

    Attributes:
        n: number of pairs.
        total: sum of d, shape (D,).
        outer: sum of d d^T, shape (D, D), computed from `_outer`.
        cross: sum of z z^do^T, shape (D, D); None (default) if only d is known, as for text pairs.
    """

    n: int
    total: Array
    _outer: Array | Outer
    cross: Array | None = None

    @property
    def outer(self) -> Array:
        """Sum of d d^T, shape (D, D)."""
        return _matrix(self._outer)

    @classmethod
    def of(cls, d: Floats) -> "Differences":
        """Return the sums over the rows of `d`, shape (n, D)."""
        d = finite(d, "Z - Z_do")
        return cls(len(d), d.sum(axis=0), Outer.of(d))

    @classmethod
    def of_pairs(cls, z: Floats, z_do: Floats) -> "Differences":
        """Return the sums over pairs of embeddings, both of shape (n, D)."""
        z, z_do = finite(z, "Z"), finite(z_do, "Z_do")
        if z_do.shape != z.shape:
            raise ValueError(f"Z_do has shape {z_do.shape}, Z has {z.shape}: pairs need the same shape.")
        return replace(cls.of(z - z_do), cross=z.T @ z_do)

    @classmethod
    def mean(cls, kinds: Sequence["Differences"], weights: Sequence[float]) -> "Differences":
        """Return the weighted mean of the sums of several kinds.

        All kinds must have equally many pairs, and the sum of the weights must be positive.
        """
        shares = [weight / sum(weights) for weight in weights]

        def of(arrays: Sequence[Array]) -> Array:
            return np.asarray(sum(share * array for share, array in zip(shares, arrays, strict=True)))

        crosses = [d.cross for d in kinds if d.cross is not None]
        cross = of(crosses) if len(crosses) == len(kinds) else None
        outer = Outer(tuple(zip(shares, (d._outer for d in kinds), strict=True)))
        return cls(kinds[0].n, of([d.total for d in kinds]), outer, cross).compact()

    def compact(self) -> "Differences":
        """Return the same sums as they are held, see `_compact`."""
        return replace(self, _outer=_compact(self._outer, len(self.total)))

    def __add__(self, other: "Differences") -> "Differences":
        cross = None if self.cross is None or other.cross is None else self.cross + other.cross
        return Differences(self.n + other.n, self.total + other.total, Outer.add(self._outer, other._outer), cross)

    def __sub__(self, other: "Differences") -> "Differences":
        cross = None if self.cross is None or other.cross is None else self.cross - other.cross
        outer = Outer.add(self._outer, other._outer, -1.0)
        return Differences(self.n - other.n, self.total - other.total, outer, cross)

    def moment(self, centered: bool = False) -> Array:
        """Return C_d = (1/n) sum d d^T, shape (D, D); the covariance if `centered`. ValueError: there are no pairs."""
        if self.n == 0:
            raise ValueError("C_d needs interventional pairs, and there are none.")
        return _second_moment(self.n, self.total, self.outer, centered)


@dataclass(frozen=True)
class Moments:
    """Sums over embeddings z_i of one set of images and over their interventional differences, in float64.

    Attributes:
        counts: number of images of each class, shape (classes,).
        sums: sum of z over the images of each class, shape (classes, D).
        outer: sum of z z^T over all images, shape (D, D), computed from `_outer`.
        differences: kind of intervention -> sums over its differences. Empty by default.

    Example:
        Subtraction of moments holds out an environment:

        >>> import numpy as np
        >>> from benchmark.method.subspace import Moments
        >>> photo, sketch = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[5.0, 6.0]])
        >>> both = Moments.of(np.vstack([photo, sketch]))
        >>> both.n, both.dim
        (3, 2)
        >>> (both - Moments.of(sketch)).c_z()
        array([[ 5.,  7.],
               [ 7., 10.]])
        >>> Moments.of(photo, {"shift": photo + [0.0, 3.0]}).c_d()
        array([[0., 0.],
               [0., 9.]])
    """

    counts: Ints
    sums: Array
    _outer: Array | Outer
    differences: Mapping[str, Differences] = field(default_factory=dict)

    @property
    def outer(self) -> Array:
        """Sum of z z^T over all images, shape (D, D)."""
        return _matrix(self._outer)

    @classmethod
    def of(
        cls, z: Floats, views: Mapping[str, Floats] | None = None, labels: Ints | None = None, classes: int = 1
    ) -> "Moments":
        """Return the moments of images.

        Args:
            z: embeddings, shape (n, D).
            views: kind of intervention -> embeddings of the intervened images, shape (n, D). Default: none.
            labels: class of each image, shape (n,), 0 <= label < classes; by default all images are of class 0.
            classes: number of classes, default 1.

        Raises:
            ValueError: an array is not two-dimensional, a value is NaN or infinite, or views have another shape.
        """
        z = finite(z, "Z")
        labels = np.zeros(len(z), dtype=np.int64) if labels is None else labels
        member = np.zeros((classes, len(z)))
        member[labels, np.arange(len(z))] = 1.0
        differences = {kind: Differences.of_pairs(z, view) for kind, view in (views or {}).items()}
        return cls(np.bincount(labels, minlength=classes), member @ z, Outer.of(z), differences)

    @classmethod
    def nothing(cls, classes: int, dim: int, differences: Mapping[str, Differences] | None = None) -> "Moments":
        """Return the moments of an empty set of images, with given differences."""
        zeros = np.zeros((classes, dim)), Outer.of(np.zeros((0, dim)))
        return cls(np.zeros(classes, dtype=np.int64), *zeros, differences or {})

    @property
    def n(self) -> int:
        """Number of images."""
        return int(self.counts.sum())

    @property
    def total(self) -> Array:
        """Sum of z, shape (D,)."""
        return np.asarray(self.sums.sum(axis=0))

    @property
    def dim(self) -> int:
        """Embedding width D."""
        return int(self.sums.shape[1])

    def __add__(self, other: "Moments") -> "Moments":
        theirs = other.differences
        differences = {**self.differences, **theirs}
        differences |= {kind: mine + theirs[kind] for kind, mine in self.differences.items() if kind in theirs}
        outer = Outer.add(self._outer, other._outer)
        return Moments(self.counts + other.counts, self.sums + other.sums, outer, differences)

    def __sub__(self, other: "Moments") -> "Moments":
        theirs = other.differences
        differences = {kind: mine - theirs[kind] if kind in theirs else mine for kind, mine in self.differences.items()}
        outer = Outer.add(self._outer, other._outer, -1.0)
        return Moments(self.counts - other.counts, self.sums - other.sums, outer, differences)

    def compact(self) -> "Moments":
        """Return the same moments as they are held, see `_compact`."""
        differences = {kind: d.compact() for kind, d in self.differences.items()}
        return replace(self, _outer=_compact(self._outer, self.dim), differences=differences)

    def added(self) -> "Moments":
        """Return the same moments with added matrices, for repeated use; sums of vectors remain."""
        differences = {kind: replace(d, _outer=_added(d._outer)) for kind, d in self.differences.items()}
        return replace(self, _outer=_added(self._outer), differences=differences)

    @property
    def nbytes(self) -> int:
        """Number of bytes of the arrays, without sums that are not computed."""
        outers = [self._outer, *(outer for d in self.differences.values() for outer in (d._outer, d.cross))]
        return self.sums.nbytes + sum(outer.nbytes for outer in outers if isinstance(outer, np.ndarray))

    def c_z(self, centered: bool = False) -> Array:
        """Return C_z = (1/n) sum z z^T, shape (D, D); the covariance if `centered`."""
        if self.n == 0:
            raise ValueError("C_z of no image is not defined.")
        return _second_moment(self.n, self.total, self.outer, centered)

    def c_d(self, weights: Mapping[str, float] | None = None, centered: bool = False) -> Array:
        """Return C_d, shape (D, D): the mean over kinds, with `weights` (default: equal weights).

        With equal weights it is the expected C_d if one kind is drawn for each image.
        """
        return weighted({kind: d.moment(centered) for kind, d in self.differences.items()}, weights)


class Budget:
    """The number of bytes that may still be used to cache objects.

    Objects that do not fit are computed each time. So the memory of a worker does not grow with the number of
    environments. Nothing is evicted: every trial uses the same long sequence of decompositions, so the least recently
    used one is needed next.

    Args:
        most: the number of bytes at first. Default: `MAX_KEPT_BYTES`, for sums and decompositions.
    """

    def __init__(self, most: int | None = None) -> None:
        self._left = MAX_KEPT_BYTES if most is None else most

    def reserve(self, size: int) -> bool:
        """Reserve `size` bytes if they are available; return whether they were."""
        self._left -= size if (fits := size <= self._left) else 0
        return fits


class SourceMoments:
    """Moments of the source environments, with the intervention set of a fit.

    Args:
        environments: name of an environment -> moments of its training images; at least one.
        weights: kind of intervention -> its weight in C_d; None (default): all kinds with equal weights. The kind
            `cross_environment` is the mean over all pairs of source environments.
        shared: kind of intervention -> sums over differences that belong to no environment, such as text pairs.
            Default: none.
        prompts: role -> embeddings of the prompts that the fit may use. Default: none.
        budget: memory limit for cached sums and decompositions. Default: a new `Budget`.
        together: kind -> weight, for kinds that were merged into the kind `TOGETHER`, see `Cells.weighted`. Default:
            none.
        known: cached objects from `image_cache` of other moments of the same images, reserved in `budget`. Default:
            none.

    Attributes:
        images: moments of all source images together, without differences.
        targets: name of an environment -> moments of target images, without labels. Empty except for projections with
            `looks_at_target_images`.
        placebo: function that takes C_d and these moments and returns the replacement of C_d, shape (D, D), see
            `benchmark.method.subspace.placebos`; None for no placebo.
        for_choice: whether the fit only serves model selection, so that it may be in single precision. Default false.

    Example:
        >>> import numpy as np
        >>> from benchmark.method.subspace import Moments, SourceMoments
        >>> photo, sketch = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[5.0, 6.0]])
        >>> views = lambda z: {"shift": z + [0.0, 3.0], "shrink": z + [4.0, 0.0]}
        >>> sources = SourceMoments({e: Moments.of(z, views(z)) for e, z in {"photo": photo, "sketch": sketch}.items()})
        >>> sources.kinds(), sources.images.n
        (['shift', 'shrink'], 3)
        >>> sources.reweighted({"shift": 1.0}).c_d()  # an intervention set with only one of the two kinds
        array([[0., 0.],
               [0., 9.]])
    """

    def __init__(
        self,
        environments: Mapping[str, Moments],
        weights: Mapping[str, float] | None = None,
        shared: Mapping[str, Differences] | None = None,
        prompts: GroupsOfPrompts | None = None,
        budget: Budget | None = None,
        together: Mapping[str, float] | None = None,
        known: Mapping[CacheId, Any] | None = None,
    ) -> None:
        if not environments:
            raise ValueError("A projection needs at least one source environment.")
        self._together = together or {}
        self.environments, self.weights, self.shared = environments, self._merged(weights), shared or {}
        self._prompts = prompts or {}
        self.placebo: Placebo | None = None
        self.for_choice = False
        images = reduce(operator.add, (Moments(m.counts, m.sums, m._outer) for m in environments.values()))
        self.images = replace(images, _outer=images.outer)
        self.targets: Mapping[str, Moments] = {}
        self._last: dict[str, tuple[object, Any]] = {}
        self._budget = budget or Budget()
        self._cache = dict(known or {})

    def reweighted(
        self, weights: Mapping[str, float] | None, placebo: "Placebo | None" = None, for_choice: bool = False
    ) -> "SourceMoments":
        """Return the same moments for another intervention set, optionally with a placebo of its C_d.

        `for_choice`: see the attribute. ValueError: kinds of the set were merged with other weights.
        """
        other = copy.copy(self)  # a shallow copy shares the last C_d and the cache
        other.weights, other.placebo, other.for_choice = self._merged(weights), placebo, for_choice
        return other

    def _merged(self, weights: Mapping[str, float] | None) -> Mapping[str, float] | None:
        """Return the weights, with one entry `TOGETHER` instead of the merged kinds."""
        if weights is None or not self._together:
            return weights
        if any(weights.get(kind) != weight for kind, weight in self._together.items()):
            raise ValueError(
                f"Kinds are added up by the weights {dict(self._together)}, which {dict(weights)} are not."
            )
        others = {kind: weight for kind, weight in weights.items() if kind not in self._together}
        return {TOGETHER: sum(self._together.values()), **others}

    def with_targets(self, targets: Mapping[str, Moments]) -> "SourceMoments":
        """Return these moments with `targets`: name of an environment -> moments of its target images."""
        other = copy.copy(self)
        other.targets = targets
        return other

    @property
    def dim(self) -> int:
        """Embedding width D."""
        return self.images.dim

    def c_z(self, centered: bool = False) -> Array:
        """Return C_z over all source images, shape (D, D)."""
        return self.images.c_z(centered)

    def kinds(self) -> list[str]:
        """Return the kinds of the intervention set."""
        if self.weights is not None:
            return list(self.weights)
        first = next(iter(self.environments.values()))
        return [kind for kind in first.differences if not kind.startswith(CROSS)]

    def differences(self, kind: str) -> Differences:
        """Return the sums over differences of a kind in all source environments. ValueError: there are no pairs."""
        parts = [self.shared[kind]] if kind in self.shared else self._of_environments(kind)
        if not sum(part.n for part in parts):
            raise ValueError(f"There are no interventional pairs of the kind '{kind}' in these environments.")
        return sum(parts[1:], parts[0])

    def c_d(self) -> Array:
        """Return C_d of the intervention set over all source images, or its placebo, shape (D, D)."""
        placebo = self.placebo
        if placebo is None:
            return self.original_c_d()
        return self.cached_last("placebo", self.set_key, lambda: placebo(self.original_c_d(), self))

    def original_c_d(self) -> Array:
        """Return C_d of the intervention set over all source images without any placebo, shape (D, D)."""
        return self.cached_last("c_d", self.kinds_key, self._weighted)

    def products(self) -> tuple[Array, Array]:
        """Return C_z,do = (1/n) sum z z^do^T and C_do,do = (1/n) sum z^do z^do^T of the intervention set, both (D, D).

        Since d = z - z^do, C_do,do = C_d - C_z + C_z,do + C_z,do^T needs no further sum.

        Raises:
            ValueError: only differences of pairs are known, or an image has no pair.
        """
        known = {kind: self.differences(kind) for kind in self.kinds()}
        crossed = {kind: d.cross / d.n for kind, d in known.items() if d.cross is not None and d.n == self.images.n}
        if lacking := [kind for kind in known if kind not in crossed]:
            raise ValueError(f"Second moments of z^do need a view of every image; '{lacking[0]}' is no such kind.")
        c_z_do = weighted(crossed, self.weights)
        return c_z_do, self.original_c_d() - self.c_z() + c_z_do + c_z_do.T

    def prompts(self, role: str) -> list[Array]:
        """Return the embeddings of each group of prompts in a role, shape (members, D). ValueError: there are none."""
        if not self._prompts.get(role):
            raise ValueError(f"There are no prompts with the role '{role}' for these environments and classes.")
        return self._prompts[role]

    @property
    def set_key(self) -> tuple[object, ...]:
        """Cache key of the intervention set: kinds, weights and placebo."""
        return *self.kinds_key, self.placebo

    @property
    def kinds_key(self) -> tuple[object, ...]:
        """Cache key of the intervention set without placebo: kinds and weights."""
        return tuple(self.kinds()), tuple((self.weights or {}).values())

    def cached_last(self, what: str, key: object, make: Callable[[], T]) -> T:
        """Return the result of `make`, cached until `what` is requested with another key.

        Only the last result of each `what` is held, since matrices of wide embeddings are large. `reweighted` moments
        share this cache, so the key must contain everything that the result depends on, except the images.
        """
        if what not in self._last or self._last[what][0] != key:
            self._last[what] = (key, make())
        made: T = self._last[what][1]
        return made

    def image_cache(self) -> dict[CacheId, Any]:
        """Return the cached objects that depend only on the images, not on the intervention set."""
        return {key: made for key, made in self._cache.items() if key[1] is None}

    def cached(self, key: CacheId, make: Callable[[], T], lasting: bool = True) -> T:
        """Return the result of `make`, cached for all trials of a worker within the budget.

        `key` has two parts: the name of the object, and what the object depends on besides the images (None: nothing).
        With `lasting` false, nothing is cached. This is for objects that only one trial uses, such as those made from
        one draw of a placebo.
        """
        if key in self._cache:
            known: T = self._cache[key]
            return known
        made = make()
        if lasting and self._budget.reserve(size_of(made)):
            self._cache[key] = made
        return made

    @property
    def nbytes(self) -> int:
        """Number of bytes of the sums and of the matrices held for the next fit, without cached objects."""
        of_environments = sum(moments.sums.nbytes for moments in self.environments.values())
        return size_of(self.images) + of_environments + LAST * 8 * self.dim**2

    def _weighted(self) -> Array:
        return weighted({kind: self.differences(kind).moment() for kind in self.kinds()}, self.weights)

    def _of_environments(self, kind: str) -> list[Differences]:
        names = [cross_kind(other) for other in self.environments] if kind == CROSS else [kind]
        every = self.environments.values()
        return [moments.differences[name] for moments in every for name in names if name in moments.differences]


Placebo = Callable[[Array, SourceMoments], Array]


def size_of(made: object) -> int:
    """Return the total bytes of the arrays in an object."""
    return sum(array.nbytes for array in vars(made).values() if isinstance(array, np.ndarray))


def cross_kind(environment: str) -> str:
    """Return the name of the kind that pairs each image with images of its class from `environment`."""
    return f"{CROSS}:{environment}"


def weighted(kinds: Mapping[str, Array], weights: Mapping[str, float] | None) -> Array:
    """Return the weighted mean of the second moments of kinds, shape (D, D). By default weights are equal.

    ValueError: there is no kind, a kind is unknown, or weights are negative or all zero.
    """
    weights = dict.fromkeys(kinds, 1.0) if weights is None else weights
    if not weights:
        raise ValueError("C_d needs interventional pairs, and there are none.")
    if unknown := [kind for kind in weights if kind not in kinds]:
        raise ValueError(f"There are no interventional pairs of the kind '{unknown[0]}'.")
    if min(weights.values()) < 0 or not sum(weights.values()) > 0:
        raise ValueError(f"Weights of intervention kinds must be positive, not {dict(weights)}.")
    return np.asarray(sum(w * kinds[kind] for kind, w in weights.items()) / sum(weights.values()))


def _second_moment(n: int, total: Array, outer: Array, centered: bool) -> Array:
    c = outer / n
    if centered:
        c = c - np.outer(total / n, total / n)
    return np.asarray(c)
