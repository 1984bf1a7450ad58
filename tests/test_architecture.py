"""The rooms keep to the one-way street, and the command answers before anything heavy is imported."""

import ast
import functools
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

# Room -> what it may import of other rooms, from the ground up; a name stands for everything below it.
LEVELS = {
    "benchmark.common": [],
    "benchmark.demo": ["benchmark.common", "benchmark.method.interventions"],  # a head is trained on their views
    "benchmark.backbones": ["benchmark.common"],
    "benchmark.method": ["benchmark.common"],
    "benchmark.datasets": ["benchmark.common", "benchmark.demo"],
    "benchmark.store": ["benchmark.common", "benchmark.backbones.facts", "benchmark.method"],
    "reports.render": ["benchmark.common.errors", "benchmark.common.terminal.escaping"],
    "reports.analysis": ["benchmark.common.errors", "benchmark.common.registry", "benchmark.datasets.catalog",
                         "benchmark.method.evaluation", "benchmark.method.subspace", "reports.render"],
    "reports.text": ["benchmark.common.errors", "benchmark.common.storage.files", "benchmark.common.terminal.escaping",
                     "benchmark.method.evaluation", "reports.render", "reports.analysis"],
    "reports.tables": ["benchmark.common.errors", "benchmark.common.failing", "benchmark.common.terminal.progress",
                       "benchmark.common.registry", "benchmark.method.evaluation", "reports.render",
                       "reports.analysis", "reports.text"],
    "reports.figures": ["benchmark.method.evaluation", "reports.render", "reports.analysis", "reports.text"],
    "reports.page": ["benchmark.common.terminal.escaping", "benchmark.method.evaluation", "reports.render", "reports.analysis",
                     "reports.text"],
    "reports.board": ["benchmark.common.terminal.escaping", "reports.render"],
    "reports.document": ["benchmark.common.terminal.progress", "benchmark.method.evaluation", "reports.render",
                         "reports.analysis", "reports.text", "reports.tables", "reports.figures"],
    "reports": ["benchmark.common", "benchmark.method.evaluation", "benchmark.store.sealed", "reports"],
    "benchmark.recipe": ["benchmark.common", "benchmark.method", "benchmark.datasets.spec",
                         "benchmark.datasets.catalog", "benchmark.backbones.spec", "benchmark.backbones.facts"],
    "benchmark.results": ["benchmark.common", "benchmark.method.arrays", "benchmark.method.evaluation",
                          "benchmark.recipe.recipe"],
    "benchmark.embedding": ["benchmark.common", "benchmark.backbones", "benchmark.method", "benchmark.datasets",
                            "benchmark.store", "benchmark.recipe"],
    "benchmark.sweep": ["benchmark.common", "benchmark.backbones", "benchmark.method", "benchmark.datasets",
                        "benchmark.store", "benchmark.recipe"],
    "benchmark.commands": ["benchmark.common", "benchmark.backbones", "benchmark.method", "benchmark.datasets",
                           "benchmark.store", "benchmark.recipe", "benchmark.embedding", "benchmark.sweep",
                           "benchmark.results"],
    "benchmark": ["benchmark"],  # its __init__ has the public names of all rooms
    "benchmark.command_line": ["benchmark.common"],
    "benchmark.cli": ["benchmark.command_line", "benchmark.commands", "benchmark.common", "benchmark.recipe"],
    "jobs": ["benchmark.cli"],
    "icm_bench": ["benchmark"],
}  # fmt: skip
JOIN_REPORTS = {
    f"benchmark.commands.{name}"
    for name in (
        "report",
        "details",
        "diagnose",
        "choose",
        "selfcheck",
        "unlabelled",
        "in_memory",
        "results.board",
        "results.labels",
        "results.publish",
    )
}


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(f): f for top in ("benchmark", "reports", "jobs") for f in (REPOSITORY / top).rglob("*.py")}
MODULES["icm_bench"] = REPOSITORY / "icm_bench.py"


@functools.cache
def nodes(module: str) -> list[ast.AST]:
    return list(ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))))


def imports(module: str) -> Iterator[str]:
    """Yield the modules of this repository that one imports: at the top, inside functions and for types alone."""
    for node in nodes(module):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else node.module for name in names if node.module in MODULES)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)


def below(name: str, place: str) -> bool:
    return name == place or name.startswith(f"{place}.")


def room_of(module: str) -> str:
    return max((room for room in LEVELS if below(module, room)), key=len)


def test_no_import_goes_against_the_levels() -> None:
    for module in MODULES:
        allowed = [
            room_of(module),
            *LEVELS[room_of(module)],
            *(["reports"] if any(below(module, place) for place in JOIN_REPORTS) else []),
        ]
        assert {name for name in imports(module) if not any(below(name, place) for place in allowed)} == set(), module


def test_there_is_no_circle_of_rooms_nor_of_folders() -> None:
    arrows: dict[str, dict[str, set[str]]] = {"rooms": defaultdict(set), "folders": defaultdict(set)}
    folder = {m: ".".join(f.parent.relative_to(REPOSITORY).parts) for m, f in MODULES.items()}
    for module in MODULES:
        for name in imports(module):
            arrows["rooms"][room_of(module)].add(room_of(name))
            start, end = folder[module], folder[name]
            if not (below(start, end) or below(end, start)):  # a folder and one inside it are no two rooms
                arrows["folders"][start].add(end)
    assert set(arrows["rooms"]) == set(LEVELS)
    for of_kind in arrows.values():
        graph = {start: ends - {start} for start, ends in of_kind.items()}
        TopologicalSorter(graph).prepare()  # raises CycleError


def test_the_method_needs_no_ray_and_no_files() -> None:
    for module in (m for m in MODULES if below(m, "benchmark.method")):
        names = {a.name for n in nodes(module) if isinstance(n, ast.Import) for a in n.names}
        names |= {n.module or "" for n in nodes(module) if isinstance(n, ast.ImportFrom)}
        forbidden = {"ray", "pathlib", "io", "benchmark.common.storage.files"}
        assert not {n for n in names if n in forbidden or n.split(".")[0] == "ray"}, module


def test_the_recipe_ends_at_the_commands_and_where_its_trials_are_made() -> None:
    """Below them nobody asks it again: no other function takes a recipe."""
    for module in MODULES:
        if not module.startswith(("benchmark.commands", "benchmark.recipe", "benchmark.cli", "benchmark.sweep.trials")):
            arguments = [a for n in nodes(module) if isinstance(n, ast.arguments)
                         for a in (*n.posonlyargs, *n.args, *n.kwonlyargs)]  # fmt: skip
            named = [a for a in arguments if a.arg == "recipe" or "Recipe" in ast.unparse(a.annotation or ast.Pass())]
            assert named == [], module


def test_the_house_is_small_at_the_top() -> None:
    entries = {p.name for p in (REPOSITORY / "benchmark").iterdir()} - {"__pycache__"}
    assert len(entries) <= 15, sorted(entries)


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


def test_every_public_name_is_where_the_package_says() -> None:
    import benchmark

    for name in benchmark.__all__:
        assert callable(getattr(benchmark, name)), name
    with pytest.raises(AttributeError, match="no attribute 'shrinkage'"):
        _ = benchmark.shrinkage
