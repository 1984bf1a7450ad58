"""The share of the shift between class means of environments that a projection removes, and C_d along this shift.

    delta_e,c   = m_e,c - (1/K) sum_s m_s,c    m_e,c: mean of class c in environment e; s: the K other sources with c
    S           = mean over (e, c) of delta delta^T, minus w W, which is the sampling noise of the means
    removed(C)  = tr((I - G)^T C (I - G)) / tr(C),  G = V_k T_k^T
    moved       = (tr(S C_d) / tr(S C_z)) / (tr(C_d) / tr(C_z)): C_d along the shift; 1 for an average direction

W is the covariance within the classes of a source, and w the mean of 1/n_e,c + (1/K^2) sum_s 1/n_s,c. V maps images, T
maps texts, k is the rank. z - G^T z is the part of z that inner products with texts lose: the dropped part for
truncation, z - F z for shrinkage (`symmetric` has F^(1/2) on both sides). Compare removed(S) with removed(C_z): a map
that shrinks all directions equally removes the same share of both. If e is a source, no target label is used; if e is a
target, its labels are used. All result rows depend on this module, so it is separate from `diagnostics`, which fits a
probe for environments.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmark.method.arrays import Array
from benchmark.method.subspace import Basis, Moments, SourceMoments
from benchmark.method.subspace.basis import lost_by_rank
from benchmark.method.subspace.moments import size_of


@dataclass(frozen=True)
class Shift:
    """The matrix S as R^T diag(s) R + a C_z, with C_z of the sources. R has few rows, so products are cheap."""

    rows: Array  # R, shape (r, D): the deltas, and class means of the sources, since W is C_z minus their part
    weights: Array  # s, shape (r,)
    of_c_z: float  # a, <= 0
    trace: float  # tr(S), > 0

    def along(self, directions: Array, energy: Array) -> Array:
        """Return x^T S x for directions x, the columns of shape (D, k); `energy` is their x^T C_z x."""
        return np.asarray(self.weights @ (self.rows @ directions) ** 2 + self.of_c_z * energy)

    def moment(self, c_z: Array) -> Array:
        """Return S, shape (D, D)."""
        return np.asarray((self.rows.T * self.weights) @ self.rows + self.of_c_z * c_z)

    def with_(self, c: Array, c_z: Array) -> float:
        """Return tr(S C) for a second moment C of shape (D, D)."""
        return float(self.weights @ np.einsum("rd,rd->r", self.rows @ c, self.rows) + self.of_c_z * np.sum(c_z * c))


def class_shift(environments: Sequence[Moments], sources: SourceMoments) -> Shift | None:
    """Return the shift between class means of some environments and class means of the other sources.

    The result is None if no class is in two environments, if no class has two images in a source, or if the shift is
    not above the sampling noise.
    """
    parts = [_deltas(one, [s for s in sources.environments.values() if s is not one]) for one in environments]
    delta, noise = (np.concatenate(of_all) for of_all in zip(*parts, strict=True)) if parts else (np.zeros(0),) * 2
    cells = [(m.counts[m.counts > 0], m.sums[m.counts > 0]) for m in sources.environments.values()]
    n, free = sources.images.n, sources.images.n - sum(len(counts) for counts, _ in cells)
    if not len(delta) or free <= 0:
        return None
    w = noise.mean() / free
    means = np.concatenate([sums / np.sqrt(counts)[:, None] for counts, sums in cells])
    weights = np.concatenate([np.full(len(delta), 1 / len(delta)), np.full(len(means), w)])
    rows = np.concatenate([delta, means])
    trace = float(weights @ (rows**2).sum(axis=1) - w * n * np.trace(sources.c_z()))
    return Shift(rows, weights, -w * n, trace) if trace > 0 else None


def _deltas(one: Moments, others: Sequence[Moments]) -> tuple[Array, Array]:
    """Return delta of each class that another environment has too, shape (classes, D), and its noise weight w."""
    there = np.array([other.counts > 0 for other in others]).reshape(len(others), len(one.counts))
    shared = np.flatnonzero((one.counts > 0) & there.any(axis=0))
    shares = there[:, shared] / there[:, shared].sum(axis=0)
    counts, sums = one.counts[shared], one.sums[shared]
    delta, noise = sums / counts[:, None], 1 / counts
    for other, share in zip(others, shares, strict=True):
        n = np.maximum(other.counts[shared], 1)
        delta = delta - (share / n)[:, None] * other.sums[shared]
        noise = noise + share**2 / n
    return delta, noise


def removed(basis: Basis, c_z: Array, shifts: Sequence[Shift], full_rank_only: bool = False) -> list[Array]:
    """Return the removed shares of C_z and of each shift, as arrays over the ranks 1 to D or only rank D."""
    v, t = basis.vectors, basis.texts
    wholes = [np.trace(c_z), *(shift.trace for shift in shifts)]
    x = np.random.default_rng(0).standard_normal(len(v))  # for almost all x, V V^T x = x implies V V^T = I
    if full_rank_only:
        lost = [of_one.sum(keepdims=True) for of_one in _along(np.eye(len(v)) - v @ t.T, c_z, shifts)]
    elif t is v and np.allclose(v @ (v.T @ x), x):  # orthonormal, so the lost part is the whole minus the kept part
        lost = [whole - np.cumsum(of_one) for whole, of_one in zip(wholes, _along(v, c_z, shifts), strict=True)]
    else:
        lost = [lost_by_rank(v, t, c) for c in (c_z, *(shift.moment(c_z) for shift in shifts))]
    return [np.asarray(of_one / whole) for of_one, whole in zip(lost, wholes, strict=True)]


def _along(directions: Array, c_z: Array, shifts: Sequence[Shift]) -> list[Array]:
    energy = np.einsum("dk,dk->k", directions, c_z @ directions)
    return [energy, *(shift.along(directions, energy) for shift in shifts)]


def moved(shift: Shift, c_d: Array, c_z: Array) -> float | None:
    """Return C_d along the shift, relative to an average direction; None if C_d is 0."""
    along, average = shift.with_(c_z, c_z), np.trace(c_d) / np.trace(c_z)
    return float(shift.with_(c_d, c_z) / along / average) if along > 0 and average > 0 else None


@dataclass(frozen=True)
class Spans:
    """Shares that one tested fit removes: columns of the rows, see `_SPANS` in `benchmark/store/rows.py`.

    Attributes:
        energy_removed: removed share of C_z at every rank. This and all other fields are None for a nonlinear map.
        shift_removed_sources: removed share of the shift between sources at every rank; None without a shift.
        shift_removed_target: removed share of the shift from sources to target at every rank, computed with target
            labels; None without a shift, or if the target is a source.
        shift_moved_sources: C_d, or its placebo, along the shift between sources, relative to an average direction;
            None without interventions.
        shift_moved_target: C_d, or its placebo, along the shift from sources to target; None without interventions.
    """

    energy_removed: list[float] | None = None
    shift_removed_sources: list[float] | None = None
    shift_removed_target: list[float] | None = None
    shift_moved_sources: float | None = None
    shift_moved_target: float | None = None


@dataclass(frozen=True)
class Shifts:
    """Two shifts of one holdout, each None if there is none. All fits on the sources of the holdout share them."""

    between: Shift | None  # shift between sources
    to_target: Shift | None  # shift from sources to target
    name: object = field(default_factory=object)  # a cache key, which takes no memory

    @property
    def nbytes(self) -> int:
        """Number of bytes of the shifts."""
        return sum(size_of(shift) for shift in (self.between, self.to_target) if shift is not None)

    @classmethod
    def of(cls, sources: SourceMoments, targets: Sequence[Moments]) -> "Shifts":
        """Return the shifts between sources, and from sources to targets."""
        return cls(class_shift([*sources.environments.values()], sources), class_shift(targets, sources))


def spans_of(basis: Basis, sources: SourceMoments, shifts: Shifts, ranks: Sequence[int]) -> Spans:
    """Return the shares that a fit removes; `sources`: its moments, with intervention set and placebo."""
    if not basis.is_linear:
        return Spans()
    c_z, both = sources.c_z(), (shifts.between, shifts.to_target)
    whole = tuple(ranks) == (sources.dim,)
    shares = iter(removed(basis, c_z, [shift for shift in both if shift is not None], whole))
    at = [0] if whole else [rank - 1 for rank in ranks]
    energy, *of_shifts = (None if of is None else next(shares)[at].tolist() for of in (c_z, *both))

    def how_moved() -> list[float | None]:
        if not sources.kinds():
            return [None, None]
        return [None if shift is None else moved(shift, sources.c_d(), c_z) for shift in both]

    return Spans(energy, *of_shifts, *sources.cached_last("moved", (sources.set_key, shifts.name), how_moved))
