"""What one method answered to everything that is held out, and means of it beside the answers."""

import math
from collections.abc import Sequence
from statistics import fmean

import pandas as pd

from benchmark.method.evaluation.metrics import ACCURACY, Metric
from reports.analysis.answers import Answered, Estimate, MethodAnswers, together
from reports.analysis.chosen import Selections
from reports.analysis.methods import Method


def whole_estimate(
    selections: Selections, answers: Answered, minus: Answered | None = None, metric: Metric = ACCURACY
) -> Estimate | None:
    """Return the accuracy of some answers by the seeds that have all that is held out; None where none has.

    Args:
        selections: the rows of one setting, which say what is held out.
        answers: `Selections.pooled` of a method, of these rows or of some of them.
        minus: answers whose accuracy on the same images is subtracted.
        metric: accuracy, or class-balanced accuracy.
    """
    estimate = answers.estimate(minus, metric=metric)
    names = tuple(selections.held_outs)
    return estimate if estimate is not None and estimate.held_outs == names else None


def whole(selections: Selections, methods: Sequence[tuple[Method, str]]) -> MethodAnswers | None:
    """Return the answers of methods, each under its rule, of the seeds that have all held-out environments.

    Args:
        selections: the rows of one setting.
        methods: methods and the rule for each.

    Returns:
        The answers, or None where no seed has all that is held out.
    """
    answers = together([selections.pooled(method, rule) for method, rule in methods])
    names = tuple(selections.held_outs)
    return answers if answers is not None and answers.held_outs == names else None


def mean_beside(picks: pd.DataFrame, column: str, weight: str | None = None) -> float:
    """Return the mean of a column of `selection.select` over folds, seeds, then held-out environments; NaN if one is.

    Args:
        picks: of one method, with the seeds that count.
        column: its name.
        weight: name of the column by which folds weigh; by default all alike.
    """
    values = pd.to_numeric(picks[column]).tolist()
    if not values:
        return math.nan
    weights = picks[weight].tolist() if weight else [1.0] * len(values)
    of_test: dict[tuple[str, int], list[tuple[float, float]]] = {}
    places = picks["held_out"].tolist(), picks["seed"].tolist()
    for held_out, seed, value, times in zip(*places, values, weights, strict=True):
        of_test.setdefault((held_out, seed), []).append((value * times, times))
    of_held_out: dict[str, list[float]] = {}
    for (held_out, _), folds in of_test.items():
        weighted, total = map(math.fsum, zip(*folds, strict=True))
        of_held_out.setdefault(held_out, []).append(weighted / total)
    return fmean(map(fmean, of_held_out.values()))
