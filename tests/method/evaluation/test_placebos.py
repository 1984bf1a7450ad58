"""Placebos in an evaluation: every fit of a draw has the same one, and nothing of what is held out reaches it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmark.method.arrays import Array, scaled
from benchmark.method.evaluation.cells import cells_of, partners, shuffled_cells
from benchmark.method.evaluation.embedded import Embedded
from benchmark.method.evaluation.evaluation import Evaluation, Method
from benchmark.method.evaluation.protocols import PROTOCOLS
from benchmark.method.evaluation.splits import Split
from benchmark.method.predictors import PREDICTORS
from benchmark.method.subspace import PROJECTIONS, Basis, SourceMoments
from benchmark.method.subspace.placebos import Borrowed, Matched, Rotated, Shuffled, haar
from tests.method.evaluation.test_protocols import NORMALIZE, RANKS, D, Views, synthetic
from tests.method.wrapped import Wrapped

LENT = np.diag(np.arange(1.0, D + 1))
PLACEBOS: list[Any] = [Rotated(0, 3), Matched(0, 3), Borrowed(LENT), Shuffled("s")]
Fit = tuple[tuple[str, ...], Array, SourceMoments]


def fits_of(data: Embedded, views: Views, placebo: Any, folds: int, projection: str) -> list[Fit]:
    """Every fit of a placebo: its sources, its map and its moments."""
    split, fits = Split(0, folds=folds), []
    if folds:
        data = replace(data, side={split: np.arange(len(data.label)) // 5 % folds})
    z, view = (scaled(a, NORMALIZE) for a in (data.z, views["view"]))
    layout = data.layout(split)
    partner = partners(layout, 0, 1)
    cells = cells_of(layout, z, {"view": view}) + shuffled_cells(layout, z, [view[partner]], (1.0,), "s")
    made = next(s for s in PROJECTIONS.create(projection).settings if s.takes_placebo).at(lambda_=2.0)

    def fit(sources: SourceMoments) -> Basis:
        fits.append((tuple(sources.environments), made.fit(sources).vectors, sources))
        return made.fit(sources)

    method = Method(Wrapped(fit), PREDICTORS.create("zero_shot"), RANKS, {"view": 1.0}, placebo)
    holdouts = PROTOCOLS.create("held_out").holdouts(data.environments, ["out_fold" if folds else "out_20"])
    evaluation = Evaluation(data, cells, split, NORMALIZE, 0 if folds else None)
    assert len(list(evaluation.curves(method, holdouts))) == len(data.environments)
    return fits


@pytest.mark.parametrize("folds", [0, 5])
@pytest.mark.parametrize("placebo", PLACEBOS, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("projection", ["icm", "shrinkage"])
def test_noise_in_place_of_the_target_changes_no_fit_of_a_placebo(projection: str, placebo: Any, folds: int) -> None:
    data, views = synthetic()
    rng, held_out = np.random.default_rng(8), data.environment == 1
    z, view = data.z.copy(), views["view"].copy()
    z[held_out], view[held_out] = (rng.standard_normal((held_out.sum(), D)).astype(np.float32) for _ in "zv")
    clean = fits_of(data, views, placebo, folds, projection)
    poisoned = fits_of(replace(data, z=z), {"view": view}, placebo, folds, projection)
    without = [(a, b) for (names, a, _), (_, b, _) in zip(clean, poisoned, strict=True) if "blue" not in names]
    assert len(without) >= 4  # of the holdout, and with each other source left out
    for mine, theirs in without:
        np.testing.assert_array_equal(mine, theirs)
    assert any(not np.allclose(a, b) for (n, a, _), (_, b, _) in zip(clean, poisoned, strict=True) if "blue" in n)


@pytest.mark.parametrize("placebo", [Shuffled("s"), Matched(0, 3)])
def test_noise_in_place_of_the_tested_fold_changes_no_fit_of_a_placebo(placebo: Any) -> None:
    data, views = synthetic()
    fold = np.arange(len(data.label)) // 5 % 5 == 0
    z, view = data.z.copy(), views["view"].copy()
    z[fold], view[fold] = (np.random.default_rng(8).standard_normal((fold.sum(), D)) for _ in "zv")
    clean = fits_of(data, views, placebo, 5, "shrinkage")
    for (_, mine, _), (_, theirs, _) in zip(
        clean, fits_of(replace(data, z=z), {"view": view}, placebo, 5, "shrinkage"), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)


def test_all_fits_of_a_draw_are_turned_by_the_same_matrix() -> None:
    fits = fits_of(*synthetic(), Rotated(0, 3), 5, "icm")
    q = haar(D, 0, 3)
    assert len({names for names, _, _ in fits}) > 4
    for _, _, sources in fits:
        np.testing.assert_allclose(q.T @ sources.c_d() @ q, sources.real_c_d(), atol=1e-12)


def test_a_placebo_gives_other_answers_than_the_real_one() -> None:
    real, rotated = (fits_of(*synthetic(), placebo, 0, "shrinkage") for placebo in (None, Rotated(0, 3)))
    assert not np.allclose(real[0][1], rotated[0][1])
