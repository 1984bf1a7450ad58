"""The ridge probe: least squares on one-hot targets, in closed form."""

import warnings
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field
from scipy.linalg import LinAlgError, LinAlgWarning, lstsq, solve

from benchmark.method.arrays import Array
from benchmark.method.predictors.base import Predictor, Problem
from benchmark.method.predictors.class_means import absent_classes


class Ridge(Predictor, label="ridge probe"):
    """Least squares on one-hot targets, with an intercept and an L2 penalty.

        minimise over W, b :   sum_i || x_i W + b - onehot(y_i) ||^2  +  alpha ||W||^2

    The intercept is not penalised. Scores are fitted values, not logits. A class without training images is never
    predicted.

    Fields:
        alpha: weight of the L2 penalty. As in scikit-learn's Ridge, it does not scale with the number of images.

    Raises:
        ValueError: there is no training image at all.
    """

    has_likelihood: ClassVar[bool] = False
    learns_classes: ClassVar[bool] = True
    alpha: float = Field(default=1.0, gt=0, allow_inf_nan=False)

    def scores(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:
        """See `Predictor.scores`. The normal equations at rank k are the leading block of the equations at rank D."""
        absent = absent_classes(problem)
        targets = np.eye(problem.n_classes)[problem.labels]
        shared = None if problem.renormalize else _sums(problem.train, targets)
        for rank in ranks:
            # After scaling to unit length, the coordinates at one rank are no prefix of the coordinates at the next.
            mean, gram, cross = shared or _sums(problem.project(problem.train, rank), targets)
            weights = self._solved(gram[:rank, :rank] + self.alpha * np.eye(rank), cross[:rank], problem)
            bias = np.where(absent, -np.inf, targets.mean(axis=0) - mean[:rank] @ weights)
            yield [problem.project(z, rank) @ weights + bias for z in problem.tests]

    def _solved(self, matrix: Array, right: Array, problem: Problem) -> Array:
        """Return the solution of the normal equations. If they are singular, take minimum norm and add a note."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", LinAlgWarning)  # warns of a condition number beyond double precision
                return np.asarray(solve(matrix, right, assume_a="pos"))
        except (LinAlgError, LinAlgWarning):
            problem.notes.append(
                f"{self.name}, alpha = {self.alpha:g}, rank {len(matrix)}: singular; the penalty is lost beside the "
                "embeddings in double precision."
            )
            return np.asarray(lstsq(matrix, right)[0])


def _sums(x: Array, targets: Array) -> tuple[Array, Array, Array]:
    """Return three arrays for the normal equations.

    They are the mean of x, shape (D,); the Gram matrix of centred x, shape (D, D); and the product of transposed
    centred x with `targets`, shape (D, n_classes).
    """
    mean = x.mean(axis=0)
    centred = x - mean
    return mean, centred.T @ centred, centred.T @ targets
