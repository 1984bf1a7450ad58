"""`icm-bench init` and `icm-bench recipes`: a newcomer's first recipe, and those of the package."""

import shutil
from pathlib import Path

import pytest
import yaml

from benchmark.recipe.loading import load_recipe
from tests.commands.conftest import Command
from tests.conftest import REPOSITORY, make_toy


def test_a_recipe_for_a_folder_names_what_lies_there_and_is_planned_as_it_is(
    toy_root: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "Next: icm-bench run recipe.yaml" in command("init", toy_root).out
    recipe = load_recipe("recipe.yaml")
    (dataset,) = recipe.datasets
    assert recipe.sweep.folds == 5
    assert (dataset.name, dataset.root, dataset.layout) == (toy_root.name, str(toy_root), "folder")
    text = " ".join(Path("recipe.yaml").read_text().split())
    assert all(f"{environment} (12 images)" in text for environment in ("env0", "env1", "env2"))
    assert "backbones: - {name: MiniLiT" in text
    command("plan", "--store", tmp_path / "store")  # the file that `init` wrote need not be named


def test_what_is_there_is_never_overwritten(toy_root: Path, tmp_path: Path, command: Command) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("mine")
    for words in (["init", toy_root], ["recipes", "demo"]):
        assert f"{mine} is there already and is not overwritten" in command.refused(*words, "--out", mine)
    assert mine.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_is_no_data_set_is_refused_and_leaves_no_recipe(toy_root: Path, tmp_path: Path, command: Command) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    out = tmp_path / "r.yaml"
    for environment in ("env1", "env2"):
        shutil.rmtree(toy_root / environment)
    for folder, sentence in (
        (tmp_path / "nowhere", "does not exist or is not a folder"),
        (empty, "holds no images"),
        (toy_root, "has one environment only (env0)"),
    ):
        assert sentence in command.refused("init", folder, "--out", out)
    assert not out.exists()


def test_environments_that_lack_a_class_and_names_that_yaml_would_misread(tmp_path: Path, command: Command) -> None:
    made = make_toy(tmp_path / "yes: #1")
    shutil.rmtree(made / "env1" / "dog")
    out = tmp_path / "r.yaml"
    assert command.json("init", made, "--out", out)["recipe"] == str(out)
    (dataset,) = load_recipe(out).datasets
    assert (dataset.classes_differ, dataset.root) == (True, str(made))
    assert yaml.safe_load(out.read_text())["datasets"][0]["name"] == made.name


def test_a_folder_of_known_sets_names_them(pacs_sample: Path, tmp_path: Path, command: Command) -> None:
    out = tmp_path / "r.yaml"
    command("init", pacs_sample, "--out", out)
    (dataset,) = load_recipe(out).datasets
    assert (dataset.name, dataset.root) == ("PACS", str(pacs_sample))


def test_recipes_are_listed_and_copied(tmp_path: Path, command: Command) -> None:
    files = {file.stem: file for file in (REPOSITORY / "jobs" / "recipes").glob("*.yaml")}
    firsts = {name: file.read_text().splitlines()[0].removeprefix("# ") for name, file in sorted(files.items())}
    assert command.json("recipes") == firsts
    assert len(command("recipes").out.splitlines()) == len(files)
    assert command("recipes", "demo").out == files["demo"].read_text()
    mine = tmp_path / "a" / "my.yaml"
    command("recipes", "demo", "--out", mine)
    assert mine.read_bytes() == files["demo"].read_bytes()
    assert "did you mean 'demo'?" in command.refused("recipes", "dem", "--out", tmp_path / "b.yaml")


def test_a_bare_name_is_a_recipe_of_the_package_unless_a_file_has_that_name(
    toy_root: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipes = REPOSITORY / "jobs" / "recipes"
    dry = command.json("submit", "demo", "--store", tmp_path, "--dry-run")
    assert dry == command.json("submit", recipes / "demo.yaml", "--store", tmp_path, "--dry-run")
    assert "The recipe dem cannot be read" in command.refused("plan", "dem")
    said = [
        command.refused("report", *named, "--store", tmp_path)
        for named in (["paper", "demo"], [recipes / "paper.yaml"])
    ]
    assert said[0] == said[1]
    command("init", toy_root, "--out", "demo")
    assert [one["name"] for one in command.json("plan", "demo", "--store", tmp_path)["sets"]] == [toy_root.name]
