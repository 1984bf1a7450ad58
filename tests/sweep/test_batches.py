"""Which trials a worker does in a row: small ones together, in order, and none of another kind of worker."""

from types import SimpleNamespace
from typing import Any

import pytest

from benchmark.recipe.specs import RunSpec
from benchmark.sweep import batches
from benchmark.sweep.batches import AROUND, ENOUGH, Batch, batches_of, one_by_one

SMALL, LARGE = AROUND, 2 * ENOUGH


def batched(
    monkeypatch: pytest.MonkeyPatch, works: list[float], samples: list[bool] | None = None, **options: Any
) -> list[Batch]:
    monkeypatch.setattr(batches, "works_of", lambda _: [work - AROUND for work in works])
    trials: Any = [SimpleNamespace(samples=s) for s in samples or [False] * len(works)]
    found = batches_of(trials, RunSpec(**options), cores=2, gpus=1)
    # Whatever the sizes, each trial is in one batch, and they come as they came.
    assert [trial for batch in found for trial in batch.of(trials)] == trials
    return found


def test_small_trials_go_together_and_large_ones_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    found = batched(monkeypatch, [SMALL] * 1000 + [LARGE] * 3 + [SMALL] * 10)
    assert found[0].count == round(ENOUGH / SMALL)
    assert [batch.count for batch in found[-4:]] == [1, 1, 1, 10]


def test_few_small_trials_are_divided_among_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [batch.count for batch in batched(monkeypatch, [SMALL] * 10)] == [5, 5]
    assert [batch.count for batch in batched(monkeypatch, [SMALL] * 10, cpus_per_trial=2)] == [10]
    assert batched(monkeypatch, []) == []


def test_trials_that_take_a_gpu_and_others_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    found = batched(monkeypatch, [SMALL] * 8, [True] * 3 + [False] * 5)
    assert [batch.count for batch in found] == [3, 4, 1]


def test_loggers_have_each_trial_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    found = batched(monkeypatch, [SMALL] * 4, loggers=["tensorboard"])
    assert found == one_by_one([None] * 4)  # type: ignore[list-item]


def test_a_batch_comes_back_from_what_tune_is_told() -> None:
    trials: Any = [SimpleNamespace(label=f"trial {number}") for number in range(5)]
    assert Batch(1, 3).config(trials)["label"] == "trial 1, and 2 more"
    assert Batch(4, 1).config(trials)["label"] == "trial 4"
    for batch in (Batch(1, 3), Batch(4, 1)):
        assert Batch.named(batch.config(trials)) == batch
