"""Code of the user's own is known by its meaning, with all modules that it imports: which count, and what of them."""

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark.common import code
from benchmark.common.code import own_code, own_modules
from benchmark.method.interventions.base import Intervention

FILES = {  # a package in which a constant lies two imports away from the class, whichever way it is imported
    "__init__.py": "from .shown import NAME\n",
    "mine.py": "from .parts import near\nimport own_pkg.plain as plain\n\n\nclass Mine:\n    pass\n",
    "parts/__init__.py": "from .deep import *\n",
    "parts/near.py": "def f():\n    from ..far import STEP\n    return STEP\n",
    "parts/deep.py": "DEEP = 1\n",
    "far.py": "STEP = 1\n",
    "shown.py": "NAME = 1\n",
    "plain.py": "import numpy\nimport json\nPLAIN = 1\n",
    "apart.py": "APART = 1\n",
}
COUNTED = {*FILES} - {"apart.py"}


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of the user's own, `own_pkg`, that can be imported."""
    write(tmp_path / "own_pkg", FILES)
    (tmp_path / "beside.py").write_text("BESIDE = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path / "own_pkg"
    for name in [name for name in sys.modules if name.partition(".")[0] == "own_pkg"]:
        del sys.modules[name]


def test_every_module_of_the_package_that_is_imported_counts_and_no_other(package: Path) -> None:
    cls = importlib.import_module("own_pkg.mine").Mine
    assert {str(s.file.relative_to(package)) for s in own_modules(cls).values()} == COUNTED


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_constant_counts_wherever_it_is_imported_from_and_words_do_not(package: Path, name: str) -> None:
    cls = importlib.import_module("own_pkg.mine").Mine
    before, file = own_code(cls), package / name
    text = file.read_text()
    file.write_text(f'"""What it is for."""\n# a comment\n{text}\n\n')
    assert own_code(cls) == before
    file.write_text(f"{text}\nANOTHER = 1\n")
    assert (own_code(cls) != before) == (name in COUNTED)


def test_an_edit_is_seen_while_the_process_lives_even_if_size_and_second_are_the_same(package: Path) -> None:
    cls = importlib.import_module("own_pkg.mine").Mine
    before, file = own_code(cls), package / "far.py"
    stamp = file.stat()
    file.write_text("STEP = 2\n")
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))
    assert own_code(cls) != before


def test_a_module_in_no_package_counts_with_those_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    files = {
        "alone_mine.py": "import alone_near, numpy\nfrom benchmark.method.arrays import scaled\nclass Mine: pass\n",
        "alone_near.py": "from alone_tools.far import STEP\n",
        "alone_tools/__init__.py": "",
        "alone_tools/far.py": "STEP = 1\n",
        "alone_apart.py": "APART = 1\n",
        "alone_broken.py": "this is no Python\n",
    }
    write(tmp_path, files)
    cls = importlib.import_module("alone_mine").Mine
    assert set(own_modules(cls)) == {"alone_mine", "alone_near", "alone_tools", "alone_tools.far"}
    before = own_code(cls)
    (tmp_path / "alone_tools" / "far.py").write_text("STEP = 2  # other\n")
    assert own_code(cls) != before
    (tmp_path / "alone_near.py").write_text("try:\n    import alone_broken\nexcept SyntaxError:\n    pass\n")
    assert "alone_broken" in own_modules(cls)
    assert own_code(cls) != before
    # Among everybody's modules a folder says nothing of what belongs together.
    monkeypatch.setattr(code, "_SHARED", {tmp_path.resolve()})
    assert set(own_modules(cls)) == {"alone_mine"}


def test_a_class_of_this_package_counts_with_its_own_module() -> None:
    assert set(own_modules(Intervention)) == {"benchmark.method.interventions.base"}
