"""Partners of images within their cell, and the sums over pairs of different images."""

import numpy as np
import pytest

from benchmark.method.evaluation import cells
from benchmark.method.evaluation.cells import Layout, paired_cells, partners


def layout(n: int, seed: int = 0) -> Layout:
    rng = np.random.default_rng(seed)
    return Layout(np.sort(rng.integers(3, size=n)), rng.integers(4, size=n), rng.integers(5, size=n), 4, 2)


@pytest.mark.parametrize("bin_", [4096, 7])
def test_partners_are_other_images_of_the_same_environment_fold_and_half(
    bin_: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells, "BIN", bin_)
    of = layout(1500)
    partner = partners(of, seed=0, draw=1)
    assert (partner != np.arange(1500)).all()
    for column in (of.environment, of.side, of.label >= of.base):
        np.testing.assert_array_equal(column[partner], column)
    if bin_ == 4096:
        assert sorted(partner) == list(range(1500))  # each is the partner of one
    np.testing.assert_array_equal(partner, partners(of, 0, 1))
    assert (partner != partners(of, 0, 2)).mean() > 0.8
    assert (partner != partners(of, 1, 1)).mean() > 0.8


def test_partners_are_uniform_in_their_cell() -> None:
    of = Layout(np.zeros(5, dtype=int), np.zeros(5, dtype=int), np.zeros(5, dtype=int), 1, 1)
    counts = np.zeros((5, 5))
    for draw in range(4000):
        counts[np.arange(5), partners(of, 0, draw)] += 1
    off = counts[~np.eye(5, dtype=bool)]
    assert abs(off - 1000).max() < 5 * np.sqrt(1000 * 0.75)


def test_an_image_alone_in_its_cell_is_paired_with_its_own_view() -> None:
    of = Layout(np.array([0, 1]), np.zeros(2, dtype=int), np.zeros(2, dtype=int), 1, 1)
    np.testing.assert_array_equal(partners(of, 0, 1), [0, 1])


def test_sums_over_pairs_are_those_of_every_kind_by_weight_and_parts_add_up() -> None:
    rng, of = np.random.default_rng(1), layout(200)
    z, first, second = rng.standard_normal((3, 200, 4))
    partner = partners(of, 0, 1)
    views = [first[partner], second[partner]]
    whole = paired_cells(of, z, views, (1.0, 3.0), "s")
    rows = np.arange(80), np.arange(80, 200)
    parts = [paired_cells(of.take(r), z[r], [view[r] for view in views], (1.0, 3.0), "s") for r in rows]
    together = parts[0] + parts[1]
    for cell, members in of.parts():
        a, b = (z[members] - view[partner[members]] for view in (first, second))
        expected = (a.T @ a + 3 * b.T @ b) / 4 / len(members)
        for sums in (whole, together):
            difference = sums.moments[cell].differences["s"]
            assert difference.n == len(members)
            np.testing.assert_allclose(difference.moment(), expected, atol=1e-12)
