"""The README is true: its commands exist, its recipe is valid, its Python runs, its files are there."""

import re
import shlex
import subprocess
import sys

import pytest

from benchmark.cli import _parser
from benchmark.recipe.loading import parse_recipe
from tests.conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)
    assert found
    return found


COMMANDS = [line.split(" #")[0].strip() for block in blocks("sh") for line in block.splitlines() if line.strip()]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_one_that_a_test_or_ci_runs(command: str) -> None:
    words = shlex.split(command)
    if words[0] == "make":
        assert f"make {words[1]}" in (REPOSITORY / ".ci" / "run").read_text()
    elif words[0] == "icm-bench":
        assert _parser().parse_args(words[1:]).command is not None  # tests/test_cli.py runs each of the commands
    else:  # tests/jobs/test_submit.py runs these with ports and a token of its own
        submit = (REPOSITORY / "tests" / "jobs" / "test_submit.py").read_text()
        verbs = [w for w in words if re.fullmatch(r"[a-z-]+", w) and w not in ("ray", "python")]
        assert verbs
        assert all(f'"{verb}"' in submit for verb in verbs)


def test_the_recipe_is_valid() -> None:
    import yaml

    (recipe,) = blocks("yaml")
    assert len(recipe.splitlines()) <= 25
    assert parse_recipe(yaml.safe_load(recipe)).name == "my-benchmark"


def test_the_python_runs() -> None:
    (code,) = blocks("python")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=True)
    assert done.stdout == "(1000, 32)\n"


def test_every_file_it_names_exists() -> None:
    names = set(re.findall(r"\b(?:benchmark|jobs|docs|reports)/[\w/]+\.(?:py|yaml|png)", README))
    assert len(names) > 5
    for name in names:
        assert (REPOSITORY / name).is_file(), name


def test_every_recipe_is_valid_and_says_how_to_run_it() -> None:
    from benchmark.recipe.loading import load_recipe

    recipes = sorted((REPOSITORY / "jobs" / "recipes").glob("*.yaml"))
    assert recipes
    for file in recipes:
        assert load_recipe(file).name == file.stem
        assert "#   command   icm-bench" in file.read_text()
