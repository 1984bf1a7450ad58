"""The highest score of each of many choices at once, and how many answers are right at every rank: arrays alone.

Everything lies end to end in flat arrays with the number of what it belongs to, so that choices of unlike numbers of
settings, and settings of unlike numbers of ranks, cost no loop.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from benchmark.method.arrays import Array, Labels

_BLOCK = 64 * 2**20  # bytes of answers that are looked at together
_ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1)


@dataclass(frozen=True)
class Curves:
    """Rank curves end to end.

    Attributes:
        ranks: shape (n,), ascending within each curve.
        curve: number of the curve that each belongs to, ascending, shape (n,).
        index: its position in that curve, shape (n,).
        sizes: number of ranks of each curve, shape (curves,).
    """

    ranks: Labels
    curve: Labels
    index: Labels
    sizes: Labels

    @property
    def starts(self) -> Labels:
        """Where each curve begins, shape (curves,)."""
        return np.concatenate([[0], np.cumsum(self.sizes)[:-1]]).astype(np.int64)

    def scores(self, curves: Iterable[Sequence[float] | None]) -> Array:
        """Return scores end to end, shape (n,); NaN for a curve that has none."""
        padded = (
            scores if isinstance(scores, Sequence) and scores else (np.nan,) * size
            for scores, size in zip(curves, self.sizes.tolist(), strict=True)
        )
        return np.fromiter(chain.from_iterable(padded), np.float64, len(self.ranks))


def curves_of(ranks: Sequence[Sequence[int]]) -> Curves:
    """Return curves with these ranks each."""
    sizes = np.fromiter(map(len, ranks), np.int64, len(ranks))
    curve = np.repeat(np.arange(len(ranks)), sizes)
    starts = np.cumsum(sizes) - sizes
    flat = np.fromiter(chain.from_iterable(ranks), np.int64, int(sizes.sum()))
    return Curves(flat, curve, np.arange(len(flat)) - starts[curve], sizes)


def highest(scores: Array, curves: Curves, choice: Labels, rank: int | None = None) -> Labels:
    """Return for each choice the place of its highest score; ties go to the larger rank, then to the first curve.

    Args:
        scores: shape (n,); NaN is no score.
        curves: what they belong to.
        choice: number of the choice of each curve, ascending from 0, shape (curves,).
        rank: the only one that counts; by default all do.

    Returns:
        Positions among the n, shape (choices,); -1 for a choice without a score.
    """
    found = np.full(int(choice[-1]) + 1 if len(choice) else 0, -1, dtype=np.int64)
    counts = ~np.isnan(scores) if rank is None else ~np.isnan(scores) & (curves.ranks == rank)
    place = np.flatnonzero(counts)
    if not len(place):
        return found
    of_choice = choice[curves.curve[place]]
    for keys in (scores, curves.ranks):
        begins = np.concatenate([[True], of_choice[1:] != of_choice[:-1]])
        tops = np.maximum.reduceat(keys[place], np.flatnonzero(begins))
        best = keys[place] == tops[np.cumsum(begins) - 1]
        place, of_choice = place[best], of_choice[best]
    first = np.concatenate([[True], of_choice[1:] != of_choice[:-1]])
    found[of_choice[first]] = place[first]
    return found


def hits(answers: Sequence[bytes], curves: Curves, masks: Sequence[NDArray[np.uint8]], mask: Labels) -> Labels:
    """Return how many answers are right at every rank, in each of some parts of the images.

    Args:
        answers: of each curve, as bits: each rank begins a new byte.
        curves: the curves.
        masks: sets of parts, each as bits of shape (parts, bytes of a rank), with as many parts in all.
        mask: number of the set of parts of each curve, shape (curves,).

    Returns:
        Shape (parts, n).
    """
    out = np.zeros((len(masks[0]) if masks else 0, len(curves.ranks)), dtype=np.int64)
    width = np.fromiter((of_set.shape[1] for of_set in masks), np.int64, len(masks))[mask]
    for ranks, bytes_ in np.unique(np.stack([curves.sizes, width], axis=1), axis=0).tolist():
        alike = np.flatnonzero((curves.sizes == ranks) & (width == bytes_))
        used, of_used = np.unique(mask[alike], return_inverse=True)
        parts = np.stack([_words(masks[i]) for i in used])
        block = max(1, _BLOCK // max(1, ranks * bytes_))
        for begin in range(0, len(alike), block):
            own = alike[begin : begin + block]
            joined = np.frombuffer(b"".join([answers[i] for i in own.tolist()]), dtype=np.uint8)
            words = _words(joined.reshape(len(own), ranks, bytes_))
            places = curves.starts[own][:, None] + np.arange(ranks)
            for k in range(len(out)):
                out[k, places] = _ones(words & parts[of_used[begin : begin + block], k, None])
    return out


def _words(bits: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return bits in words of eight bytes along the last axis, the last one filled with zeros."""
    whole = np.zeros((*bits.shape[:-1], -(-bits.shape[-1] // 8) * 8), dtype=np.uint8)
    whole[..., : bits.shape[-1]] = bits
    return whole.view(np.uint64)


def _ones(words: NDArray[np.uint64]) -> Labels:
    """Return the number of ones over the last axis."""
    if hasattr(np, "bitwise_count"):  # NumPy 2
        return np.asarray(np.bitwise_count(words).sum(axis=-1, dtype=np.int64))
    return np.asarray(_ONES[np.ascontiguousarray(words).view(np.uint8)].sum(axis=-1, dtype=np.int64))
