"""What must be known of rows beside their numbers: what was not compared, ranks among placebos, notes of fits."""

from collections.abc import Iterator, Sequence

import numpy as np

from reports.analysis.chosen import Selections
from reports.analysis.findings import Findings
from reports.analysis.methods import Method
from reports.analysis.placebos import SAME, accuracies_of, p_value
from reports.analysis.settings import Setting

MAX_PLACES = 6  # held-out environments with seeds that a note is listed with


def notes(setting: Setting, selections: Selections, findings: Findings) -> Iterator[str]:
    """Yield sentences on a setting: what was not compared and why, where methods stand among placebos, notes of fits.

    Args:
        setting: what the rows share.
        selections: the rows of that setting.
        findings: its comparisons.
    """
    for one in findings.missing:
        yield f"{setting.banner}{one.method.label} was not compared with {one.baseline.label}: {one.why}."
    for method, draws in selections.draws.items():
        if draws[0].real in selections.parts:
            yield setting.banner + _among_draws(selections, selections.base_rule, method, draws)
    yield from _of_fits(selections)


def _among_draws(selections: Selections, rule: str, method: Method, draws: Sequence[Method]) -> str:
    """Return where the real method stands among draws of a placebo."""
    real = draws[0].real
    of_real = accuracies_of(selections, real, rule)
    found = [accuracies for draw in draws if (accuracies := accuracies_of(selections, draw, rule)) is not None]
    if of_real is None or len(found) < len(draws):
        return f"{real.label} was not ranked among draws of {method.placebo}: not all have all that is held out."
    average, of_draws = float(of_real.mean()), [float(accuracies.mean()) for accuracies in found]
    ahead = sum(draw > average + SAME for draw in of_draws)
    tied = sum(abs(draw - average) <= SAME for draw in of_draws)
    rank = f"{1 + ahead}" if not tied else f"{1 + ahead} to {1 + ahead + tied}"
    low, high = np.quantile(of_draws, [0.025, 0.975])
    p = "no p-value, for the predictor is trained"
    if real.learns_nothing:
        p = f"p = {p_value(average, of_draws):.3f}, (1 + draws at least as good) / (1 + draws)"
    return (
        f"{real.label} with {100 * average:.1f} % ranks {rank} of {1 + len(draws)} among itself and {len(draws)} draws "
        f"of {method.placebo}, whose mean is {100 * np.mean(of_draws):.1f} % (95 % of them {100 * low:.1f} to "
        f"{100 * high:.1f}, rule {rule}, chosen for each draw as for the real one): {p}."
    )


def _of_fits(selections: Selections) -> Iterator[str]:
    """Yield what fits had to say, such as that one did not converge: a line for each method and note."""
    for method, rows in selections.parts.items():
        where: dict[str, list[str]] = {}
        for row in rows[["held_out", "seed", "fold", "notes"]].to_dict("records"):
            fold = "" if row["fold"] < 0 else f" fold {row['fold']}"
            for note in row["notes"] if isinstance(row["notes"], list) else ():
                where.setdefault(note, []).append(f"{row['held_out']} seed {row['seed']}{fold}")
        for note, places in where.items():
            named = list(dict.fromkeys(places))
            rest = f" and {len(named) - MAX_PLACES} more" if len(named) > MAX_PLACES else ""
            listed = ", ".join(named[:MAX_PLACES])
            yield f"{method.label}: {note} ({len(places)} of {len(rows)} rows: {listed}{rest})"
