"""Encoder pool: number of encoders, devices, GPU requests and errors, by what a cluster has and may get."""

import time
from types import SimpleNamespace
from typing import Any

import pytest

from benchmark.common.errors import IcmBenchError
from benchmark.common.ray.autoscaler import max_gpus
from benchmark.embedding import pool
from benchmark.embedding.pool import Pool, pool_for
from benchmark.recipe.specs import RunSpec

CLUSTER = "127.0.0.1:6379"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that sets the GPU counts of successive looks, and the number that an autoscaler may add.

    It returns the list of requests to the autoscaler.
    """

    def declare(there: list[int], allowed: int | None) -> list[int]:
        looks, asked = iter(there), list[int]()
        monkeypatch.setenv("RAY_ADDRESS", CLUSTER)
        monkeypatch.setattr(pool, "gpu_count", lambda: next(looks, there[-1]))
        monkeypatch.setattr(pool, "autoscaled_gpus", lambda: allowed)
        monkeypatch.setattr(pool, "request_gpus", asked.append)
        monkeypatch.setattr(pool, "cpu_nodes", lambda: (3, 8))
        monkeypatch.setattr(pool, "time", SimpleNamespace(sleep=lambda _: None, monotonic=time.monotonic))
        return asked

    return declare


def pooled(run: dict[str, Any], work: int = 100) -> tuple[Pool, list[str]]:
    said: list[str] = []
    return pool_for(RunSpec(**run), work, said.append), said


def on_gpus(most: int, planned: int, initial: int, autoscaled: bool = False, per_gpu: int = 1) -> Pool:
    return Pool(most, planned, initial, on_gpus=True, autoscaled=autoscaled, encoders_per_gpu=per_gpu)


def on_cpus(encoders: int, threads: int) -> Pool:
    return Pool(encoders, encoders, encoders, on_gpus=False, threads=threads)


@pytest.mark.parametrize(
    ("run", "there", "allowed", "expected", "asked"),
    [
        ({}, [2], 0, on_gpus(100, 2, 2), []),  # further nodes may join: hence 100 at most
        ({}, [2], 6, on_gpus(100, 6, 2, autoscaled=True), [6]),
        ({}, [0, 0, 0, 1], 6, on_gpus(100, 6, 1, autoscaled=True), [6]),
        ({"gpus": 3}, [0, 0, 0, 1], 6, on_gpus(3, 3, 1, autoscaled=True), [3]),
        ({"gpus": 3}, [2], 0, on_gpus(3, 2, 2), []),
        ({"gpus": 3}, [0, 0, 0, 1], None, on_gpus(3, 3, 1, autoscaled=True), [3]),
        ({"encoders_per_gpu": 3}, [2], 0, on_gpus(100, 6, 6, per_gpu=3), []),
        ({"gpus": 3, "encoders_per_gpu": 4}, [0, 1], 6, on_gpus(12, 12, 4, autoscaled=True, per_gpu=4), [3]),
        ({"device": "gpu"}, [0, 0, 0, 1], None, on_gpus(100, 1, 1, autoscaled=True), [1]),
        ({"device": "cpu"}, [2], 6, on_cpus(3, 8), []),
        ({"device": "cpu", "actors": 6}, [2], 6, on_cpus(6, 4), []),
        ({}, [0], 0, on_cpus(3, 8), []),
        ({}, [0], None, on_cpus(3, 8), []),
    ],
)
def test_pool_and_gpu_requests_follow_the_cluster(
    cluster: Any, run: dict[str, Any], there: list[int], allowed: int | None, expected: Pool, asked: list[int]
) -> None:
    requests = cluster(there, allowed)
    assert pooled(run)[0] == expected
    assert requests == asked


def test_no_more_encoders_than_chunks_and_no_more_gpus_than_they_fill(cluster: Any) -> None:
    requests = cluster([8], 64)
    assert pooled({}, work=5)[0] == on_gpus(5, 5, 5, autoscaled=True)
    assert requests == [5]
    requests = cluster([1], 8)
    shared = pooled({"encoders_per_gpu": 4}, work=10)[0]
    assert shared == on_gpus(10, 10, 4, autoscaled=True, per_gpu=4)
    assert requests == [3]
    assert shared.options["num_gpus"] == 0.25
    assert [shared.gpus_for(left) for left in (10, 9, 8, 5, 4, 1, 0)] == [3, 3, 2, 2, 1, 1, 0]


def test_fallbacks_to_cpus_and_to_fewer_gpus_are_reported(cluster: Any) -> None:
    cluster([0], 0)
    assert pooled({})[1] == [
        "encoding on CPUs: no node has a GPU, and no autoscaler can add one (run.device: gpu requires one)"
    ]
    cluster([0], None)
    assert "the autoscaler's limit is unknown" in pooled({})[1][0]
    cluster([2], 4)
    assert pooled({"gpus": 9})[1] == ["using 4 GPUs instead of 9: the cluster cannot have more"]


@pytest.mark.parametrize(
    ("run", "there", "allowed", "says"),
    [
        ({"device": "gpu"}, 0, 0, r"^run.device is gpu: no node has a GPU, and no autoscaler can add one; add"),
        ({"gpus": 2}, 0, 0, r"^run.gpus is 2: no node has a GPU"),
        (
            {"actors": 3},
            2,
            0,
            r"^run.actors: it is the number of encoders on CPUs, and the cluster has 2 GPUs; replace it",
        ),
        ({"wait_for_gpus": 0}, 0, 4, r"^No GPU joined the cluster within 0 s; 4 were requested from the autoscaler"),
    ],
)
def test_impossible_pools_are_errors(cluster: Any, run: dict[str, Any], there: int, allowed: int, says: str) -> None:
    requests = cluster([there], allowed)
    with pytest.raises(IcmBenchError, match=says):
        pooled(run)
    assert requests in ([], [4, 0])  # a request without result is withdrawn


@pytest.mark.parametrize(
    "wrong", [{"actors": 2, "gpus": 2}, {"actors": 2, "device": "gpu"}, {"device": "cpu", "gpus": 1}]
)
def test_contradicting_keys_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"(actors|gpus): .*device: cpu"):
        RunSpec(**wrong)


def test_max_workers_bounds_the_gpus_of_a_configuration() -> None:
    kinds = {
        "head": {"resources": {"CPU": 8}, "max_workers": 0},
        "cpu": {"resources": {"CPU": 8}},
        "one": {"resources": {"CPU": 8, "GPU": 1}, "max_workers": 10},
        "eight": {"resources": {"CPU": 96, "GPU": 8}, "max_workers": 2},
    }
    assert max_gpus({"max_workers": 100, "available_node_types": kinds}) == 26
    assert max_gpus({"max_workers": 5, "available_node_types": kinds}) == 8 + 8 + 3
    assert max_gpus({"max_workers": 5, "available_node_types": {"cpu": kinds["cpu"]}}) == 0
    assert max_gpus({}) == 0
