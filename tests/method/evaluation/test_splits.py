"""DomainBed's splits against a statement of the rule from scratch, and against examples computed by hand."""

import hashlib

import numpy as np
import pytest

from benchmark.method.evaluation.splits import Split, out_mask, out_split, split_seed


def the_rule(n: int, trial_seed: int, environment_index: int) -> list[int]:
    """From scratch: MD5 of the tuple's text, modulo 2^31, seeds a legacy shuffle; its first fifth is out."""
    text = "(" + str(trial_seed) + ", " + str(environment_index) + ")"
    seed = int(hashlib.md5(text.encode()).hexdigest(), 16) % 2**31
    keys = list(range(n))
    np.random.RandomState(seed).shuffle(keys)
    return keys[: int(n * 0.2)]


@pytest.mark.parametrize(
    ("trial_seed", "environment", "expected"), [(0, 0, 894182419), (0, 1, 1514274641), (1, 3, 1739848239)]
)
def test_seeds_computed_by_hand(trial_seed: int, environment: int, expected: int) -> None:
    assert split_seed(trial_seed, environment) == expected


@pytest.mark.parametrize(
    ("n", "trial_seed", "environment", "expected"),
    [(10, 0, 0, [2, 3]), (10, 0, 1, [5, 0]), (20, 1, 3, [5, 2, 8, 1])],
)
def test_out_splits_computed_by_hand(n: int, trial_seed: int, environment: int, expected: list[int]) -> None:
    assert out_split(n, split_seed(trial_seed, environment)) == expected


@pytest.mark.parametrize("n", [1, 4, 5, 175, 2048, 9736])
@pytest.mark.parametrize("trial_seed", [0, 1, 2, 17])
def test_every_key_equals_the_rule(n: int, trial_seed: int) -> None:
    for environment in range(6):
        assert out_split(n, split_seed(trial_seed, environment)) == the_rule(n, trial_seed, environment)


def test_mask_places_each_environments_split_among_its_own_images() -> None:
    environment = np.repeat([0, 1, 2], [10, 10, 23])
    mask = out_mask(environment, None, Split(0), environment > 3)
    for index, n in enumerate([10, 10, 23]):
        assert set(np.flatnonzero(mask[environment == index])) == set(the_rule(n, 0, index))


def test_a_group_is_on_the_same_side_in_every_environment() -> None:
    concepts = [f"concept-{i}" for i in range(30)]
    environment = np.repeat([0, 1, 2], 30)
    group = concepts + concepts[::-1] + concepts
    mask = out_mask(environment, group, Split(3), environment > 3)
    out = {g for g, is_out in zip(group, mask, strict=True) if is_out}
    inside = {g for g, is_out in zip(group, mask, strict=True) if not is_out}
    assert not out & inside
    assert len(out) == 6  # int(30 * 0.2)
    assert mask.sum() == 18


def test_another_trial_seed_gives_another_split() -> None:
    environment = np.zeros(100, dtype=np.int64)
    masks = [out_mask(environment, None, Split(seed), environment > 0) for seed in (0, 1)]
    assert (masks[0] != masks[1]).any()


def test_base_and_new_classes_are_split_apart_where_the_released_code_does() -> None:
    """Seeds of the texts (trial_seed, environment_index, 'base') and (..., 'open'), each half shuffled by itself."""
    environment = np.repeat([0, 1], [40, 23])
    new = np.random.default_rng(0).random(63) < 0.4
    mask = out_mask(environment, None, Split(2, halves_apart=True), new)
    for index in (0, 1):
        for half, word in ((~new, "base"), (new, "open")):
            rows = np.flatnonzero((environment == index) & half)
            seed = int(hashlib.md5(f"(2, {index}, '{word}')".encode()).hexdigest(), 16) % 2**31
            order = list(range(len(rows)))
            np.random.RandomState(seed).shuffle(order)
            assert set(np.flatnonzero(mask[rows])) == set(order[: int(len(rows) * 0.2)])
