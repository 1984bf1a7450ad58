"""Code of somebody's own: found beside the recipe, refused where nobody wants it, and named where it fails."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark.cli import main
from benchmark.common.shadowing import check_shadows

MODULE = """
from typing import ClassVar
from benchmark import Projection
from benchmark.method.subspace.basis import eigenbasis

class Mine(Projection):
    uses_interventions: ClassVar[bool] = True

    def fit(self, sources):
        return eigenbasis(sources.c_d(), largest_first=True)
"""
BROKEN = {
    "raises": ("x = 1 / 0", "cannot be loaded: ZeroDivisionError (division by zero) at {file}:1."),
    "syntax": ("\n\ndef (", "cannot be loaded: SyntaxError"),
    "exits": ("import sys\nsys.exit(3)", "cannot be loaded: SystemExit (3) at {file}:2."),
    "helped": ("import plugin_raises", "ZeroDivisionError (division by zero) at {folder}/plugin_raises.py:1."),
    "imports": ("\nimport nosuchthing", "ModuleNotFoundError (No module named 'nosuchthing') at {file}:2."),
}


@pytest.fixture
def recipe(tmp_path: Path, toy_root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A recipe with a projection in a module beside it, in another folder than the working directory."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "plugin_beside.py").write_text(MODULE)
    content = {
        "name": "own", "datasets": [{"name": "toy", "root": str(toy_root)}],
        "backbones": [{"name": "ViT-B-32", "pretrained": "random"}], "run": {"store": str(tmp_path / "store")},
        "sweep": {"projections": ["identity", "plugin_beside:Mine"]},
    }  # fmt: skip
    (folder / "own.yaml").write_text(json.dumps(content))
    monkeypatch.delenv("ICM_BENCH_NO_PLUGINS", raising=False)
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    yield folder / "own.yaml"
    assert sys.path == path
    for name in ("plugin_beside", *BROKEN):
        sys.modules.pop(f"plugin_{name}" if name in BROKEN else name, None)


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(list(words)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_class_beside_the_recipe_is_found(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "holds no results of the recipe 'own'" in refused(capsys, "report", str(recipe))
    assert "plugin_beside" in sys.modules


@pytest.mark.parametrize("command", ["run", "plan", "report", "embed", "sweep", "submit", "doctor", "choose"])
def test_no_plugins_refuses_it_in_every_command_and_imports_nothing(
    command: str, recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ICM_BENCH_NO_PLUGINS", "")  # to be as it was after the test
    said = refused(capsys, command, str(recipe), "--no-plugins")
    assert "The projection 'plugin_beside:Mine' is code of somebody's own, which --no-plugins" in said
    monkeypatch.setenv("ICM_BENCH_NO_PLUGINS", "1")
    assert refused(capsys, command, str(recipe)) == said
    assert "plugin_beside" not in sys.modules


def test_a_job_is_told_too(recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICM_BENCH_NO_PLUGINS", "1")
    places = ["--set", "sweep.projections=[identity]", "--store", "/mnt/store"]
    assert main(["submit", str(recipe), "--dry-run", "--json", *places]) == 0
    entrypoint = json.loads(capsys.readouterr().out)["entrypoint"]
    assert entrypoint.endswith("--store /mnt/store --no-plugins")


@pytest.mark.parametrize("name", BROKEN)
def test_a_module_that_cannot_be_imported_is_one_sentence_with_file_and_line(
    name: str, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, words = BROKEN[name]
    file = recipe.parent / f"plugin_{name}.py"
    (recipe.parent / "plugin_raises.py").write_text(BROKEN["raises"][0])
    file.write_text(code)
    said = refused(capsys, "plan", str(recipe), "--set", f"sweep.projections=[identity, 'plugin_{name}:Mine']")
    assert f"The projection 'plugin_{name}:Mine' cannot be loaded" in said
    assert words.format(file=file, folder=recipe.parent) in said
    assert str(recipe.parent) in said


@pytest.mark.parametrize("place", ["reports/__init__.py", "jobs.py", "benchmark/__init__.py"])
def test_a_package_that_hides_one_of_ours_is_named_at_the_start(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check_shadows()
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).touch()
    (tmp_path / "notes").mkdir()
    monkeypatch.chdir(tmp_path)
    said = refused(capsys, "datasets")
    assert f"{tmp_path / place} hides the package '{place.partition('/')[0].removesuffix('.py')}' of icm-bench" in said
    monkeypatch.chdir(tmp_path / "notes")
    assert main(["datasets"]) == 0


def test_an_empty_folder_hides_none_of_our_packages(tmp_path: Path) -> None:
    """It is a namespace package, which wins over an editable install where both are looked for by name alone."""
    (tmp_path / "reports").mkdir()
    code = "import sys, benchmark, reports; print(reports.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).parts[-2:] == ("reports", "__init__.py")
