"""Two runs at one store at the same moment, while its files are looked after: each ends as one that was alone."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from benchmark.cli import main
from tests.conftest import Fork, make_toy

KEPT = ("embeddings", "texts", "rows", "tested", "images", "runs", "out")


def contents(folder: Path, out: Path) -> dict[str, Any]:
    """All that runs leave but measurements of time and times of change: name -> bytes, or the data of a record."""
    files = [(folder / root).rglob("*.*") for root in KEPT if root != "out"]
    named = {f.relative_to(folder).as_posix(): f for of_root in files for f in of_root if f.name != "speed.json"}
    named |= {f"out/{f.relative_to(out).as_posix()}": f for f in out.rglob("*.*") if f.name != "made.json"}
    records = {name: json.loads(named[name].read_bytes()) for name in named if name.startswith("runs/")}
    assert records
    assert all(record.pop("done") and record.pop("sha256") for record in records.values())
    return {name: file.read_bytes() for name, file in named.items()} | records


@pytest.mark.long("two runs at one store, or one beside `store clean`, take away what the other needs")
def test_two_runs_at_one_store_beside_clean_and_repair_end_as_one_that_was_alone(
    fork: Fork, tmp_path: Path, tiny_random: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    content = {
        "name": "two",
        "datasets": [{"name": "toy", "root": str(make_toy(tmp_path / "toy", 3, 2, 30))}],
        "backbones": [tiny_random],
        "interventions": {"kinds": ["grayscale"]},
        "sweep": {"projections": ["identity", "icm"], "predictors": ["zero_shot"], "lambdas": [1], "ranks": [4, 16]},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(content))

    def start(store: str, out: str) -> Any:
        where = ("--store", tmp_path / store, "--out", tmp_path / out)
        return fork("tests.forked", "benchmark.cli", "run", tmp_path / "recipe.yaml", *where)

    code, said = start("alone", "out").wait(timeout=240)
    assert code == 0, said
    (tmp_path / "shared").mkdir()
    runs = [start("shared", out) for out in ("one", "two")]
    looked = 0
    while any(run.is_running for run in runs):
        for action in ("repair", "clean"):
            assert main(["store", action, "--store", str(tmp_path / "shared")]) == 0
            assert "0 files and directories removed" in capsys.readouterr().out
        looked += 1
        time.sleep(0.1)
    for run in runs:
        code, said = run.wait(timeout=240)
        assert code == 0, said
    assert looked > 1
    expected = contents(tmp_path / "alone", tmp_path / "out")
    for out in ("one", "two"):
        found = contents(tmp_path / "shared", tmp_path / out)
        assert found.keys() == expected.keys()
        assert [name for name in found if found[name] != expected[name]] == []
    assert main(["store", "verify", "--store", str(tmp_path / "shared")]) == 0
