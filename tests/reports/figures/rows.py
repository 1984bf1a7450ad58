"""SYNTHETIC rows with data for every figure."""

import json
from typing import Any

import numpy as np

from tests.reports.synthetic import row

HELD_OUTS = ("art", "photo", "sketch")
KINDS = ("blur", "crop", "grey", "noise")
RANKS = (1, 2, 4)
LAMBDAS = (0.3, 3.0)


def answers(seed: int, share: float, ranks: int = 3, n: int = 120) -> np.ndarray[Any, Any]:
    """Return invented correctness, shape (ranks, n), increasing with rank."""
    rng = np.random.default_rng(seed)
    ease = rng.random(n)
    return np.array([ease < share - 0.1 * (ranks - 1 - i) for i in range(ranks)])


def rows_of(name: str = "synthetic", **other: Any) -> list[dict[str, Any]]:
    """Return plain, PCA, CLIP-ICM in four lambdas and sets, shrinkage: two folds in three environments."""
    found = []
    for i, held_out in enumerate(HELD_OUTS):
        for fold in (0, 1):
            at: dict[str, Any] = {
                "held_out": held_out, "fold": fold, "folds": 2, "test_split": "out_fold", "dataset": name, "first": 1000 * fold,
                **other,
            }  # fmt: skip
            seed = 10 * i + fold
            found.append(row(correct=answers(seed, 0.6, 1), lodo=[0.6], **at))
            found.append(row(projection="pca", correct=answers(seed + 100, 0.62), lodo=[0.3, 0.5, 0.6],
                             target=list(answers(seed + 100, 0.62).mean(axis=1)), spectrum=[3.0, 2.0, 1.0, 0.1], **at))  # fmt: skip
            for k, lambda_ in enumerate(LAMBDAS):
                for j, kinds in enumerate(sets()):
                    own = answers(seed + 200 + 7 * k + 31 * j, 0.68 - 0.02 * j)
                    common: dict[str, Any] = {
                        "projection": "icm", "order": "largest", "lambda_": lambda_, "intervention_set": "+".join(kinds),
                        "interventions": json.dumps({"kinds": [{"name": kind} for kind in kinds]}), "spectrum": [2.0, 1.0, 0.2, -1.0 * lambda_],
                        "energy_removed": [0.5, 0.3, 0.0], "shift_removed_sources": [0.7, 0.4, 0.0], "shift_removed_target": [0.6, 0.3, 0.0],
                        "shift_moved_sources": 0.8 + 0.1 * j, "shift_moved_target": 0.5,
                    }  # fmt: skip
                    scores = [0.4 + 0.01 * j, 0.55 + 0.02 * k, 0.5]
                    found.append(row(correct=own, target=list(own.mean(axis=1)), lodo=scores, training_domain=scores,
                                     **common, **at))  # fmt: skip
            for lambda_ in (0.0, 1.0):
                found.append(row(projection="shrinkage", lambda_=lambda_, intervention_set="all", projection_params=json.dumps({"nuisance": "both"}),
                                 interventions=json.dumps({"kinds": [{"name": kind} for kind in KINDS]}),
                                 correct=answers(seed + 300 + int(lambda_), 0.7, 1), lodo=[0.5 + 0.1 * lambda_], **at))  # fmt: skip
    return found


def plain_and_pca(**of: Any) -> list[dict[str, Any]]:
    """Return a minimal set of rows with a rank curve, in one environment."""
    return [row(**of), row(projection="pca", target=[0.3, 0.4, 0.5], **of)]


def sets() -> list[tuple[str, ...]]:
    """Return all kinds, every kind alone, every kind left out and every pair."""
    pairs = [(a, b) for i, a in enumerate(KINDS) for b in KINDS[i + 1 :]]
    return [KINDS, *((kind,) for kind in KINDS), *(tuple(k for k in KINDS if k != kind) for kind in KINDS), *pairs]
