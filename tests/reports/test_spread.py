"""Rank curves and explorer of the page, by hand. All rows are synthetic."""

from typing import Any

import numpy as np

from reports.spread import Spread
from tests.reports.synthetic import frame, row


def test_all_but_rank_and_kind_is_chosen_by_the_source_score_alone() -> None:
    rows = frame(
        [
            row(held_out="a", projection="icm", target=[0.1, 0.2, 0.3], lodo=[0.5, 0.6, 0.7], lambda_=1.0),
            row(held_out="a", projection="icm", target=[0.9, 0.8, 0.7], lodo=[0.4, 0.6, 0.9], lambda_=1.0),
        ]
    )
    score, accuracy = Spread(rows, ["a"]).chosen("lodo", np.zeros(2, dtype=np.int64), 1)
    np.testing.assert_allclose(score[0, 0], [0.5, 0.6, 0.9])
    np.testing.assert_allclose(accuracy[0, 0], [0.1, 0.2, 0.7])  # of equals the first


def test_folds_weigh_by_their_images_and_seeds_alike() -> None:
    shared: dict[str, Any] = {"projection": "icm", "folds": 2}
    rows = frame(
        [
            row(held_out="a", seed=0, fold=0, n_test=100, target=[0.5], **shared),
            row(held_out="a", seed=0, fold=1, n_test=300, target=[0.9], **shared),
            row(held_out="a", seed=1, fold=0, n_test=100, target=[0.2], **shared),
            row(held_out="a", seed=1, fold=1, n_test=100, target=[0.4], **shared),
        ]
    )
    _, accuracy = Spread(rows, ["a"]).chosen("lodo", np.zeros(4, dtype=np.int64), 1)
    np.testing.assert_allclose(accuracy[0, 0], [((0.5 + 3 * 0.9) / 4 + 0.3) / 2])


def test_a_point_without_the_rows_of_all_tests_has_no_number() -> None:
    rows = frame(
        [
            row(held_out="a", seed=0, projection="icm", target=[0.5], lambda_=1.0),
            row(held_out="a", seed=1, projection="icm", target=[0.5], lambda_=1.0),
            row(held_out="a", seed=0, projection="icm", target=[0.5], lambda_=3.0),
        ]
    )
    _, accuracy = Spread(rows, ["a"]).chosen("lodo", np.array([0, 0, 1]), 2)
    assert accuracy[0, 0, 0] == 0.5
    assert np.isnan(accuracy[0, 1, 0])
