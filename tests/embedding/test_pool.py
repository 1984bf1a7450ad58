"""Who encodes: on what, how many, what is asked for and what is refused, for whatever the cluster has and may get."""

import time
from types import SimpleNamespace
from typing import Any

import pytest

from benchmark.common.errors import IcmBenchError
from benchmark.common.ray.autoscaler import most_gpus
from benchmark.embedding import pool
from benchmark.embedding.pool import Pool, pool_for
from benchmark.recipe.specs import RunSpec

CLUSTER = "127.0.0.1:6379"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that sets the GPUs which are there, one each time somebody looks, and those that may come.

    It returns the list of requests to the autoscaler.
    """

    def declare(there: list[int], allowed: int | None) -> list[int]:
        looks, asked = iter(there), list[int]()
        monkeypatch.setenv("RAY_ADDRESS", CLUSTER)
        monkeypatch.setattr(pool, "gpu_count", lambda: next(looks, there[-1]))
        monkeypatch.setattr(pool, "autoscaled_gpus", lambda: allowed)
        monkeypatch.setattr(pool, "ask_for_gpus", asked.append)
        monkeypatch.setattr(pool, "cpu_nodes", lambda: (3, 8))
        monkeypatch.setattr(pool, "time", SimpleNamespace(sleep=lambda _: None, monotonic=time.monotonic))
        return asked

    return declare


def pooled(run: dict[str, Any], work: int = 100) -> tuple[Pool, list[str]]:
    said: list[str] = []
    return pool_for(RunSpec(**run), work, said.append), said


def on_cpus(encoders: int, threads: int) -> Pool:
    return Pool(encoders, encoders, encoders, on_gpus=False, threads=threads)


@pytest.mark.parametrize(
    ("run", "there", "allowed", "expected", "asked"),
    [
        ({}, [2], 0, Pool(100, 2, 2, on_gpus=True), []),  # a node may join that nobody foresaw: hence 100 at most
        ({}, [2], 6, Pool(100, 6, 2, on_gpus=True, asked=True), [6]),
        ({}, [0, 0, 0, 1], 6, Pool(100, 6, 1, on_gpus=True, asked=True), [6]),
        ({"gpus": 3}, [0, 0, 0, 1], 6, Pool(3, 3, 1, on_gpus=True, asked=True), [3]),
        ({"gpus": 3}, [2], 0, Pool(3, 2, 2, on_gpus=True), []),
        ({"gpus": 3}, [0, 0, 0, 1], None, Pool(3, 3, 1, on_gpus=True, asked=True), [3]),
        ({"encoders_per_gpu": 3}, [2], 0, Pool(100, 6, 6, on_gpus=True, sharing=3), []),
        ({"gpus": 3, "encoders_per_gpu": 4}, [0, 1], 6, Pool(12, 12, 4, on_gpus=True, asked=True, sharing=4), [3]),
        ({"device": "gpu"}, [0, 0, 0, 1], None, Pool(100, 1, 1, on_gpus=True, asked=True), [1]),
        ({"device": "cpu"}, [2], 6, on_cpus(3, 8), []),
        ({"device": "cpu", "actors": 6}, [2], 6, on_cpus(6, 4), []),
        ({}, [0], 0, on_cpus(3, 8), []),
        ({}, [0], None, on_cpus(3, 8), []),
    ],
)
def test_what_there_is_and_what_is_asked_for(
    cluster: Any, run: dict[str, Any], there: list[int], allowed: int | None, expected: Pool, asked: list[int]
) -> None:
    requests = cluster(there, allowed)
    assert pooled(run)[0] == expected
    assert requests == asked


def test_no_more_encoders_than_chunks_and_no_more_gpus_than_they_fill(cluster: Any) -> None:
    requests = cluster([8], 64)
    assert pooled({}, work=5)[0] == Pool(5, 5, 5, on_gpus=True, asked=True)
    assert requests == [5]
    requests = cluster([1], 8)
    shared = pooled({"encoders_per_gpu": 4}, work=10)[0]
    assert shared == Pool(10, 10, 4, on_gpus=True, asked=True, sharing=4)
    assert requests == [3]
    assert shared.options["num_gpus"] == 0.25
    assert [shared.gpus(left) for left in (10, 9, 8, 5, 4, 1, 0)] == [3, 3, 2, 2, 1, 1, 0]


def test_what_is_not_as_one_hopes_is_said(cluster: Any) -> None:
    cluster([0], 0)
    assert pooled({})[1] == ["on CPUs: no node has a GPU, and no autoscaler may bring one (run.device: gpu insists)"]
    cluster([0], None)
    assert "whether one can be brought is unknown" in pooled({})[1][0]
    cluster([2], 4)
    assert pooled({"gpus": 9})[1] == ["4 GPUs: 9 are wanted, and the cluster has or may get no more"]


@pytest.mark.parametrize(
    ("run", "there", "allowed", "says"),
    [
        ({"device": "gpu"}, 0, 0, r"^run.device is gpu: no node has a GPU, and no autoscaler may bring one; give"),
        ({"gpus": 2}, 0, 0, r"^run.gpus is 2: no node has a GPU"),
        ({"actors": 3}, 2, 0, r"^run.actors: it counts encoders on CPUs, and there are 2 GPUs; leave it out"),
        ({"wait_for_gpus": 0}, 0, 4, r"^No GPU came within 0 s, of 4 that were asked of the autoscaler"),
    ],
)
def test_what_cannot_be_is_a_sentence(cluster: Any, run: dict[str, Any], there: int, allowed: int, says: str) -> None:
    requests = cluster([there], allowed)
    with pytest.raises(IcmBenchError, match=says):
        pooled(run)
    assert requests in ([], [4, 0])  # what was asked for in vain is taken back


@pytest.mark.parametrize(
    "wrong", [{"actors": 2, "gpus": 2}, {"actors": 2, "device": "gpu"}, {"device": "cpu", "gpus": 1}]
)
def test_a_recipe_says_one_thing(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"(actors|gpus): .*leave"):
        RunSpec(**wrong)


def test_what_a_configuration_allows_is_bounded_by_its_number_of_nodes() -> None:
    kinds = {
        "head": {"resources": {"CPU": 8}, "max_workers": 0},
        "cpu": {"resources": {"CPU": 8}},
        "one": {"resources": {"CPU": 8, "GPU": 1}, "max_workers": 10},
        "eight": {"resources": {"CPU": 96, "GPU": 8}, "max_workers": 2},
    }
    assert most_gpus({"max_workers": 100, "available_node_types": kinds}) == 26
    assert most_gpus({"max_workers": 5, "available_node_types": kinds}) == 8 + 8 + 3
    assert most_gpus({"max_workers": 5, "available_node_types": {"cpu": kinds["cpu"]}}) == 0
    assert most_gpus({}) == 0
