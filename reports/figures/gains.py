"""What several figures share: which methods are shown, and paired differences from plain prediction, in points."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pandas as pd

from benchmark.method.evaluation.inference import Interval
from benchmark.method.evaluation.selection import KEY, unpacked
from reports.analysis.answers import Answered, Pooled
from reports.analysis.chosen import Selections
from reports.analysis.methods import EQUAL_N, ICM, SHRINKAGE, Method
from reports.analysis.whole import whole_estimate

MAX_PREDICTORS = 4  # with a panel each
# What `answers_of` looks at, beside the key and the rank.
ANSWERS = ("ranks", "correct", "n_test", "tested")


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


def gain(selections: Selections, answers: Answered, plain: Answered) -> Point | None:
    """Return answers minus plain prediction's on the same images; None without all that is held out under some seed.

    Args:
        selections: the rows of one setting.
        answers: of some method.
        plain: those of plain prediction.
    """
    estimate = whole_estimate(selections, answers, plain)
    return None if estimate is None else Point.of(estimate.interval)


def answers_of(selections: Selections, rows: pd.DataFrame) -> Answered:
    """Return the answers of given rows, each at a rank of its own, where every fold has some.

    Args:
        selections: of which they are.
        rows: at most one for each held-out environment, seed and fold, with the column `rank`, one of its `ranks`.
    """
    folds = max(1, int(selections.rows["folds"].iloc[0]))
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in rows.sort_values(list(KEY)).to_dict("records"):
        named = {str(name): value for name, value in row.items()}
        found.setdefault((str(row["held_out"]), int(row["seed"])), []).append(named)
    pooled = {}
    for key, of_test in found.items():
        if len(of_test) == folds:
            correct = np.concatenate([unpacked(row)[row["ranks"].index(row["rank"])] for row in of_test])
            tested = reduce(add, (selections.tested[row["tested"]] for row in of_test))
            pooled[key] = Pooled(correct, tested)
    return selections.answered(pooled)


def picks_by(values: Sequence[float], among: Sequence[float]) -> tuple[int, ...]:
    """Return how often each of some values is among what was picked."""
    return tuple(sum(bool(np.isclose(value, one)) for value in values) for one in among)


def plain_answers(selections: Selections, predictor: str, rule: str) -> Answered:
    """Return the answers of plain prediction; none where there are none."""
    plain = selections.plain_of(predictor)
    return selections.answered({}) if plain is None else selections.pooled(plain, rule)
