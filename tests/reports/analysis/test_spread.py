"""Rank curves, explorer and spectra against hand-computed values. All rows are synthetic."""

from typing import Any

import numpy as np
import pytest

from reports.analysis.spans import Spread
from reports.figures.spectrum import panels
from tests.reports.synthetic import frame, only, row

ICM: dict[str, Any] = {"projection": "icm", "order": "largest", "intervention_set": "all"}
FOLDS: dict[str, Any] = {"folds": 2, "test_split": "out_fold", "lambda_": 1.0}


def test_rank_curves_select_other_settings_by_source_score() -> None:
    curves = [([0.1, 0.2, 0.3], [0.5, 0.6, 0.7]), ([0.9, 0.8, 0.7], [0.4, 0.6, 0.9])]
    rows = frame([row(held_out="a", projection="icm", target=target, lodo=lodo) for target, lodo in curves])
    score, accuracy = Spread(rows, ["a"]).chosen("lodo", np.zeros(2, dtype=np.int64), 1)
    np.testing.assert_allclose(score[0, 0], [0.5, 0.6, 0.9])
    np.testing.assert_allclose(accuracy[0, 0], [0.1, 0.2, 0.7])  # of equals the first


def test_folds_are_weighted_by_images_and_seeds_equally() -> None:
    keys = [("a", 0, 0, 100, 0.5), ("a", 0, 1, 300, 0.9), ("a", 1, 0, 100, 0.2), ("a", 1, 1, 100, 0.4),
            ("b", 0, 0, 100, 0.6)]  # fmt: skip
    rows = frame([row(held_out=h, seed=s, fold=f, n_test=n, target=[x], folds=2) for h, s, f, n, x in keys])
    _, accuracy = Spread(rows, ["a", "b"]).chosen("lodo", np.zeros(5, dtype=np.int64), 1)
    np.testing.assert_allclose(accuracy[:, 0, 0], [((0.5 + 3 * 0.9) / 4 + 0.3) / 2, 0.6])  # b has one seed alone


def test_a_point_needs_rows_of_all_tests() -> None:
    settings = [(0, 1.0), (1, 1.0), (0, 3.0)]
    rows = frame([row(held_out="a", seed=s, projection="icm", target=[0.5], lambda_=x) for s, x in settings])
    _, accuracy = Spread(rows, ["a"]).chosen("lodo", np.array([0, 0, 1]), 2)
    assert accuracy[0, 0, 0] == 0.5
    assert np.isnan(accuracy[0, 1, 0])


@pytest.mark.parametrize(
    ("rows", "lines"),
    [
        ([row(**ICM, lambda_=1.0, spectrum=[3.0, 1.0]), row(**ICM, lambda_=1.0, spectrum=[5.0, -1.0], seed=1),
          row(**ICM, lambda_=10.0, spectrum=[2.0, -8.0]), row(projection="pca", spectrum=[6.0, 2.0])],
         [(1.0, [4.0, 0.0]), (10.0, [2.0, -8.0]), (None, [6.0, 2.0])]),
        ([row(**ICM, **FOLDS, fold=fold, spectrum=values) for fold, values in enumerate(([3.0, 1.0], [1.0, 0.0]))],
         [(1.0, [2.0, 0.5])]),
        ([row(projection="icm", order="released", lambda_=1.0, spectrum=[-1.0, 0.5, 3.0])], [(1.0, [3.0, 0.5, -1.0])]),
    ],
    ids=["by lambda", "over folds", "released order"],
)  # fmt: skip
def test_spectra_are_averaged_and_largest_first(rows: list[dict[str, Any]], lines: list[Any]) -> None:
    found = panels(only(rows)[1], "lodo")
    assert [(x, line.tolist()) for of in found.values() for x, line in of.lines.items()] == lines
