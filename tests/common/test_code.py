"""Code of the user's own is known by its meaning, with all modules that it imports: which count, and what of them."""

import importlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark.common import code
from benchmark.common.code import Source, own_code, own_modules
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


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file in which codes are kept, in a cache folder of its own."""
    monkeypatch.setenv("ICM_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(code, "_unwritten", [])
    forget()
    yield tmp_path / "cache" / "code.json"
    forget()


def forget() -> None:
    code.code_of.cache_clear()
    code._known.cache_clear()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "module.py"
    file.write_text("import a, b.c\ndef f():\n    from ..d import e\n")
    return file


def test_a_later_process_parses_nothing_that_was_parsed(
    kept: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = code.code_of(Source.of(file))
    assert first.imports == ((None, "", ("a", "b.c"), True), (2, "d", ("e",), False))
    code.keep_known()
    forget()
    monkeypatch.setattr(code, "_parsed", lambda _: pytest.fail("it was parsed again"))
    assert code.code_of(Source.of(file)) == first
    written = kept.stat()
    code.keep_known()
    assert kept.stat() == written  # nothing new, so nothing is written
    monkeypatch.undo()


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b'{"version": 1, "codes": {}}', b'{"codes": [1]}'])
def test_a_damaged_or_older_file_is_replaced(kept: Path, file: Path, content: bytes) -> None:
    expected = code.code_of(Source.of(file))
    code.keep_known()
    whole = kept.read_bytes()
    wrong = json.dumps({**json.loads(whole), "version": ["another"]}).replace(expected.meaning, "0" * 64).encode()
    for broken in (content, wrong, whole.replace(b"[2,", b"2,")):
        kept.write_bytes(broken)
        forget()
        assert code.code_of(Source.of(file)) == expected
        code.keep_known()
        assert kept.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_no_error(kept: Path, file: Path) -> None:
    kept.parent.write_text("a file")
    assert code.code_of(Source.of(file)).imports
    code.keep_known()
    assert kept.parent.read_text() == "a file"
