"""Estimates without labels through a store and Ray: by a few lines of NumPy, and blind for what nobody labelled."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.cli import main
from benchmark.commands.preparing.prepare import prepared
from benchmark.method.evaluation.splits import Split
from benchmark.recipe.loading import parse_recipe
from benchmark.sweep.loading import load
from tests.conftest import make_toy

pytestmark = pytest.mark.usefixtures("local_ray")


def content_of(root: Path, tiny: dict[str, Any], labels: dict[str, str] | None) -> dict[str, Any]:
    entry = {"name": "mine", "root": str(root), **({"labels": labels} if labels else {})}
    return {
        "name": "estimates",
        "datasets": [entry],
        "backbones": [tiny],
        "interventions": {"kinds": ["grayscale"]},
        "sweep": {
            "projections": ["identity", "icm"], "predictors": ["zero_shot", "ridge"], "lambdas": [10],
            "ranks": [4, 8], "seeds": [0], "normalize": ["before"],
        },
    }  # fmt: skip


def estimated(
    content: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> dict[tuple[str, str], Any]:
    (tmp_path / "recipe.yaml").write_text(json.dumps(content))
    words = str(tmp_path / "recipe.yaml"), "--store", str(tmp_path / "store")
    assert main(["embed", *words]) == 0
    capsys.readouterr()
    assert main(["unlabelled", *words, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert "not measurements" in Path(record["files"][0]).read_text() or not content["datasets"][0].get("labels")
    return {(one["method"], one["environment"]): one for one in record["estimates"]}


def test_estimates_of_plain_zero_shot_are_those_of_a_few_lines_and_labels_of_the_target_do_not_enter(
    tiny_random: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_toy(tmp_path / "data", environments=3, classes=2, images=10)
    known = estimated(content_of(root, tiny_random, None), tmp_path, capsys)
    recipe = parse_recipe(content_of(root, tiny_random, None) | {"run": {"store": str(tmp_path / "store")}})
    with prepared(recipe) as run:
        data = load._function(run.storage, run.subjects[0], (Split(0),))[0]
    unit = data.z / np.linalg.norm(data.z, axis=1, keepdims=True)
    right = (unit @ data.text.T).argmax(axis=1) == data.label
    for held_out, name in enumerate(data.environments):
        one = known["Zero-shot", name]
        assert one["accuracy"] == pytest.approx(right[data.environment == held_out].mean())
        validation = (data.environment != held_out) & (data.side[Split(0)] == 1)
        of_sources = [right[validation & (data.environment == e)].mean() for e in {0, 1, 2} - {held_out}]
        assert one["source"] == pytest.approx(np.mean(of_sources))

    # The same images of env1 without labels: nothing but the truth is missing, and nothing else changes for others.
    for file in sorted(root.glob("env1/*/*.png")):
        file.rename(root / "env1" / f"{file.parent.name}-{file.name}")
    for folder in [path for path in (root / "env1").iterdir() if path.is_dir()]:
        shutil.rmtree(folder)
    blind = estimated(content_of(root, tiny_random, {"env1": "none"}), tmp_path, capsys)
    for method in {method for method, _ in known}:
        one, other = known[method, "env1"], blind[method, "env1"]
        assert (one["accuracy"] is None, other["accuracy"] is None) == (False, True)
        assert (one["sources"], other["sources"]) == (2, 2)
        # Splits are drawn by the number of an environment, and env2 is the second now: env0 alone is cut alike.
        assert all(0 <= other[estimate] <= 1 for estimate in ("atc", "agreement"))
    # Other images in the place of env1: no fit, and no answer about a labelled environment, sees them.
    before = {key: one for key, one in blind.items() if key[1] != "env1"}
    for file in sorted((root / "env1").glob("*.png"))[::2]:
        shutil.copy(sorted(root.glob("env0/*/*.png"))[0], file)
    poisoned = estimated(content_of(root, tiny_random, {"env1": "none"}), tmp_path, capsys)
    assert {key: one for key, one in poisoned.items() if key[1] != "env1"} == before
    for method in {method for method, _ in known}:
        assert poisoned[method, "env1"]["source"] == blind[method, "env1"]["source"]
