"""DomainBed's splits against an independent implementation and examples computed by hand."""

import hashlib

import numpy as np
import pytest

from benchmark.method.evaluation.splits import CHOICE, IN, OUT, Split, out_split, sides, split_seed, turn_of


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
    mask = sides(environment, None, Split(0), environment > 3) == OUT
    for index, n in enumerate([10, 10, 23]):
        assert set(np.flatnonzero(mask[environment == index])) == set(the_rule(n, 0, index))


def test_a_group_is_on_the_same_side_in_every_environment() -> None:
    concepts = [f"concept-{i}" for i in range(30)]
    environment = np.repeat([0, 1, 2], 30)
    group = concepts + concepts[::-1] + concepts
    side = sides(environment, group, Split(3), environment > 3)
    of_side = {s: {g for g, here in zip(group, side, strict=True) if here == s} for s in (IN, OUT, CHOICE)}
    assert [len(of_side[s]) for s in (IN, OUT, CHOICE)] == [24, 3, 3]  # of int(30 * 0.2), a half each
    assert set.union(*of_side.values()) == set(concepts)
    order = list(range(30))
    np.random.RandomState(int(hashlib.md5(b"(3, 'group')").hexdigest(), 16) % 2**31).shuffle(order)
    assert of_side[OUT] | of_side[CHOICE] == {sorted(concepts)[i] for i in order[:6]}
    other = sides(environment, group, Split(4), environment > 3)
    assert (other != side).any()


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("folds", [3, 5])
def test_every_image_or_group_is_out_exactly_once(folds: int, grouped: bool) -> None:
    environment = np.repeat([0, 1, 2], [40, 40, 23])
    group = [f"g{i % 21}" for i in range(103)] if grouped else None
    side = sides(environment, group, Split(1, folds=folds), environment > 3)
    assert set(side) == set(range(folds))
    for index in () if grouped else range(3):
        sizes = np.bincount(side[environment == index])
        assert sizes.max() - sizes.min() <= 1
    if group:
        for name in set(group):
            assert len({s for s, g in zip(side, group, strict=True) if g == name}) == 1
    times = np.zeros(103, dtype=int)
    for fold in range(folds):
        turn = turn_of(Split(1, folds=folds), fold, grouped)
        (tested,) = turn.tested["out_fold"]
        times += side == tested
        # Tested images score no choice and are in no fit; validation images are in the tested fit alone.
        crossed = turn_of(Split(1, folds=folds), fold, grouped, crossed=True)
        assert turn.validation == crossed.validations[0]  # that of the next fold
        assert (turn.fitted, turn.tested) == (crossed.fitted, crossed.tested)
        assert sorted(j for one in crossed.validations for j in one.sides) == sorted(turn.fitted)
        for one in crossed.validations:
            assert not turn.tested["out_fold"] & (one.sides | one.left_out_sides | one.learned | turn.fitted)
            assert not one.sides & one.learned
            assert turn.fitted == one.learned | one.sides
    assert (times == 1).all()
    again = sides(environment, group, Split(2, folds=folds), environment > 3)
    assert (again != side).any()


@pytest.mark.parametrize("n", [10, 175, 2048, 9736])
def test_the_first_of_five_folds_is_domainbeds_out_split(n: int) -> None:
    side = sides(np.zeros(n, dtype=np.int64), None, Split(2, folds=5), np.zeros(n, dtype=bool))
    assert set(np.flatnonzero(side == 0)) == set(the_rule(n, 2, 0))


def test_groups_that_choose_are_not_those_that_are_tested() -> None:
    for split, fold in ((Split(0, folds=5), None), (Split(0, folds=5), 5), (Split(0), 0)):
        with pytest.raises(ValueError, match=rf"a split of {split.folds} folds has no fold {fold}"):
            turn_of(split, fold, grouped=False)
    turn = turn_of(Split(0), None, grouped=True)
    assert turn.validation.sides == turn.validation.left_out_sides == {CHOICE}
    assert turn.tested["out_20"] == {OUT}
    plain = turn_of(Split(0), None, grouped=False)
    assert plain.validation.sides == {OUT}
    assert plain.validation.left_out_sides == {IN}
    assert plain.one_fit


def test_base_and_new_classes_are_split_apart_where_the_released_code_does() -> None:
    """Seeds of the texts (trial_seed, environment_index, 'base') and (..., 'open'), each half shuffled by itself."""
    environment = np.repeat([0, 1], [40, 23])
    new = np.random.default_rng(0).random(63) < 0.4
    mask = sides(environment, None, Split(2, halves_apart=True), new) == OUT
    for index in (0, 1):
        for half, word in ((~new, "base"), (new, "open")):
            rows = np.flatnonzero((environment == index) & half)
            seed = int(hashlib.md5(f"(2, {index}, '{word}')".encode()).hexdigest(), 16) % 2**31
            order = list(range(len(rows)))
            np.random.RandomState(seed).shuffle(order)
            assert set(np.flatnonzero(mask[rows])) == set(order[: int(len(rows) * 0.2)])
