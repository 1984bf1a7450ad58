"""Zero-shot prediction inside the subspace: the class whose projected text embedding is nearest."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np

from benchmark.predictors.base import Labels, Predictor, Rotated


class ZeroShot(Predictor):
    """argmax over classes c of the similarity between A z and A t_c.

    `scoring` is `cosine` (the paper's predictor; the image's own norm does not change the argmax) or `released`
    (the authors' code: text embeddings of unit length before the projection and not after it, dot product).
    """

    registered_name: ClassVar[str] = "zero_shot"
    uses_training_images: ClassVar[bool] = False
    scoring: Literal["cosine", "released"] = "cosine"

    def predict(self, problem: Rotated, ranks: Sequence[int]) -> list[Labels]:
        """See `Predictor.predict`. Scores are running sums over coordinates: a curve costs one evaluation."""
        return [self._curve(z, problem.text, ranks) for z in problem.tests]

    def _curve(self, z: np.ndarray, text: np.ndarray, ranks: Sequence[int]) -> Labels:
        scores = np.zeros((len(z), len(text)))
        squared_norms = np.zeros(len(text))
        predicted = np.empty((len(ranks), len(z)), dtype=np.int64)
        start = 0
        for row, rank in enumerate(ranks):
            block = slice(start, rank)
            scores += z[:, block] @ text[:, block].T
            squared_norms += (text[:, block] ** 2).sum(axis=1)
            norms = np.sqrt(np.where(squared_norms > 0, squared_norms, 1.0)) if self.scoring == "cosine" else 1.0
            predicted[row] = (scores / norms).argmax(axis=1)
            start = rank
        return predicted
