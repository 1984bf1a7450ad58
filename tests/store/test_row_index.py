"""The index of rows is a copy: with it, without it and with an old one the same rows are read."""

import multiprocessing
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.store import row_index, rows, upkeep
from benchmark.store.rows import finished, read_rows, read_source_scores, row_file, unfinished, write_rows
from benchmark.store.upkeep import clean
from tests.conftest import S3
from tests.reports.synthetic import row

COUNT = 24
NAMES = [f"{i:03d}" for i in range(COUNT)]


@pytest.fixture(params=["folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """A store with the rows of some trials."""
    monkeypatch.setattr(row_index, "LEAST_ON_DISK", COUNT)
    uri = str(tmp_path)
    if request.param == "s3":
        s3: S3 = request.getfixturevalue("s3")
        uri = f"s3://{s3.bucket}/{tmp_path.name}/index"
    storage = Storage(uri)
    for i, name in enumerate(NAMES):
        write_rows(storage, name, [row(seed=i, held_out="photo"), row(seed=i)])
    return storage


def by_file(storage: Storage, names: list[str]) -> pd.DataFrame:
    """Return rows that are read so few at a time that no index is made."""
    parts = [read_rows(storage, names[first : first + 12]) for first in range(0, COUNT, 12)]
    return pd.concat(parts, ignore_index=True)


def test_the_index_is_a_copy_that_may_go_at_any_time(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    order, files, read = NAMES[::-1], list[str](), rows._read
    one_by_one = by_file(storage, order)
    assert not storage.files(row_index.ROOT, "")

    def noted(place: Storage, name: str, columns: Sequence[str]) -> pa.Table:
        files.append(name)
        return read(place, name, columns)

    monkeypatch.setattr(rows, "_read", noted)
    pd.testing.assert_frame_equal(read_rows(storage, order), one_by_one)  # makes the index
    assert sorted(files) == sorted(map(row_file, NAMES))  # each file once
    (file,) = storage.files(row_index.ROOT, "")
    pd.testing.assert_frame_equal(read_rows(storage, order), one_by_one)
    scores = [read_source_scores(storage, some) for some in (order, order[:10], order[10:])]
    assert scores[0] == scores[1] + scores[2]
    before = storage.read_bytes(file)
    assert read_rows(storage, NAMES)["trial_id"].tolist() == [name for name in NAMES for _ in range(2)]
    assert storage.files(row_index.ROOT, "") == [file]  # nothing was lacking
    storage.write_bytes(file, before[: len(before) // 2])  # damaged
    pd.testing.assert_frame_equal(read_rows(storage, order), one_by_one)
    storage.delete(file)
    pd.testing.assert_frame_equal(read_rows(storage, order), one_by_one)
    assert finished(storage) == {*NAMES}


def test_rows_that_are_newer_than_the_index_or_gone_count(storage: Storage) -> None:
    read_rows(storage, NAMES)
    write_rows(storage, "007", [row(seed=1000)])  # of another size
    storage.delete(row_file("011"))
    read = read_rows(storage, NAMES)
    assert read[read["trial_id"] == "007"]["seed"].tolist() == [1000]
    assert "011" not in set(read["trial_id"])
    assert unfinished(storage, ["011"]) == ["011"]
    (file,) = storage.files(row_index.ROOT, "")
    assert clean(storage, dry_run=False).names == []
    for name in NAMES:
        storage.delete(row_file(name))
    assert clean(storage, dry_run=False).names == [file]  # nobody would read from it


@pytest.mark.parametrize("storage", ["folder"], indirect=True)
@pytest.mark.parametrize("written", [0, 1])
def test_a_run_that_is_killed_between_rows_and_index_goes_on(
    storage: Storage, written: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_by_one, write = by_file(storage, NAMES), row_index._write
    monkeypatch.setattr(row_index, "MAX_TRIALS", COUNT // 2)

    def killed(storage: Storage, *given: Any) -> None:
        if len(storage.files(row_index.ROOT, "")) == written:
            os.kill(os.getpid(), signal.SIGKILL)
        write(storage, *given)

    monkeypatch.setattr(row_index, "_write", killed)
    process = multiprocessing.get_context("fork").Process(target=read_rows, args=(storage, NAMES))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    monkeypatch.setattr(row_index, "_write", write)
    for files in (written, 2):
        assert len(storage.files(row_index.ROOT, "")) == files
        assert all(upkeep.problem_of(storage, name) == "" for name in storage.files(row_index.ROOT, ""))
        monkeypatch.setattr(row_index, "LEAST_ON_DISK", COUNT // 2)
        pd.testing.assert_frame_equal(read_rows(storage, NAMES), one_by_one)


@pytest.mark.parametrize("storage", ["folder"], indirect=True)  # where times of changes are finer than a second
def test_a_damaged_row_file_is_not_hidden_by_the_index(storage: Storage) -> None:
    read_rows(storage, NAMES)
    storage.write_bytes(row_file("001"), storage.read_bytes(row_file("000")))
    with pytest.raises(IcmBenchError, match=r"rows/001\.parquet holds rows of the trial 000"):
        read_rows(storage, NAMES)


@pytest.mark.parametrize("storage", ["folder"], indirect=True)
def test_a_store_that_is_read_only_is_read_without_an_index(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    one_by_one = by_file(storage, NAMES)

    def refused(*_: Any) -> None:
        raise IcmBenchError("read-only")

    monkeypatch.setattr(row_index, "MAX_TRIALS", 5)  # the first file of the index is refused after so many trials
    monkeypatch.setattr(Storage, "write_bytes", refused)
    pd.testing.assert_frame_equal(read_rows(storage, NAMES), one_by_one)
    assert not storage.files(row_index.ROOT, "")
