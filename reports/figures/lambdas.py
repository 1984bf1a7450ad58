"""Lambda: accuracy minus plain prediction's against lambda, all else as the rule picked it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet
from matplotlib.ticker import MaxNLocator

from benchmark.method.evaluation.selection import KEY
from reports.analysis.answers import Answered
from reports.analysis.chosen import Selections
from reports.analysis.methods import Method
from reports.figures.gains import (
    ANSWERS,
    Point,
    answers_of,
    gain,
    picks_by,
    plain_answers,
    predictors_of,
    shown_methods,
)
from reports.figures.panels import Legend, over_strips
from reports.figures.style import GREY, Look, line_handle, looks_of, picks_below

_FIXED = ["intervention_set", "normalize", "predictor_params", "projection_params"]
_MAX_TICKS = 7


@dataclass(frozen=True)
class Curve:
    """A method against lambda.

    Attributes:
        method: the method.
        lambdas: ascending; those with rows of all that is held out.
        points: accuracy minus plain prediction's at each of them; rank and all else as picked.
        picks: how often the rule picks each of them.
    """

    method: Method
    lambdas: tuple[float, ...]
    points: tuple[Point, ...]
    picks: tuple[int, ...]


@dataclass(frozen=True)
class LambdaNumbers:
    """Curves against lambda: predictor of one setting, or data set, in words -> its curves."""

    panels: tuple[tuple[str, tuple[Curve, ...]], ...]


def numbers(selections: Selections, rule: str) -> LambdaNumbers | None:
    """Return the curves of each predictor with a method of two lambdas or more; None where none has.

    Args:
        selections: the rows of one setting.
        rule: what picks rank, intervention set, nuisance and the rest, for each held-out environment, seed and fold.
    """
    panels = []
    for predictor in predictors_of(selections):
        curves = [c for m in shown_methods(selections, predictor) if (c := _curve(selections, m, rule))]
        if curves:
            panels.append((curves[0].method.predictor_label, tuple(curves)))
    return LambdaNumbers(tuple(panels)) if panels else None


def _curve(selections: Selections, method: Method, rule: str) -> Curve | None:
    rows, picks = selections.parts[method], selections.picks(method, rule)
    lambdas = sorted(float(x) for x in rows["lambda_"].dropna().unique())
    if len(lambdas) < 2:
        return None
    picked = picks[[*KEY, *_FIXED, "rank"]].assign(held_out=picks["held_out"].astype(str))
    looked_at = rows[[*KEY, *_FIXED, "lambda_", *ANSWERS]]
    beside = looked_at.assign(held_out=rows["held_out"].astype(str)).merge(picked, on=[*KEY, *_FIXED])
    plain = plain_answers(selections, method.predictor, rule)
    found = [(x, _at(selections, beside[beside["lambda_"] == x], plain)) for x in lambdas]
    known = [(x, point) for x, point in found if point is not None]
    if len(known) < 2:
        return None
    values = tuple(x for x, _ in known)
    return Curve(method, values, tuple(point for _, point in known), picks_by(picks["lambda_"].tolist(), values))


def _at(selections: Selections, rows: pd.DataFrame, plain: Answered) -> Point | None:
    there = [rank in ranks for rank, ranks in zip(rows["rank"], rows["ranks"], strict=True)]
    rows = rows[there].drop_duplicates(list(KEY))
    return gain(selections, answers_of(selections, rows), plain) if len(rows) else None


def draw(numbers: LambdaNumbers) -> Sheet:
    """Draw a panel for each predictor or data set, with a strip of picks below it."""
    panels = [curves for _, curves in numbers.panels]
    looks = looks_of([curve.method for curves in panels for curve in curves])

    def lambdas(number: int) -> list[float]:
        return sorted({x for curve in panels[number] for x in curve.lambdas})

    def upper(axes: Axes, number: int) -> None:
        axes.axhline(0, color=GREY, linewidth=0.6)
        for curve in panels[number]:
            _draw_curve(axes, curve, looks[curve.method], lambdas(number))
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))

    def lower(axes: Axes, number: int) -> None:
        every = lambdas(number)
        picks_below(axes, [(looks[c.method], places(c.lambdas, every), c.picks) for c in panels[number]])
        lambda_ticks(axes, every)

    shown = {curve.method.projection_label: curve.method for curves in panels for curve in curves}
    legend = Legend([line_handle(looks[m]) for m in shown.values()], list(shown))
    strips = max(map(len, panels))
    return over_strips([title for title, _ in numbers.panels], upper, lower, (1.9, 0.11 * strips), "λ", legend)


def _draw_curve(axes: Axes, curve: Curve, look: Look, lambdas: Sequence[float]) -> None:
    x = places(curve.lambdas, lambdas)
    low, high = ([getattr(point, end) for point in curve.points] for end in ("low", "high"))
    axes.fill_between(x, low, high, color=look.colour, alpha=0.16, linewidth=0)
    axes.plot(x, [point.value for point in curve.points], linestyle=look.line, **look.marks())


def places(values: Sequence[float], among: Sequence[float]) -> list[float]:
    """Return where lambdas stand: at their common logarithms, and 0 half a decade before the least of the others."""
    positive = [x for x in among if x > 0]
    zero = np.log10(min(positive)) - 0.5 if positive else 0.0
    return [float(np.log10(x)) if x > 0 else float(zero) for x in values]


def lambda_ticks(axes: Axes, lambdas: Sequence[float]) -> None:
    """Write lambdas on the horizontal axis, as many as there is room for."""
    at = places(lambdas, lambdas)
    span, shown = max(at[-1] - at[0], 1e-9), [0]
    for i in range(1, len(at)):
        if (at[i] - at[shown[-1]]) / span >= 1 / (_MAX_TICKS + 2):
            shown.append(i)
    axes.set_xticks([at[i] for i in shown], [f"{lambdas[i]:g}" for i in shown])
    axes.set_xticks(at, minor=True)
    axes.set_xlim(at[0] - 0.05 * span, at[-1] + 0.05 * span)
