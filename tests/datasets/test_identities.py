"""The identity of many images: the same by one process as by several, kept by what has not changed, and in order."""

import hashlib
import os
import posixpath
import random
from pathlib import Path

import pyarrow as pa
import pytest

from benchmark.common.errors import IcmBenchError
from benchmark.datasets import identities
from benchmark.datasets.manifest import Manifest, _in_order
from tests.conftest import make_toy
from tests.datasets.reading import read


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    root = make_toy(tmp_path / "toy", environments=3, classes=2, images=9)
    for file in root.rglob("*.png"):
        os.utime(file, (0, 0))
    return root


def expected(root: Path) -> list[tuple[str, str, int]]:
    """What the manifest is to say of each image, in a few lines."""
    found = []
    for file in sorted(root.rglob("*.png"), key=lambda f: (f.parts[-3], f.parts[-2], f.name)):
        content, place = file.read_bytes(), f"\0{file.parts[-3]}\0{file.parts[-2]}".encode()
        both = hashlib.sha256(content).hexdigest(), hashlib.sha256(content + place).hexdigest()
        found.append((*both, len(content)))
    return found


def said(manifest: Manifest) -> list[tuple[str, str, int]]:
    return list(zip(*(manifest.table[name].to_pylist() for name in ("content", "image_id", "bytes")), strict=True))


@pytest.mark.parametrize(
    ("together", "worth"), [(1024, 10**6), (5, 10**6), (5, 0)], ids=["one", "batches", "processes"]
)
def test_identities_are_those_of_a_few_lines_however_they_are_made(
    toy: Path, monkeypatch: pytest.MonkeyPatch, together: int, worth: int
) -> None:
    monkeypatch.setattr(identities, "_TOGETHER", together)
    monkeypatch.setattr(identities, "_WORTH_PROCESSES", worth)
    monkeypatch.setattr(identities, "_IN_WORDS", 7)
    monkeypatch.setattr(identities, "cores", lambda: 2)
    assert said(read(toy)) == expected(toy)


@pytest.mark.parametrize("worth", [10**6, 0], ids=["one", "processes"])
def test_what_was_identified_before_a_file_could_not_be_read_is_kept(
    toy: Path, monkeypatch: pytest.MonkeyPatch, worth: int
) -> None:
    monkeypatch.setattr(identities, "_TOGETHER", 1)
    monkeypatch.setattr(identities, "_WORTH_PROCESSES", worth)
    monkeypatch.setattr(identities, "cores", lambda: 2)
    hashed = []
    fill = identities._Hashed.fill

    def filled(self: identities._Hashed, rows: object, *columns: object) -> None:
        fill(self, rows, *columns)  # type: ignore[arg-type]
        hashed.append(rows)
        (toy / "env2" / "dog" / "8.png").unlink(missing_ok=True)  # the last, listed before

    monkeypatch.setattr(identities._Hashed, "fill", filled)
    with pytest.raises(IcmBenchError, match=r"env2/dog/8\.png"):
        read(toy)
    before = len(hashed)
    assert before > 0
    assert said(read(toy)) == expected(toy)
    assert len(hashed) - before == 53 - before


def test_order_is_by_environment_class_folder_and_name() -> None:
    paths = [f"e{i % 2}/c{i % 3}/{'deep/' * (i % 4)}x{i // 2}.jpg" for i in range(50)] + ["e0/c0//y.jpg", "z.jpg"]
    random.Random(0).shuffle(paths)
    rows = [{"environment": p[:2], "class_name": p[3:5], "path": p} for p in paths]
    ordered = _in_order(pa.Table.from_pylist(rows)).to_pylist()
    rows.sort(key=lambda row: (row["environment"], row["class_name"], *posixpath.split(row["path"])))
    assert ordered == rows
