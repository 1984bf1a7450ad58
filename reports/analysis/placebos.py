"""Where the real C_d stands among draws of its placebos: ranks, which stand beside intervals and never decide alone."""

from collections.abc import Sequence

import numpy as np

from benchmark.method.evaluation.metrics import Array
from reports.analysis.chosen import Selections
from reports.analysis.methods import Method

SAME = 1e-9  # accuracies that differ by less are equal


def accuracies_of(selections: Selections, method: Method, rule: str) -> Array | None:
    """Return a method's accuracy on each held-out environment, averaged over seeds, shape (held_outs,).

    Args:
        selections: the rows of one setting.
        method: one of its methods, a draw of a placebo included.
        rule: one of `selection.RULES`.

    Returns:
        Fractions, or None where no seed has everything that is held out.
    """
    accuracy, names = selections.pooled(method, rule).measure(), selections.held_outs
    seeds = sorted({seed for _, seed in accuracy})
    whole = [seed for seed in seeds if all((name, seed) in accuracy for name in names)]
    if not whole:
        return None
    return np.array([np.mean([accuracy[name, seed] for seed in whole]) for name in names])


def p_value(real: float, draws: Sequence[float]) -> float:
    """Return (1 + number of draws at least as good) / (1 + draws)."""
    return (1 + sum(draw >= real - SAME for draw in draws)) / (1 + len(draws))
