"""The runner of the benchmarks: what is below a floor is said, floors and figures belong together."""

import json

import pytest
import yaml

from tests.conftest import REPOSITORY
from tests.performance.__main__ import BENCHMARKS, FLOORS, below_floor, main

FLOORS_OF_ALL = yaml.safe_load(FLOORS.read_text(encoding="utf-8"))
SPEED = json.loads((REPOSITORY / "docs" / "speed.json").read_text(encoding="utf-8"))


def test_what_is_below_a_floor_above_a_ceiling_absent_or_failed_is_said() -> None:
    floors = {"a": {"figures": {"x": {"is": "X", "at_least": 2}, "y": {"is": "Y", "at_most": 3}, "z": {"is": "Z"}}}}
    figures = {"a": {"figures": {"x": 1.5, "y": 3.5}}, "b": {"error": "no images"}}
    assert below_floor(figures, floors) == [
        "a.x is 1.5, and must be at least 2.",
        "a.y is 3.5, and must be at most 3.",
        "a.z was not measured.",
        "b failed: no images",
    ]
    assert below_floor({"a": {"figures": {"x": 2, "y": 3, "z": 0}}}, floors) == []


def test_every_benchmark_is_run_has_a_floor_and_figures_with_a_meaning() -> None:
    files = {file.stem.removeprefix("bench_") for file in FLOORS.parent.glob("bench_*.py")}
    assert files == set(BENCHMARKS) == set(FLOORS_OF_ALL)
    for benchmark in FLOORS_OF_ALL.values():
        assert any({"at_least", "at_most"} & set(figure) for figure in benchmark["figures"].values())
    for name, result in SPEED["benchmarks"].items():
        assert set(result["figures"]) == set(FLOORS_OF_ALL[name]["figures"])


def test_the_figures_on_record_are_within_their_floors_and_name_no_machine() -> None:
    assert below_floor(SPEED["benchmarks"], FLOORS_OF_ALL) == []
    assert set(SPEED["machine"]) == {"cores", "memory_gib", "processor", "system"}
    assert "/" not in json.dumps(SPEED["machine"])


def test_an_unknown_benchmark_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["tests.performance", "embeding"])
    with pytest.raises(SystemExit):
        main()
    assert "there is no benchmark 'embeding'" in capsys.readouterr().err
