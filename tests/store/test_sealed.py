"""Files with digests over their bytes: each bit of JSON counts, and files of earlier versions, without one, are read."""

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmark.cli import main
from benchmark.common.storage.files import Storage
from benchmark.store import costs, records, rows, upkeep
from benchmark.store.costs import Cost
from benchmark.store.records import RunRecord
from benchmark.store.sealed import DamagedError, sealed_json, sealed_parquet


def flipped(content: bytes, bit: int) -> bytes:
    """Return a file with one bit changed."""
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def json_files(storage: Storage) -> dict[str, Callable[[], object]]:
    """Every kind of JSON with a digest, and what reads it."""
    record = records.record_file("ab" * 32, ["inputs"])
    records.write_record(storage, record, RunRecord("x", {}, "ab" * 32, ["a trial"], 1, {"a test": "its rows"}))
    (imported,) = storage.files(record.removesuffix(".json"), ".json")
    rows.write_failure(storage, "trial", "in words", "because", "")
    costs.remember([storage], [Cost(("trial",), 2.0, 3.0)])
    (measured,) = storage.files(costs.ROOT, "")
    return {
        record: lambda: records.read_record(storage, record).trials,
        imported: lambda: records.read_record(storage, record).imported,
        rows.failure_file("trial"): lambda: rows.failures(storage, ["trial"])["trial"],
        measured: lambda: costs.read(storage),
    }


def test_any_bit_of_json_that_flips_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    storage = Storage(str(tmp_path))
    for name, read in json_files(storage).items():
        said, content = read(), storage.read_bytes(name)
        key = 8 * content.index(b'"sha256": "icm-bench')
        for bit in (*range(key, key + 8 * 28), *random.Random(0).sample(range(8 * len(content)), 100)):
            (tmp_path / name).write_bytes(flipped(content, bit))
            assert upkeep.problem_of(storage, name), (name, bit)
        assert main(["store", "verify", "--json", "--store", str(tmp_path)]) == 2
        assert [n for d in json.loads(capsys.readouterr().out) for n in d["damaged"]] == [name]
        if name.startswith(records.ROOT):
            with pytest.raises(DamagedError, match=rf"{name} is"):
                read()
        else:
            assert read() != said
        (tmp_path / name).write_bytes(content)
        assert read() == said


def test_json_of_an_earlier_version_has_no_digest_and_is_read(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    for name, read in json_files(storage).items():
        said = read()
        content = {key: value for key, value in json.loads(storage.read_bytes(name)).items() if key != "sha256"}
        storage.write_bytes(name, json.dumps(content).encode())
        assert read() == said


def test_digests_are_over_all_bytes_with_zeros_in_their_own_place() -> None:
    for content in (sealed_json({"a": 1}), sealed_parquet(pa.table({"a": [1]}))):
        at = content.index(b"icm-bench-sha256:") + 17
        zeroed = content[:at] + b"0" * 64 + content[at + 64 :]
        assert content[at : at + 64].decode() == hashlib.sha256(zeroed).hexdigest()
        assert pq.read_table(pa.BufferReader(content))["a"].to_pylist() == [1] if content[:4] == b"PAR1" else True
