"""Where the real C_d stands among draws of its placebos: ranks, which stand beside intervals and never decide alone."""

from collections.abc import Sequence

import numpy as np

from benchmark.method.evaluation.metrics import Array
from reports.chosen import Selections
from reports.methods import Method

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


def placebo_sentences(selections: Selections, rule: str) -> list[str]:
    """Return for each placebo with several draws where the real one stands among them.

    Args:
        selections: the rows of one setting.
        rule: what chooses for the real one and for each draw.
    """
    return [
        _sentence(selections, rule, method, draws)
        for method, draws in selections.draws.items()
        if draws[0].real in selections.parts
    ]


def _sentence(selections: Selections, rule: str, method: Method, draws: Sequence[Method]) -> str:
    real = draws[0].real
    of_real = accuracies_of(selections, real, rule)
    found = [accuracies for draw in draws if (accuracies := accuracies_of(selections, draw, rule)) is not None]
    if of_real is None or len(found) < len(draws):
        return f"{real.label} was not ranked among draws of {method.placebo}: not all have all that is held out."
    average, of_draws = float(of_real.mean()), [float(accuracies.mean()) for accuracies in found]
    ahead, tied = (
        sum(draw > average + SAME for draw in of_draws),
        sum(abs(draw - average) <= SAME for draw in of_draws),
    )
    rank = f"{1 + ahead}" if not tied else f"{1 + ahead} to {1 + ahead + tied}"
    low, high = np.quantile(of_draws, [0.025, 0.975])
    p = (
        f"p = {p_value(average, of_draws):.3f}, (1 + draws at least as good) / (1 + draws)"
        if real.learns_nothing
        else "no p-value, for the predictor is trained"
    )
    return (
        f"{real.label} with {100 * average:.1f} % ranks {rank} of {1 + len(draws)} among itself and {len(draws)} draws "
        f"of {method.placebo}, whose mean is {100 * np.mean(of_draws):.1f} % (95 % of them {100 * low:.1f} to "
        f"{100 * high:.1f}, rule {rule}, chosen for each draw as for the real one): {p}. The rank stands beside the "
        f"intervals and decides nothing alone."
    )
