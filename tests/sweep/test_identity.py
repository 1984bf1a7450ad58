"""Rows are known by the meaning of the code behind them: what counts, what does not, and that nothing is forgotten."""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.common.registry import Component
from benchmark.method.evaluation.protocols import PROTOCOLS
from benchmark.method.predictors import PREDICTORS
from benchmark.method.subspace import PROJECTIONS
from benchmark.sweep import identity
from tests.conftest import REPOSITORY

COMPONENTS: list[Component] = [
    *(PREDICTORS.create(name) for name in PREDICTORS.names()),
    *(PROJECTIONS.create(name) for name in PROJECTIONS.names()),
    *(PROTOCOLS.create(name) for name in PROTOCOLS.names()),
]
Codes = dict[str, str]


@pytest.fixture
def codes(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[str], str]], Codes]:
    """Return the hashes of all code, with the text of one module changed."""

    def _codes(module: str, edit: Callable[[str], str]) -> Codes:
        def edited(file: Path) -> ast.Module:
            text = file.read_text(encoding="utf-8")
            return ast.parse(edit(text) if file == identity._file(module) else text)

        monkeypatch.setattr(identity, "_tree", edited)
        identity._hash.cache_clear()
        found = {component.label: identity.component_code(component) for component in COMPONENTS}
        found["evaluation"] = identity.evaluation_code()
        identity._hash.cache_clear()
        return found

    return _codes


def changed(before: Codes, after: Codes) -> set[str]:
    return {name for name, code in before.items() if after[name] != code}


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda component: str(component.label))
def test_a_docstring_a_comment_or_a_blank_line_leaves_every_row_valid(
    component: Component, codes: Callable[[str, Callable[[str], str]], Codes]
) -> None:
    module = type(component).__module__
    before = codes(module, lambda text: text)
    edited = codes(module, lambda text: re.sub(r'"""(\w)', r'"""Otherwise: \1', text) + "\n\n# a comment\n")
    assert changed(before, edited) == set()


@pytest.mark.parametrize(
    ("module", "old", "new", "stale"),
    [
        ("predictors.ridge", "default=1.0", "default=2.0", {"ridge"}),
        ("predictors.tip_adapter", "EPSILON = 1e-4", "EPSILON = 1e-5", {"tip_adapter"}),
        ("predictors.training", "BATCH = 256", "BATCH = 128", {"tip_adapter", "clip_adapter"}),
        ("subspace.baselines.leace", "largest", "lorgest", {"leace"}),
        ("subspace.invariant", "lambda_ * moments.c_d()", "lambda_ * moments.c_z()", {"icm"}),
    ],
)
def test_a_change_makes_the_rows_stale_that_hang_on_it_and_no_others(
    module: str, old: str, new: str, stale: set[str], codes: Callable[[str, Callable[[str], str]], Codes]
) -> None:
    place = f"benchmark.method.{module}"
    assert old in (REPOSITORY / f"{place.replace('.', '/')}.py").read_text()
    assert changed(codes(place, lambda text: text), codes(place, lambda text: text.replace(old, new))) == stale


@pytest.mark.parametrize("module", ["method.evaluation.cells", "method.subspace.moments", "store.rows", "sweep.summing"])
def test_what_all_rows_go_through_makes_all_stale(
    module: str, codes: Callable[[str, Callable[[str], str]], Codes]
) -> None:
    place = f"benchmark.{module}"
    after = codes(place, lambda text: text + "\nANOTHER = 1\n")
    assert "evaluation" in changed(codes(place, lambda text: text), after)


def test_every_module_that_evaluation_imports_is_hashed_or_listed_with_a_reason() -> None:
    code = f"import sys\nimport {', '.join(identity.ENTRIES)}\nprint(*(n for n in sys.modules if n[:9] == 'benchmark'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=True)
    reached = identity.reached_from(identity.ENTRIES)
    hashed = set(reached) - set(identity.NOT_HASHED)
    assert len(hashed) > 15
    for name in done.stdout.split():
        listed = name in identity.NOT_HASHED or name.startswith(identity._ROOMS)
        assert name in hashed or listed or only_says_what_it_is(name), name
    assert all(reason for reason in identity.NOT_HASHED.values())
    assert set(identity.NOT_HASHED) <= set(reached)  # no exception outlives its reason


def only_says_what_it_is(module: str) -> bool:
    """Whether a package has nothing but a docstring, or, as the whole, the public names."""
    file = importlib.import_module(module).__file__
    assert file
    return module == "benchmark" or (file.endswith("__init__.py") and len(ast.parse(Path(file).read_text()).body) == 1)


def test_a_module_of_the_users_own_counts_with_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    text = (
        "from benchmark.method.predictors.ridge import Ridge\n\n\nclass Mine(Ridge):\n"
        '    """Mine."""\n\n    registered_name = ""\n'
    )
    found = {}
    for name, content in {"one": text, "two": text.replace('"""Mine."""', '"""Ours."""'), "three": text + "    x = 1\n"}.items():  # fmt: skip
        (tmp_path / f"identity_{name}.py").write_text(content)
        mine = PREDICTORS.create(f"identity_{name}:Mine")
        found[name] = identity.component_code(mine)
        assert "benchmark.method.predictors.ridge" in identity.reached_from(
            (type(mine).__module__,), str(tmp_path / f"identity_{name}.py")
        )
    assert found["one"] != found["three"]
