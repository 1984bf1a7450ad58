"""Subsets of pairs: images whose views are used, and sums over them."""

import numpy as np
import pytest

from benchmark.method.evaluation.cells import Layout, cells_of, drawn_pairs, paired_cells


def layout(n: int, seed: int = 0) -> Layout:
    rng = np.random.default_rng(seed)
    environment = np.sort(rng.choice(4, size=n, p=[0.55, 0.25, 0.15, 0.05]))
    return Layout(environment, rng.integers(9, size=n), rng.integers(5, size=n), 9, 4)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.37, 1.0])
def test_a_share_is_one_of_every_class_environment_and_of_the_whole(share: float) -> None:
    of = layout(3000)
    drawn = drawn_pairs(of, share, seed=0)
    assert abs(drawn.sum() - share * 3000) <= 8  # 36 classes of environments, each rounded for itself
    for environment in range(4):
        here = of.environment == environment
        assert abs(drawn[here].sum() - share * here.sum()) <= 3
        for label in range(9):
            rows = here & (of.label == label)
            assert abs(drawn[rows].sum() - share * rows.sum()) < 1


def test_shares_are_nested_and_the_draw_is_that_of_its_seed_whatever_the_sides() -> None:
    of = layout(2000)
    few, some, all_ = (drawn_pairs(of, share, 3) for share in (0.01, 0.1, 1.0))
    assert all_.all()
    assert not (few & ~some).any()
    assert few.any()
    np.testing.assert_array_equal(some, drawn_pairs(Layout(of.environment, of.label, of.side * 0, 9, 2), 0.1, 3))
    other = drawn_pairs(of, 0.1, 4)
    assert 0.02 < (some & other).sum() / some.sum() < 0.3  # as many as chance has it: a tenth


def test_every_image_is_as_likely_as_any_other() -> None:
    of = layout(60)
    counts = np.sum([drawn_pairs(of, 0.3, seed) for seed in range(3000)], axis=0)
    assert abs(counts - 900).max() < 5 * np.sqrt(3000 * 0.3 * 0.7)


def test_sums_are_over_the_views_of_the_drawn_images_and_of_all_images_themselves() -> None:
    rng, of = np.random.default_rng(1), layout(200)
    z, view, other = rng.standard_normal((3, 200, 4))
    drawn = drawn_pairs(of, 0.3, 0)
    cells = cells_of(of, z, {"all": other}) + paired_cells(of, z, [view], [], "some", drawn)
    for cell, rows in of.parts():
        moments, kept = cells.moments[cell], rows[drawn[rows]]
        np.testing.assert_allclose(moments.outer, z[rows].T @ z[rows])
        d = z[kept] - view[kept]
        assert moments.differences["some"].n == len(kept)
        np.testing.assert_allclose(moments.differences["some"].outer, d.T @ d)
        assert moments.differences["all"].n == len(rows)
