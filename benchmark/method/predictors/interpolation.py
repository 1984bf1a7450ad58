"""Between zero-shot and linear probe: interpolation of their weights (Wortsman et al., 2022, arXiv 2109.01903)."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from pydantic import Field

from benchmark.method.arrays import Array, unit
from benchmark.method.predictors.base import Predictor, Problem
from benchmark.method.predictors.linear_probe import LinearProbe


class Interpolation(Predictor):
    """WiSE-FT in the last layer: (1 - alpha) x the zero-shot head + alpha x the linear probe, weights and intercepts.

    Both act on projected image embeddings of unit length, whatever `problem.renormalize` says. The zero-shot head has
    the projected text embeddings at unit length times the logit scale as weights and no intercept.

    The paper fine-tunes from the zero-shot weights; here the probe is the minimum of a convex objective, which does
    not depend on where it starts. Unless `alpha` is 0, a class without training images is never predicted.

    Fields:
        alpha: share of the linear probe: 0 is zero-shot prediction with the cosine, 1 the linear probe on
            unit-length embeddings. Default 0.5, which the paper recommends.
        C: inverse weight of the probe's L2 penalty, as for `linear_probe`.
        max_iter: largest number of steps of the probe's solver at each rank.
    """

    registered_name: ClassVar[str] = "interpolation"
    alpha: float = Field(default=0.5, ge=0, le=1)
    C: float = Field(default=0.316, gt=0, allow_inf_nan=False)
    max_iter: int = Field(default=1000, ge=1)

    def scores(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:
        """See `Predictor.scores`."""
        problem = replace(problem, renormalize=True)
        probe = LinearProbe(C=self.C, max_iter=self.max_iter)
        for rank, head in zip(ranks, probe.heads(problem, ranks), strict=True):
            zero_shot = problem.logit_scale * unit(problem.text[:, :rank]).T
            weights = (1 - self.alpha) * zero_shot + self.alpha * head.weights
            # The intercept of a class without training images is minus infinity, and 0 times that is not 0.
            bias = self.alpha * head.bias if self.alpha > 0 else np.zeros(problem.n_classes)
            yield [problem.project(z, rank) @ weights + bias for z in problem.tests]
