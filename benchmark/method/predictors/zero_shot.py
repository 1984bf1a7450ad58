"""Zero-shot prediction: the class whose projected text embedding is nearest to the projected image."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from benchmark.method.arrays import Array, Labels
from benchmark.method.predictors.base import Predictor, Problem

DENSE = 3  # if more than one rank in three is used, cumulative sums over all are cheaper than a product per rank
BLOCK = 128  # images per block, whose scores at all ranks fit into a core's cache


class ZeroShot(Predictor, label="zero-shot", place=0):
    """Predict the class c whose projected text A t_c is most similar to the projected image A z.

    Fields:
        scoring: `cosine` (default), the paper's predictor, or `released`, the predictor of the authors' code: dot
            products of projected embeddings. There, images are not scaled to unit length, and texts only before the
            projection.
        temperature: divisor of logits. It changes confidences but no prediction.
    """

    uses_training_images: ClassVar[bool] = False
    scoring: Literal["cosine", "released"] = "cosine"
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)

    def scores(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:
        """See `Predictor.scores`. Dot products are cumulative sums, so all ranks cost as much as the last."""
        factor = problem.logit_scale / self.temperature
        text, cosine = problem.text, self.scoring == "cosine"
        dots = [np.zeros((len(z), len(text))) for z in problem.tests]
        squares = [np.zeros((len(z), 1)) for z in problem.tests]
        start = 0
        for rank in ranks:
            block = slice(start, rank)
            names = _length((text[:, :rank] ** 2).sum(axis=1)) if cosine else np.ones(len(text))
            of_rank = []
            for dot, square, z in zip(dots, squares, problem.tests, strict=True):
                dot += z[:, block] @ text[:, block].T
                square += np.einsum("nd,nd->n", z[:, block], z[:, block])[:, None]  # without an array of squares
                images = _length(square) if cosine or problem.renormalize else 1.0
                of_rank.append(factor * dot / names / images)
            yield of_rank
            start = rank

    def predict(self, problem: Problem, ranks: Sequence[int]) -> list[Labels]:
        """See `Predictor.predict`. Scores are cumulative sums over coordinates, computed in blocks of images."""
        if any(classes is not None for classes in problem.candidates) or type(self).scores is not ZeroShot.scores:
            return super().predict(problem, ranks)
        text, columns = problem.text[:, : ranks[-1]], np.asarray(ranks) - 1
        lengths = _length(np.cumsum(text**2, axis=1))[:, columns]
        factors = 1 / lengths if self.scoring == "cosine" else np.ones_like(lengths)
        best = _argmax_at_few_ranks if len(ranks) * DENSE < ranks[-1] else _argmax_at_ranks
        curves = [np.empty((len(ranks), len(z)), dtype=np.int64) for z in problem.tests]
        for curve, z in zip(curves, problem.tests, strict=True):
            for first in range(0, len(z), BLOCK):
                block = slice(first, first + BLOCK)
                curve[:, block] = best(z[block, : ranks[-1]], text, columns, factors).T
        return curves

    def text_factors(self, text: Array, ranks: Sequence[int]) -> Array | None:
        """See `Predictor.text_factors`. The length of an image does not change the order of the classes."""
        if type(self) is not ZeroShot:  # a subclass may classify otherwise
            return None
        if self.scoring == "released":
            return np.ones((len(ranks), len(text)))
        return np.asarray(1 / _length(np.cumsum(text**2, axis=1)[:, np.asarray(ranks) - 1]).T)


def _argmax_at_few_ranks(z: Array, text: Array, columns: Labels, factors: Array) -> Labels:
    """Return what `_argmax_at_ranks` returns, up to rounding, with one matrix product from each rank to the next."""
    sums = np.zeros((len(z), len(text)))
    scores, predicted, start = np.empty_like(sums), np.empty((len(z), len(columns)), dtype=np.int64), 0
    for i, last in enumerate(columns):
        sums += z[:, start : last + 1] @ text[:, start : last + 1].T
        predicted[:, i] = np.multiply(sums, factors[:, i], out=scores).argmax(axis=1)
        start = last + 1
    return predicted


def _argmax_at_ranks(z: Array, text: Array, columns: Labels, factors: Array) -> Labels:
    """Return the class with the highest score at every rank, shape (images, ranks). Ties go to the first class.

    `columns` has for each rank its index in the cumulative sums, rank - 1. The sums are multiplied by `factors`, shape
    (classes, ranks).
    """
    at = slice(None) if len(columns) == z.shape[1] else columns
    running, products = np.empty_like(z), np.empty_like(z)
    best = np.cumsum(np.multiply(z, text[0], out=products), axis=1)[:, at] * factors[0]
    predicted, higher = np.zeros(best.shape, dtype=np.int64), np.empty(best.shape, dtype=np.bool_)
    for c in range(1, len(text)):
        np.cumsum(np.multiply(z, text[c], out=products), axis=1, out=running)
        scores = np.multiply(running[:, at], factors[c], out=products[:, : best.shape[1]])
        np.copyto(predicted, c, where=np.greater(scores, best, out=higher))
        np.maximum(best, scores, out=best)
    return predicted


def _length(squares: Array) -> Array:
    """Return lengths from squared lengths; 1 for zero vectors, which have no direction."""
    return np.sqrt(np.where(squares > 0, squares, 1.0))
