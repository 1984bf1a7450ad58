"""Do the interventions span the shift? What methods remove of it, and whether that goes with their gain.

The shares are columns of the rows (`benchmark.method.evaluation.spans`). Those of the shift between sources look at no
label of what is held out; those of the shift to it do (†).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmark.method.evaluation.inference import ranks
from benchmark.method.evaluation.metrics import ACCURACY, Array
from benchmark.method.evaluation.selection import SETTING
from reports.analysis.chosen import Selections, mean_beside
from reports.analysis.methods import Method

MIN_SETTINGS = 8  # of a method in an environment, for a rank correlation
SHARES = ("energy_removed", "shift_removed_sources", "shift_removed_target")
MOVED = ("shift_moved_sources", "shift_moved_target")
CORRELATED = ("shift_removed_sources", "shift_removed_relative", "shift_removed_target")  # relative: to the energy


@dataclass(frozen=True)
class GoesWith:
    """Rank correlation (Spearman) of a share with accuracy over settings, ranks taken within each environment.

    Attributes:
        rho: over all environments together; NaN where one of the two does not vary.
        single: in each environment.
        n: number of settings, those of each environment counted.
    """

    rho: float
    single: tuple[float, ...]
    n: int


def picked(selections: Selections, method: Method, rule: str) -> dict[str, float | None]:
    """Return the shares of a method at what a rule picks, fractions, averaged; None where a pick has none.

    Args:
        selections: the rows of one setting.
        method: one of its methods, a draw of a placebo included.
        rule: one of `selection.RULES`.
    """
    return selections.once(("removed", method, rule), lambda: _picked(selections, method, rule))


def _picked(selections: Selections, method: Method, rule: str) -> dict[str, float | None]:
    rows = selections.chosen_rows(method, rule, ("held_out", "seed", "ranks", *SHARES, *MOVED))
    ranks = selections.picks(method, rule)["rank"].tolist()
    at = [known.index(rank) for known, rank in zip(rows["ranks"].tolist(), ranks, strict=True)]
    for name in SHARES:
        curves = zip(rows[name].tolist(), at, strict=True)
        rows[name] = [share[i] if isinstance(share, list) else math.nan for share, i in curves]
    means = {name: mean_beside(rows, name) for name in (*SHARES, *MOVED)}
    return {name: None if math.isnan(mean) else mean for name, mean in means.items()}


def correlations(rows: pd.DataFrame) -> dict[str, GoesWith]:
    """Return how what is removed goes with accuracy over settings (lambda, rank, set, nuisance), by name of the share.

    Args:
        rows: of one method.

    Returns:
        Of each of `CORRELATED` that has settings enough; nothing where the shift between sources has too few.
    """
    settings = _by_setting(rows)
    found = {name: one for name in CORRELATED if (one := goes_with(settings, name)) is not None}
    return found if CORRELATED[0] in found else {}


def _by_setting(rows: pd.DataFrame) -> pd.DataFrame:
    """Return accuracy and shares of each held-out environment and setting, rank included: means of folds and seeds."""
    known = {name: rows[name].map(lambda share: isinstance(share, list)) for name in SHARES}
    usable = rows[known["shift_removed_sources"]]
    shares = [name for name in SHARES if known[name][usable.index].all()]
    long = usable[["held_out", *SETTING, "ranks", ACCURACY.key, *shares]].explode(["ranks", ACCURACY.key, *shares])
    long = long.astype(dict.fromkeys([ACCURACY.key, *shares], float))
    by_setting: Any = long.groupby(["held_out", *SETTING, "ranks"], dropna=False)[[ACCURACY.key, *shares]]
    means = by_setting.mean().where(by_setting.count().eq(by_setting.size(), axis=0)).reset_index()
    means = means.reindex(columns=[*means.columns, *(name for name in SHARES if name not in shares)])
    means = means.astype(dict.fromkeys(SHARES, float))
    energy = means["energy_removed"]
    return means.assign(shift_removed_relative=means["shift_removed_sources"] / energy.where(energy > 0))


def goes_with(by_setting: pd.DataFrame, name: str) -> GoesWith | None:
    """Return how a share goes with accuracy; None with too few settings in an environment, or without the share.

    What is subtracted from the accuracies of an environment, as the plain one, changes no rank.

    Args:
        by_setting: a line for each held-out environment and setting, with the columns held_out, target and `name`.
        name: the share; settings without it (such as 0 of 0 removed) are left out.
    """
    known = by_setting.dropna(subset=[name])
    if known.empty or known.groupby("held_out").size().min() < MIN_SETTINGS:
        return None
    pairs = [
        (_centred(part[name].to_numpy()), _centred(part[ACCURACY.key].to_numpy()))
        for _, part in known.groupby("held_out", sort=True)
    ]
    x, y = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return GoesWith(_cosine(x, y), tuple(_cosine(*pair) for pair in pairs), len(known))


def rank_correlation(x: Array, y: Array) -> float:
    """Return Spearman's rank correlation of two arrays of one length; NaN where one is constant."""
    return _cosine(_centred(x), _centred(y))


def _centred(values: Array) -> Array:
    of_values = ranks(np.round(values, 12))
    return np.asarray((of_values - of_values.mean()) / len(of_values))


def _cosine(x: Array, y: Array) -> float:
    length = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / length if length > 0 else np.nan
