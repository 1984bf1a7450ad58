"""A store of which any file lies: verified, listed and repaired, whatever kind of file it is. No Ray."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmark.cli import main
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.store.records import add_imported
from benchmark.store.sealed import sealed_parquet
from tests.conftest import Swept

KINDS = {
    "embeddings/*/part-*.parquet", "embeddings/*/rejected-*.json", "sums/*/*/images.safetensors", "texts/*.parquet",
    "rows/*.parquet", "tested/*.parquet", "runs/*/*.json", "runs/*/*/*.json", "made/*.parquet", "costs/*.json",
    "images/*.parquet", "embeddings/*/about.json", "embeddings/*/speed.json",
}  # fmt: skip


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def wrote(content: bytes) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(content)


DEEP = wrote(b"[" * 100_000)
SPOIL: dict[str, Callable[[Path], object]] = {
    "cut": cut, "empty": wrote(b""), "garbage": wrote(bytes(range(256)) * 3), "deep": DEEP, "a list": wrote(b"[1]"),
}  # fmt: skip


@pytest.fixture
def store(swept_toy: Swept, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(swept_toy.store, tmp_path / "store"))
    (record,) = [file.relative_to(folder).as_posix() for file in folder.glob("runs/*/*.json")][:1]
    add_imported(Storage(str(folder)), record, {"a test": "id of its rows"})
    return folder


def files_of(store: Path) -> set[Path]:
    return {file for file in store.rglob("*") if file.is_file()}


def test_every_kind_of_file_is_tried(store: Path) -> None:
    found = {re.sub(r"[0-9a-f]{16,}", "*", f.relative_to(store).as_posix()) for f in files_of(store)}
    found = {re.sub(r"(part-|rejected-|made/|costs/)[\w*-]+", r"\1*", name) for name in found}
    assert {name for name in found if not name.startswith("reports/")} <= KINDS | {"sums/*/*/*.safetensors"}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_lies_is_found_named_and_taken_out(store: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    if not (files := sorted(store.glob(kind))):
        pytest.skip("plain prediction has no such file")
    where = ["--store", str(store)]
    for name, spoil in SPOIL.items():
        spoil(files[0])
        capsys.readouterr()
        assert main(["store", "verify", *where]) == 2, name
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
        assert str(files[0]) in error
    # Descriptions of views and lists of unreadable images are read for the list.
    assert main(["store", "list", "--why", *where]) == (2 if "rejected" in kind or "about" in kind else 0)
    before = files_of(store)
    assert main(["store", "repair", "--dry-run", *where]) == 0
    assert before == files_of(store)
    assert main(["store", "repair", *where]) == 0
    gone = before - files_of(store)
    assert files[0] in gone
    assert len(gone) <= 2  # a list of unreadable images goes with its part
    assert main(["store", "verify", *where]) == 0
    assert "sound" in capsys.readouterr().out


def test_a_view_that_does_not_say_what_it_is_is_stale(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sorted(store.glob("embeddings/*/about.json"))[0].unlink()
    assert main(["store", "verify", "--store", str(store)]) == 0
    assert "stale: its about.json is missing" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["embeddings/*/part-*.parquet", "embeddings/*/about.json", "rows/*.parquet"])
def test_a_folder_or_a_broken_link_in_the_place_of_a_file_is_named_and_stays(
    store: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file, where = sorted(store.glob(kind))[0], ["--store", str(store)]
    file.unlink()
    file.mkdir()
    assert main(["store", "verify", *where]) == 2
    assert f"{file} is a folder, where a file belongs; delete it." in capsys.readouterr().err
    assert main(["store", "repair", *where]) == 0
    assert file.is_dir()
    file.rmdir()
    file.symlink_to("nowhere")
    assert main(["store", "verify", *where]) == 2
    assert f"{file} is a broken link" in capsys.readouterr().err


def test_records_that_were_renamed_are_found(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = sorted(store.glob("runs/*/*.json"))[0]
    other = store / "runs" / ("0" * 32) / record.name
    other.parent.mkdir()
    shutil.copy(record, other)
    assert main(["store", "verify", "--store", str(store)]) == 2
    assert f"{other}: is damaged (it is of the recipe {record.parent.name}" in capsys.readouterr().err


def test_what_others_left_is_named_and_left_alone(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = sorted(store.glob("embeddings/*"))[0]
    foreign = [
        store / ".DS_Store", folder / "README.txt", store / "embeddings" / "notes.json", store / "rows" / "a copy.parquet",
        folder / "rejected-.json", folder / "part-x.parquet", store / "sums" / "._x.safetensors",
    ]  # fmt: skip
    for file in foreign:
        file.write_bytes(b"{ not ours")
    for action in ("list", "verify", "repair", "clean"):
        assert main(["store", action, "--store", str(store)]) == 0, capsys.readouterr().err
    assert main(["store", "verify", "--store", str(store)]) == 0
    said = capsys.readouterr().err
    assert "note: foreign files in the store, which are kept:" in said
    assert "embeddings/notes.json" in said
    assert all(file.exists() for file in foreign)
    assert main(["report", "--store", str(store), "--json"]) == 0


def test_what_is_no_store_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "store"
    file.write_text("hello")
    for action in ("list", "verify", "repair", "clean"):
        assert main(["store", action, "--store", str(file)]) == 2
        assert capsys.readouterr().err == f"icm-bench: {file} is a file, not a store; give the folder of a store.\n"


def test_a_reason_of_failure_that_is_damaged_is_a_reason(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = store / "failed" / f"{'a' * 64}.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"trial": "x", "reason": "y", "traceback": ""}))
    assert main(["store", "verify", "--store", str(store)]) == 0
    DEEP(file)
    capsys.readouterr()
    assert main(["report", "--store", str(store)]) == 2  # as it does for any trial that failed
    assert "the file with the reason is damaged" in capsys.readouterr().err
    assert main(["store", "verify", "--store", str(store)]) == 2
    assert f"{file}: is damaged" in capsys.readouterr().err


def test_rows_of_another_version_are_said_and_never_taken_out(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = sorted(store.glob("rows/*.parquet"))[0]
    file.write_bytes(sealed_parquet(pq.read_table(file).replace_schema_metadata({b"icm_bench_rows": b"99"})))
    assert main(["store", "verify", "--store", str(store)]) == 2
    assert f"{file} holds result rows of version 99" in capsys.readouterr().err
    for action in ("repair", "clean"):
        assert main(["store", action, "--store", str(store)]) == 0
    assert file.exists()


def test_what_cannot_be_read_is_said_and_never_taken_out(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_of(store)

    def closed(self: Storage, name: str, offset: int, length: int | None) -> bytes:
        if name.startswith("embeddings/"):
            return content(self, name, offset, length)
        raise IcmBenchError(f"{self.path(name)} cannot be read (Permission denied).")

    content = Storage._content
    monkeypatch.setattr(Storage, "_content", closed)
    assert main(["store", "verify", "--store", str(store)]) == 2
    assert "cannot be read (Permission denied)" in capsys.readouterr().err
    monkeypatch.undo()
    assert before == files_of(store)


def test_a_stale_view_goes_and_what_others_left_in_it_stays(store: Path) -> None:
    about = sorted(store.glob("embeddings/*/about.json"))[0]
    about.unlink()
    foreign = about.with_name("my notes.txt")
    foreign.write_text("mine")
    assert main(["store", "clean", "--store", str(store)]) == 0
    assert [f.name for f in about.parent.iterdir()] == ["my notes.txt"]


def test_verify_prints_one_document(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut(sorted(store.glob("rows/*.parquet"))[0])
    assert main(["store", "verify", "--json", "--store", str(store)]) == 2
    assert any(d["problems"] for d in json.loads(capsys.readouterr().out))
