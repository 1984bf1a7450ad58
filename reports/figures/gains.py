"""What several figures share: which predictors and methods are shown, and differences in points."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from benchmark.method.evaluation.inference import Interval
from reports.analysis.chosen import Selections
from reports.analysis.methods import EQUAL_N, ICM, SHRINKAGE, Method
from reports.figures.style import Look, T

MAX_PREDICTORS = 4  # with a panel each


def in_points(interval: Interval) -> list[float]:
    """Return a difference of accuracies in points, and the ends of its interval where there is one."""
    ends = () if np.isnan(interval.low) else (interval.low, interval.high)
    return [100 * share for share in (interval.estimate, *ends)]


def draw_interval(
    axes: Axes, interval: Interval, at: float, look: Look, width: float, over: tuple[float, float], **marks: Any
) -> None:
    """Draw a difference as a mark on its interval.

    Args:
        axes: where.
        interval: of fractions; it is drawn in points.
        at: height, in the data of the axes.
        look: of the method.
        width: of the interval's line, in pt.
        over: how far interval and mark lie above what else is drawn.
        **marks: of the mark, as Matplotlib takes it.
    """
    value, *ends = in_points(interval)
    if ends:
        axes.plot(ends, [at, at], color=look.colour, linewidth=width, zorder=over[0])
    axes.plot([value], [at], **look.marks(zorder=over[1], **marks))


def of_predictors(selections: Selections, made: Callable[[Method], T | None]) -> Iterator[tuple[str, T]]:
    """Yield (predictor in words, what a figure shows of it) of those with plain rows, at most `MAX_PREDICTORS`.

    Args:
        selections: the rows of one setting.
        made: returns that, given plain prediction with the predictor; None where it has nothing to show.
    """
    plain = [m for m in selections.parts if m.is_plain and m == selections.plain_of(m.predictor)]
    for method in plain[:MAX_PREDICTORS]:
        if (one := made(method)) is not None:
            yield method.predictor_label, one


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
