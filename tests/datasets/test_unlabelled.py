"""Images that nobody labelled: which layouts take them, and what the commands do."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from benchmark.cli import main
from benchmark.common.errors import IcmBenchError
from benchmark.datasets.manifest import read_manifest
from benchmark.datasets.spec import DatasetSpec
from benchmark.recipe.loading import parse_recipe
from tests.datasets.reading import read, refusal


@pytest.fixture
def unlabelled(toy_root: Path, tmp_path: Path) -> Path:
    """The images of the toy set in ENVIRONMENT/IMAGE."""
    for file in sorted(toy_root.glob("*/*/*.png")):
        environment, class_name, name = file.relative_to(toy_root).parts
        place = tmp_path / "unlabelled" / environment / f"{class_name}-{name}"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    return tmp_path / "unlabelled"


def test_folders_of_environments_images_alone_and_tables(unlabelled: Path) -> None:
    found = read(unlabelled, classes="none")
    assert found.counts == {"env0": 12, "env1": 12, "env2": 12}
    assert not found.reader.labelled
    alone = read(unlabelled / "env1", classes="none")
    assert alone.counts == {"all": 12}
    lines = [f"{path},{path[:4]}" for path in found.table["path"].to_pylist()]
    (unlabelled / "images.csv").write_text("\n".join(["path,environment", *lines]))
    assert read(unlabelled, classes="none", layout="table").fingerprint == found.fingerprint


def test_one_environment_without_labels_stands_beside_those_that_have_them(toy_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "mixed"
    shutil.copytree(toy_root, root)
    for file in sorted(root.glob("env1/*/*.png")):
        file.rename(root / "env1" / f"{file.parent.name}-{file.name}")
    spec = DatasetSpec.model_validate({"name": "mine", "root": str(root), "labels": {"env1": "none"}})
    labelled, others = read_manifest(spec), read_manifest(spec.unlabelled or spec)
    assert labelled.counts == {"env0": 12, "env2": 12}
    assert others.counts == {"env1": 12}
    assert (labelled.reader.labelled, others.reader.labelled) == (True, False)
    rows = [row for manifest in (labelled, others) for row in manifest.table.to_pylist()]
    lines = [",".join(row[name] for name in ("path", "environment", "class_name")) for row in rows]
    (root / "images.csv").write_text("\n".join(["path,environment,class", *lines]))  # classes of env1 are empty
    table = spec.model_copy(update={"layout": "table"})
    assert read_manifest(table).fingerprint == labelled.fingerprint
    assert read_manifest(table.unlabelled or table).fingerprint == others.fingerprint


def test_labels_of_an_environment_that_is_not_there_or_of_another_layout_are_refused(toy_root: Path) -> None:
    spec = DatasetSpec.model_validate({"name": "mine", "root": str(toy_root), "labels": {"env9": "none"}})
    with pytest.raises(IcmBenchError, match=r"labels: .* has no images of an environment 'env9'"):
        read_manifest(spec.unlabelled or spec)
    for more in ({"layout": "parquet"}, {"name": "emoji_styles", "root": None}, {"environments": "cluster:2"}):
        with pytest.raises(ValueError, match="'labels' is for folders and tables"):
            DatasetSpec.model_validate({"name": "mine", "root": "x", "labels": {"a": "none"}, **more})


def test_layouts_that_have_classes_refuse(unlabelled: Path) -> None:
    for more in ({"layout": "parquet"}, {"name": "emoji_styles", "root": None}):
        with pytest.raises(ValueError, match="has classes: leave classes: none to folders and tables"):
            DatasetSpec.model_validate({"name": "mine", "root": str(unlabelled), "classes": "none", **more})
    recipe = {"name": "r", "datasets": [{"name": "mine", "root": "x"}], "backbones": ["MiniLiT"]}
    assert "classes" not in parse_recipe(recipe).model_dump()["datasets"][0]
    assert "holds no images" in refusal(unlabelled)  # images lie where classes should


@pytest.mark.usefixtures("local_ray")
def test_export_and_diagnose_work_and_a_sweep_says_what_it_needs(
    unlabelled: Path, tiny_random: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(name: str, entry: dict[str, Any], *options: str) -> int:
        content = {
            "name": "unlabelled",
            "datasets": [{"name": "mine", "root": str(unlabelled), "classes": "none", **entry}],
            "backbones": [tiny_random],
            "interventions": {"kinds": ["grayscale"]},
            "sweep": {
                "projections": ["fixed", "icm", "within_classes", "biased_prompts"], "predictors": ["zero_shot"],
                "lambdas": [1], "ranks": [4], "seeds": [0], "normalize": ["before"],
            },
        }  # fmt: skip
        (tmp_path / "recipe.yaml").write_text(json.dumps(content))
        return main([name, str(tmp_path / "recipe.yaml"), "--store", str(tmp_path / "store"), *options])

    assert command("embed", {}) == 0
    maps = {}
    for name, entry in {"own": {}, "clusters": {"environments": "cluster:2"}}.items():
        assert command("export", entry, "--projection", "fixed", "--to", str(tmp_path / name)) == 0
        maps[name] = load_file(tmp_path / name / "projection.safetensors")["A"]
        facts = json.loads((tmp_path / name / "projection.json").read_text())["provenance"]
        assert facts["environments"] == (["env0", "env1", "env2"] if name == "own" else ["cluster 1", "cluster 2"])
        assert ("clusters" in facts) == (name == "clusters")
    assert np.abs(maps["own"] - maps["clusters"]).max() > 1e-3
    capsys.readouterr()
    assert command("diagnose", {}, "--projection", "icm", "--json") == 0
    assert json.loads(capsys.readouterr().out)["environments"] == ["env0", "env1", "env2"]
    for name in ("sweep", "run"):
        assert command(name, {}) == 2
        assert "mine has no classes, which a sweep needs" in capsys.readouterr().err
    for projection, what in {"within_classes": "classes, and mine has none", "biased_prompts": "prompts, and"}.items():
        assert command("export", {}, "--projection", projection, "--lambda", "1") == 2
        assert f"--projection: {projection} needs {what}" in capsys.readouterr().err
