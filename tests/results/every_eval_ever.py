"""The package of Every Eval Ever: its schemas, taken from its wheel, and its validator in an environment of its own."""

import json
import os
import shutil
import subprocess
import sys
import venv
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from benchmark.common.storage.places import cache_dir
from benchmark.demo.packages import read_member

VERSION = "0.3.0"
SHA256 = "564b8bc624c1f822f749a769dc69dc058a736e83d920cbeb147c3a30d3152317"
PYTHON = "3.12"  # the package needs it


def _run(words: list[str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=500)
    if done.returncode:
        pytest.skip(f"no package registry, or none with every-eval-ever {VERSION}: {done.stderr[-300:]}")


@cache
def wheel() -> Path:
    """Return the wheel, fetched once into the cache."""
    file = cache_dir() / "every-eval-ever" / f"every_eval_ever-{VERSION}-py3-none-any.whl"
    if not file.is_file():
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--python-version", PYTHON]
        _run([*pip, "--dest", str(file.parent), f"every-eval-ever=={VERSION}"])
    assert sha256(file.read_bytes()).hexdigest() == SHA256
    return file


def schema(name: str) -> dict[str, Any]:
    """Return a JSON schema of the package: `eval` of records, `instance_level_eval` of lines."""
    found: dict[str, Any] = json.loads(read_member(wheel(), f"every_eval_ever/schemas/{name}.schema.json"))
    return found


@cache
def _python() -> Path:
    """Return the Python of an environment, in the cache, with the package."""
    home = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    usual = [str(file) for file in sorted(home.glob(f"{PYTHON}.*/bin/python"))]
    base = (
        sys.executable
        if sys.version_info[:2] == (3, 12)
        else next(iter(usual), None) or shutil.which(f"python{PYTHON}")  # the latter may be pyenv's, and start none
    )
    if base is None:
        pytest.skip(f"the validator needs Python {PYTHON}, and there is none on PATH or in pyenv")
    folder = wheel().parent / f"environment-{VERSION}"
    python = folder / "bin" / "python"
    if not (folder / "complete").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        _run([base, "-m", venv.__name__, str(folder)])
        _run([str(python), "-m", "pip", "install", "--disable-pip-version-check", str(wheel())])
        (folder / "complete").touch()
    return python


def validated(folder: Path) -> list[dict[str, Any]]:
    """Return what the package's validator says of each file of a results folder: file, valid, errors, warnings."""
    files = [str(file) for file in sorted((folder / "data").rglob("*.json*"))]
    code = "from every_eval_ever.validator.validate import main; raise SystemExit(main())"
    words = [str(_python()), "-c", code, "--format", "json", *files]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    assert len(found) == len(files) > 0
    return found
