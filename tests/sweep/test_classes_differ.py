"""Environments that lack classes: every method is fitted and tested, and none knows a class that it never saw or named."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.cli import main
from benchmark.common.storage.files import Storage
from benchmark.store.rows import read_rows
from tests.conftest import make_toy

IMAGES = 10


@pytest.mark.usefixtures("local_ray")
def test_every_method_has_rows(tiny_random: dict[str, Any], tmp_path: Path) -> None:
    root = make_toy(tmp_path / "toy", environments=4, classes=4, images=IMAGES)
    for gone in ("env0/hen", "env0/dog", "env1/dog", "env2/dog", "env3/cat"):  # dogs are in env3 alone
        shutil.rmtree(root / gone)
    content = {
        "name": "differ",
        "datasets": [{"name": "toy", "root": str(root), "classes_differ": True}],
        "backbones": [tiny_random],
        "interventions": {"kinds": []},
        "sweep": {
            "projections": ["identity"], "seeds": [0], "test_splits": ["full"],
            "predictors": ["zero_shot", "linear_probe", "ridge"],
        },
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(json.dumps(content))
    assert main(["run", str(tmp_path / "recipe.yaml"), "--store", str(tmp_path / "store")]) == 0
    storage = Storage(str(tmp_path / "store"))
    rows = read_rows(storage, [Path(name).stem for name in storage.files("rows", ".parquet")])
    assert rows.groupby("held_out")["n_test"].unique().map(list).to_dict() == {
        "env0": [2 * IMAGES], "env1": [3 * IMAGES], "env2": [3 * IMAGES], "env3": [3 * IMAGES],
    }  # fmt: skip
    accuracy = rows["target"].map(lambda curve: float(np.max(curve)))
    probes = rows["predictor"].isin(["linear_probe", "ridge"]) & (rows["held_out"] == "env3")
    assert accuracy[probes].max() <= 2 / 3  # a third of what is tested are dogs, which no source has
