"""Mathematical facts of the method on generic data."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import subspace_angles

from benchmark.method.predictors import Problem
from benchmark.method.predictors.linear_probe import LinearProbe
from benchmark.method.predictors.zero_shot import ZeroShot
from benchmark.method.subspace import Basis, InvariantProjection, Moments, invariant_basis, objective
from benchmark.method.subspace.basis import eigenbasis, with_fixed_signs

Array = NDArray[np.float64]
D, CLASSES = 24, 5


@pytest.fixture
def data() -> tuple[Array, Array, Array, NDArray[np.int64]]:
    """Correlated, uncentred embeddings z, their views, class texts and labels."""
    rng = np.random.default_rng(7)
    mixing = rng.standard_normal((D, D)) * np.geomspace(1, 0.05, D)
    labels = rng.integers(CLASSES, size=300)
    centres = rng.standard_normal((CLASSES, D))
    z = (rng.standard_normal((300, D)) + centres[labels]) @ mixing.T + rng.standard_normal(D)
    z_do = z + rng.standard_normal((300, D)) @ rng.standard_normal((D, D)) * 0.2
    text = centres @ mixing.T + 0.3 * rng.standard_normal((CLASSES, D))
    return z, z_do, text / np.linalg.norm(text, axis=1, keepdims=True), labels


def planted_scm(n: int, dim: int, k: int, noise: float, seed: int) -> tuple[Array, Array, Array]:
    """z = A_inv s + A_var v with orthogonal column spaces; an intervention redraws v only, up to noise.

    Returns z, z^do and an orthonormal basis of the invariant subspace, shape (dim, k).
    """
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.standard_normal((dim, dim)))
    invariant, variant = q[:, :k], q[:, k:]
    strengths = rng.uniform(0.5, 2.0, dim - k)
    s = rng.standard_normal((n, k)) @ np.diag(rng.uniform(0.7, 1.5, k))
    draw = lambda: rng.standard_normal((n, dim - k)) * strengths  # noqa: E731
    jitter = lambda: noise * rng.standard_normal((n, dim))  # noqa: E731
    z, z_do = (s @ invariant.T + draw() @ variant.T + jitter() for _ in range(2))
    return z, z_do, invariant


@pytest.mark.parametrize("order", ["largest", "released"])
@pytest.mark.parametrize("scoring", ["cosine", "released"])
def test_full_rank_reproduces_plain_zero_shot_exactly(data, order, scoring) -> None:  # type: ignore[no-untyped-def]
    z, z_do, text, _ = data
    basis = invariant_basis(Moments.of(z, {"do": z_do}), 2.0, order)
    problem = Problem(z[:0], np.array([], dtype=np.int64), text @ basis.vectors, [z @ basis.vectors])
    (curve,) = ZeroShot(scoring=scoring).predict(problem, [3, D])
    plain = (z @ text.T).argmax(axis=1)
    np.testing.assert_array_equal(curve[-1], plain)
    assert (curve[0] != plain).any()


@pytest.mark.parametrize("order", ["largest", "released"])
def test_full_rank_reproduces_the_accuracy_of_the_plain_probe(data, order) -> None:  # type: ignore[no-untyped-def]
    z, z_do, text, labels = data
    v = invariant_basis(Moments.of(z, {"do": z_do}), 2.0, order).vectors
    (rotated,) = LinearProbe(C=0.316).predict(Problem(z[:200] @ v, labels[:200], text @ v, [z[200:] @ v]), [D])
    (plain,) = LinearProbe(C=0.316).predict(Problem(z[:200], labels[:200], text, [z[200:]]), [D])
    assert (rotated[0] == labels[200:]).mean() == (plain[0] == labels[200:]).mean()


def test_lambda_zero_is_uncentred_pca(data) -> None:  # type: ignore[no-untyped-def]
    z, z_do, *_ = data
    _, singular_values, rows = np.linalg.svd(z, full_matrices=False)
    fitted = InvariantProjection(lambda_=0.0).fit(z, z_do)
    np.testing.assert_allclose(fitted.eigenvalues_, singular_values**2 / len(z))
    np.testing.assert_allclose(np.abs((fitted.components_ * rows).sum(axis=1)), 1.0, atol=1e-9)


@pytest.mark.parametrize(("dim", "k", "seed"), [(12, 4, 0), (32, 20, 1), (64, 8, 2)])
def test_largest_finds_a_planted_invariant_subspace_and_released_misses_it(dim: int, k: int, seed: int) -> None:
    z, z_do, invariant = planted_scm(20_000, dim, k, noise=0.01, seed=seed)
    degrees = {}
    for order in ("largest", "released"):
        fitted = InvariantProjection(lambda_=10.0, rank=k, order=order).fit(z, z_do)
        degrees[order] = np.degrees(subspace_angles(fitted.components_.T, invariant)[0])
    assert degrees["largest"] < 1.0
    # Where the rank exceeds D - k the two must overlap; everywhere the worst direction is missed altogether.
    assert degrees["released"] > 85.0


def test_chosen_basis_has_an_objective_no_higher_than_any_random_one(data) -> None:  # type: ignore[no-untyped-def]
    z, z_do, *_ = data
    moments, rng = Moments.of(z, {"do": z_do}), np.random.default_rng(0)
    for lambda_ in (0.0, 0.5, 4.0):
        for k in (1, 7, D):
            minimiser = InvariantProjection.from_moments(moments, lambda_=lambda_, rank=k).components_
            best = sum(objective(minimiser, moments, lambda_))
            for _ in range(100):
                q, _ = np.linalg.qr(rng.standard_normal((D, k)))
                assert best <= sum(objective(q.T, moments, lambda_)) + 1e-9


def test_objective_from_moments_equals_the_sums_it_stands_for(data) -> None:  # type: ignore[no-untyped-def]
    z, z_do, *_ = data
    a = InvariantProjection(lambda_=1.5, rank=6).fit(z, z_do).components_
    reconstruction, consistency = objective(a, Moments.of(z, {"do": z_do}), 1.5)
    assert reconstruction == pytest.approx(np.mean(np.sum((z @ a.T @ a - z) ** 2, axis=1)))
    assert consistency == pytest.approx(1.5 * np.mean(np.sum((z @ a.T - z_do @ a.T) ** 2, axis=1)))


def test_moments_of_a_union_are_the_sum_and_of_a_difference_the_rest(data) -> None:  # type: ignore[no-untyped-def]
    z, z_do, *_ = data
    parts = [Moments.of(z[rows], {"do": z_do[rows]}) for rows in (slice(0, 90), slice(90, 300))]
    whole = Moments.of(z, {"do": z_do})
    for combined, expected in ((parts[0] + parts[1], whole), (whole - parts[0], parts[1])):
        assert (combined.n, combined.differences["do"].n) == (expected.n, expected.differences["do"].n)
        np.testing.assert_allclose(combined.total, expected.total, atol=1e-9)
        np.testing.assert_allclose(combined.outer, expected.outer, atol=1e-9)
        np.testing.assert_allclose(combined.c_d(centered=True), expected.c_d(centered=True), atol=1e-9)


def test_each_kind_paired_is_the_expectation_of_one_kind_at_random(data) -> None:  # type: ignore[no-untyped-def]
    z, z_do, *_ = data
    rng = np.random.default_rng(1)
    views = [z_do, z + 0.5 * rng.standard_normal(z.shape)]
    each = Moments.of(z, {"a": views[0], "b": views[1]}).c_d()
    draws = [
        Moments.of(z, {"one": np.stack(views)[rng.integers(2, size=len(z)), np.arange(len(z))]}).c_d()
        for _ in range(400)
    ]
    np.testing.assert_allclose(np.mean(draws, axis=0), each, atol=0.02 * np.abs(each).max())


def test_large_lambda_orders_directions_by_how_little_interventions_move_them(data) -> None:  # type: ignore[no-untyped-def]
    z, z_do, *_ = data
    moments = Moments.of(z, {"do": z_do})
    components = InvariantProjection.from_moments(moments, lambda_=1e9).components_
    moved = np.einsum("ki,ij,kj->k", components, moments.c_d(), components)
    assert all(a <= b * (1 + 1e-6) for a, b in pairwise(moved))


def test_centred_second_moment_is_the_covariance(data) -> None:  # type: ignore[no-untyped-def]
    z, *_ = data
    np.testing.assert_allclose(Moments.of(z).c_z(centered=True), np.cov(z.T, bias=True))


@pytest.mark.parametrize("dim", [1, 2, D])
@pytest.mark.parametrize("largest_first", [False, True])
@pytest.mark.parametrize("single", [False, True])
def test_products_with_few_rows_need_no_eigenvectors_and_are_theirs(
    dim: int, largest_first: bool, single: bool
) -> None:
    rng, atol = np.random.default_rng(dim), 1e-4 if single else 1e-12
    half, text = rng.standard_normal((dim, dim)), rng.standard_normal((3, dim))
    matrix = half + half.T
    thin, whole = (eigenbasis(matrix, largest_first, single) for _ in range(2))
    values, vectors = np.linalg.eigh(matrix)
    step = -1 if largest_first else 1
    assert thin.spectrum is not None
    np.testing.assert_allclose(thin.spectrum, values[::step], atol=atol)
    np.testing.assert_allclose(whole.vectors, with_fixed_signs(vectors)[:, ::step], atol=atol)
    coordinates, ranks = thin.of_texts(text), sorted({1, dim // 2 or 1, dim})
    np.testing.assert_allclose(coordinates, text @ whole.vectors, atol=atol)
    np.testing.assert_allclose(
        thin.sums(coordinates, ranks), Basis(whole.vectors).sums(coordinates, ranks), atol=10 * atol
    )
    assert (thin.rounding_bounds(coordinates, ranks) >= Basis(vectors).rounding_bounds(coordinates, ranks)).all()
    assert ("vectors" in vars(thin)) == (dim < 9)  # as many sums as directions are computed from these
