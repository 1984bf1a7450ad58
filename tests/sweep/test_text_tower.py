"""Prompts are learnt in a sweep: the text tower reaches the predictor that asks for it, in every trial of it."""

import json
from pathlib import Path
from typing import Any

from benchmark.cli import main
from benchmark.common.storage.files import Storage
from benchmark.store.rows import read_rows
from tests.conftest import toy_in


def test_coop_has_rows_that_depend_on_its_training(
    embedded_toy: Path, tiny_random: dict[str, Any], tmp_path: Path
) -> None:
    coop = {"name": "coop", "context": 2, "batch": 8, "learning_rate": 0.5}
    content = {
        "name": "coop",
        "datasets": [toy_in(tmp_path, embedded_toy)],
        "backbones": [tiny_random],
        "interventions": {"kinds": ["grayscale"]},
        "sweep": {
            "projections": ["identity", "pca"], "predictors": [{**coop, "epochs": 0}, {**coop, "epochs": 4}],
            "seeds": [0], "ranks": [8, 16], "test_splits": ["full"],
        },
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(json.dumps(content))
    assert main(["run", str(tmp_path / "recipe.yaml"), "--store", str(tmp_path / "store")]) == 0
    storage = Storage(str(tmp_path / "store"))
    rows = read_rows(storage, [Path(name).stem for name in storage.files("rows", ".parquet")])
    assert len(rows) == 2 * 2 * 4
    assert (rows["labels_fit"] == rows["n_train"]).all()
    assert rows["lodo"].notna().all()
    epochs = rows["predictor_params"].map(lambda params: json.loads(params)["epochs"])
    of_epochs = [rows[epochs == n].set_index(["projection", "held_out"])["training_domain"] for n in (0, 4)]
    assert sum(of_epochs[0][key] != of_epochs[1][key] for key in of_epochs[0].index) >= 3
