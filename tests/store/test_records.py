"""Records of runs: what is written is read, earlier ones too, and a damaged one is named."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.store.records import (
    RunRecord,
    add_imported,
    read_record,
    record_file,
    record_files,
    report_folder,
    write_record,
)

RECIPE_HASH = "ab" * 32
RECORD = RunRecord("demo", {"name": "demo", "seeds": [0]}, RECIPE_HASH, ["trial 1", "trial 2"], planned=5)


def test_a_record_of_each_state_of_data_and_weights(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    files = sorted(record_file(RECIPE_HASH, [["data", weights]]) for weights in ("one", "two"))
    for file in files:
        write_record(storage, file, RECORD)
        assert read_record(storage, file) == RECORD
    write_record(storage, files[0], replace(RECORD, imported={"test of a method": "id"}))
    assert read_record(storage, files[0]).imported == {"test of a method": "id"}
    assert record_files(storage, RECIPE_HASH) == files
    assert record_files(storage, "cd" * 32) == []


def test_reports_of_other_recipes_inputs_and_kinds_lie_apart() -> None:
    folders = [report_folder("demo", RECIPE_HASH, "12" * 32, *kind) for kind in ((), ("diagnostics",))]
    assert folders == ["reports/demo-abababab-12121212", "reports/demo-abababab-diagnostics-12121212"]


def test_a_record_that_does_not_say_how_many_trials_were_planned(tmp_path: Path) -> None:
    content = {"name": "demo", "recipe": {}, "recipe_hash": RECIPE_HASH, "trials": ["a", "b"]}
    storage, file = Storage(str(tmp_path)), f"runs/{RECIPE_HASH[:32]}/old.json"
    storage.write_bytes(file, json.dumps(content).encode())
    read = read_record(storage, file)
    assert (read.planned, read.imported) == (2, {})
    storage.write_bytes(file, json.dumps({**content, "imported": {"a test": "its rows", "another": "an id"}}).encode())
    write_record(storage, file, replace(RECORD, trials=["c"]))  # earlier versions kept there what was imported
    add_imported(storage, file, {"another": "a later id"})
    read = read_record(storage, file)
    assert (read.trials, read.imported) == (["c"], {"a test": "its rows", "another": "a later id"})


@pytest.mark.parametrize("content", ["{", "[]", '{"name": "demo"}'])
def test_a_damaged_record_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(IcmBenchError, match=r"bad\.json is damaged.*delete it and run again"):
        read_record(Storage(str(tmp_path)), "bad.json")
