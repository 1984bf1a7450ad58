"""Layouts are a registry: `auto` asks its readers, and a reader from outside of the package serves like one inside."""

import hashlib
import os
import pickle
import time
from pathlib import Path

import pytest

from benchmark.common.code import own_code
from benchmark.common.errors import IcmBenchError
from benchmark.datasets.identities import cache_name
from benchmark.datasets.manifest import read_manifest
from benchmark.datasets.readers import READERS, ImageReader, check_layout, open_reader
from benchmark.datasets.spec import DatasetSpec
from benchmark.recipe.loading import parse_recipe
from tests.datasets.flat_reader import FlatReader

FLAT = "tests.datasets.flat_reader:FlatReader"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICM_BENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def flat_root(toy_root: Path, tmp_path: Path) -> Path:
    """The toy set, all files in one folder."""
    root = tmp_path / "flat"
    root.mkdir()
    for file in sorted(toy_root.glob("*/*/*.png")):
        (root / "--".join(file.relative_to(toy_root).parts)).write_bytes(file.read_bytes())
    return root


def test_a_reader_from_outside_reads_a_data_set_from_end_to_end(flat_root: Path, toy_root: Path) -> None:
    flat = read_manifest(DatasetSpec(name="toy", root=str(flat_root), layout=FLAT))
    folders = read_manifest(DatasetSpec(name="toy", root=str(toy_root)))
    assert flat.fingerprint == folders.fingerprint  # the same images under the same paths are the same data set
    reader = pickle.loads(pickle.dumps(flat.reader))
    files = [toy_root / path for path in flat.table["path"].to_pylist()]
    assert list(reader.read(flat.table.to_pydict())) == [file.read_bytes() for file in files]


def test_auto_asks_a_registered_reader(flat_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert READERS.implementation(type(open_reader(str(flat_root)))) == "folder"  # whose readers do not know the names
    monkeypatch.setitem(READERS._homes, "flat", FLAT)  # the one line
    monkeypatch.setattr(READERS, "_homes", {"flat": READERS._homes.pop("flat"), **READERS._homes})
    manifest = read_manifest(DatasetSpec(name="toy", root=str(flat_root)))
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
    def refusal(layout: str) -> str:
        with pytest.raises(IcmBenchError) as caught:
            parse_recipe({"name": "x", "datasets": [{"name": "PACS", "layout": layout}], "backbones": ["ViT-B-32"]})
        return str(caught.value)

    assert "datasets.0.layout: unknown layout 'webdata': did you mean 'webdataset'?" in refusal("webdata")
    assert "did you mean 'auto'?" in refusal("autos")
    assert "The layout 'no.such:Reader' cannot be loaded" in refusal("no.such:Reader")
    assert "must derive from ImageReader" in refusal("pathlib:Path")
    assert "lacks the method" in refusal(f"{ImageReader.__module__}:ImageReader")
    for layout in ("auto", *READERS.names(), FLAT):
        check_layout(layout)


@pytest.mark.parametrize(
    ("layout", "key"), [("folder", "FolderSource"), ("parquet", "ParquetSource"), ("webdataset", "WebDatasetSource")]
)
def test_the_identities_of_earlier_versions_are_found(layout: str, key: str, toy_root: Path) -> None:
    digest = hashlib.sha256(f"{key}\n{toy_root}".encode()).hexdigest()
    assert cache_name(open_reader(str(toy_root), layout)) == f"{digest[:32]}.parquet"


def test_identities_under_a_reader_from_outside_follow_its_code(flat_root: Path, tmp_path: Path) -> None:
    minute_ago = time.time() - 60
    for file in flat_root.iterdir():
        os.utime(file, (minute_ago, minute_ago))
    read_manifest(DatasetSpec(name="toy", root=str(flat_root), layout=FLAT))
    key = hashlib.sha256(f"{FLAT} {own_code(FlatReader)}\n{flat_root}".encode()).hexdigest()[:32]
    assert [file.name for file in (tmp_path / "cache" / "manifests").iterdir()] == [f"{key}.parquet"]
