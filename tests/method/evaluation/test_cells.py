"""Cells against explicit sums over images, and pairs across environments against all pairs one by one."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from benchmark.method.evaluation.cells import Cells, Half, Layout, cells_of, class_means, cross_cells, paired_cells
from benchmark.method.evaluation.splits import base_classes
from benchmark.method.subspace import Differences, Moments, SourceMoments, moments
from benchmark.method.subspace.moments import CROSS, TOGETHER

NAMES, CLASSES, D, N = ["art", "cartoon", "photo"], 5, 6, 90


@pytest.fixture
def images() -> tuple[Layout, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    side = (rng.random(N) < 0.2).astype(np.int64)
    layout = Layout(np.repeat(np.arange(3), 30), rng.integers(CLASSES, size=N), side, CLASSES, 3)
    z = rng.standard_normal((N, D)) + 2.0
    return layout, z, z + rng.standard_normal((N, D))


def test_every_image_lies_in_one_cell(images: tuple[Layout, np.ndarray, np.ndarray]) -> None:
    layout, *_ = images
    members = np.concatenate([rows for _, rows in layout.parts()])
    assert sorted(members) == list(range(N))
    for (environment, side, half), rows in layout.parts():
        assert (layout.environment[rows] == environment).all()
        assert (layout.side[rows] == side).all()
        assert ((layout.label[rows] < 3) == (half == "base")).all()


def test_the_odd_class_is_a_base_class_or_a_new_one() -> None:
    assert [base_classes(n) for n in (2, 3, 7, 65)] == [1, 2, 4, 33]
    assert [base_classes(n, "floor") for n in (2, 3, 7, 65)] == [1, 1, 3, 32]


@pytest.mark.parametrize("halves", [("base",), ("new",), ("base", "new")])
def test_sources_are_the_in_sides_of_the_chosen_cells(images, halves) -> None:  # type: ignore[no-untyped-def]
    layout, z, view = images
    sources = cells_of(layout, z, {"blur": view}).sources({0: "art", 2: "photo"}, None, halves=halves)
    wanted = layout.label < 3 if halves == ("base",) else layout.label >= 3
    rows = (layout.side == 0) & (layout.environment != 1) & (wanted if len(halves) == 1 else True)
    np.testing.assert_allclose(sources.c_z(), z[rows].T @ z[rows] / rows.sum())
    d = (z - view)[rows]
    np.testing.assert_allclose(sources.c_d(), d.T @ d / rows.sum())
    np.testing.assert_allclose(sources.differences("blur").moment(centered=True), np.cov(d.T, bias=True), atol=1e-12)
    np.testing.assert_array_equal(sources.images.counts, np.bincount(layout.label[rows], minlength=CLASSES))


def test_sides_add_up_and_joined_ones_are_their_sum(images: tuple[Layout, np.ndarray, np.ndarray]) -> None:
    layout, z, view = images
    layout = replace(layout, side=np.arange(N) % 5)
    cells = cells_of(layout, z, {"blur": view})
    joined = cells.joined([frozenset([0, 2, 4]), frozenset([1])])
    assert {side for _, side, _ in joined.moments} == {0, 1}
    for sides in ([0, 2, 4], [0, 1, 2, 4]):
        rows = np.isin(layout.side, sides) & (layout.environment == 1)
        for of_sides in (cells, joined):
            sources = of_sides.sources({1: "cartoon"}, None, frozenset(sides))
            np.testing.assert_allclose(sources.c_z(), z[rows].T @ z[rows] / rows.sum())


def all_pairs(layout: Layout, z: np.ndarray, environments: list[int], classes: range, side: int = 0) -> np.ndarray:
    """C_d over pairs of one class and two environments: every image once for each other environment."""
    total, n = np.zeros((D, D)), 0
    for e in environments:
        for other in (o for o in environments if o != e):
            for c in classes:
                here, there = (
                    z[(layout.environment == x) & (layout.label == c) & (layout.side == side)] for x in (e, other)
                )
                for z_i in here if len(there) else ():
                    total += sum(np.outer(z_i - z_j, z_i - z_j) for z_j in there) / len(there)
                    n += 1
    return total / n


@pytest.mark.parametrize("environments", [[0, 1], [0, 2], [0, 1, 2]])
def test_pairs_across_environments_equal_all_pairs_one_by_one(images, environments) -> None:  # type: ignore[no-untyped-def]
    layout, z, _ = images
    whole = cells_of(layout, z, {})
    parts = [np.arange(0, 50), np.arange(50, N)]  # as workers see them
    crossed = [cross_cells(layout.take(rows), z[rows], class_means(whole), NAMES) for rows in parts]
    cells = whole + crossed[0] + crossed[1]
    names = {e: NAMES[e] for e in environments}
    np.testing.assert_allclose(
        cells.sources(names, {CROSS: 1.0}).c_d(), all_pairs(layout, z, environments, range(CLASSES))
    )
    of_out = cells.sources(names, {CROSS: 1.0}, frozenset([1])).c_d()
    np.testing.assert_allclose(of_out, all_pairs(layout, z, environments, range(CLASSES), side=1))
    np.testing.assert_allclose(
        cells.sources(names, {CROSS: 1.0}, halves=["base"]).c_d(), all_pairs(layout, z, environments, range(3))
    )


def test_pairs_across_environments_need_two(images: tuple[Layout, np.ndarray, np.ndarray]) -> None:
    layout, z, _ = images
    whole = cells_of(layout, z, {})
    cells = whole + cross_cells(layout, z, class_means(whole), NAMES)
    with pytest.raises(ValueError, match="no interventional pairs of the kind 'cross_environment'"):
        cells.sources({1: "cartoon"}, {CROSS: 1.0}).c_d()


def test_weights_mix_the_kinds(images: tuple[Layout, np.ndarray, np.ndarray]) -> None:
    layout, z, view = images
    cells = cells_of(layout, z, {"a": view, "b": 2 * view})
    alone = {kind: cells.sources({0: "art"}, {kind: 1.0}).c_d() for kind in ("a", "b")}
    sources = cells.sources({0: "art"}, {"a": 3.0, "b": 1.0})
    np.testing.assert_allclose(sources.c_d(), 0.75 * alone["a"] + 0.25 * alone["b"])
    np.testing.assert_allclose(sources.reweighted({"b": 5.0}).c_d(), alone["b"])
    for weights, reason in (({"c": 1.0}, "kind 'c'"), ({"a": -1.0, "b": 2.0}, "positive"), ({"a": 0.0}, "positive")):
        with pytest.raises(ValueError, match=reason):
            sources.reweighted(weights).c_d()


def test_no_source_is_no_projection() -> None:
    with pytest.raises(ValueError, match="at least one source"):
        SourceMoments({})


@pytest.mark.parametrize("weights", [{"a": 3.0, "b": 1.0, "c": 1.5, "text": 2.0, CROSS: 0.5}, {"a": 1.0, "b": 1.0}])
def test_kinds_that_are_summed_as_one_give_the_same(images, weights) -> None:  # type: ignore[no-untyped-def]
    layout, z, view = images
    whole = cells_of(layout, z, {"a": view, "b": z * view})
    text: dict[Half, Differences] = {"base": Differences.of(z[:7]), "new": Differences.of(view[:5])}
    some = Cells({cell: Moments.nothing(CLASSES, D, {"c": Differences.of(z[:2])}) for cell, _ in layout.parts()[:3]})
    cells = whole + cross_cells(layout, z, class_means(whole), NAMES) + some + Cells({}, {"text": text})
    of_both = paired_cells(layout, z, [view, z * view], [weights["a"], weights["b"]], TOGETHER, products=True)
    one = cells_of(layout, z, {}) + of_both + cross_cells(layout, z, class_means(whole), NAMES) + some
    one = replace(one + Cells({}, {"text": text}), together={kind: weights[kind] for kind in "ab"})
    rest = {*weights} - {"a", "b"}
    for halves in (("base",), ("base", "new")):
        apart, together = (c.sources({0: "art", 2: "photo"}, weights, halves=halves) for c in (cells, one))
        np.testing.assert_allclose(together.c_d(), apart.c_d(), rtol=1e-12, atol=1e-12)
        assert len(together.kinds()) == 1 + len(rest)
        if not rest:
            for ours, theirs in zip(together.products(), apart.products(), strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(together.differences("c").outer, apart.differences("c").outer)
    with pytest.raises(ValueError, match="added up by the weights"):
        together.reweighted({"a": 1.0})


def test_cells_of_few_images_take_little_memory_and_give_the_sums_over_their_images() -> None:
    """Many environments, two images in each of their cells: a matrix for each would take 60 times as much."""
    environments, dim, rng = 20, 128, np.random.default_rng(0)
    n = 6 * environments
    layout = Layout(np.arange(n) // 6, np.arange(n) % 2, np.arange(n) % 3, 2, 2)
    z, *views = rng.standard_normal((4, n, dim))
    weights = {"a": 3.0, "b": 1.0, "c": 2.0}
    cells = cells_of(layout, z, {}) + paired_cells(layout, z, views, [*weights.values()], TOGETHER)
    cells = replace(cells, together=weights).joined([frozenset([0]), frozenset([1, 2])])
    assert len(pickle.dumps(cells)) < 10 * 8 * z.size < 0.2 * 8 * 2 * 2 * environments * dim**2

    names = {e: f"e{e}" for e in range(0, environments, 2)}
    rows = (layout.environment % 2 == 0) & (layout.side > 0)
    sources = replace(cells, together=weights).sources(names, weights, frozenset([1]))
    np.testing.assert_allclose(sources.c_z(), z[rows].T @ z[rows] / rows.sum(), atol=1e-12)
    ds = [(z - view)[rows] for view in views]
    c_d = sum(w / 6 * d.T @ d / rows.sum() for w, d in zip(weights.values(), ds, strict=True))
    np.testing.assert_allclose(sources.c_d(), c_d, atol=1e-12)
    first = cells.sum_of(0, frozenset([0, 1]), ("base",))
    second = cells.sum_of(0, frozenset([0]), ("base",))
    assert first is not None
    assert second is not None
    of_first = (layout.environment == 0) & (layout.side > 0)
    np.testing.assert_allclose((first - second).outer, z[of_first].T @ z[of_first], atol=1e-12)


@pytest.mark.parametrize("most", [0, 3_000, 2**30])
def test_sums_of_environments_are_kept_up_to_the_budget(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    layout = Layout(np.arange(300) % 3, np.arange(300) % 2, np.arange(300) // 3 % 5, 2, 2)
    z, view = rng.standard_normal((2, 300, D))
    sides = [frozenset(range(5)) - {a, b} for a in range(5) for b in range(5)]
    expected = [cells_of(layout, z, {"blur": view}).sources({0: "a", 1: "b"}, None, of) for of in sides]
    monkeypatch.setattr(moments, "MAX_KEPT_BYTES", most)
    cells = cells_of(layout, z, {"blur": view})
    for of, known in zip(sides, expected, strict=True):
        sources = cells.sources({0: "a", 1: "b"}, None, of)
        np.testing.assert_array_equal(sources.c_z(), known.c_z())
        np.testing.assert_array_equal(sources.c_d(), known.c_d())
    size = sum(sums.nbytes for sums in cells._sums.values())
    assert size <= most
    assert (size > 0) == (most > 0)
