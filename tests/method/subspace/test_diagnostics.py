"""Diagnostics of subspaces against sums over images, scipy and scikit-learn."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import subspace_angles
from scipy.stats import special_ortho_group
from sklearn.cross_decomposition import CCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import PredefinedSplit, StratifiedKFold, cross_val_predict

from benchmark.method.subspace import Basis, Moments, SourceMoments, invariant_basis, objective, shrinkage_basis
from benchmark.method.subspace.diagnostics import (
    angle_table,
    decodability,
    invariance_ratio,
    moved_by,
    principal_angles,
    sample_angles,
    share_left,
    stratified_folds,
    terms,
    terms_of_map,
)

Array = NDArray[np.float64]
D, N = 9, 60
Data = tuple[Array, dict[str, Array]]


@pytest.fixture
def data() -> Data:
    """Correlated, uncentred embeddings and two kinds of views of them."""
    rng = np.random.default_rng(11)
    z = rng.standard_normal((N, D)) @ rng.standard_normal((D, D)) + rng.standard_normal(D)
    views = {kind: z + rng.standard_normal((N, D)) @ rng.standard_normal((D, D)) * 0.3 for kind in ("blur", "invert")}
    return z, views


def sources(data: Data) -> SourceMoments:
    z, views = data
    parts = {"art": slice(0, 25), "photo": slice(25, N)}
    return SourceMoments(
        {name: Moments.of(z[part], {kind: v[part] for kind, v in views.items()}) for name, part in parts.items()},
        {"blur": 3.0, "invert": 1.0},
    )


def oblique() -> Basis:
    return Basis(np.random.default_rng(2).standard_normal((D, D)) / 3)


@pytest.mark.parametrize("name", ["icm", "random", "oblique"])
@pytest.mark.parametrize("lambda_", [0.0, 0.7, 20.0])
def test_terms_are_the_objective_summed_over_the_images(data: Data, name: str, lambda_: float) -> None:
    z, views = data
    moments = Moments.of(z, views)
    orthonormal = Basis(special_ortho_group.rvs(D, random_state=1))
    basis = {"icm": invariant_basis(moments, 0.7), "random": orthonormal, "oblique": oblique()}[name]
    reconstruction, consistency = terms(basis, moments, lambda_)
    assert reconstruction.shape == consistency.shape == (D,)
    for k in range(1, D + 1):
        a = basis.vectors[:, :k].T
        lost = np.mean([np.sum((a.T @ (a @ row) - row) ** 2) for row in z])
        pairs = [pair for view in views.values() for pair in zip(z, view, strict=True)]
        moved = np.mean([np.sum((a @ row - a @ row_do) ** 2) for row, row_do in pairs])
        assert reconstruction[k - 1] == pytest.approx(lost, abs=1e-10)
        assert consistency[k - 1] == pytest.approx(lambda_ * moved, abs=1e-10)


def test_terms_of_sources_follow_the_weights_of_the_intervention_set(data: Data) -> None:
    z, views = data
    moments = sources(data)
    basis = invariant_basis(moments, 2.0)
    reconstruction, consistency = terms(basis, moments, 2.0)
    a = basis.vectors[:, :4].T
    blur, invert = (np.mean([np.sum((a @ d) ** 2) for d in z - views[kind]]) for kind in ("blur", "invert"))
    assert consistency[3] == pytest.approx(2.0 * (3 * blur + invert) / 4)
    assert reconstruction[3] == pytest.approx(np.mean([np.sum((a.T @ a @ row - row) ** 2) for row in z]))
    assert (reconstruction[3], consistency[3]) == pytest.approx(objective(a, moments, 2.0))


def test_terms_need_pairs_only_for_the_second_one(data: Data) -> None:
    moments = Moments.of(data[0])
    basis = invariant_basis(moments, 0.0)
    reconstruction, consistency = terms(basis, moments, 0.0)
    np.testing.assert_array_equal(consistency, np.zeros(D))
    assert reconstruction[-1] == pytest.approx(0, abs=1e-10)
    with pytest.raises(ValueError, match="needs interventional pairs"):
        terms(basis, moments, 1.0)


def test_the_ratio_and_what_each_kind_moves_are_means_over_the_images(data: Data) -> None:
    z, views = data
    moments = Moments.of(z, views)
    basis = invariant_basis(moments, 1.0)
    moved = moved_by(basis, moments.differences)
    assert set(moved) == set(views)
    ratio = invariance_ratio(basis, moments)
    assert ratio.shape == (D,)
    for j, v in enumerate(basis.vectors.T):
        by_kind = {kind: np.mean([(v @ d) ** 2 for d in z - view]) for kind, view in views.items()}
        assert {kind: moved[kind][j] for kind in moved} == pytest.approx(by_kind)
        assert ratio[j] == pytest.approx(np.mean(list(by_kind.values())) / np.mean([(v @ row) ** 2 for row in z]))
    with pytest.raises(ValueError, match="needs interventional pairs"):
        invariance_ratio(basis, Moments.of(z))


def test_the_ratio_of_directions_that_nothing_uses_is_not_a_number() -> None:
    """Directions: used and not moved, used and moved, moved only, neither; turned, so that zeros come with rounding."""
    rng = np.random.default_rng(4)
    turn = special_ortho_group.rvs(4, random_state=3)
    used, moved = rng.standard_normal((N, 4)) * [1, 1, 0, 0], rng.standard_normal((N, 4)) * [0, 0.1, 0.1, 0]
    z = used @ turn.T
    ratio = invariance_ratio(Basis(turn), Moments.of(z, {"pairs": z - moved @ turn.T}))
    assert ratio[0] == 0
    assert ratio[1] == pytest.approx(np.sum(moved[:, 1] ** 2) / np.sum(used[:, 1] ** 2))
    assert ratio[2] == np.inf
    assert np.isnan(ratio[3])


def test_an_independent_redraw_has_the_ratio_two() -> None:
    rng = np.random.default_rng(5)
    z, z_do = rng.standard_normal((2, 20_000, 3)) * [1.0, 0.5, 2.0]
    np.testing.assert_allclose(invariance_ratio(Basis(np.eye(3)), Moments.of(z, {"redraw": z_do})), 2.0, atol=0.1)


def test_planted_angles_are_found() -> None:
    """A = (e1, e2, e3), and B turns each of the three by its own angle into a dimension of its own."""
    planted = np.array([0.001, 17.0, 90.0])
    theta = np.deg2rad(planted)
    a, b = np.eye(7)[:, :3], np.zeros((7, 3))
    b[range(3), range(3)], b[range(3, 6), range(3)] = np.cos(theta), np.sin(theta)
    turn = special_ortho_group.rvs(7, random_state=0)
    mix = special_ortho_group.rvs(3, random_state=1)
    np.testing.assert_allclose(principal_angles(turn @ a, turn @ b @ mix), planted, atol=1e-5)
    np.testing.assert_allclose(principal_angles(turn @ b @ mix, turn @ a), planted, atol=1e-5)


@pytest.mark.parametrize(("k1", "k2"), [(3, 3), (2, 5), (5, 1), (8, 8)])
def test_principal_angles_are_those_of_the_cosines(k1: int, k2: int) -> None:
    a = special_ortho_group.rvs(8, random_state=k1)[:, :k1]
    b = special_ortho_group.rvs(8, random_state=20 + k2)[:, :k2]
    angles = principal_angles(a, b)
    assert angles.shape == (min(k1, k2),)
    assert (np.diff(angles) >= 0).all()
    cosines = np.linalg.svd(a.T @ b, compute_uv=False)
    np.testing.assert_allclose(angles, np.rad2deg(np.arccos(np.clip(cosines, -1, 1))), atol=1e-5)
    np.testing.assert_allclose(angles, np.rad2deg(subspace_angles(a, b))[::-1])


def test_angles_between_spaces_of_different_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"different width D \(5 and 6\)"):
        principal_angles(np.eye(5)[:, :2], np.eye(6)[:, :2])


@pytest.fixture
def paired() -> tuple[Array, Array]:
    """Two embeddings of 200 images, of widths 3 and 5, with some directions in common and means far from 0."""
    rng = np.random.default_rng(8)
    shared = rng.standard_normal((200, 3))
    x = (shared + rng.standard_normal((200, 3)) * [0.1, 0.5, 2.0]) @ rng.standard_normal((3, 3)) + 4
    y = np.hstack([shared, rng.standard_normal((200, 2))]) @ rng.standard_normal((5, 5)) - 7
    return x, y


def test_sample_angles_are_canonical_correlations(paired: tuple[Array, Array]) -> None:
    x, y = paired
    angles = sample_angles(x, y)
    cca = CCA(n_components=3, scale=False, max_iter=10_000, tol=1e-12).fit(x, y)
    variates = zip(*(scores.T for scores in cca.transform(x, y)), strict=True)
    correlations = [np.corrcoef(u, v)[0, 1] for u, v in variates]
    np.testing.assert_allclose(np.cos(np.deg2rad(angles)), correlations, atol=1e-6)
    assert (np.diff(angles) > 0).all()


def test_sample_angles_see_neither_scale_nor_mean_nor_basis_nor_a_repeated_column(paired: tuple[Array, Array]) -> None:
    x, y = paired
    angles = sample_angles(x, y)
    rng = np.random.default_rng(9)
    np.testing.assert_allclose(sample_angles(1e-3 * x @ rng.standard_normal((3, 3)) + 5, y), angles, atol=1e-5)
    np.testing.assert_allclose(sample_angles(y, x), angles, atol=1e-5)
    repeated = np.hstack([x, x @ rng.standard_normal((3, 2)), np.ones((len(x), 1))])
    np.testing.assert_allclose(sample_angles(repeated, y), angles, atol=1e-5)
    np.testing.assert_allclose(sample_angles(x, repeated), np.zeros(3), atol=1e-5)


def test_spaces_that_must_intersect_do(paired: tuple[Array, Array]) -> None:
    x, y = paired
    angles = sample_angles(x[:7], y[:7])  # ranks 3 and 5 in the 6 dimensions that centring leaves: 2 in common
    np.testing.assert_allclose(angles[:2], 0, atol=1e-5)
    assert angles[2] > 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x[:-1], y), "X has 199 rows and Y has 200"),
        (lambda x, y: (np.full_like(x, 0.1), y), "X are the same for all images"),
        (lambda x, y: (x, y * np.nan), "Y contains NaN"),
    ],
)
def test_embeddings_that_form_no_angles_are_refused(paired, change, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        sample_angles(*change(*paired))


def environments(shift: float, seed: int = 0) -> tuple[Array, NDArray[np.str_]]:
    """Embeddings of three environments of unequal size, whose means lie `shift` apart, and the environments' names."""
    rng = np.random.default_rng(seed)
    names = rng.permutation(np.repeat(["art", "photo", "sketch"], [300, 120, 60]))
    centres = dict(zip(["art", "photo", "sketch"], rng.standard_normal((3, 6)), strict=True))
    mixing = rng.standard_normal((6, 6)) * 0.05
    return (rng.standard_normal((480, 6)) + shift * np.stack([centres[n] for n in names])) @ mixing + 0.2, names


@pytest.mark.parametrize("shift", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("c", [0.01, 1.0])
def test_decodability_is_that_of_scikit_learn(shift: float, c: float) -> None:
    z, names = environments(shift)
    result = decodability(z, names, seed=3, folds=4, c=c)
    classifier = LogisticRegression(C=c, class_weight="balanced", max_iter=5000, tol=1e-8)
    scaled = z / np.sqrt(np.trace(np.cov(z.T, ddof=0)) / 6)
    same = PredefinedSplit(stratified_folds(np.unique(names, return_inverse=True)[1], folds=4, seed=3))
    # With the same folds only images on the boundary may differ: one of the smallest environment is 1/180.
    expected = balanced_accuracy_score(names, cross_val_predict(classifier, scaled, names, cv=same))
    assert result.balanced_accuracy == pytest.approx(expected, abs=1 / 180 + 1e-9)
    # With scikit-learn's own folds the two are estimates of one number: standard deviation 0.035 at most, correlated.
    others = StratifiedKFold(4, shuffle=True, random_state=0)
    expected = balanced_accuracy_score(names, cross_val_predict(classifier, scaled, names, cv=others))
    assert result.balanced_accuracy == pytest.approx(expected, abs=0.06)
    assert result.chance == pytest.approx(1 / 3)
    assert result.n == 480


def test_decodability_ends_at_chance_and_at_one() -> None:
    noise, names = environments(0.0, seed=1)
    assert decodability(noise, names).balanced_accuracy == pytest.approx(1 / 3, abs=0.1)
    told = noise + 100 * (names == "art")[:, None] * np.eye(6)[0] + 100 * (names == "photo")[:, None] * np.eye(6)[1]
    assert decodability(told, names).balanced_accuracy == 1
    constant = decodability(np.ones((480, 2)), names)
    assert constant.balanced_accuracy == pytest.approx(constant.chance)


def test_decodability_sees_neither_scale_nor_rotation_and_repeats_itself() -> None:
    z, names = environments(0.5)
    result = decodability(z, names, seed=1)
    assert decodability(z, names, seed=1) == result
    assert decodability(z, names, seed=2) != result
    turned = 300 * z @ special_ortho_group.rvs(6, random_state=0)
    assert decodability(turned, names, seed=1).balanced_accuracy == pytest.approx(result.balanced_accuracy, abs=1 / 180)


def test_folds_hold_every_label_alike() -> None:
    labels = np.array([2] * 13 + [5] * 7 + [9] * 10)
    fold = stratified_folds(labels, folds=3, seed=0)
    for label, count in ((2, 13), (5, 7), (9, 10)):
        sizes = np.bincount(fold[labels == label], minlength=3)
        assert sizes.sum() == count
        assert np.ptp(sizes) <= 1
    assert (stratified_folds(labels, folds=3, seed=1) != fold).any()


@pytest.mark.parametrize(
    ("keep", "options", "message"),
    [
        (slice(0, 480), {"folds": 1}, "at least 2"),
        (slice(0, 480), {"folds": 61}, "60 images, fewer than the 61 folds"),
        (slice(0, 1), {}, "at least two environments"),
    ],
)
def test_environments_that_cannot_be_told_apart_are_refused(keep, options, message) -> None:  # type: ignore[no-untyped-def]
    z, names = environments(1.0)
    with pytest.raises(ValueError, match=message):
        decodability(z[keep], names[keep], **options)
    with pytest.raises(ValueError, match="480 embeddings and 479 environment labels"):
        decodability(z, names[:-1])


def test_the_table_of_angles_holds_the_largest_of_each_two() -> None:
    bases = {name: Basis(special_ortho_group.rvs(D, random_state=i)) for i, name in enumerate(["icm", "pca", "random"])}
    bases["icm, turned within"] = Basis(
        np.hstack([bases["icm"].vectors[:, :4] @ special_ortho_group.rvs(4, random_state=7), np.zeros((D, D - 4))])
    )
    labels, table = angle_table(bases, 4)
    assert labels == list(bases)
    np.testing.assert_array_equal(table, table.T)
    np.testing.assert_array_equal(np.diag(table), 0)
    assert table[0, 3] == pytest.approx(0, abs=1e-5)
    cosines = np.linalg.svd(bases["pca"].vectors[:, :4].T @ bases["random"].vectors[:, :4], compute_uv=False)
    assert table[1, 2] == pytest.approx(np.rad2deg(np.arccos(np.min(cosines))))
    for rank in (0, D + 1):
        with pytest.raises(ValueError, match=f"rank={rank} is not between 1 and D={D}"):
            angle_table(bases, rank)
    with pytest.raises(ValueError, match="different width D"):
        angle_table({"one": Basis(np.eye(4)), "other": Basis(np.eye(5))}, 2)


def test_terms_of_a_map_are_sums_over_images_and_least_for_shrinkage(data: Data) -> None:
    z, views = data
    moments = sources(data)
    n = moments.c_d()
    f = shrinkage_basis(moments, 3.0, "interventions", "images").vectors.T
    reconstruction = np.mean(np.sum((z @ f.T - z) ** 2, axis=1))
    moved = {kind: np.mean(np.sum(((z - view) @ f.T) ** 2, axis=1)) for kind, view in views.items()}
    consistency = 3 * (3 * moved["blur"] + moved["invert"]) / 4  # by the weights of the kinds
    np.testing.assert_allclose(terms_of_map(f, moments, 3.0, n), (reconstruction, consistency), rtol=1e-9)
    least, rng = sum(terms_of_map(f, moments, 3.0, n)), np.random.default_rng(0)
    for other in (np.eye(D), f.T, *(f + 1e-3 * rng.standard_normal((D, D)) for _ in range(20))):
        assert sum(terms_of_map(other, moments, 3.0, n)) > least


def test_what_a_map_leaves_is_a_share_of_squares(data: Data) -> None:
    z, _ = data
    basis = shrinkage_basis(sources(data), 3.0, "interventions")
    left = share_left(basis, z.T @ z / N)
    assert left == pytest.approx(np.sum((z @ basis.vectors) ** 2) / np.sum(z**2))
    assert share_left(Basis(np.eye(D)), z.T @ z) == pytest.approx(1.0)
    assert share_left(basis, np.zeros((D, D))) is None


def test_terms_take_another_nuisance_in_the_place_of_c_d(data: Data) -> None:
    moments = sources(data)
    n = np.diag(np.arange(1.0, D + 1))
    basis = invariant_basis(moments, 1.0)
    v = basis.vectors[:, :4]
    _, weighed = terms(basis, moments, 2.0, n)
    assert weighed[3] == pytest.approx(2 * np.trace(v.T @ n @ v))
    np.testing.assert_allclose(terms(basis, moments, 2.0, moments.c_d())[1], terms(basis, moments, 2.0)[1])
    np.testing.assert_array_equal(terms(basis, moments, 0.0)[1], 0)
