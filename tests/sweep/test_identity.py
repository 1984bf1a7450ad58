"""Rows are known by the meaning of the code behind them: what counts, what does not, and that nothing is forgotten."""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmark.common import code
from benchmark.common.code import Code, code_of, own_modules
from benchmark.common.registry import Component
from benchmark.method.evaluation.protocols import PROTOCOLS
from benchmark.method.interventions import INTERVENTIONS
from benchmark.method.predictors import PREDICTORS
from benchmark.method.subspace import PROJECTIONS
from benchmark.sweep import identity
from tests.conftest import REPOSITORY

COMPONENTS: list[Component] = [
    *(PREDICTORS.create(name) for name in PREDICTORS.names()),
    *(PROJECTIONS.create(name) for name in PROJECTIONS.names()),
    *(PROTOCOLS.create(name) for name in PROTOCOLS.names()),
]
Edited = Callable[..., set[str]]


def forget() -> None:
    identity._hash.cache_clear()
    identity._module_code.cache_clear()
    identity.evaluation_code.cache_clear()


def all_codes() -> dict[str, str]:
    forget()
    codes = {component.label: identity.component_code(component) for component in COMPONENTS}
    return {**codes, "evaluation": identity.evaluation_code()}


@pytest.fixture(scope="module")
def before() -> dict[str, str]:
    return all_codes()


@pytest.fixture
def edited(before: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Edited]:
    """Return a function that tells which hashes of code change with the text of some modules."""

    def _edited(edit: Callable[[str], str], *modules: str) -> set[str]:
        others: dict[Path | None, Code] = {}
        for place in map(identity._file, modules):
            assert place
            text = place.read_text(encoding="utf-8")
            assert edit(text) != text
            others[place] = code._parsed(edit(text).encode())
        monkeypatch.setattr(identity, "code_of", lambda s: others.get(s.file) or code_of(s))
        after = all_codes()
        return {name for name, digest in before.items() if after[name] != digest}

    yield _edited
    monkeypatch.undo()
    forget()


def test_a_docstring_a_comment_or_a_blank_line_leaves_every_row_valid(edited: Edited) -> None:
    modules = {type(component).__module__ for component in COMPONENTS}
    assert edited(lambda text: re.sub(r'"""(\w)', r'"""Otherwise: \1', text) + "\n\n# a comment\n", *modules) == set()


@pytest.mark.parametrize(
    ("module", "old", "new", "stale"),
    [
        ("predictors.ridge", "default=1.0", "default=2.0", {"ridge"}),
        ("predictors.tip_adapter", "EPSILON = 1e-4", "EPSILON = 1e-5", {"tip_adapter"}),
        ("predictors.clip_adapter", "BATCH = 256", "BATCH = 128", {"tip_adapter", "clip_adapter", "coop"}),
        ("subspace.baselines.leace", "1.0)\n", "2.0)\n", {"leace"}),
        ("subspace.invariant", "moments.c_d() if", "moments.c_z() if", {"icm", "pca", "random", "drop_top"}),
    ],
)
def test_a_change_makes_the_rows_stale_that_hang_on_it_and_no_others(
    module: str, old: str, new: str, stale: set[str], edited: Edited
) -> None:
    assert edited(lambda text: text.replace(old, new), f"benchmark.method.{module}") == stale


@pytest.mark.parametrize(
    "module", ["method.evaluation.cells", "method.subspace.moments", "store.rows", "sweep.summing"]
)
def test_what_all_rows_go_through_makes_all_stale(module: str, edited: Edited) -> None:
    assert "evaluation" in edited(lambda text: text + "\nANOTHER = 1\n", f"benchmark.{module}")


def test_every_module_that_evaluation_imports_is_hashed_or_listed_with_a_reason() -> None:
    code = f"import sys\nimport {', '.join(identity.ENTRIES)}\nprint(*(n for n in sys.modules if n[:9] == 'benchmark'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=True)
    reached = identity.reached_from(identity.ENTRIES)
    hashed = set(reached) - set(identity.NOT_HASHED)
    assert len(hashed) > 15
    # Defaults of recipes load some components: each is hashed for the rows that hang on it; views are known by keys.
    components = {module for c in COMPONENTS for module in identity.reached_from((type(c).__module__,))}
    views = {type(INTERVENTIONS.create(name)).__module__ for name in INTERVENTIONS.names()}
    for name in done.stdout.split():
        listed = name in identity.NOT_HASHED or name.startswith(identity._ROOMS)
        assert listed or name in hashed | components | views or holds_names_alone(name), name
    assert all(reason for reason in identity.NOT_HASHED.values())
    assert set(identity.NOT_HASHED) <= set(reached)  # no exception outlives its reason


def holds_names_alone(module: str) -> bool:
    """Whether it is a package whose own code is imports, registries and `__getattr__`."""
    file = importlib.import_module(module).__file__
    assert file
    if not file.endswith("__init__.py"):
        return False
    definitions = [n for n in ast.parse(Path(file).read_text()).body if isinstance(n, ast.ClassDef | ast.FunctionDef)]
    return all(definition.name == "__getattr__" for definition in definitions)


MINE = """
from benchmark.method.predictors.ridge import Ridge
{imports}

class Mine(Ridge):
    pass
"""


def test_a_component_of_the_users_own_counts_with_all_modules_that_it_imports_and_what_they_take_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "identity_mine.py").write_text(MINE.format(imports="from identity_near import STEP"))
    (tmp_path / "identity_near.py").write_text("from identity_far import STEP\n")
    far = tmp_path / "identity_far.py"
    far.write_text("from benchmark.method.predictors.tip_adapter import EPSILON\nSTEP = 1\n")
    mine = PREDICTORS.create("identity_mine:Mine")
    sources = own_modules(type(mine))
    assert set(sources) == {"identity_mine", "identity_near", "identity_far"}
    reached = identity.reached_from(sources, sources)
    assert {"benchmark.method.predictors.ridge", "benchmark.method.predictors.tip_adapter"} <= set(reached)
    before = identity.component_code(mine)
    far.write_text(f'"""About."""\n{far.read_text()}  # a comment\n')
    assert identity.component_code(mine) == before
    far.write_text(far.read_text().replace("STEP = 1", "STEP = 2"))
    assert identity.component_code(mine) != before
