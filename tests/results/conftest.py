"""Results that tests publish: of a small encoder with its own (untrained) weights on synthetic images."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from benchmark.cli import main
from tests.commands.conftest import Command, command
from tests.conftest import TINY_CLIP, make_toy

__all__ = ["command"]
WHO = ("--model-id", "acme/tiny", "--relationship", "first_party", "--organization", "Acme")
SWEEPS: dict[str, dict[str, Any]] = {
    # One seed and folds: all verdicts follow from a few lines of NumPy.
    "folds": {"folds": 3, "protocols": ["held_out", "in_domain"], "projections": ["identity", "icm", "shrinkage", "fixed"]},
    "f1": {"test_splits": ["full"], "projections": ["identity", "icm"], "predictors": ["zero_shot"]},  # another metric
    # Several seeds, and the harmonic mean of base and new classes.
    "halves": {"protocols": ["open_class"], "test_splits": ["in_80"], "seeds": [0, 1], "projections": ["identity", "icm"]},
}  # fmt: skip


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Path:  # noqa: ARG001
    """A folder with recipes, NAME.json, that were run into its store."""
    folder = tmp_path_factory.mktemp("results")
    images = make_toy(folder / "toy", environments=3, classes=4, images=24)
    torch.manual_seed(0)
    model = open_clip.CLIP(**TINY_CLIP)
    (folder / "tiny").mkdir()
    (folder / "tiny" / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY_CLIP, "preprocess_cfg": {}}))
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / "tiny" / "open_clip_model.safetensors")
    for name, sweep in SWEEPS.items():
        content = {
            "name": name,
            "datasets": [{"name": "toy", "root": str(images)} | ({"metric": "macro_f1"} if name == "f1" else {})],
            "backbones": [{"name": "tiny", "folder": str(folder / "tiny"), "engine": "torch"}],
            "interventions": {"kinds": ["grayscale", "posterize"]},
            "sweep": {
                "seeds": [0], "predictors": ["zero_shot", {"name": "linear_probe", "C": [3.16], "max_iter": 20}],
                "lambdas": [1], "ranks": [2, 16], "normalize": ["before"], **sweep,
            },
            "run": {"store": str(folder / "store")},
        }  # fmt: skip
        (folder / f"{name}.json").write_text(json.dumps(content))  # JSON is YAML
        assert main(["run", str(folder / f"{name}.json")]) == 0
    return folder


@pytest.fixture(scope="session")
def published(swept: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the results of all recipes. Tests that change it take a copy."""
    folder = tmp_path_factory.mktemp("published") / "results"
    for name in SWEEPS:
        assert main(["publish", str(swept / f"{name}.json"), "--to", str(folder), *WHO]) == 0
    return folder


@pytest.fixture
def results(published: Path, tmp_path: Path) -> Path:
    """A copy of the published results."""
    return Path(shutil.copytree(published, tmp_path / "results"))


@pytest.fixture
def check(command: Command) -> Callable[[Path], list[str]]:
    """A function that checks a folder by the command, and returns its problems."""

    def problems(folder: Path) -> list[str]:
        command.capsys.readouterr()
        code = main(["results", "check", str(folder), "--json"])
        found = command.capsys.readouterr()
        said = [line.removeprefix("icm-bench: ") for line in found.err.splitlines() if line.startswith("icm-bench: ")]
        stated: list[str] = json.loads(found.out)["problems"]
        assert (code, len(said)) == (2 if stated else 0, len(stated))
        return stated

    return problems
