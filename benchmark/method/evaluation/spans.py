"""Do the interventions span the shift? How class means move between environments, against what a projection removes.

    delta_e,c   = m_e,c - (1/K) sum_s m_s,c    m the mean of class c in environment e, and in the K other sources with c
    S           = mean over (e, c) of delta delta^T, less w W, which means of few images differ by anyway: W the
                  covariance within the classes of a source, w the mean of 1/n_e,c + (1/K^2) sum_s 1/n_s,c
    removed(C)  = tr((I - G)^T C (I - G)) / tr(C),  G = V_k T_k^T: of z - G^T z, which inner products with texts miss
    moved       = (tr(S C_d) / tr(S C_z)) / (tr(C_d) / tr(C_z)): how much interventions move what shifts; on average 1

V maps images, T texts, k is the rank. Of truncation z - G^T z is what is dropped, of shrinkage it is z - F z (of
`symmetric`: F^(1/2) on both sides). removed(S) beside removed(C_z) tells shift from energy: a map that shrinks all
directions alike removes as much of either. With the sources as e no label of a target is used; with a target as e, its
labels are. Apart from `diagnostics`, which reads environments with a probe: all result rows hang on this module.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.method.arrays import Array
from benchmark.method.subspace import Basis, Moments, SourceMoments
from benchmark.method.subspace.directions import lost_by_rank


@dataclass(frozen=True)
class Shift:
    """S = R^T diag(s) R + a C_z, C_z that of the sources: a few rows, so that every fit can be held against it."""

    rows: Array  # R, shape (r, D): the deltas, and the class means of the sources, which tell C_z from W
    weights: Array  # s, shape (r,)
    of_c_z: float  # a, <= 0
    trace: float  # tr(S), > 0

    def along(self, directions: Array, energy: Array) -> Array:
        """Return x^T S x of directions, as columns, shape (D, k), with their x^T C_z x."""
        return np.asarray(self.weights @ (self.rows @ directions) ** 2 + self.of_c_z * energy)

    def moment(self, c_z: Array) -> Array:
        """Return S, shape (D, D)."""
        return np.asarray((self.rows.T * self.weights) @ self.rows + self.of_c_z * c_z)

    def with_(self, c: Array, c_z: Array) -> float:
        """Return tr(S C) for a second moment C of shape (D, D)."""
        return float(self.weights @ np.einsum("rd,rd->r", self.rows @ c, self.rows) + self.of_c_z * np.sum(c_z * c))


def class_shift(environments: Sequence[Moments], sources: SourceMoments) -> Shift | None:
    """Return how class means of some environments differ from those of the sources other than itself.

    None if no class stands in two environments, no class has two images in a source, or the means differ by no
    more than few images make them.
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
    """Return delta of each class that an environment shares with others, shape (classes, D), and what noise has, w."""
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
    """Return the share that a map removes of C_z, then of each shift, at every rank 1 ... D, or at rank D alone."""
    v, t = basis.vectors, basis.texts
    wholes = [np.trace(c_z), *(shift.trace for shift in shifts)]
    x = np.random.default_rng(0).standard_normal(len(v))  # V V^T x = x says V V^T = I, but for x of measure 0
    if full_rank_only:
        lost = [of_one.sum(keepdims=True) for of_one in _along(np.eye(len(v)) - v @ t.T, c_z, shifts)]
    elif t is v and np.allclose(v @ (v.T @ x), x):  # orthonormal: what is lost is what was there less what is kept
        lost = [whole - np.cumsum(of_one) for whole, of_one in zip(wholes, _along(v, c_z, shifts), strict=True)]
    else:
        lost = [lost_by_rank(v, t, c) for c in (c_z, *(shift.moment(c_z) for shift in shifts))]
    return [np.asarray(of_one / whole) for of_one, whole in zip(lost, wholes, strict=True)]


def _along(directions: Array, c_z: Array, shifts: Sequence[Shift]) -> list[Array]:
    energy = np.einsum("dk,dk->k", directions, c_z @ directions)
    return [energy, *(shift.along(directions, energy) for shift in shifts)]


def moved(shift: Shift, c_d: Array, c_z: Array) -> float | None:
    """Return how much interventions move what shifts, relative to all directions; None if they move nothing."""
    along, average = shift.with_(c_z, c_z), np.trace(c_d) / np.trace(c_z)
    return float(shift.with_(c_d, c_z) / along / average) if along > 0 and average > 0 else None


@dataclass(frozen=True)
class Spans:
    """Shares of one tested fit; lists run over the ranks. All None if it is no linear map.

    Attributes:
        energy_removed: share of C_z that is removed.
        shift_removed_sources: the same of the shift between sources; None if there is none.
        shift_removed_target: the same of the shift from the sources to what is tested, by its labels; None likewise,
            and where it is fitted on itself.
        shift_moved_sources: how much C_d, or what replaces it, moves what shifts between sources, 1 as the average
            direction; None without interventions.
        shift_moved_target: the same of the shift to what is tested.
    """

    energy_removed: list[float] | None = None
    shift_removed_sources: list[float] | None = None
    shift_removed_target: list[float] | None = None
    shift_moved_sources: float | None = None
    shift_moved_target: float | None = None


@dataclass(frozen=True, eq=False)  # itself, as the key of what is made of it once
class Shifts:
    """The shifts of one holdout, the same for all that is fitted on its sources; None if there is none."""

    between: Shift | None  # between sources
    to_target: Shift | None  # from the sources to what is tested

    @classmethod
    def of(cls, sources: SourceMoments, targets: Sequence[Moments]) -> "Shifts":
        """Return the shifts of the sources that are fitted on and of what is tested."""
        return cls(class_shift([*sources.environments.values()], sources), class_shift(targets, sources))


def spans_of(basis: Basis, sources: SourceMoments, shifts: Shifts, ranks: Sequence[int]) -> Spans:
    """Return what a fit removes; `sources` are what it was fitted on, with the intervention set and its placebo."""
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

    return Spans(energy, *of_shifts, *sources.cached_last("moved", (sources.set_key, shifts), how_moved))
