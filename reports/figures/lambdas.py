"""Lambda: accuracy minus plain prediction's against lambda, all else as the rule picked it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet
from matplotlib.ticker import MaxNLocator

from benchmark.method.evaluation.selection import KEY
from reports.answers import Answered
from reports.chosen import Selections
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
from reports.figures.style import (
    COLUMN,
    GREY,
    PAGE,
    Look,
    arrange,
    legend_above,
    line_handle,
    looks_of,
    panel_label,
    picks_below,
    sheet_of,
)
from reports.methods import Method

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
    """Curves against lambda of one setting: predictor in words -> its curves."""

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
    """Draw a panel for each predictor, with a strip of picks below it."""
    panels = numbers.panels
    looks = looks_of([curve.method for _, curves in panels for curve in curves])
    strips = max(len(curves) for _, curves in panels)
    sheet = sheet_of(COLUMN if len(panels) == 1 else PAGE, 2.35 + 0.11 * strips)
    grid = sheet.subplots(2, len(panels), squeeze=False, sharex="col")
    for column, (predictor, curves) in enumerate(panels):
        upper, lower = grid[0, column], grid[1, column]
        lambdas = sorted({x for curve in curves for x in curve.lambdas})
        upper.axhline(0, color=GREY, linewidth=0.6)
        for curve in curves:
            _draw_curve(upper, curve, looks[curve.method], lambdas)
        upper.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        upper.tick_params(labelbottom=False)
        if len(panels) > 1:
            panel_label(upper, predictor)
        picks_below(lower, [(looks[c.method], places(c.lambdas, lambdas), c.picks) for c in curves])
        lambda_ticks(lower, lambdas)
        lower.set_xlabel("λ")
        if column == 0:
            upper.set_ylabel("Accuracy − plain (points)")
            lower.set_ylabel("picked", rotation=0, ha="right", va="center")
    shown = {curve.method.projection_label: curve.method for _, curves in panels for curve in curves}
    legend = legend_above(sheet, [line_handle(looks[m]) for m in shown.values()], list(shown))
    arrange(sheet, grid.tolist(), heights=[1.9, 0.11 * strips], legend=legend, gap=0.07)
    return sheet


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
