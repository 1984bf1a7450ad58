"""Which images truncated dot products classify correctly, at many ranks, in float32 where that decides.

    s_kc = f_kc sum_{i <= k} (x v_i) t_ci = x A_kc,   A_kc = f_kc sum_{i <= k} t_ci v_i,   predicted is argmax_c

    x       image embedding, shape (D,);  v_i the directions of a basis, as columns of V
    t_c     text of class c in the coordinates of the basis;  f_kc > 0, such as one over its length up to k

Images are multiplied by A, and never turned into the coordinates of the basis. Of equally spaced ranks that are many
the first of each group is made so, and the others of its group by adding (x v_i) t_ci.

No answer changes by it. With u = 2^-24 the margin between the own class and the best other one is off by at most

    2 gamma_n |x| max_c f_kc ( |sum_{i <= a} t_ci v_i| + sum_{a < i <= k} |t_ci| |v_i| ),   gamma_n = n u / (1 - n u)

a the first rank of the group and n = D + 3 times its coordinates + 8 (Higham, Accuracy and Stability of Numerical
Algorithms, section 3.1; the order of the sums does not matter). Margins within it are made again in float64, and those
within that one's, which are ties but for rounding, are left to who knows how ties are broken.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Self

import numpy as np

from benchmark.method.arrays import Array, Floats, Labels, Mask, Single
from benchmark.method.subspace import Basis

GROUP = 16  # coordinates of a group: with more the bound grows, with fewer the number of sums made in full
MAX_SUMS = 2  # times D: with more sums for an image than that, turning it in float64 and summing there costs less
SCORES = 2**16  # scores that are held at a time, in float32: what fits into a core's cache
UNDERFLOW = 1e-35  # more than D products lose that are below the smallest normal number

Correct = Mask


class DotProducts:
    """A of all ranks, and how far each margin may be off; made by `of`.

    The ranks of a group are `span`; above 1 all are equally spaced.
    """

    def __init__(self, basis: Basis, text: Array, factors: Array, ranks: Sequence[int], span: int) -> None:
        classes, dim = text.shape
        self._ranks, self._span, self._spacing = len(ranks), span, ranks[1] - ranks[0] if span > 1 else 0
        firsts = ranks[::span]
        # What lies between a group's first rank and its last; beyond D there is nothing.
        inside = np.arange((span - 1) * self._spacing)[:, None] + np.asarray(firsts)
        there, at = inside < dim, np.minimum(inside, dim - 1)
        whole = list(ranks) == [dim]  # where the matrix V need not be known
        self._sums = basis.to_image_space(text)[:, None] if whole else _sums(basis.vectors, text, firsts)
        self._directions = basis.vectors.T[at] * there[:, :, None] if len(at) else np.zeros((*at.shape, dim))
        self._text = np.moveaxis(text[:, at], 1, 0) * there[:, None]
        padded = np.concatenate([factors, np.ones((-len(ranks) % span, classes))])
        self._factors = np.ascontiguousarray(padded.reshape(len(firsts), span, classes).transpose(1, 2, 0))
        self._bounds, self._bounds_in_double = self._error_bounds(basis, text, factors, ranks, whole)
        weights = np.concatenate([self._sums.reshape(-1, dim), self._directions.reshape(-1, dim)])
        self._single = weights.astype(np.float32)
        self._text_single, self._factors_single = (a.astype(np.float32)[..., None] for a in (self._text, self._factors))

    @classmethod
    def of(cls, basis: Basis, text: Array, factors: Array, ranks: Sequence[int]) -> Self | None:
        """Return what classifies at these ranks, or None if it would be no cheaper than turning every image.

        `text` is t_c, shape (n_classes, D); `factors` are f_kc, shape (ranks, n_classes).
        """
        (classes, dim), spacings = text.shape, set(np.diff(ranks).tolist())
        spans = {1, max(1, GROUP // spacings.pop())} if len(spacings) == 1 else {1}
        columns = {s: -(-len(ranks) // s) * classes + (s > 1) * dim for s in spans}
        span = min(columns, key=lambda s: columns[s])
        cheaper = columns[span] <= MAX_SUMS * dim
        return cls(basis, text, factors, ranks, span) if cheaper else None

    def correct(self, x: Floats, labels: Labels, ties: Callable[[int], Correct]) -> Correct:
        """Return which images are classified correctly, shape (ranks, n).

        `x` are embeddings as they are multiplied by V, up to a factor above 0 of each, shape (n, D). `ties` says which
        images are correct at the first of so many ranks, shape (number, n), by who knows how ties are broken.
        """
        single = x.astype(np.float32, copy=False)
        lengths = np.sqrt(np.einsum("nd,nd->n", x, x))
        correct, doubtful = (np.empty((self._ranks, len(x)), dtype=np.bool_) for _ in range(2))
        for rows in self._blocks(len(x)):
            for j, margins in enumerate(self._margins(single[rows], labels[rows])):
                correct[j :: self._span, rows] = margins > 0
                # Written so that infinite and undefined margins are in doubt.
                doubtful[j :: self._span, rows] = ~(
                    np.abs(margins) > _off(self._bounds[j :: self._span], lengths[rows])
                )
        self._settle_in_double(x, labels, correct, doubtful)
        if doubtful.any():
            # At rank 1 of cosines all classes on the image's side are tied: of many ranks the first ones will do.
            tied = slice(self._ranks if self._span == 1 else int(np.flatnonzero(doubtful.any(axis=1))[-1]) + 1)
            np.copyto(correct[tied], ties(tied.stop), where=doubtful[tied])
        return correct

    def _blocks(self, n: int) -> Iterator[slice]:
        """Yield consecutive images, as many as fit into the cache with their scores."""
        size = max(1, SCORES // self._factors[0].size)
        yield from (slice(start, min(start + size, n)) for start in range(0, n, size))

    def _margins(self, x: Single, labels: Labels) -> Iterator[Single]:
        """Yield own class less best other one for the first rank of every group, then the second: shape (groups, n)."""
        _, classes, groups = self._factors.shape
        products, each = self._single @ x.T, np.arange(len(x))
        running = products[: classes * groups].reshape(classes, groups, len(x))
        inside, term = products[classes * groups :].reshape(-1, groups, len(x)), np.empty_like(running)
        for j, factors in enumerate(self._factors_single):
            for i in range((j - 1) * self._spacing, j * self._spacing) if j else ():
                running += np.multiply(inside[i], self._text_single[i], out=term)
            scores = np.multiply(running, factors, out=term)
            own = scores[labels, :, each].T
            scores[labels, :, each] = -np.inf
            yield (own - scores.max(axis=0))[: len(range(j, self._ranks, self._span))]

    def _settle_in_double(self, x: Floats, labels: Labels, correct: Correct, doubtful: Correct) -> None:
        """Decide in float64 what is doubtful; in doubt stays what is within the bound of that."""
        step = self._span if self._span > 1 else self._ranks  # groups of one rank each are few: all at once
        for first in range(0, self._ranks, step):
            ranks, groups = slice(first, first + step), slice(first // self._span, (first + step) // self._span)
            doubted = np.flatnonzero(doubtful[ranks].any(axis=0))
            for block in self._blocks(len(doubted)):
                rows = doubted[block]
                in_double = x[rows].astype(np.float64)
                margins = self._margins_in_double(in_double, labels[rows], groups)[: len(doubtful[ranks])]
                off = np.multiply.outer(self._bounds_in_double[ranks], np.linalg.norm(in_double, axis=1))
                correct[ranks, rows] = margins > 0
                doubtful[ranks, rows] = ~(np.abs(margins) > off)

    def _margins_in_double(self, x: Array, labels: Labels, groups: slice) -> Array:
        """Return own class less best other one at all ranks of some groups, shape (ranks, n)."""
        dots = self._sums[:, groups] @ x.T
        terms = (self._directions[:, groups] @ x.T)[:, None] * self._text[:, :, groups, None]
        running = np.cumsum(np.concatenate([dots[None], terms]), axis=0)[:: max(self._spacing, 1)]
        scores = (running * self._factors[:, :, groups, None]).transpose(2, 0, 1, 3)
        each = np.arange(len(x))
        own = scores[:, :, labels, each]
        scores[:, :, labels, each] = -np.inf
        return np.asarray((own - scores.max(axis=2)).reshape(-1, len(x)))

    def _error_bounds(
        self, basis: Basis, text: Array, factors: Array, ranks: Sequence[int], whole: bool
    ) -> tuple[Array, Array]:
        """Return how far a margin may be off for an image of length 1, in float32 and in float64, shape (ranks,)."""
        dim, last = text.shape[1], np.asarray(ranks) - 1
        if whole:
            sizes = basis.rounding_bounds(text)[None]
        else:
            sizes = np.cumsum(np.abs(text) * np.linalg.norm(basis.vectors, axis=0), axis=1)[:, last].T
        first = np.repeat(np.arange(len(ranks))[:: self._span], self._span)[: len(ranks)]
        of_first = np.repeat(np.linalg.norm(self._sums, axis=2).T, self._span, axis=0)[: len(ranks)]
        # In float64 both this and who breaks ties may turn images and add coordinate by coordinate.
        double = 16 * dim * 2.0**-53 * (factors * sizes).max(axis=1)
        n = (dim + 3 * len(self._text) + 8) * 2.0**-24
        single = n / (1 - n) * (factors * (of_first + sizes - sizes[first])).max(axis=1)
        return 2 * single + double, double


def _off(bounds: Array, lengths: Floats) -> Array:
    # A length may be off itself: by 3e-5 of it, and by what squares lose that are below the smallest normal number.
    return np.multiply.outer(bounds, 1.0001 * lengths.astype(np.float64) + 1e-17) + UNDERFLOW


def _sums(vectors: Array, text: Array, ranks: Sequence[int]) -> Array:
    """Return sum_{i <= k} t_ci v_i of every rank k, shape (n_classes, ranks, D)."""
    sums = np.empty((len(text), len(ranks), len(vectors)))
    for i, (a, b) in enumerate(zip([0, *ranks], ranks, strict=False)):
        sums[:, i] = text[:, a:b] @ vectors[:, a:b].T
        sums[:, i] += sums[:, i - 1] if i else 0.0
    return sums
