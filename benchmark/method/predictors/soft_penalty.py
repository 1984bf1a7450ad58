"""The linear probe with an additional penalty along directions that interventions move (C_d)."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Self

import numpy as np
from pydantic import Field

from benchmark.method.arrays import Array
from benchmark.method.predictors.base import Problem
from benchmark.method.predictors.linear_probe import GridOf, LinearProbe, format_numbers

Strengths = GridOf[Annotated[float, Field(ge=0, allow_inf_nan=False)]]


class SoftPenaltyProbe(LinearProbe, label="soft-penalty probe"):
    """The linear probe with a larger penalty along directions that interventions move.

        minimise over W, b :   sum_i cross-entropy(x_i W + b, y_i)  +  q / (2 C) tr(W' (I + mu D C_d / t) W)

    C_d is the second moment of the interventional differences of source images, in the coordinates of the projection.
    Here t is trace(C_d) over all D coordinates, the same at every rank. tr(W' C_d W) is the mean squared change of the
    logits under an intervention. mu has no unit. At mu = 1 the penalty along C_d equals ||W||^2 on average over
    directions. If mu or C_d is 0, this is the linear probe. For any mu, it is equivalent to the linear probe on the
    coordinates x (I + mu D C_d / t)^(-1/2). So mu corresponds to the lambda of shrinkage, but acts on the penalty only.

    If the projection maps each environment separately, its common map is used for C_d.

    Fields:
        mu: strengths of the penalty along C_d, one or several. A selection rule chooses mu, C and rank.
        C: inverse weights of the whole penalty, as for `linear_probe`.
        penalty: `scaled` or `absolute`, as for `linear_probe`.
        max_iter: maximum number of solver steps at each rank, mu and C.

    Raises:
        ValueError: there are no interventional pairs.
    """

    turns: ClassVar[bool] = False  # the penalty depends on the coordinates
    uses_c_d: ClassVar[bool] = True
    mu: Strengths = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)

    @property
    def settings(self) -> tuple[Self, ...]:
        """See `Predictor.settings`: one predictor for each mu and C, with mu as the outer loop."""
        of_c = super().settings
        return tuple(s.model_copy(update={"mu": (mu,)}) for mu in self.mu for s in of_c)

    @property
    def grid_text(self) -> str:
        """See `Probe.grid_text`."""
        return f"mu = {format_numbers(self.mu)}, {super().grid_text}"

    def penalties(self, problem: Problem) -> Sequence[Array | None]:
        """Return the penalty matrix I + mu D C_d / trace(C_d) for every mu, shape (D, D); None for mu = 0."""
        if problem.c_d is None:
            raise ValueError("A probe that penalises what interventions move needs interventional pairs.")
        t, plain = float(np.trace(problem.c_d)), np.eye(len(problem.c_d))
        of_one = problem.c_d * (len(plain) / t) if t > 0 else np.zeros_like(plain)
        return [plain + mu * of_one if mu else None for mu in self.mu]
