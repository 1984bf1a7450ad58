"""Stores that lie: a bit of any kind of file, Parquet that ends Arrow's process, and commands beside each other. No Ray."""

import io
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmark.backbones.facts import BackboneFacts
from benchmark.cli import main
from benchmark.commands import embed
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage import parquet_check as tried
from benchmark.common.storage.files import Storage, in_parquet
from benchmark.datasets.readers.parquet import ParquetReader
from benchmark.datasets.readers.rows import rows_of
from benchmark.method.evaluation.cells import Cells
from benchmark.method.subspace import Moments
from benchmark.store import costs, made, moments, records, row_index, rows, tested
from benchmark.store import embeddings as store
from benchmark.store import imported_embeddings as imported
from benchmark.store.costs import Cost
from benchmark.store.embeddings import view_of
from benchmark.store.imported_embeddings import Import
from benchmark.store.made import Made
from benchmark.store.records import RunRecord
from benchmark.store.upkeep import remove_damaged
from tests.reports.synthetic import TESTED, row
from tests.store.test_sealed import flipped
from tests.store.test_upkeep import DIM, part

FLIPS = 3  # of each kind of file


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a file of every kind."""
    folder = tmp_path_factory.mktemp("whole") / "store"
    storage, words = Storage(str(folder)), ["a", "b"]
    view = view_of("data", 66, {"fingerprint": "weights"}, None, 0)
    store.write_about(storage, view, {"dataset": "toy", "backbone": "tiny", "dim": DIM})
    store.write_speed(storage, view, {"views": 3})
    store.write_part(storage, view, 0, part(view, 0, 63), [("image_id 63", "a/b/c.png", "cut off")])
    store.write_part(storage, view, 1, part(view, 64, 2), [])
    name = f"{view.directory.replace(store.ROOT, moments.ROOT)}/a/images.safetensors"
    sums = Cells({(0, 0, "base"): Moments.of(np.ones((9, DIM)), {"a/cross/b": np.ones((9, DIM))})})
    storage.write_bytes(name, moments.packed(sums, "a/cross/b", name))
    store.write_texts(storage, f"{store.TEXTS}/{'a' * 32}.parquet", words, np.eye(2, DIM, dtype=np.float32))
    moments.write_clusters(storage, f"{moments.CLUSTERS}/{'b' * 32}.parquet", np.array([0, 1]))
    listed = pa.table(dict.fromkeys({*tested.IMAGE_COLUMNS, *imported.IMAGES}, words))
    tested.write_images(storage, "c" * 32, listed)
    imported.write_images(storage, name := imported.images_file("toy", "d" * 32), listed)
    facts = BackboneFacts("tiny", "e" * 64, "f" * 64, DIM, {"size": [8, 8]}, 100.0, False, "float32")
    imported.write_import(storage, Import("toy", name, "d" * 32, facts, ("a photo of a {}",), "", ()))
    made.write_made(storage, Made("20260101T000000Z-0", "driver", "toy", "tiny", (view.directory,)), closed=True)
    costs.remember([storage], [Cost(("trial",), 2.0, 3.0)])
    rows.write_rows(storage, "trial", [one := {**row(), "images": "c" * 32}])
    tested.write_tested(storage, TESTED[str(one["tested"])])
    rows.write_failure(storage, "other", "in words", "because", "")
    record = records.record_file("ab" * 32, ["inputs"])
    records.write_record(storage, record, RunRecord("x", {}, "ab" * 32, ["trial"], 1, {"a test": "its rows"}))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(row_index, "LEAST_ON_DISK", 1)
        rows.read_rows(storage, ["trial"])
    return folder


HASH = row()["tested"]


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "store", copy_function=shutil.copy2))


def files_of(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def answers(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[list[str], str, str]:
    """What `verify` and the rows of a report say: names of files that are damaged or stale, and both answers in full."""
    main(["store", "verify", "--json", "--store", str(folder)])
    listed = json.loads(capsys.readouterr().out)
    named = [name for d in listed for name in (*d["damaged"], *([d["name"]] if d["stale"] else []))]
    try:
        storage = Storage(str(folder))
        read = str(rows.read_rows(storage, ["trial"]).to_dict("records"))
        read += str([t and t.to_pylist() for t in [tested.read_images(storage, "c" * 32)]])
        held = tested.read_tested(storage, [str(HASH)])
        for name in storage.files(moments.ROOT, ".safetensors"):
            read += str(moments.unpacked(storage, name, "a/cross/b").moments)
        read += str([(name, of.position.tolist(), of.label.tolist()) for name, of in held.items()])
    except IcmBenchError as error:
        read = f"refused: {error}"
    return named, str(listed), read


def test_every_kind_of_file_is_there(whole: Path) -> None:
    roots = {file.split("/")[0] for file in files_of(whole)}
    assert roots == {
        "embeddings", "sums", "texts", "clusters", "images", "imported", "made", "costs", "rows", "index", "tested",
        "failed", "runs",
    }  # fmt: skip
    assert main(["store", "verify", "--store", str(whole)]) == 0


def test_a_bit_that_flips_is_named_or_without_effect(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, chosen = answers(copied, capsys), random.Random(0)
    assert not before[0]
    for name in files_of(copied):
        content, state = (copied / name).read_bytes(), (copied / name).stat()
        for bit in chosen.sample(range(8 * len(content)), FLIPS):
            (copied / name).write_bytes(flipped(content, bit))
            named, verified, read = answers(copied, capsys)
            assert read == before[2] or read.startswith("refused: "), (name, bit)
            is_named = any(name.startswith(place) for place in named)
            assert is_named or (named, verified, read) == before, (name, bit)
        (copied / name).write_bytes(content)
        os.utime(copied / name, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert answers(copied, capsys) == before


@pytest.fixture(scope="module")
def deadly() -> bytes:
    """A Parquet file that ends the process in which Arrow reads it: a bit of its footer is wrong."""
    table = pa.table({"image_id": list(map(str, range(64))), "label": list(range(64)), "x": [[1.0, 2.0]] * 64})
    content = in_parquet(table)
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    bits = random.Random(0).sample(range(8 * footer, 8 * len(content)), 4000)
    return next(bad for bit in bits if tried.ends_process(bad := flipped(content, bit)))


def listed_by_reader(file: Path) -> object:
    return list(ParquetReader(str(file.parent)).entries())


def rows_of_table(file: Path) -> object:
    return list(rows_of(Storage(str(file.parent)), file.name))


@pytest.mark.parametrize("read", [listed_by_reader, rows_of_table])
def test_images_and_tables_that_would_end_the_process_are_refused(
    deadly: bytes, tmp_path: Path, read: Callable[[Path], object]
) -> None:
    (tmp_path / "a.parquet").write_bytes(deadly)
    with pytest.raises(IcmBenchError, match=rf"{tmp_path}/a\.parquet is damaged and crashes Arrow"):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize("name", ["rows/x.parquet", "tested/x.parquet", "texts/x.parquet", "index/x.parquet"])
def test_bad_4_files_of_earlier_versions_that_would_end_the_process_are_named(
    deadly: bytes, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_bytes(deadly)
    assert main(["store", "verify", "--store", str(tmp_path)]) == 2
    assert f"{tmp_path / name}: is damaged and crashes Arrow" in capsys.readouterr().err
    assert main(["store", "repair", "--store", str(tmp_path)]) == 0
    assert not (tmp_path / name).exists()


def test_imported_embeddings_and_predictions_that_would_end_the_process_are_refused(
    deadly: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "two.parquet"
    file.write_bytes(deadly)
    code = main(["import-embeddings", str(file), "--name", "x", "--backbone", "y", "--store", str(tmp_path / "store")])
    assert (code, capsys.readouterr().err.count(f"{file} is damaged and crashes Arrow")) == (2, 1)


def test_one_process_reads_all_files_and_another_takes_its_place_once_it_ended(deadly: bytes) -> None:
    sound = in_parquet(pa.table({"a": [1]}))
    assert not tried.ends_process(sound)
    first = tried._reader(os.getpid()).pid
    assert not tried.ends_process(b"no Parquet")  # its reader says so
    assert tried._reader(os.getpid()).pid == first
    assert tried.ends_process(deadly)
    assert not tried.ends_process(sound)
    assert tried._reader(os.getpid()).pid != first


def later_version(folder: Path) -> None:
    content = io.BytesIO()
    pq.write_table(pa.table({"x": [1]}, metadata={"icm_bench_rows": "99"}), content)
    (folder / "rows" / "later.parquet").write_bytes(content.getvalue())


def altered(column: str, change: Callable[[list[float]], list[float]]) -> Callable[[Path], None]:
    def alter(folder: Path) -> None:
        table = pq.read_table(file := folder / "rows" / "trial.parquet")
        values = pa.array([change(value) for value in table[column].to_pylist()], table[column].type)
        pq.write_table(table.set_column(table.column_names.index(column), column, values), file)

    return alter


def twice(folder: Path) -> None:
    table = pq.read_table(file := folder / "rows" / "trial.parquet")
    pq.write_table(pa.concat_tables([table, table]), file)


def changed_record(folder: Path) -> None:
    (file,) = folder.glob("runs/*/*.json")
    file.write_text(file.read_text().replace('"planned": 1', '"planned": 2'))


def nothing(folder: Path) -> None:
    """Leave the store as it is."""


def emptied(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


VERIFY, REPORT = ("store", "verify", "--store", "STORE"), ("report", "--store", "STORE")
CASES: dict[str, tuple[Callable[[Path], object], tuple[str, ...], str]] = {
    "bad-3-accuracy": (altered("target", lambda _: [1.0]), VERIFY, "is not what was written"),
    "bad-3-accuracy-reported": (altered("target", lambda _: [1.0]), REPORT, "trial.parquet is not what was written"),
    "poor-store-1-target": (altered("target", lambda v: [v[0] + 0.3]), VERIFY, "is not what was written"),
    "poor-store-2-score": (altered("training_domain", lambda v: v[::-1]), VERIFY, "is not what was written"),
    "poor-store-3-line-twice": (twice, VERIFY, "is not what was written"),
    "poor-store-4-record": (changed_record, VERIFY, "is not what was written"),
    "poor-store-5-later-version": (later_version, VERIFY, "1 files cannot be checked, and are kept"),
    "poor-line-1-no-store": (shutil.rmtree, VERIFY, "There is no store at"),
    "poor-line-1-no-store-listed": (shutil.rmtree, ("store", "list", "--store", "STORE"), "There is no store at"),
    "poor-line-1-empty": (emptied, VERIFY, "holds no file of a store"),
    "poor-line-2-out": (nothing, (*REPORT, "--out", "STORE/rows"), "lies in the store"),
    "poor-line-2-out-is-store": (nothing, (*REPORT, "--out", "STORE"), "lies in the store"),
    "poor-line-2-out-by-dots": (nothing, (*REPORT, "--out", "STORE/reports/../texts/a"), "lies in the store"),
}


@pytest.mark.parametrize("case", CASES)
def test_cases(copied: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    spoil, words, said = CASES[case]
    spoil(copied)
    before = files_of(copied) if copied.exists() else []
    assert main([word.replace("STORE", str(copied)) for word in words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert before == (files_of(copied) if copied.exists() else [])


def test_a_file_of_a_later_version_is_not_called_damaged(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    later_version(copied)
    main(["store", "verify", "--store", str(copied)])
    said = capsys.readouterr()
    assert "damaged" not in said.out + said.err
    assert "that cannot be judged" in said.out
    assert main(["store", "repair", "--store", str(copied)]) == 0
    assert (copied / "rows" / "later.parquet").exists()


def test_a_file_that_was_made_again_since_it_was_found_damaged_is_kept(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that works beside `repair` and `clean` keeps what it has just made again."""
    from benchmark.store import upkeep

    file = copied / "texts" / f"{'a' * 32}.parquet"
    sound, verify = file.read_bytes(), upkeep.verify

    def and_made_again(storage: Storage) -> list[upkeep.Directory]:
        found = verify(storage)
        file.write_bytes(sound)
        return found

    monkeypatch.setattr(upkeep, "verify", and_made_again)
    for action in ("repair", "clean"):
        file.write_bytes(sound[:-1])
        assert main(["store", action, "--store", str(copied)]) == 0
        assert "0 files and directories removed" in capsys.readouterr().out
    assert file.read_bytes() == sound


def test_what_another_command_removed_meanwhile_is_no_damage(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, exists = Storage.read_if_there, Storage.exists
    for gone in files_of(copied):
        if "rejected-" in gone:  # goes with its part
            continue
        with monkeypatch.context() as patched:
            patched.setattr(Storage, "read_if_there", lambda self, n, gone=gone: None if n == gone else read(self, n))
            patched.setattr(Storage, "exists", lambda self, n, gone=gone: n != gone and exists(self, n))
            assert main(["store", "verify", "--store", str(copied)]) == 0, gone


def test_a_list_of_images_that_is_damaged_is_written_again(copied: Path) -> None:
    file, storage = copied / "images" / f"{'c' * 32}.parquet", Storage(str(copied))
    table, sound = tested.read_images(storage, "c" * 32), file.read_bytes()
    file.write_bytes(sound[:-1])
    tested.write_images(storage, "c" * 32, table)
    assert file.read_bytes() == sound


def test_texts_that_are_damaged_are_removed_before_anything_is_embedded(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, said = copied / "texts" / f"{'a' * 32}.parquet", list[str]()
    file.write_bytes(file.read_bytes()[:-1])
    run = Mock(storage=Storage(str(copied)), subjects=(), embedded=(), notify=said.append)

    def begin_texts_of(*_: object) -> list[object]:
        store.have_texts(run.storage, f"{store.TEXTS}/{file.name}")
        return []

    monkeypatch.setattr(embed, "begin_texts_of", begin_texts_of)
    monkeypatch.setattr(embed, "alive_nodes", list)
    assert embed.embed_stage(run) == []
    assert not file.exists()
    assert "it is recomputed" in said[0]


def test_work_whose_file_was_removed_by_another_command_begins_anew(copied: Path) -> None:
    """One run finds a file damaged, another has made it again by then: the first removes it, and the second goes on."""
    storage, name, said = Storage(str(copied)), f"{store.TEXTS}/{'a' * 32}.parquet", list[str]()
    sound = storage.read_bytes(name)
    storage.write_bytes(name, sound[:-1])
    times = 0

    def work() -> object:
        nonlocal times
        times += 1
        if times == 2:
            storage.write_bytes(name, sound)  # made again, and removed at once by the other run
            remove_damaged(storage, {name: "was damaged when the other run looked at it"}, [])
        if times == 3:
            storage.write_bytes(name, sound)
        return store.read_texts(storage, name)

    run = Mock(storage=storage, embedded=(), notify=said.append)
    np.testing.assert_array_equal(embed.on_sound_embeddings(run, work, embed_again=False), np.eye(2, DIM))
    assert times == 3
