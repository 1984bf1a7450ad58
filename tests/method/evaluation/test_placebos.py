"""Placebos in an evaluation: all fits of a draw share one, and it does not use held-out data."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmark.method.arrays import Array, scaled
from benchmark.method.evaluation.cells import cells_of, paired_cells, partners
from benchmark.method.evaluation.embedded import Embedded
from benchmark.method.evaluation.evaluation import Evaluation, FitSettings, Method
from benchmark.method.evaluation.protocols import PROTOCOLS
from benchmark.method.evaluation.splits import Split
from benchmark.method.predictors import PREDICTORS
from benchmark.method.subspace import PROJECTIONS, Basis, SourceMoments
from benchmark.method.subspace.placebos import Borrowed, Matched, Rotated, Shuffled, haar
from tests.method.evaluation.test_protocols import NORMALIZE, RANKS, D, Views, poisoned, synthetic
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
    cells = cells_of(layout, z, {"view": view}) + paired_cells(layout, z, [view[partner]], (1.0,), "s")
    made = next(s for s in PROJECTIONS.create(projection).settings if s.takes_placebo).at(lambda_=2.0)

    def fit(sources: SourceMoments) -> Basis:
        fits.append((tuple(sources.environments), made.fit(sources).vectors, sources))
        return made.fit(sources)

    method = Method(Wrapped(fit), PREDICTORS.create("zero_shot"), RANKS, {"view": 1.0}, placebo)
    holdouts = PROTOCOLS.create("held_out").holdouts(data.environments, ["out_fold" if folds else "out_20"])
    evaluation = Evaluation(data, cells, FitSettings(split, NORMALIZE, 0 if folds else None))
    assert len(list(evaluation.curves(method, holdouts))) == len(data.environments)
    return fits


@pytest.mark.parametrize(("hidden", "folds"), [("target", 0), ("target", 5), ("fold", 5)])
@pytest.mark.parametrize("placebo", PLACEBOS, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("projection", ["icm", "shrinkage"])
def test_noise_in_place_of_what_is_hidden_changes_no_fit_of_a_placebo(
    projection: str, placebo: Any, hidden: str, folds: int
) -> None:
    data, views = synthetic()
    rows = data.environment == 1 if hidden == "target" else np.arange(len(data.label)) // 5 % 5 == 0
    both = (data, views), poisoned(data, views, rows)
    clean, noisy = (fits_of(*of, placebo, folds, projection) for of in both)
    pairs = [(names, a, b) for (names, a, _), (_, b, _) in zip(clean, noisy, strict=True)]
    without = [(a, b) for names, a, b in pairs if hidden == "fold" or "blue" not in names]
    assert len(without) >= 4  # of the holdout, and with each other source left out
    for mine, theirs in without:
        np.testing.assert_array_equal(mine, theirs)
    assert hidden == "fold" or any(not np.allclose(a, b) for names, a, b in pairs if "blue" in names)


def test_all_fits_of_a_draw_are_turned_by_the_same_matrix() -> None:
    fits = fits_of(*synthetic(), Rotated(0, 3), 5, "icm")
    q = haar(D, 0, 3)
    assert len({names for names, _, _ in fits}) > 4
    for _, _, sources in fits:
        np.testing.assert_allclose(q.T @ sources.c_d() @ q, sources.original_c_d(), atol=1e-12)
