"""Zero-shot prediction inside the subspace: the class whose projected text embedding is nearest."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from benchmark.method.arrays import Array
from benchmark.method.predictors.base import Predictor, Problem


class ZeroShot(Predictor):
    """argmax over classes c of the similarity between A z and A t_c.

    Fields:
        scoring: `cosine`, the paper's predictor, or `released`, the authors' code: text embeddings of unit
            length before the projection and not after it, raw image embeddings, dot product.
        temperature: what logits are divided by; it changes confidences and no prediction.
    """

    registered_name: ClassVar[str] = "zero_shot"
    uses_training_images: ClassVar[bool] = False
    scoring: Literal["cosine", "released"] = "cosine"
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)

    def scores(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:
        """See `Predictor.scores`. Dot products are running sums over coordinates: a curve costs one evaluation."""
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
                square += (z[:, block] ** 2).sum(axis=1, keepdims=True)
                images = _length(square) if cosine or problem.renormalize else 1.0
                of_rank.append(factor * dot / names / images)
            yield of_rank
            start = rank

    def text_factors(self, text: Array, ranks: Sequence[int]) -> Array | None:
        """See `Predictor.text_factors`. The length of an image changes no order of its classes."""
        if type(self) is not ZeroShot:  # who derives from it may classify otherwise
            return None
        if self.scoring == "released":
            return np.ones((len(ranks), len(text)))
        return np.asarray(1 / _length(np.cumsum(text**2, axis=1)[:, np.asarray(ranks) - 1]).T)


def _length(squares: Array) -> Array:
    """Return the square roots; vectors of zeros count as of length 1, since they have no direction."""
    return np.sqrt(np.where(squares > 0, squares, 1.0))
