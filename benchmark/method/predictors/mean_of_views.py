"""Zero-shot prediction from the mean of an image's views: the simplest test-time augmentation."""

from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np

from benchmark.method.arrays import Array, unit
from benchmark.method.predictors.base import Predictor, Problem


class MeanOfViews(Predictor, label="zero-shot on the mean of views"):
    """Predict the class whose text has the largest cosine with the mean embedding of a test image's views.

    The mean is over 1 + V unit-length embeddings in the subspace: the image itself and one view for each of the V kinds
    in the intervention set. Views of a test image are used for its own prediction only.

    Raises:
        ValueError: there are no views of the test images.
    """

    uses_training_images: ClassVar[bool] = False
    uses_views: ClassVar[bool] = True
    looks_at_target_images: ClassVar[bool] = True

    def scores(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:
        """See `Predictor.scores`: cosines times the logit scale."""
        for rank in ranks:
            text = problem.logit_scale * unit(problem.text[:, :rank])
            means = (np.mean([unit(z[:, :rank]) for z in views], axis=0) for views in problem.with_views())
            yield [unit(mean) @ text.T for mean in means]
