"""Selection within a rank curve: ties, gaps, and rows against a reading of the rules by hand."""

import math

import pandas as pd
import pytest

from benchmark.evaluation.selection import best_index, select


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
        "predictor_params": "{}", "n_test": 2, "worst_class": [0.0, 0.0],
        "correct_training_domain": [True, False], "correct_lodo": [True, False], "correct_oracle": [True, False],
    }  # fmt: skip
    rows = pd.DataFrame(
        [
            {**common, "lambda_": 1.0, "training_domain": [0.7, 0.8], "lodo": [0.3, 0.2], "target": [0.5, 0.4]},
            {**common, "lambda_": 3.0, "training_domain": [0.7, 0.6], "lodo": [0.5, 0.4], "target": [0.6, 0.9]},
        ]
    )
    (pick,) = select(rows, rule).to_dict("records")
    assert (pick["lambda_"], pick["rank"], pick["accuracy"]) == (lambda_, rank, accuracy)
