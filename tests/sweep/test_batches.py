"""Which trials a worker does in a row: small ones together, in order, and none of another kind of worker."""

from types import SimpleNamespace
from typing import Any

import pytest

from benchmark.recipe.specs import RunSpec
from benchmark.sweep import batches
from benchmark.sweep.batches import MIN_BATCH, PER_TRIAL, Batch, batches_of, one_by_one

SMALL, LARGE = PER_TRIAL, 2 * MIN_BATCH


def batched(
    monkeypatch: pytest.MonkeyPatch,
    works: list[float],
    samples: list[bool] | None = None,
    sums: list[int] | None = None,
    folds: int = 0,
    **options: Any,
) -> list[Batch]:
    monkeypatch.setattr(batches, "works_of", lambda _: [work - PER_TRIAL for work in works])
    spec = SimpleNamespace(folds=folds, predictor=SimpleNamespace(uses_training_images=False), protocol="held_out")
    seen = zip(samples or [False] * len(works), sums or range(len(works)), strict=True)
    trials: Any = [SimpleNamespace(samples=s, sums=of, shares=(), spec=spec) for s, of in seen]
    found = batches_of(trials, RunSpec(**options), cores=2, gpus=1)
    # Whatever the sizes, each trial is in one batch with its neighbours, and no batch is larger than the one before it.
    assert [trial for batch in sorted(found, key=lambda b: b.first) for trial in batch.of(trials)] == trials
    sizes = [sum(works[batch.first : batch.first + batch.count]) for batch in found]
    assert options.get("loggers") or sizes == sorted(sizes, reverse=True)
    return found


def test_small_trials_go_together_and_large_ones_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    found = batched(monkeypatch, [SMALL] * 1000 + [LARGE] * 3 + [SMALL] * 10)
    assert [batch.count for batch in found[:3]] == [1, 1, 1]
    assert found[3].count == round(MIN_BATCH / SMALL)
    assert found[-1].count <= 10


def test_few_small_trials_are_divided_among_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [batch.count for batch in batched(monkeypatch, [SMALL] * 10)] == [5, 5]
    assert [batch.count for batch in batched(monkeypatch, [SMALL] * 10, cpus_per_trial=2)] == [10]
    assert batched(monkeypatch, []) == []


def test_trials_that_take_a_gpu_and_others_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    found = batched(monkeypatch, [SMALL] * 8, [True] * 3 + [False] * 5)
    assert [batch.count for batch in found] == [4, 3, 1]


def test_large_trials_of_folds_from_the_same_moments_go_together_up_to_what_falls_to_a_core(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    works, sums = [LARGE] * 8, [0, 0, 0, 0, 0, 1, 1, 2]
    found = [batched(monkeypatch, works, sums=sums, folds=folds) for folds in (5, 0)]
    assert [[batch.count for batch in of_one] for of_one in found] == [[4, 2, 1, 1], [1] * 8]


def test_loggers_have_each_trial_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    found = batched(monkeypatch, [SMALL] * 4, loggers=["tensorboard"])
    assert found == one_by_one([None] * 4)  # type: ignore[list-item]


def test_a_batch_comes_back_from_what_tune_is_told() -> None:
    trials: Any = [SimpleNamespace(label=f"trial {number}") for number in range(5)]
    assert Batch(1, 3).config(trials)["label"] == "trial 1, and 2 more"
    assert Batch(4, 1).config(trials)["label"] == "trial 4"
    for batch in (Batch(1, 3), Batch(4, 1)):
        assert Batch.named(batch.config(trials)) == batch
