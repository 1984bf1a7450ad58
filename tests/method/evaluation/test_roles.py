"""Roles of images match the training, validation and test images of actual fits."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from benchmark.method.evaluation.cells import cells_of
from benchmark.method.evaluation.evaluation import Evaluation, FitSettings, Method
from benchmark.method.evaluation.protocols import PROTOCOLS
from benchmark.method.evaluation.roles import TEST, TRAIN, UNUSED, VALIDATION, Roles
from benchmark.method.evaluation.splits import CHOICE, IN, OUT, Split
from benchmark.method.predictors import Predictor, Problem
from benchmark.method.subspace import PROJECTIONS
from tests.method.predictors.test_reference import CLASSES, synthetic

SEEN: list[tuple[set[int], list[set[int]]]] = []  # of each fit: images that it learns from, and that it classifies


class Watching(Predictor):
    """Writes down the images that it is given: the first coordinate of an embedding is the image's number."""

    def scores(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[np.ndarray]]:
        """See `Predictor.scores`."""
        first, *others = (set(z[:, 0].astype(int).tolist()) for z in (problem.train, *problem.tests))
        SEEN.append((first, others))
        for _ in ranks:
            yield [np.tile(np.arange(CLASSES, dtype=float), (len(z), 1)) for z in problem.tests]


def images(which: np.ndarray) -> set[int]:
    return set(np.flatnonzero(which).tolist())


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize(("folds", "fold"), [(0, None), (5, 0), (5, 4)])
@pytest.mark.parametrize("name", ["held_out", "held_out_pairs", "open_class", "held_out_open_class", "in_domain"])
def test_roles_are_what_fits_get(name: str, folds: int, fold: int | None, grouped: bool) -> None:
    data, _ = synthetic(grouped=grouped)
    n, protocol = len(data.label), PROTOCOLS.create(name)
    split = Split(0, protocol.halves_apart, protocol.rounding, folds)
    rng = np.random.default_rng(1)
    side = rng.integers(5, size=n) if folds else rng.choice([IN, IN, IN, OUT, CHOICE if grouped else OUT], size=n)
    z = np.concatenate([np.arange(n)[:, None], data.z[:, 1:]], axis=1).astype(np.float32)
    data = replace(data, z=z, side={split: side})
    splits = protocol.test_splits(["out_fold"] if folds else ["out_20", "in_80", "full"])
    cells = cells_of(data.layout(split), z.astype(np.float64), {})
    evaluation = Evaluation(data, cells, FitSettings(split, "none", fold, lodo=False))
    roles, method = Roles(data, split, fold), Method(PROJECTIONS.create("identity"), Watching(), (z.shape[1],))
    for holdout in protocol.holdouts(data.environments, splits):
        SEEN.clear()
        curves = list(evaluation.curves(method, [holdout]))
        (chosen_by, validated), (learnt, tested) = SEEN[0], SEEN[-1]
        choice = roles.roles_in_selection(holdout)
        assert (len(SEEN) == 1) == roles.turn.one_fit
        assert chosen_by == images(choice == TRAIN)
        # A fit that is validated and tested classifies both; tested images are no validation images.
        validation = set().union(*validated[: 1 if holdout.validation_sources(roles.turn) else 0])
        assert validation == images(choice == VALIDATION)
        for test_split in splits:
            role = roles.roles_in_test(holdout, test_split)
            of_split = [c for c in curves if c.test_split == test_split and c.class_half in ("all", "base", "new")]
            named = set(np.concatenate([c.tested.position for c in of_split]).tolist())
            assert named == images(role == TEST) != set()
            assert named <= set().union(*tested)
            assert learnt == images(role == TRAIN)
            assert {c.n_train for c in of_split} == {(role == TRAIN).sum()}
            assert set(np.unique(role)) <= {TRAIN, TEST, UNUSED}
            assert not images(choice == TRAIN) & named
            assert not images(choice == VALIDATION) & named
