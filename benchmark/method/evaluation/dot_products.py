"""Correctness of classification by truncated dot products, at many ranks, in float32 with error bounds.

    s_kc = f_kc sum_{i <= k} (x v_i) t_ci = x A_kc,   A_kc = f_kc sum_{i <= k} t_ci v_i,   prediction: argmax_c s_kc

    x       image embedding, shape (D,);  v_i the directions of a basis, as columns of V
    t_c     text of class c in coordinates of the basis;  f_kc > 0, e.g. one over its length up to k

Images are multiplied by A and never rotated into coordinates of the basis. Equally spaced ranks are put into groups.
Scores at the first rank of a group are computed in this way. For each further rank, terms (x v_i) t_ci are added to
them.

Predictions are exact nevertheless. The margin of an image is the score of its true class minus the best other score.
With u = 2^-24 its error is at most

    2 gamma_n |x| max_c f_kc ( |sum_{i <= a} t_ci v_i| + sum_{a < i <= k} |t_ci| |v_i| ),   gamma_n = n u / (1 - n u)

where a is the first rank of the group, and n = D + 3 (number of coordinates in a group) + 8 (Higham, Accuracy and
Stability of Numerical Algorithms, section 3.1; for any order of summation). A margin whose sign the bound leaves open
is computed again in float64. If its sign is still open, it is a tie up to rounding, which the callback `ties` decides.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Self

import numpy as np

from benchmark.method.arrays import Array, Floats, Labels, Mask, Single
from benchmark.method.subspace import Basis

GROUP = 16  # coordinates per group: more of them increase the error bound, fewer of them the number of full sums
MAX_SUMS = 2  # times D: with more sums per image, rotating images and summing in float64 is faster
SCORES = 2**16  # float32 scores at a time, which fit into a core's cache
UNDERFLOW = 1e-35  # bounds the error of D products below the smallest normal number

Correct = Mask


class DotProducts:
    """For every rank k the matrix with columns A_kc (see the module docstring), and the error bounds of margins.

    Use `of` to build it.

    `span`: number of ranks per group; if above 1, ranks are equally spaced.
    """

    def __init__(self, basis: Basis, text: Array, factors: Array, ranks: Sequence[int], span: int) -> None:
        classes, dim = text.shape
        self._ranks, self._span, self._spacing = len(ranks), span, ranks[1] - ranks[0] if span > 1 else 0
        firsts = ranks[::span]
        # Coordinates from the first rank of each group to its last, up to D.
        inside = np.arange((span - 1) * self._spacing)[:, None] + np.asarray(firsts)
        there, at = inside < dim, np.minimum(inside, dim - 1)
        # Directions first: sums are faster with them.
        self._directions = basis.vectors.T[at] * there[:, :, None] if len(at) else np.zeros((*at.shape, dim))
        self._sums = basis.sums(text, firsts)
        self._text = np.moveaxis(text[:, at], 1, 0) * there[:, None]
        padded = np.concatenate([factors, np.ones((-len(ranks) % span, classes))])
        self._factors = np.ascontiguousarray(padded.reshape(len(firsts), span, classes).transpose(1, 2, 0))
        self._bounds, self._bounds_in_double = self._error_bounds(basis, text, factors, ranks)
        weights = np.concatenate([self._sums.reshape(-1, dim), self._directions.reshape(-1, dim)])
        self._single = weights.astype(np.float32)
        self._text_single, self._factors_single = (a.astype(np.float32)[..., None] for a in (self._text, self._factors))

    @classmethod
    def of(cls, basis: Basis, text: Array, factors: Array, ranks: Sequence[int]) -> Self | None:
        """Return dot products for these ranks, or None if rotating every image is at least as fast.

        `text` has the rows t_c, shape (n_classes, D). `factors` has f_kc, shape (ranks, n_classes).
        """
        (classes, dim), spacings = text.shape, set(np.diff(ranks).tolist())
        spans = {1, max(1, GROUP // spacings.pop())} if len(spacings) == 1 else {1}
        columns = {s: -(-len(ranks) // s) * classes + (s > 1) * dim for s in spans}
        span = min(columns, key=lambda s: columns[s])
        cheaper = columns[span] <= MAX_SUMS * dim
        return cls(basis, text, factors, ranks, span) if cheaper else None

    def correct(
        self, embeddings: Callable[[slice | Labels], Floats], labels: Labels, ties: Callable[[int], Correct]
    ) -> Correct:
        """Return correctness, shape (ranks, n).

        `embeddings`: a function that gets m of the n images and returns their embeddings, shape (m, D), whose lengths
        do not matter; they are read a block at a time. `ties`: a function that gets a number r and returns correctness
        at the first r ranks with ties broken, shape (r, n).
        """
        correct, doubtful = (np.empty((self._ranks, len(labels)), dtype=np.bool_) for _ in range(2))
        for rows in self._blocks(len(labels)):
            x = embeddings(rows)
            # Lengths have errors too: 3e-5 of the length, and squares below the smallest normal number.
            scale = 1.0001 * np.sqrt(np.einsum("nd,nd->n", x, x)).astype(np.float64) + 1e-17
            for j, margins in enumerate(self._margins(x.astype(np.float32, copy=False), labels[rows])):
                correct[j :: self._span, rows] = margins > 0
                bounds = np.multiply.outer(self._bounds[j :: self._span], scale) + UNDERFLOW
                doubtful[j :: self._span, rows] = ~(np.abs(margins) > bounds)  # so are NaN and infinite margins
        self._settle_in_double(embeddings, labels, correct, doubtful)
        if doubtful.any():
            # With cosines at rank 1, all classes of the same sign tie. So often only the first ranks are needed.
            tied = slice(self._ranks if self._span == 1 else int(np.flatnonzero(doubtful.any(axis=1))[-1]) + 1)
            np.copyto(correct[tied], ties(tied.stop), where=doubtful[tied])
        return correct

    def _blocks(self, n: int) -> Iterator[slice]:
        """Yield blocks of images whose scores fit into the cache."""
        size = max(1, SCORES // self._factors[0].size)
        yield from (slice(start, min(start + size, n)) for start in range(0, n, size))

    def _margins(self, x: Single, labels: Labels) -> Iterator[Single]:
        """Yield margins, shape (groups, n), at the first rank of every group, then at the second rank, and so on."""
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

    def _settle_in_double(
        self, embeddings: Callable[[Labels], Floats], labels: Labels, correct: Correct, doubtful: Correct
    ) -> None:
        """Decide doubtful predictions by margins in float64. Margins within the float64 error bound stay doubtful."""
        step = self._span if self._span > 1 else self._ranks  # groups of one rank are few, so all at once
        for first in range(0, self._ranks, step):
            ranks, groups = slice(first, first + step), slice(first // self._span, (first + step) // self._span)
            doubted = np.flatnonzero(doubtful[ranks].any(axis=0))
            for block in self._blocks(len(doubted)):
                rows = doubted[block]
                in_double = embeddings(rows).astype(np.float64)
                margins = self._margins_in_double(in_double, labels[rows], groups)[: len(doubtful[ranks])]
                off = np.multiply.outer(self._bounds_in_double[ranks], np.linalg.norm(in_double, axis=1))
                correct[ranks, rows] = margins > 0
                doubtful[ranks, rows] = ~(np.abs(margins) > off)

    def _margins_in_double(self, x: Array, labels: Labels, groups: slice) -> Array:
        """Return margins at all ranks of some groups, shape (ranks, n)."""
        dots = self._sums[:, groups] @ x.T
        terms = (self._directions[:, groups] @ x.T)[:, None] * self._text[:, :, groups, None]
        running = np.cumsum(np.concatenate([dots[None], terms]), axis=0)[:: max(self._spacing, 1)]
        scores = (running * self._factors[:, :, groups, None]).transpose(2, 0, 1, 3)
        each = np.arange(len(x))
        own = scores[:, :, labels, each]
        scores[:, :, labels, each] = -np.inf
        return np.asarray((own - scores.max(axis=2)).reshape(-1, len(x)))

    def _error_bounds(self, basis: Basis, text: Array, factors: Array, ranks: Sequence[int]) -> tuple[Array, Array]:
        """Return two bounds of the error of margins, in float32 and in float64, each of shape (ranks,).

        They hold for embeddings of length 1.
        """
        dim, sizes = text.shape[1], basis.rounding_bounds(text, ranks)
        first = np.repeat(np.arange(len(ranks))[:: self._span], self._span)[: len(ranks)]
        of_first = np.repeat(np.linalg.norm(self._sums, axis=2).T, self._span, axis=0)[: len(ranks)]
        # Holds for float64 sums in any order, here and in `ties`.
        double = 16 * dim * 2.0**-53 * (factors * sizes).max(axis=1)
        n = (dim + 3 * len(self._text) + 8) * 2.0**-24
        single = n / (1 - n) * (factors * (of_first + sizes - sizes[first])).max(axis=1)
        return 2 * single + double, double
