"""The three selection rules as pure functions of result rows (Gulrajani and Lopez-Paz, 2021, section 3).

A rule decides, for one held-out environment and one seed, everything that a method leaves open: rank, lambda,
intervention set, normalisation and the predictor's own parameters.

Ties go to the larger rank (the lesser intervention), then to the row that comes first.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.method.evaluation.metrics import ACCURACY, METRICS

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Rule:
    """By what everything that a method leaves open is chosen.

    Attributes:
        name: what tables and columns of the rows call the rule.
        score: column of the rows whose highest value it takes: a rank curve.
        meaning: what that score is, for captions.
        looks_at_target: whether the score is of the tested images: an upper bound, never a result.
    """

    name: str
    score: str
    meaning: str
    looks_at_target: bool = False


RULES: Mapping[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule(
            "training_domain",
            "training_domain",
            "highest mean accuracy on the 20 % out-splits of the source environments",
        ),
        Rule(
            "lodo",
            "lodo",
            "highest mean accuracy when each source environment in turn is left out, refitted and tested on",
        ),
        Rule(
            "oracle",
            ACCURACY.name,
            "highest accuracy on the held-out environment itself: an upper bound, not a result",
            looks_at_target=True,
        ),
    )
}
SOURCE_RULES = tuple(rule.name for rule in RULES.values() if not rule.looks_at_target)


def best_index(scores: Sequence[float] | None) -> int | None:
    """Return the position of the highest score in a rank curve (the last one of equals), or None without scores."""
    known = [i for i, score in enumerate(scores or ()) if not math.isnan(score)]
    if scores is None or not known:
        return None
    return max(known, key=lambda i: (scores[i], i))


def select(rows: "pd.DataFrame", rule: str) -> "pd.DataFrame":
    """Pick one row and one rank for every (held_out, seed) among the rows of one method.

    Args:
        rows: rows of `benchmark.store.rows.schema()` of one data set, backbone, test split and method.
        rule: name of one of `RULES`.

    Returns:
        One line per (held_out, seed), sorted; pairs without a score of the rule are absent. Columns: held_out, seed,
        position (of the picked row in `rows`), rank, score (what the rule looked at), training_domain (accuracy on the
        sources' out-splits), each of `METRICS` by its name (on the test split; NaN where the row does not know it),
        correct (bool for each test image), per_class (list), ece, ece_scaled and temperature (NaN for the oracle), and
        as in the row lambda_, intervention_set, normalize, predictor_params, projection_params, n_test, tested and
        tested_groups.
    """
    import pandas as pd

    column = RULES[rule].score
    picks: list[dict[str, Any]] = []
    for (held_out, seed), candidates in rows.assign(position=range(len(rows))).groupby(["held_out", "seed"], sort=True):
        best: tuple[float, int, dict[str, Any]] | None = None
        for row in candidates.to_dict("records"):
            index = best_index(row[column])
            if index is None or math.isnan(row[ACCURACY.name][index]):  # no score, or no tested image
                continue
            key = (row[column][index], row["ranks"][index])
            if best is None or key > best[:2]:
                best = (*key, {**{str(k): v for k, v in row.items()}, "index": index})
        if best is not None:
            picks.append({"held_out": held_out, "seed": seed, **_picked(best[2], rule)})
    names = ["position", "rank", "score", "training_domain", *(metric.name for metric in METRICS), *_KEPT, *_COPIED]
    return pd.DataFrame(picks, columns=["held_out", "seed", *names])


_KEPT = ("correct", "per_class", "ece", "ece_scaled", "temperature")  # of which a row has one for each rule
_COPIED = (
    "lambda_",
    "intervention_set",
    "normalize",
    "predictor_params",
    "projection_params",
    "n_test",
    "tested",
    "tested_groups",
)


def _picked(row: dict[str, Any], rule: str) -> dict[str, Any]:
    index = row["index"]
    return {
        "position": row["position"],
        "rank": row["ranks"][index],
        "score": row[RULES[rule].score][index],
        "training_domain": row["training_domain"][index],
        **{m.name: curve[index] if (curve := row.get(m.name)) is not None else math.nan for m in METRICS},
        **{name: row.get(f"{name}_{rule}") for name in _KEPT},
        **{name: row[name] for name in _COPIED},
    }


def source_scores(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return rule -> mean over held-out environments and seeds of the highest score among rows and ranks.

    Of the rules that look at source environments alone; those without a score are absent. This is all that a search or
    a scheduler ever sees of a trial.
    """
    means = {}
    for rule in SOURCE_RULES:
        best: dict[tuple[object, object], float] = {}
        for row in rows:
            scores = [score for score in row[RULES[rule].score] or () if not np.isnan(score)]
            if scores:
                key = (row["held_out"], row["seed"])
                best[key] = max(best.get(key, 0.0), *scores)
        if best:
            means[rule] = float(np.mean(list(best.values())))
    return means
