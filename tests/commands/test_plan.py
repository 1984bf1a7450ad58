"""A plan's times follow from what its store, this machine or a reference machine measured, and it says which."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmark.cli import main
from benchmark.commands.estimate import MACHINE, REFERENCE, STORE, Estimate, Known, in_words
from benchmark.common.storage import Storage
from benchmark.store.costs import Cost, as_json, on_this_machine, read, remember
from tests.conftest import REPOSITORY
from tests.test_cli import write_recipe

KIND = ("trial", "zero_shot", "icm")


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICM_BENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def store(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "store"))


def test_the_store_comes_before_the_machine_and_this_before_the_reference(
    store: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = [Cost(KIND, 1e9, 9.0, "a processor"), Cost((*KIND, "large"), 1e13, 7.0, "a processor")]
    monkeypatch.setattr("benchmark.commands.estimate.of_reference", lambda: elsewhere)
    assert Known.here(store).or_elsewhere().find(KIND, 2e9, 2) == (18.0, f"{REFERENCE} (a processor)")
    remember([on_this_machine()], [Cost(KIND, 1e9, 5.0)])
    assert Known.here(store).or_elsewhere().find(KIND, 2e9, 2) == (10.0, MACHINE)
    remember([store], [Cost(KIND, 1e9, 3.0)])
    assert Known.here(store).or_elsewhere().find(KIND, 2e9, 2) == (6.0, STORE)
    # Ten thousand times as much: what was measured there is the better guide.
    assert Known.here(store).or_elsewhere().find(KIND, 1e13, 2) == (7.0, f"{REFERENCE} (a processor)")
    assert Known.here(store).find(("trial", "linear_probe"), 1.0, 2) is None


@pytest.mark.usefixtures("local_ray")
def test_a_plan_is_about_as_long_as_the_run_that_went_before(
    tmp_path: Path, toy_root: Path, tiny_random: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path, toy_root, tiny_random)
    assert main(["plan", recipe, "--json"]) == 0
    before = json.loads(capsys.readouterr().out)["estimate"]
    assert "embedding" not in before["stages"]
    assert any(kind.startswith("embedding tiny") for kind in before["unknown"])
    assert main(["run", recipe]) == 0
    capsys.readouterr()
    assert main(["plan", recipe, "--json"]) == 0
    after = json.loads(capsys.readouterr().out)["estimate"]
    assert list(after["stages"]) == ["start", "embedding", "moments", "trials", "report"]
    assert (after["unknown"], list(after["by"])) == ([], [STORE])
    measured = {c.kind: c for c in read(Storage(str(tmp_path / "store")))}
    assert after["stages"]["report"] == pytest.approx(measured["report",].seconds)
    trials = sum(c.seconds for kind, c in measured.items() if kind[0] == "trial")
    assert after["core_hours"] * 3600 == pytest.approx(trials)
    assert main(["plan", recipe]) == 0
    said = capsys.readouterr().out
    assert "measured: 100% in this store" in said
    assert "GiB of memory at most" in said


def test_calibration_measures_what_nobody_did_and_nothing_twice(
    tmp_path: Path, toy_root: Path, tiny_random: dict[str, Any], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("benchmark.commands.estimate.of_reference", list)
    recipe = write_recipe(tmp_path, toy_root, tiny_random)
    assert main(["plan", recipe, "--calibrate", "--json"]) == 0
    said = capsys.readouterr()
    assert "calibrating tiny" in said.err
    planned = json.loads(said.out)
    assert planned["estimate"]["core_hours"] > 0
    assert planned["backbones"][0]["views_per_s"] > 0
    assert not [kind for kind in planned["estimate"]["unknown"] if kind.startswith(("trial", "embedding"))]
    assert main(["plan", recipe, "--calibrate", "--json"]) == 0
    said = capsys.readouterr()
    assert "calibrating" not in said.err
    assert json.loads(said.out) == planned


def test_what_is_dear_is_said_where_there_is_something_else() -> None:
    estimate = Estimate({"trials": 7200.0}, 4.0, 2, {STORE: 7200.0}, ["report"], {"linear_probe": 0.8})
    first, second, third = estimate.text()
    assert first == "about 2.0 h on 2 cores: trials 2.0 h; measured: 100% in this store"
    assert second == "trials: 4 core-hours; 80% less without linear_probe"
    assert third.startswith("not in it, for nobody measured it: report;")
    assert [in_words(s) for s in (4.4, 100, 7000)] == ["4 s", "2 min", "1.9 h"]


def test_the_reference_that_comes_along_is_of_all_stages() -> None:
    from benchmark.commands.estimate import of_reference

    kinds = {cost.kind[0] for cost in of_reference()}
    assert kinds >= {"start", "moments", "first trial", "between trials", "trial", "report"}
    assert as_json(of_reference())


def test_a_price_of_an_hour_is_that_of_the_gpu_hours_at_the_assumed_speeds(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = str(REPOSITORY / "jobs" / "recipes" / "paper.yaml")
    assert main(["plan", recipe, "--price", "2.5"]) == 0  # nothing of it is at hand, nothing is downloaded
    said = capsys.readouterr().out
    # Half of the passes at 1,000 views/s, the other half at 300.
    hours = 11_352_186 / 2 * (1 / 1000 + 1 / 300) / 3600
    assert f"embedding: {hours:.2f} GPU hours at the assumed speeds; {2.5 * hours:.2f} at 2.5 an hour\n" in said
    two = "backbones=[{name: ViT-B-16, pretrained: openai}, {name: RN50, pretrained: openai}]"
    assert main(["plan", recipe, "--set", two]) == 0
    assert "GPU hours at the assumed speeds, without RN50 openai, whose speed is not known\n" in capsys.readouterr().out
