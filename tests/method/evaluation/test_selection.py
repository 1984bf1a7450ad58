"""Selection within a rank curve: ties, gaps, and rows against a reading of the rules by hand."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmark.method.evaluation.metrics import METRICS
from benchmark.method.evaluation.selection import RULES, SOURCE_RULES, best_index, select


def test_ties_go_to_the_larger_rank_and_nan_is_no_score() -> None:
    assert best_index([0.5, 0.7, 0.7, 0.1]) == 2
    assert best_index([math.nan, 0.9]) == 1
    assert best_index([math.nan, math.nan]) is None
    assert best_index(None) is None
    assert best_index([]) is None


@pytest.mark.parametrize(
    ("rule", "lambda_", "rank", "accuracy"),
    [("training_domain", 1.0, 8, 0.4), ("lodo", 3.0, 4, 0.6), ("oracle", 3.0, 8, 0.9)],
)
def test_picks_worked_out_by_hand(rule: str, lambda_: float, rank: int, accuracy: float) -> None:
    common = {
        "held_out": "sketch", "seed": 0, "ranks": [4, 8], "intervention_set": "all", "normalize": "none",
        "predictor_params": "{}", "projection_params": "{}", "n_test": 2, "tested": None, "tested_groups": None, "worst_class": [0.0, 0.0], "balanced": [0.0, 0.0],
        "correct_training_domain": [True, False], "correct_lodo": [True, False], "correct_oracle": [True, False],
    }  # fmt: skip
    rows = pd.DataFrame(
        [
            {**common, "lambda_": 1.0, "training_domain": [0.7, 0.8], "lodo": [0.3, 0.2], "target": [0.5, 0.4]},
            {**common, "lambda_": 3.0, "training_domain": [0.7, 0.6], "lodo": [0.5, 0.4], "target": [0.6, 0.9]},
        ]
    )
    (pick,) = select(rows, rule).to_dict("records")
    assert (pick["lambda_"], pick["rank"], pick["target"]) == (lambda_, rank, accuracy)
    assert rows["lambda_"].iloc[pick["position"]] == lambda_


# DomainBed's rules from scratch, on its own kind of records: one for each run and step, with the accuracy on the
# in-split and out-split of every environment. A run is a set of hyper-parameters; steps are what ranks are here.
ENVIRONMENTS, RUNS, STEPS = 4, 6, 5


def domainbed_records(rng: np.random.Generator) -> list[dict[str, Any]]:
    held_outs = [(a,) for a in range(ENVIRONMENTS)] + [(a, b) for b in range(ENVIRONMENTS) for a in range(b)]
    return [
        {
            "test_envs": test_envs,
            "run": run,
            "step": step,
            "in": rng.random(ENVIRONMENTS),
            "out": rng.random(ENVIRONMENTS),
        }
        for run in range(RUNS)
        for test_envs in held_outs
        for step in range(STEPS)
    ]


def domainbed_picks(records: list[dict[str, Any]], rule: str, target: int) -> tuple[int, int]:
    """(run, step) that DomainBed's model selection takes for a test environment."""
    alone = [r for r in records if r["test_envs"] == (target,)]
    scores = {}
    for r in alone:
        if rule == "training_domain":  # IIDAccuracySelectionMethod: mean out-accuracy of the training environments
            score = np.mean([r["out"][e] for e in range(ENVIRONMENTS) if e != target])
        elif rule == "oracle":  # on the test environment; which of its splits is the caller's choice here
            score = r["in"][target]
        else:  # LeaveOneOutSelectionMethod: in-accuracy on the environment that was left out as well
            pairs = [
                p for p in records
                if len(p["test_envs"]) == 2 and target in p["test_envs"] and (p["run"], p["step"]) == (r["run"], r["step"])
            ]  # fmt: skip
            left_out = [next(e for e in p["test_envs"] if e != target) for p in pairs]
            score = np.sum([p["in"][e] for p, e in zip(pairs, left_out, strict=True)]) / (ENVIRONMENTS - 1)
        scores[r["run"], r["step"]] = score
    return max(scores, key=lambda key: scores[key])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(5))
def test_picks_are_those_of_domainbeds_rules(rule: str, seed: int) -> None:
    records = domainbed_records(np.random.default_rng(seed))
    by_key = {(r["test_envs"], r["run"], r["step"]): r for r in records}
    rows = []
    for target in range(ENVIRONMENTS):
        sources = [e for e in range(ENVIRONMENTS) if e != target]
        for run in range(RUNS):
            of = [by_key[(target,), run, step] for step in range(STEPS)]
            lodo = [[by_key[tuple(sorted((target, s))), run, step]["in"][s] for s in sources] for step in range(STEPS)]
            rows.append(
                {
                    "held_out": f"e{target}", "seed": 0, "ranks": list(range(1, STEPS + 1)), "lambda_": float(run),
                    "intervention_set": "all", "normalize": "none", "predictor_params": "{}", "projection_params": "{}", "n_test": 1, "tested": None, "tested_groups": None,
                    "training_domain": [float(np.mean([r["out"][s] for s in sources])) for r in of],
                    "lodo": [float(np.mean(scores)) for scores in lodo],
                    "target": [float(r["in"][target]) for r in of],  # DomainBed reports the test environment's in-split
                    "worst_class": [0.0] * STEPS, "balanced": [0.0] * STEPS,
                }
            )  # fmt: skip
    picks = select(pd.DataFrame(rows), rule)
    assert list(picks["held_out"]) == [f"e{e}" for e in range(ENVIRONMENTS)]
    for target, pick in enumerate(picks.to_dict("records")):
        run, step = domainbed_picks(records, rule, target)
        assert (pick["lambda_"], pick["rank"], pick["position"]) == (float(run), step + 1, target * RUNS + run)
        assert pick["target"] == by_key[(target,), run, step]["in"][target]


def test_the_rules_that_search_may_use_look_at_no_target() -> None:
    assert [name for name, rule in RULES.items() if rule.looks_at_target] == ["oracle"]
    assert {RULES[name].score for name in SOURCE_RULES}.isdisjoint(metric.name for metric in METRICS)
    assert all(rule.name == name and rule.meaning for name, rule in RULES.items())
