"""The benchmark runner names each figure below its floor; floors and figures match; the simulated GPU keeps time."""

import json
import time

import numpy as np
import pyarrow as pa
import pytest
import yaml

from benchmark.embedding.batching import Part, WaitingChunk
from benchmark.embedding.chunks import DecodedChunk
from tests.conftest import REPOSITORY
from tests.performance.__main__ import BENCHMARKS, FLOORS, below_floor, main
from tests.performance.simulated_device import Device, SimulatedEncoder
from tests.stand_in import FACTS, grey_levels

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


class Clock:
    """A clock that each look advances by a microsecond, and a sleep by its seconds."""

    now = 100.0
    time = staticmethod(time.time)

    def perf_counter(self) -> float:
        self.now += 1e-6
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(("fault", "views"), [("", 20), ("wait", 20), ("padding", 512), ("unpinned", 20)])
def test_the_simulated_device_is_one_serial_queue(fault: str, views: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two batches that are queued at once end at the sums of copies and calls; faults block the launch, or add work."""
    monkeypatch.setattr("tests.performance.simulated_device.time", clock := Clock())
    device = Device(0.0001, call_s=0.01, launch_s=0.002, pinned=1e6, unpinned=1e5, fault=fault)
    encoder = type("OnDevice", (SimulatedEncoder,), {"device": device})(None, FACTS)
    pixels = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 3), np.uint8)
    chunk = DecodedChunk(0, 0b101, pa.record_batch({}), 0b101, ["", "damaged", *[""] * 9, "damaged"], pixels, 0.0)
    waiting = WaitingChunk(chunk, np.empty(0, np.float32))
    waiting.staged = encoder.stage(chunk)
    copy, call = 480 / (1e5 if fault == "unpinned" else 1e6), 0.01 + views * 0.0001
    began = clock.now
    first = encoder.launch([Part(waiting, 0, 10)])
    assert clock.now - began == pytest.approx(
        {"wait": max(copy, 0.002) + call, "unpinned": copy + 0.002}.get(fault, 0.002), abs=1e-4
    )
    second = encoder.launch([Part(waiting, 0, 10)])
    # Without a fault the second launch is hidden behind the first call; the first call begins after its launch.
    gap = 0.0 if fault in ("", "padding") else copy + 0.002 if fault == "unpinned" else max(copy, 0.002)
    assert first.end - began == pytest.approx(
        (copy + 0.002 if fault == "unpinned" else max(copy, 0.002)) + call, abs=1e-4
    )
    assert second.end - first.end == pytest.approx((gap or copy) + call, abs=1e-4)
    assert encoder.has_ended(second) == (fault == "wait")
    z, _ = encoder.collect(second)
    assert clock.now >= second.end
    assert encoder.has_ended(second)
    grey = grey_levels(pixels[chunk.readable])
    assert np.array_equal(z[:, :16], np.concatenate([grey, grey + 2]))
    assert Device(0.0001, call_s=0.01).best_rate == pytest.approx(512 / 0.0612)
