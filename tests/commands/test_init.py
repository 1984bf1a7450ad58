"""`icm-bench init` and `icm-bench recipes`: a newcomer's first recipe, and those of the package."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from benchmark.cli import main
from benchmark.recipe.loading import load_recipe
from tests.conftest import REPOSITORY, make_toy


def test_a_recipe_for_a_folder_names_what_lies_there_and_is_planned_as_it_is(
    toy_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", str(toy_root)]) == 0
    assert "Next: icm-bench run recipe.yaml" in capsys.readouterr().out
    recipe = load_recipe("recipe.yaml")
    (dataset,) = recipe.datasets
    assert (dataset.name, dataset.root, dataset.layout) == (toy_root.name, str(toy_root), "folder")
    text = Path("recipe.yaml").read_text()
    folders = {path.name for path in toy_root.iterdir() if path.is_dir()}
    assert folders
    for environment in folders:
        count = len(list((toy_root / environment).glob("*/*")))
        assert f"{environment} ({count} images)" in " ".join(text.split())
    assert "backbones:\n  - {name: MiniLiT" in text
    assert main(["plan", "--store", str(tmp_path / "store")]) == 0  # the file that `init` wrote need not be named


def test_what_is_there_is_never_overwritten(toy_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("mine")
    for command in (["init", str(toy_root)], ["recipes", "demo"]):
        assert main([*command, "--out", str(mine)]) == 2
        assert f"{mine} is there already and is not overwritten" in capsys.readouterr().err
    assert mine.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_is_no_data_set_is_refused_and_leaves_no_recipe(
    toy_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    out = tmp_path / "r.yaml"
    cases = {str(tmp_path / "nowhere"): "does not exist or is no folder", str(empty): "holds no images"}
    shutil.rmtree(toy_root / "env1")
    shutil.rmtree(toy_root / "env2")
    cases[str(toy_root)] = "has one environment only (env0)"
    for folder, sentence in cases.items():
        assert main(["init", folder, "--out", str(out)]) == 2
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 1
        assert sentence in said[0]
    assert not out.exists()


def test_environments_that_lack_a_class_and_names_that_yaml_would_misread(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "yes: #1"
    root.mkdir()
    made = make_toy(root)
    shutil.rmtree(made / "env1" / "dog")
    out = tmp_path / "r.yaml"
    assert main(["init", str(made), "--out", str(out), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["recipe"] == str(out)
    (dataset,) = load_recipe(out).datasets
    assert dataset.classes_differ is True
    assert dataset.root == str(made)
    assert yaml.safe_load(out.read_text())["datasets"][0]["name"] == made.name


def test_a_folder_of_known_sets_names_them(pacs_sample: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.yaml"
    assert main(["init", str(pacs_sample), "--out", str(out)]) == 0
    (dataset,) = load_recipe(out).datasets
    assert (dataset.name, dataset.root) == ("PACS", str(pacs_sample))


def test_recipes_are_listed_and_copied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    files = {file.stem: file for file in (REPOSITORY / "jobs" / "recipes").glob("*.yaml")}
    assert about == {name: file.read_text().splitlines()[0].removeprefix("# ") for name, file in sorted(files.items())}
    assert main(["recipes"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(files)
    assert main(["recipes", "demo"]) == 0
    assert capsys.readouterr().out == files["demo"].read_text()
    assert main(["recipes", "demo", "--out", str(tmp_path / "a" / "my.yaml")]) == 0
    assert (tmp_path / "a" / "my.yaml").read_bytes() == files["demo"].read_bytes()
    capsys.readouterr()
    assert main(["recipes", "dem", "--out", str(tmp_path / "b.yaml")]) == 2
    assert "Unknown recipe 'dem': did you mean 'demo'?" in capsys.readouterr().err
