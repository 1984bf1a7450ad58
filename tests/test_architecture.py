"""The rooms keep to the one-way street, and the command answers before anything heavy is imported."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent


def imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def sources(folder: str) -> list[Path]:
    files = sorted((REPOSITORY / folder).rglob("*.py"))
    assert files
    return files


def test_the_library_knows_neither_jobs_nor_reports_but_for_the_module_that_joins_the_stages() -> None:
    for file in sources("benchmark"):
        outside = {name for name in imports(file) if name.split(".")[0] in ("jobs", "reports")}
        assert outside == ({"reports"} if file.name == "stages.py" else set()), file


@pytest.mark.parametrize("room", ["subspace", "predictors", "interventions", "evaluation"])
def test_the_method_needs_no_ray_and_no_store(room: str) -> None:
    for file in sources(f"benchmark/{room}"):
        assert not {n for n in imports(file) if n.split(".")[0] == "ray" or "storage" in n or "embedding" in n}, file


def test_reports_read_rows_and_nothing_else() -> None:
    allowed = {"benchmark.results", "benchmark.evaluation.selection", "benchmark.storage", "benchmark.errors"}
    for file in sources("reports"):
        assert {name for name in imports(file) if name.startswith("benchmark")} <= allowed, file


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom benchmark.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'ray', 'numpy', 'pandas', 'pydantic', 'matplotlib', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(f'heavy: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage: icm-bench" in done.stdout
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "benchmark.cli", "--help"], capture_output=True, cwd=REPOSITORY, check=True)
    print(f"--help took {time.perf_counter() - start:.2f} s")
