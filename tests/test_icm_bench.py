"""`import icm_bench`: the public names, at once, and never another's package of the name of ours."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import benchmark
import icm_bench
from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a wheel puts into site-packages."""
    folder = tmp_path_factory.mktemp("site")
    for name in ("benchmark", "reports", "jobs"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "icm_bench.py", folder)
    return folder


def python(code: str, cwd: Path, installed: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, *options, "-c", code]
    env = {"PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(words, capture_output=True, text=True, cwd=cwd, env=env, check=False)


def package(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text("raise SystemExit('code of the user was run')\n")
    return folder / name


def module(folder: Path, name: str) -> Path:
    (folder / f"{name}.py").write_text("raise SystemExit('code of the user was run')\n")
    return folder / f"{name}.py"


@pytest.mark.parametrize("name", ["benchmark", "reports", "jobs"])
@pytest.mark.parametrize("hide", [package, module])
def test_code_that_hides_a_package_of_ours_is_named_and_not_run(
    hide: Callable[[Path, str], Path], name: str, tmp_path: Path, installed: Path
) -> None:
    place = hide(tmp_path, name)
    done = python("import icm_bench", tmp_path, installed)
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: icm_bench needs its own package '{name}', which {place} hides; rename that")
    assert "code of the user" not in done.stderr
    assert python("import icm_bench; print(icm_bench.evaluate)", tmp_path, installed, "-P").returncode == 0
    there = python(f"import sys; sys.path.append(sys.path.pop(0)); import icm_bench, {name}", tmp_path, installed)
    assert there.returncode == 0, there.stderr  # it comes after ours


def test_folders_without_our_names_or_without_code_do_no_harm(tmp_path: Path, installed: Path) -> None:
    package(tmp_path, "results")
    for name in ("benchmark", "reports", "jobs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.csv").write_text("a,b\n")
    code = "import icm_bench, benchmark, reports, jobs; print(benchmark.__file__, reports.__file__, jobs.__file__)"
    done = python(code, tmp_path, installed)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(installed / name / "__init__.py") for name in ("benchmark", "reports", "jobs")]


def test_a_package_that_was_imported_before_is_named(tmp_path: Path, installed: Path) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "__init__.py").touch()
    code = "import sys, reports; sys.path.remove(''); import icm_bench"
    assert f"which {tmp_path / 'reports'} hides" in python(code, tmp_path, installed).stderr


def test_it_has_every_public_name_and_loads_nothing_heavy(tmp_path: Path, installed: Path) -> None:
    assert icm_bench.__all__ == benchmark.__all__
    for name in icm_bench.__all__:
        assert getattr(icm_bench, name) is getattr(benchmark, name)
    assert set(icm_bench.__all__) <= {*dir(icm_bench)}
    assert icm_bench.__version__ == benchmark.__version__
    with pytest.raises(AttributeError, match="module 'icm_bench' has no attribute 'commands'"):
        _ = icm_bench.commands
    heavy = "{'torch', 'ray', 'numpy', 'pandas', 'pyarrow', 'pydantic', 'matplotlib', 'sklearn'} & sys.modules.keys()"
    done = python(f"import icm_bench, sys; print({heavy} or 'none')", tmp_path, installed)
    assert done.stdout == "none\n"
    assert "ModuleNotFoundError" in python("import icm_bench.commands", tmp_path, installed).stderr


def test_it_is_short() -> None:
    assert len((REPOSITORY / "icm_bench.py").read_text().splitlines()) <= 120
