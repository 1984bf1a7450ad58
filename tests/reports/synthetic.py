"""SYNTHETIC result rows: invented accuracies that test the arithmetic of reports. No model was run."""

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from benchmark.store.rows import frame_of, schema

RANKS = (1, 2, 4)


def row(
    *,
    held_out: str = "art",
    seed: int = 0,
    projection: str = "identity",
    order: str | None = None,
    predictor: str = "zero_shot",
    target: Sequence[float] = (0.5,),
    training_domain: Sequence[float] | None = None,
    lodo: Sequence[float] | None = (),
    correct: Sequence[bool] | None = None,
    n_test: int = 10,
    **other: Any,
) -> dict[str, Any]:
    """Return one invented row; scores default to the target's, correctness to the target's last rank."""
    ranks = list(RANKS[-len(target) :])
    hits = round(target[-1] * n_test)
    answers = [i < hits for i in range(n_test)] if correct is None else list(correct)
    own_lodo = None if lodo is None else list(lodo or target)
    base: dict[str, Any] = {
        "trial_id": f"{projection}-{order}-{predictor}-{held_out}-{seed}",
        "dataset": "synthetic",
        "dataset_fingerprint": "data0",
        "grouped": False,
        "backbone": "ViT-B-32",
        "backbone_fingerprint": "weights0",
        "random_weights": False,
        "precision": "fp32",
        "prompts": json.dumps(["a photo of a {}."]),
        "projection_params": "{}",
        "normalize": "none",
        "predictor_params": "{}",
        "predictor_variant": None,
        "protocol": "held_out",
        "test_split": "out_20",
        "class_half": "all",
        "classes": ["cat", "dog"],
        "lodo_split": "full",
        "dim": 4,
        "n_classes": 2,
        "n_train": 1000,
        "recipe_hash": "recipe0",
        "code_version": "0",
    }
    values = {
        "projection": projection,
        "order": order,
        "predictor": predictor,
        "held_out": held_out,
        "seed": seed,
        "n_test": n_test,
        "tested": [{"environment": held_out, "images": n_test}],
        "ranks": ranks,
        "training_domain": list(training_domain or target),
        "lodo": own_lodo,
        "target": list(target),
        "worst_class": [x / 2 for x in target],
        "balanced": list(target),
        "correct_training_domain": answers,
        "correct_lodo": None if lodo is None else answers,
        "correct_oracle": answers,
    }
    return {**dict.fromkeys(schema().names), **base, **values, **other}


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the rows as `benchmark.store.rows.read_rows` would, list columns and absent values included."""
    return frame_of(pa.Table.from_pylist(rows, schema=schema()))
