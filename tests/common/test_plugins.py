"""Plugins: found beside the recipe, refused if nobody wants them, and named when they fail."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmark.cli import COMMANDS, READING, main
from benchmark.command_line import command_parser
from benchmark.commands.cluster import doctor
from benchmark.commands.cluster.doctor import _writable_store
from benchmark.commands.cluster.packing import PACKAGES
from benchmark.common.code import UNASKED, importable_from
from benchmark.common.errors import PluginError
from benchmark.common.registry import load
from benchmark.recipe.loading import load_recipe
from tests.conftest import REPOSITORY

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
    "odd": ("class Odd(BaseException): ...\nraise Odd('x')", "cannot be loaded: Odd (x) at {file}:2."),
    "nul": ("x = 1\0", "cannot be loaded: source code string cannot contain null bytes."),
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
    assert "holds no results of the recipe 'own'" in refused(capsys, "report", str(recipe), "--plugins")
    assert "plugin_beside" in sys.modules


@pytest.mark.parametrize("command", ["run", "plan", "report", "embed", "sweep", "submit", "doctor", "choose"])
def test_no_plugins_refuses_it_in_every_command_and_imports_nothing(
    command: str, recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = refused(capsys, command, str(recipe), "--no-plugins")
    assert "The projection 'plugin_beside:Mine' is a plugin, which --no-plugins" in said
    assert not os.environ.get("ICM_BENCH_NO_PLUGINS")
    monkeypatch.setenv("ICM_BENCH_NO_PLUGINS", "1")
    assert refused(capsys, command, str(recipe)) == said
    assert refused(capsys, command, str(recipe), "--plugins") == said
    assert "plugin_beside" not in sys.modules


@pytest.mark.parametrize("command", sorted(READING & {"plan", "report", "doctor", "choose"}))
def test_commands_that_only_read_import_it_when_asked_alone(
    command: str, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, command, str(recipe))
    assert "'plugin_beside:Mine' is a plugin, which this command imports only with --plugins" in said
    assert "plugin_beside" not in sys.modules


def test_every_command_that_takes_a_recipe_says_whether_it_imports_classes() -> None:
    [commands] = [a for a in command_parser()._actions if a.dest == "command"]
    takes = {name for name, sub in commands.choices.items() if any(a.dest == "plugins" for a in sub._actions)}  # type: ignore[union-attr]
    assert set(COMMANDS) - takes == {"store", "results", "init", "recipes", "datasets"}
    assert set(COMMANDS) - takes < READING


def test_a_table_that_the_command_line_names_is_asked_for(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICM_BENCH_NO_PLUGINS", UNASKED)
    with importable_from(recipe.parent):
        assert load("table", "plugin_beside:Mine", asked=True).__name__ == "Mine"
        with pytest.raises(PluginError, match="only with --plugins"):
            load("metric", "plugin_beside:Mine")


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
    said = refused(
        capsys, "plan", str(recipe), "--set", f"sweep.projections=[identity, 'plugin_{name}:Mine']", "--plugins"
    )
    assert f"The projection 'plugin_{name}:Mine' cannot be loaded" in said
    assert words.format(file=file, folder=recipe.parent) in said
    assert str(recipe.parent) in said


@pytest.mark.parametrize("name", ["../../etc/passwd:X", ".beside:X", "a..b:X", ":X"])
def test_a_name_that_is_no_import_path_says_how_one_is_written(
    name: str, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, "plan", str(recipe), "--set", f"sweep.projections=['{name}']", "--plugins")
    assert f"The projection '{name}' is no import path; write it as my_package.my_module:MyClass." in said


def test_an_error_in_a_thread_of_a_plugin_names_it_after_the_work(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    thread = "import threading\n\ndef work():\n    int('x')\n\nt = threading.Thread(target=work)\nt.start()\nt.join()\n"
    file = recipe.parent / "plugin_beside.py"
    file.write_text(thread + MODULE)
    assert main(["plan", str(recipe), "--plugins"]) == 2
    out, err = capsys.readouterr()
    assert "toy" in out
    assert f"A thread raised ValueError (invalid literal for int() with base 10: 'x') at {file}:4; fix it" in err


def hostile(folder: Path) -> Path:
    """Fill a folder with modules that every process of ours could take for others; each leaves a file if it is run."""
    folder.mkdir(exist_ok=True)
    mark = f"open({str(folder / 'ran-')!r} + __name__, 'w').close()\nraise ImportError('a stranger')\n"
    for name in ("torch", "numpy", "ray", "triton", "sitecustomize", "benchmark", "jobs", "reports"):
        if name in PACKAGES:
            (folder / name).mkdir()
        (folder / (f"{name}/__init__.py" if name in PACKAGES else f"{name}.py")).write_text(mark)
    return folder


def empty(folder: Path) -> Path:
    """Fill a folder with empty ones that have the names of our packages."""
    for name in PACKAGES:
        (folder / name).mkdir(parents=True)
    return folder


MODULE_OF_PYTHON = ("-m", "benchmark.cli")
SCRIPT = ("-P", "-c", "import sys; from benchmark.cli import main; sys.exit(main())")  # as the entry `icm-bench`


def called(folder: Path, *words: object, program: tuple[str, ...] = SCRIPT) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, with Ray's own workers, from a folder."""
    return subprocess.run(
        [sys.executable, *program, *map(str, words)], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, timeout=500,
    )  # fmt: skip


def plain_recipe(folder: Path, toy_root: Path, backbone: dict[str, Any], *projections: str) -> Path:
    content = {
        "name": "plain", "datasets": [{"name": "toy", "root": str(toy_root)}], "backbones": [backbone],
        "interventions": {"kinds": ["grayscale"]}, "run": {"store": str(folder.parent / "store")},
        "sweep": {"projections": ["identity", *projections], "predictors": ["zero_shot"], "seeds": [0]},
    }  # fmt: skip
    (folder / "plain.yaml").write_text(json.dumps(content))
    return folder / "plain.yaml"


@pytest.mark.parametrize(
    ("made", "program", "words", "exit_code", "phrase"),
    [
        pytest.param(hostile, SCRIPT, ["plan", "plain.yaml"], 0, "2 trials", id="bad-1"),
        pytest.param(hostile, MODULE_OF_PYTHON, ["report", "--store", "../store"], 2, "no result rows", id="bad-1-python-m"),
    ],
)  # fmt: skip
def test_a_command_takes_nothing_of_the_folder_that_it_is_called_from_for_a_package(
    made: Callable[[Path], Path], program: tuple[str, ...], words: list[str], exit_code: int, phrase: str,
    tmp_path: Path, toy_root: Path, tiny_random: dict[str, Any],
) -> None:  # fmt: skip
    folder = made(tmp_path / "their")
    if program == MODULE_OF_PYTHON:
        shutil.rmtree(folder / "benchmark")  # which Python finds there first, whatever we do
    plain_recipe(folder, toy_root, tiny_random)
    done = called(folder, *words, program=program)
    assert done.returncode == exit_code, done.stderr
    assert phrase in done.stdout + done.stderr
    assert [*folder.glob("ran-*")] == []


def test_processes_that_try_something_look_into_no_working_directory(
    tmp_path: Path, toy_root: Path, tiny_random: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = hostile(tmp_path / "their")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(doctor, "LIMIT", 100)
    doctor._look_at_gpus(0, [], [])
    _writable_store(load_recipe(plain_recipe(folder, toy_root, tiny_random)))
    assert [*folder.glob("ran-*")] == []


SEEN = """
import json, sys
from importlib.util import find_spec
from pathlib import Path
import ray
from benchmark.common.ray.cluster import connect, connected
from benchmark.common.code import importable_from
from benchmark.common.registry import load

def seen():
    import benchmark
    return {name: find_spec(name).origin for name in ("torch", "numpy", "reports", "ours")} | {"path": sys.path}

with importable_from(Path.cwd(), Path(sys.argv[1])), connected():
    load("part", "ours:Mine")
    connect()
    print(json.dumps(ray.get(ray.remote(seen).remote())))
"""


def test_workers_of_ray_look_last_into_the_folders_of_a_class(tmp_path: Path) -> None:
    here, beside = hostile(tmp_path / "here"), hostile(tmp_path / "beside")
    (beside / "ours.py").write_text("Mine = 1\n")
    done = called(here, beside, program=("-P", "-c", SEEN))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert [place for place in found["path"] if tmp_path in Path(place).parents] == [str(here), str(beside)]
    assert found["path"][-2:] == [str(here), str(beside)]
    assert Path(found["ours"]) == beside / "ours.py"
    assert not any(tmp_path in Path(found[name]).parents for name in ("torch", "numpy", "reports"))
    assert [*tmp_path.glob("*/ran-*")] == []


@pytest.mark.long("code of the folder that is run by one of the many processes of a whole run")
def test_a_run_and_its_report_run_nothing_of_a_folder(
    tmp_path: Path, toy_root: Path, tiny_random: dict[str, Any]
) -> None:
    work, folder = hostile(tmp_path / "here"), hostile(tmp_path / "beside")
    recipe = plain_recipe(folder, toy_root, tiny_random, "pca")
    for command in ("run", "report"):
        done = called(work, command, recipe)
        assert done.returncode == 0, done.stderr
    assert [*tmp_path.glob("*/ran-*")] == []


@pytest.mark.long(
    "a class beside the recipe that a worker does not find, or code beside it that it takes for a package"
)
def test_a_class_in_such_a_folder_is_found_by_workers_and_nothing_that_hides_a_package_is_run(
    tmp_path: Path, toy_root: Path, tiny_random: dict[str, Any]
) -> None:
    work, folder = empty(tmp_path / "here"), hostile(tmp_path / "their")
    (folder / "triton.py").unlink()  # what nothing installed has would be found there
    (folder / "plugin_beside.py").write_text(MODULE)
    recipe = plain_recipe(folder, toy_root, tiny_random, "plugin_beside:Mine")
    done = called(work, "run", recipe)
    assert done.returncode == 0, done.stderr
    assert "only with --plugins" in called(folder, "report", recipe).stderr
    assert called(folder, "report", recipe, "--plugins").returncode == 0
    assert [*folder.glob("ran-*")] == []


def test_an_encoder_beside_the_recipe_is_found_where_the_recipe_names_no_other_class(
    tmp_path: Path, toy_root: Path
) -> None:
    """The cache is fresh, so the process that describes an encoder must find the class, and then a worker of Ray."""
    work, folder = tmp_path / "here", tmp_path / "their"
    work.mkdir()
    folder.mkdir()
    shutil.copy(REPOSITORY / "docs" / "examples" / "own_encoder.py", folder / "blocks.py")
    recipe = plain_recipe(folder, toy_root, {"name": "blocks:Blocks", "pretrained": "random", "engine": "torch"})
    done = called(work, "embed", recipe, "--json")
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(done.stdout)
    assert report["embedded"] == 2 * report["images"] == 2 * 36


@pytest.mark.parametrize("name", [pytest.param(name, id=f"bad-10-{name}") for name in ("jobs", "reports")])
def test_an_empty_folder_hides_none_of_our_packages(name: str, tmp_path: Path) -> None:
    """It is a namespace package, which wins over an editable install where both are looked for by name alone."""
    (tmp_path / name).mkdir()
    code = f"import benchmark, {name}; print({name}.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).parts[-2:] == (name, "__init__.py")
