"""The linear probe: multinomial logistic regression on projected embeddings of the original images."""

import warnings
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from benchmark.predictors.base import Labels, Predictor, Rotated


class LinearProbe(Predictor):
    """Multinomial logistic regression with an L2 penalty (scikit-learn, L-BFGS).

    `C` is the inverse penalty, 0.316 by default as in the CLIP paper and the released code; `max_iter` bounds the
    solver's steps.
    """

    registered_name: ClassVar[str] = "linear_probe"
    C: float = Field(default=0.316, gt=0)
    max_iter: int = Field(default=1000, ge=1)

    def predict(self, problem: Rotated, ranks: Sequence[int]) -> list[Labels]:
        """See `Predictor.predict`."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        curves = [np.empty((len(ranks), len(z)), dtype=np.int64) for z in problem.tests]
        for row, rank in enumerate(ranks):
            probe = LogisticRegression(C=self.C, max_iter=self.max_iter)
            with warnings.catch_warnings():
                # A probe stopped at max_iter is the protocol of the released code, not an accident.
                warnings.simplefilter("ignore", ConvergenceWarning)
                probe.fit(problem.project(problem.train, rank), problem.labels)
            for curve, z in zip(curves, problem.tests, strict=True):
                curve[row] = probe.predict(problem.project(z, rank))
        return curves
