"""Loggers of Tune's own: what they are given, and that they are off unless asked for."""

from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from benchmark.cli import main
from benchmark.commands.preparing.checks import check_packages
from benchmark.common.errors import IcmBenchError
from benchmark.recipe.loading import parse_recipe
from benchmark.sweep.batches import callbacks, log_folder
from tests.conftest import toy_in
from tests.planted import KEY, SECRET, leaks

SMALL = {"name": "x", "datasets": ["emoji_styles"], "backbones": ["MiniLiT"]}


def test_none_unless_asked_for() -> None:
    assert log_folder(parse_recipe(SMALL).run) is None
    assert callbacks(parse_recipe(SMALL).run, "x") == []
    with pytest.raises(IcmBenchError, match="'tensorboard', 'mlflow' or 'wandb'"):
        parse_recipe({**SMALL, "run": {"loggers": ["tensorbord"]}})


def test_a_missing_package_is_named_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmark.commands.preparing.checks.find_spec", lambda _: None)
    with pytest.raises(IcmBenchError, match="'mlflow' needs the package mlflow; pip install"):
        check_packages(parse_recipe({**SMALL, "run": {"loggers": ["mlflow"]}}))
    with pytest.raises(IcmBenchError, match="'optuna' needs the package optuna; pip install"):
        check_packages(parse_recipe({**SMALL, "sweep": {"search": {"method": "optuna"}}}))
    check_packages(parse_recipe(SMALL))


@pytest.mark.usefixtures("local_ray")
def test_tensorboard_gets_scores_on_sources_and_no_log_of_ray_gets_keys(
    tmp_path: Path, embedded_toy: Path, tiny_random: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    recipe = {
        "name": "logged",
        "datasets": [toy_in(tmp_path, embedded_toy)],
        "backbones": [tiny_random],
        "interventions": {"kinds": ["grayscale"]},
        "sweep": {"projections": ["identity", "pca"], "predictors": ["zero_shot"], "seeds": [0]},
        "run": {"store": str(tmp_path / "store"), "loggers": ["tensorboard"], "logs": str(tmp_path / "logs")},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["run", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "out")]) == 0
    files = list((tmp_path / "logs").rglob("events.out.tfevents*"))
    assert len(files) == 2  # one for each trial
    for content in (file.read_bytes() for file in files):
        assert b"ray/tune/lodo" in content
        assert b"ray/tune/training_domain" in content
        assert not any(word in content for word in (b"target", b"oracle", b"worst_class"))
    logs = Path(ray._private.worker._global_node.get_logs_dir_path())
    assert (logs / "runtime_env_agent.log").exists()
    assert leaks(logs) == []
