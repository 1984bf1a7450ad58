"""Layouts are a registry: `auto` asks its readers, and a reader from outside of the package serves like one inside."""

import hashlib
import os
import pickle
import re
from pathlib import Path

import pytest

from benchmark.common import registry
from benchmark.common.code import own_code
from benchmark.common.errors import IcmBenchError
from benchmark.datasets.readers import READERS, ImageReader, open_reader
from benchmark.datasets.spec import DatasetSpec
from benchmark.recipe.loading import parse_recipe
from tests.datasets.flat_reader import FlatReader
from tests.datasets.reading import read

FLAT = "tests.datasets.flat_reader:FlatReader"


@pytest.fixture
def flat_root(toy_root: Path, tmp_path: Path) -> Path:
    """The toy set, all files in one folder."""
    root = tmp_path / "flat"
    root.mkdir()
    for file in sorted(toy_root.glob("*/*/*.png")):
        (root / "--".join(file.relative_to(toy_root).parts)).write_bytes(file.read_bytes())
    return root


def test_a_reader_from_outside_reads_a_data_set_from_end_to_end(flat_root: Path, toy_root: Path) -> None:
    flat = read(flat_root, layout=FLAT)
    assert flat.fingerprint == read(toy_root).fingerprint  # the same images under the same paths are the same data set
    reader = pickle.loads(pickle.dumps(flat.reader))
    files = [toy_root / path for path in flat.table["path"].to_pylist()]
    assert list(reader.read(flat.table.to_pydict())) == [file.read_bytes() for file in files]


def test_auto_asks_a_registered_reader(flat_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert READERS.implementation(type(open_reader(str(flat_root)))) == "folder"  # whose readers do not know the names
    monkeypatch.setitem(READERS._homes, "flat", FLAT)  # the one line
    monkeypatch.setitem(registry._names, FLAT, "flat")
    monkeypatch.setattr(READERS, "_homes", {"flat": READERS._homes.pop("flat"), **READERS._homes})
    manifest = read(flat_root)
    assert READERS.implementation(type(manifest.reader)) == "flat"
    assert manifest.table.num_rows == 36


@pytest.mark.parametrize(
    ("names", "layout"),
    [
        (["a.parquet", "b.tar", "c.png"], "parquet"),
        (["b.tar", "c.png"], "webdataset"),
        (["b.tar.gz"], "webdataset"),
        (["c.PNG"], "folder"),
        (["groups.csv", "notes.txt"], None),
    ],
)
def test_the_first_reader_that_claims_the_files(names: list[str], layout: str | None) -> None:
    claiming = [name for name in READERS.names() if READERS.component_class(name).claims(names)]
    assert next(iter(claiming), None) == layout


def test_an_unknown_layout_is_refused_with_the_nearest() -> None:
    for layout, said in {
        "webdata": "datasets.0.layout: unknown layout 'webdata': did you mean 'webdataset'?",
        "autos": "did you mean 'auto'?",
        "no.such:Reader": "The layout 'no.such:Reader' cannot be loaded",
        "pathlib:Path": "must derive from ImageReader",
        f"{ImageReader.__module__}:ImageReader": "lacks a method",
    }.items():
        with pytest.raises(IcmBenchError, match=re.escape(said)):
            parse_recipe({"name": "x", "datasets": [{"name": "PACS", "layout": layout}], "backbones": ["ViT-B-32"]})
    for layout in ("auto", *READERS.names(), FLAT):
        assert DatasetSpec(name="mine", layout=layout).layout == layout


def test_identities_under_a_reader_from_outside_follow_its_code(flat_root: Path, own_cache: Path) -> None:
    for file in flat_root.iterdir():
        os.utime(file, (0, 0))
    read(flat_root, layout=FLAT)
    key = hashlib.sha256(f"{FLAT} {own_code(FlatReader)}\n{flat_root}".encode()).hexdigest()[:32]
    assert [file.name for file in (own_cache / "manifests").iterdir()] == [f"{key}.parquet"]
