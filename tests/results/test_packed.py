"""Packed answers: written and read, equal bytes, and what is refused. All answers are made up."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark.common.errors import IcmBenchError
from benchmark.results.packed import Groups, read_packed, write_packed
from tests.performance.bench_board import made_up


def with_records(folder: Path, groups: Groups) -> Path:
    for _, entries in groups.values():
        for one in entries:
            (folder / one.record).parent.mkdir(parents=True, exist_ok=True)
            (folder / one.record).write_text(one.record)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = made_up(3, 2, 3, 100, seeds=2, bounds=1)
    write_packed(with_records(tmp_path, made), made)
    return tmp_path


def test_what_is_read_was_written(folder: Path) -> None:
    made, found = made_up(3, 2, 3, 100, seeds=2, bounds=1), read_packed(folder)
    assert list(found) == sorted(made)
    for key, (images, entries) in found.items():
        for name, array in vars(made[key][0]).items():
            assert vars(images)[name].tolist() == array.tolist(), name
        assert [one.identity for one in entries] == sorted(one.identity for one in made[key][1])
        of = {one.identity: one for one in made[key][1]}
        for one in entries:
            for name, value in vars(of[one.identity]).items():
                assert np.array_equal(vars(one)[name], value), name


def test_bits_that_are_not_answered_are_kept_apart(tmp_path: Path) -> None:
    ((key, (images, entries)),) = made_up(1, 1, 2, 40).items()
    answered = np.arange(40) % 3 > 0
    lacking = [replace(entries[0], answered=answered, correct=entries[0].correct & answered), entries[1]]
    write_packed(tmp_path, {key: (images, lacking)})
    found = {one.method: one for one in read_packed(tmp_path)[key][1]}
    assert found["Zero-shot"].answered.tolist() == answered.tolist()
    assert found["Shrinkage + zero-shot"].answered.all()


def test_equal_answers_give_equal_bytes_in_any_order_and_old_files_go(folder: Path) -> None:
    before = {file.name: file.read_bytes() for file in (folder / "packed").iterdir()}
    made = made_up(3, 2, 3, 100, seeds=2, bounds=1)
    write_packed(
        folder, {key: (images, entries[::-1]) for key, (images, entries) in sorted(made.items(), reverse=True)}
    )
    assert {file.name: file.read_bytes() for file in (folder / "packed").iterdir()} == before
    key = min(made)
    assert write_packed(folder, {key: made[key]}) == [name for name in before if name.startswith(key.dataset)]
    assert {file.name for file in (folder / "packed").iterdir()} < set(before)


def test_without_them_or_if_they_are_older_it_says_what_to_run(folder: Path, tmp_path: Path) -> None:
    again = f"run `icm-bench results check {folder}` again"
    (folder / "data/new.json").write_text("{}")
    with pytest.raises(IcmBenchError, match=re.escape(f"{folder} are older than its records; {again}")):
        read_packed(folder)
    (folder / "data/new.json").unlink()
    read_packed(folder)
    next((folder / "data").rglob("*.json")).write_text("changed")
    with pytest.raises(IcmBenchError, match="are older than its records"):
        read_packed(folder)
    with pytest.raises(IcmBenchError, match="There is no folder"):
        read_packed(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(IcmBenchError, match=r"has no packed answers; run `icm-bench results check .*empty` first\."):
        read_packed(tmp_path / "empty")


@pytest.mark.parametrize("damage", ["changed", "missing", "named outside", "version", "no index", "no json"])
def test_damaged_ones_are_refused(folder: Path, damage: str) -> None:
    index, (file, *_) = folder / "packed/index.json", sorted((folder / "packed").glob("*.parquet"))
    content = json.loads(index.read_text())
    if damage == "changed":
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    elif damage == "missing":
        file.unlink()
    elif damage == "named outside":
        content["files"] = {"../data.parquet": "0"}
    elif damage == "version":
        content["version"] = 2
    index.write_text({"no index": "[]", "no json": "{"}.get(damage) or json.dumps(content))
    what = {"version": "another version", "no index": "another version", "no json": "not valid JSON"}
    with pytest.raises(IcmBenchError, match=what.get(damage, "is missing or damaged; run `icm-bench results check")):
        read_packed(folder)


def test_two_records_of_one_entry_are_refused(tmp_path: Path) -> None:
    ((key, (images, entries)),) = made_up(1, 1, 2, 40).items()
    twice = replace(entries[0], record="data/other.json")
    with pytest.raises(IcmBenchError, match=r"data/PACS/0-0.json and data/other.json are the same entry of PACS"):
        write_packed(tmp_path, {key: (images, [*entries, twice])})
    write_packed(tmp_path, {key: (images, [*entries, replace(twice, variant="other prompts")])})
    assert len(read_packed(tmp_path)[key][1]) == 3
