"""Rank curves as figures draw them, for tests of what a rule picks at each rank."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reports.chosen import Selections
from reports.methods import PLAIN, Method
from reports.whole import whole_estimate

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """Accuracy in percent against rank: mean over held-out environments, then over seeds.

    Attributes:
        ranks: int array (n,), ascending; a single rank (the full width) for the plain method.
        mean: float array (n,), percent.
        stderr: float array (n,), cluster standard error over test images in points; NaN where there are too few
            images, or groups of them, and where nothing varied.
    """

    method: Method
    ranks: npt.NDArray[np.int64]
    mean: Array
    stderr: Array


def rank_curves(selections: Selections, rule: str) -> list[Curve]:
    """Return one curve per method; everything but the rank is what `rule` picks at that rank.

    That is for each rank, held-out environment, seed and fold. Only seeds with every held-out environment count, so
    that all lines average the same environments; a method without such a seed has no line. Of methods without ranks
    only the plain one and shrinkage have one, a level: the others, and imported ones, stand in the table.
    """
    shown = [method for method in selections.parts if not (method.is_control or method.imported)]
    curves = [_rank_curve(selections, method, rule) for method in shown]
    return [curve for curve in curves if curve is not None]


def _rank_curve(selections: Selections, method: Method, rule: str) -> Curve | None:
    ranks = sorted({int(rank) for ranks in selections.parts[method]["ranks"] for rank in ranks})
    among = ranks[-1:] if method.projection == PLAIN else ranks
    estimates = {rank: whole_estimate(selections, selections.pooled(method, rule, rank)) for rank in among}
    most = max((of_rank.seeds for of_rank in estimates.values() if of_rank), key=len, default=())
    drawn = {rank: of_rank for rank, of_rank in estimates.items() if of_rank and of_rank.seeds == most}
    if not drawn:
        return None
    mean = [100 * float(of_rank.means.mean()) for of_rank in drawn.values()]
    errors = [of_rank.interval.plus_minus for of_rank in drawn.values()]
    return Curve(method, np.array(list(drawn)), np.array(mean), 100 * np.array(errors, dtype=np.float64))
