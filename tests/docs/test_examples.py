"""The examples run as their heads say, and say what they should."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, make_toy

EXAMPLES = REPOSITORY / "docs" / "examples"


def run(name: str, *arguments: Path) -> str:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.name)
def test_an_example_is_short_and_says_how_it_is_run(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 40
    assert f"`python docs/examples/{file.name}" in text


def test_icm_keeps_classes_apart_where_pca_keeps_styles() -> None:
    plain, pca, icm = map(float, re.findall(r"ratio ([\d.]+)", run("own_embeddings.py")))
    assert pca < 2 * plain
    assert icm > 10 * plain


@pytest.mark.slow
def test_a_projection_of_ones_own_is_swept_and_its_rows_read(tmp_path: Path) -> None:
    images, store = make_toy(tmp_path / "images", images=10), tmp_path / "store"
    printed = run("own_projection.py", images, store)
    assert printed.startswith("RANDOM WEIGHTS\n")
    assert "LeastMoved" in printed
    table = run("rows_in_pandas.py", store)
    assert {"pca", "own_projection:LeastMoved"} <= set(table.split())
