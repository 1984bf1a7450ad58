"""The linear probe: multinomial logistic regression on projected embeddings of the original images."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import ClassVar

from pydantic import Field

from benchmark.method.arrays import Array
from benchmark.method.predictors.base import Predictor, Problem
from benchmark.method.predictors.logistic import Head, SoftmaxRegression


class LinearProbe(Predictor):
    """Multinomial logistic regression with an L2 penalty.

    Fields:
        C: inverse weight of the L2 penalty; the default is that of the CLIP paper and of the released code.
        max_iter: largest number of steps of the solver at each rank.
    """

    registered_name: ClassVar[str] = "linear_probe"
    C: float = Field(default=0.316, gt=0, allow_inf_nan=False)
    max_iter: int = Field(default=1000, ge=1)

    def heads(self, problem: Problem, ranks: Sequence[int]) -> Iterator[Head]:
        """Yield the classifier of every rank; each starts from the one before."""
        solver = partial(SoftmaxRegression, labels=problem.labels, classes=problem.n_classes, device=problem.device)
        shared = None if problem.renormalize else solver(problem.train)
        head = None
        for rank in ranks:
            # Scaled to unit length, the coordinates of one rank are no longer a part of those of the next.
            regression = shared or solver(problem.project(problem.train, rank))
            head = regression.fit(rank, self.C, head, self.max_iter)
            yield head

    def scores(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:
        """See `Predictor.scores`."""
        for rank, head in zip(ranks, self.heads(problem, ranks), strict=True):
            yield [head.logits(problem.project(z, rank)) for z in problem.tests]
