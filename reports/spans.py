"""Do the interventions span the shift? What methods remove of it, and whether that goes with their gain; as Markdown.

The shares are columns of the rows (`benchmark.method.subspace.shift`). Those of the shift between sources look at no
label of what is held out; those of the shift to it do (†).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmark.method.evaluation.distributions import ranks as ranks_of
from benchmark.method.evaluation.metrics import ACCURACY, Array
from reports.chosen import Selections, rule_for
from reports.methods import ICM, SHRINKAGE, Method
from reports.render import GAP, markdown_escape, markdown_grid
from reports.settings import Setting

MIN_SETTINGS = 8  # of a method in an environment, for a rank correlation
SHARES = ("energy_removed", "shift_removed_sources", "shift_removed_target")
MOVED = ("shift_moved_sources", "shift_moved_target")
_SETTING = ["lambda_", "intervention_set", "normalize", "predictor_params", "projection_params"]


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


def spans(setting: Setting, selections: Selections) -> list[str]:
    """Return the section with its heading; nothing where no row has a share.

    Args:
        setting: what the rows share.
        selections: the rows of that setting.
    """
    rule = rule_for(selections.rows)
    body = [line for method in _removing(selections) if (line := _line(selections, method, rule))]
    if not body:
        return []
    header = ["Method", "energy removed", "shift removed", "to target †", "C_d along the shift", "to target †"]
    words = f"{setting.banner}{setting.title.removeprefix(setting.banner)}. {_words(rule)}"
    parts = [markdown_escape(words), markdown_grid([markdown_escape(word) for word in header], body)]
    return [
        "### Do the interventions span the shift?\n\n" + "\n\n".join([*parts, *_correlations(selections)]),
    ]


def _words(rule: str) -> str:
    return (
        "Percent of the second moment of the embeddings, and of the shift of class means between environments (less "
        "what few images make), that lies in what is dropped or shrunk: z - G'z, G the maps of images and texts "
        f"together. Means over held-out environments, seeds and folds at what {rule} picks. Shift: between source "
        "environments; † from them to the held-out one, by its labels, at which no rule looks. C_d along the shift: "
        "how much interventions, or their placebo, move what shifts, 1 as the average direction. Of several draws of "
        "a placebo the mean, with the lowest and the highest."
    )


def _removing(selections: Selections) -> list[Method]:
    """Return the methods, draws of placebos as one, that could remove something of a shift, in the order of tables."""
    kinds = (ICM, SHRINKAGE)
    methods = [m for m in selections.parts if m.projection in kinds or m.is_control]
    return sorted([*methods, *selections.draws], key=lambda method: method.place)


def _line(selections: Selections, method: Method, rule: str) -> list[str] | None:
    found = [picked(selections, draw, rule) for draw in selections.draws.get(method, [method])]
    if not any(values["energy_removed"] is not None for values in found):
        return None
    percent = [_cell([values[name] for values in found], 100, ".1f") for name in SHARES]
    return [markdown_escape(method.label), *percent, *(_cell([v[name] for v in found], 1, ".2f") for name in MOVED)]


def _cell(values: Sequence[float | None], factor: float, form: str) -> str:
    known = [factor * value for value in values if value is not None]
    if not known:
        return GAP
    mean = f"{np.mean(known):{form}}"
    return mean if len(values) == 1 else f"{mean} [{min(known):{form}}, {max(known):{form}}]"


def picked(selections: Selections, method: Method, rule: str) -> dict[str, float | None]:
    """Return the shares of a method at what a rule picks, fractions, averaged; None where a pick has none.

    Args:
        selections: the rows of one setting.
        method: one of its methods, a draw of a placebo included.
        rule: one of `selection.RULES`.
    """
    rows, ranks = selections.chosen_rows(method, rule), selections.picks(method, rule)["rank"]
    at = [known.index(rank) for known, rank in zip(rows["ranks"], ranks, strict=True)]
    values: dict[str, list[float | None]] = {
        name: [share[i] if isinstance(share, list) else None for share, i in zip(rows[name], at, strict=True)]
        for name in SHARES
    }
    values |= {name: [None if pd.isna(value) else value for value in rows[name]] for name in MOVED}
    every = [rows["held_out"].to_numpy(), rows["seed"].to_numpy()]
    means: dict[str, float | None] = {}
    for name, numbers in values.items():
        series = pd.Series(numbers, dtype=float)
        whole = len(series) and series.notna().all()
        means[name] = float(series.groupby(every).mean().groupby(level=0).mean().mean()) if whole else None
    return means


def _correlations(selections: Selections) -> list[str]:
    """Return a table of rank correlations over settings, and what it says in a sentence for each method."""
    body, said = [], []
    for method, rows in selections.parts.items():
        if method.projection not in (ICM, SHRINKAGE) or method.placebo or method.order == "released":
            continue
        by_setting = _by_setting(rows)
        columns = [goes_with(by_setting, f"shift_removed_{of}") for of in ("sources", "relative", "target")]
        fair = columns[0]
        if fair is None:
            continue
        body.append([markdown_escape(method.label), str(fair.n), *(_rho(column) for column in columns)])
        said.append(f"{method.label} {_rho(fair)} (n = {fair.n:,})")
    if not body:
        return []
    header = ["Method", "n", "shift removed", "shift / energy removed", "to target †"]
    words = (
        "Whether it predicts the gain: rank correlation (Spearman) over settings (lambda, rank, set, nuisance) of the "
        "share that is removed with accuracy minus plain, ranks within each held-out environment, all together; in "
        "brackets the lowest and highest environment. n counts each environment's settings. Settings share images and "
        "fits, so there is no p-value."
    )
    sentence = f"Share of the shift between sources that is removed, with the gain: {'; '.join(said)}."
    return [words, markdown_grid(header, body), markdown_escape(sentence)]


def _by_setting(rows: pd.DataFrame) -> pd.DataFrame:
    """Return accuracy and shares of each held-out environment and setting, rank included: means of folds and seeds."""
    known = {name: rows[name].map(lambda share: isinstance(share, list)) for name in SHARES}
    usable = rows[known["shift_removed_sources"]]
    shares = [name for name in SHARES if known[name][usable.index].all()]
    long = usable[["held_out", *_SETTING, "ranks", ACCURACY.name, *shares]].explode(["ranks", ACCURACY.name, *shares])
    by_setting: Any = long.groupby(["held_out", *_SETTING, "ranks"], dropna=False)[[ACCURACY.name, *shares]]
    means = by_setting.agg(lambda values: float(np.mean(values.to_numpy(dtype=float)))).reset_index()
    means = means.reindex(columns=[*means.columns, *(name for name in SHARES if name not in shares)]).astype(
        dict.fromkeys((ACCURACY.name, *SHARES), float)
    )
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
    ranks = [
        (_centred(part[name].to_numpy()), _centred(part[ACCURACY.name].to_numpy()))
        for _, part in known.groupby("held_out", sort=True)
    ]
    x, y = (np.concatenate(side) for side in zip(*ranks, strict=True))
    return GoesWith(_cosine(x, y), tuple(_cosine(*pair) for pair in ranks), len(known))


def _centred(values: Array) -> Array:
    ranks = ranks_of(np.round(values, 12))
    return np.asarray((ranks - ranks.mean()) / len(ranks))


def _cosine(x: Array, y: Array) -> float:
    length = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / length if length > 0 else np.nan


def _rho(one: GoesWith | None) -> str:
    if one is None or np.isnan(one.rho):
        return GAP
    single = [rho for rho in one.single if not np.isnan(rho)]
    return f"{one.rho:+.2f} [{min(single):+.2f}, {max(single):+.2f}]"
