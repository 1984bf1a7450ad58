"""What several figures share: which predictors and methods are shown, and differences in points."""

from dataclasses import dataclass

import numpy as np

from benchmark.method.evaluation.inference import Interval
from reports.analysis.chosen import Selections
from reports.analysis.methods import EQUAL_N, ICM, SHRINKAGE, Method

MAX_PREDICTORS = 4  # with a panel each


@dataclass(frozen=True)
class Point:
    """A difference of accuracies in points, with the ends of its 95 % interval for these environments.

    Attributes:
        value: the difference.
        low: lower end; NaN where there is no interval.
        high: upper end.
    """

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, interval: Interval) -> "Point":
        """Return an interval of fractions in points."""
        return cls(100 * interval.estimate, 100 * interval.low, 100 * interval.high)

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return not np.isnan(self.low)


def predictors_of(selections: Selections) -> list[str]:
    """Return the predictors with plain rows, in the order of tables, at most `MAX_PREDICTORS`."""
    return list(dict.fromkeys(m.predictor for m in selections.parts if m.is_plain))[:MAX_PREDICTORS]


def shown_methods(selections: Selections, predictor: str, released: bool = False) -> list[Method]:
    """Return the methods of a predictor that figures show: PCA, random, CLIP-ICM, truncation at equal N, shrinkage.

    Args:
        selections: the rows of one setting.
        predictor: the predictor.
        released: whether CLIP-ICM in the released order is shown too.
    """
    shown = {("pca", ""), ("random", ""), (ICM, ""), (ICM, EQUAL_N), (SHRINKAGE, "")}
    of_predictor = [m for m in selections.parts if m.predictor == predictor]
    return [m for m in of_predictor if (m.projection, m.variant) in shown and (released or m.order != "released")]
