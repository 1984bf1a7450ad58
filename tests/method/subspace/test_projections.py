"""Every projection against an independent reference, and edge cases."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import eigh, null_space, pinv, sqrtm, subspace_angles
from sklearn import decomposition
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from benchmark.common.errors import IcmBenchError
from benchmark.method.subspace import PROJECTIONS, Basis, Moments, SourceMoments
from benchmark.method.subspace.baselines.discriminant import Discriminant
from benchmark.method.subspace.baselines.drop_top import DropTop
from benchmark.method.subspace.baselines.generalized import Generalized

Array = NDArray[np.floating]
ALL = [
    "identity", "pca", "random", "icm", "generalized", "drop_top", "environment_means", "leace", "discriminant", "channels",
]  # fmt: skip
ORTHONORMAL = [name for name in ALL if name != "leace"]
D, CLASSES = 12, 4


@dataclass(frozen=True)
class Data:
    """Embeddings of images in several environments, and of their views."""

    z: Array
    views: Mapping[str, Array]
    labels: NDArray[np.int64]
    environments: NDArray[np.int64]

    @classmethod
    def draw(cls, images: tuple[int, ...], dim: int = D, seed: int = 0) -> "Data":
        """Correlated, uncentred embeddings with classes of unequal size and environments that shift and stretch."""
        rng = np.random.default_rng(seed)
        n, environments = sum(images), np.repeat(np.arange(len(images)), images)
        labels = rng.choice(CLASSES, size=n, p=[0.4, 0.3, 0.2, 0.1])
        mixing = rng.standard_normal((dim, dim)) * np.geomspace(1, 0.2, dim)
        shifts, stretches = 1.5 * rng.standard_normal((len(images), dim)), rng.uniform(0.5, 1.5, (len(images), dim))
        centres = rng.standard_normal((CLASSES, dim))
        factors = centres[labels] + shifts[environments] + stretches[environments] * rng.standard_normal((n, dim))
        z = factors @ mixing.T + rng.standard_normal(dim)
        moves = [rng.standard_normal((dim, dim)) * rng.uniform(0, 0.5, dim) for _ in range(2)]
        views = {f"kind{i}": z + rng.standard_normal((n, dim)) @ move.T for i, move in enumerate(moves)}
        return cls(z, views, labels, environments)

    def map(self, change: Callable[[Array], Array]) -> "Data":
        return replace(self, z=change(self.z), views={kind: change(view) for kind, view in self.views.items()})

    def in_one_environment(self) -> "Data":
        return replace(self, environments=np.zeros_like(self.environments))

    @property
    def sources(self) -> SourceMoments:
        environments = {}
        for e in np.unique(self.environments):
            rows = self.environments == e
            views = {kind: view[rows] for kind, view in self.views.items()}
            environments[f"environment{e}"] = Moments.of(self.z[rows], views, self.labels[rows], CLASSES)
        return SourceMoments(environments)

    @property
    def c_z(self) -> NDArray[np.float64]:
        return np.asarray(self.z.T @ self.z / len(self.z), dtype=np.float64)

    @property
    def c_d(self) -> Array:
        return np.mean([(self.z - v).T @ (self.z - v) / len(v) for v in self.views.values()], axis=0)

    @property
    def covariance(self) -> Array:
        return np.cov(self.z.T, bias=True)

    @property
    def mean_differences(self) -> Array:
        means = [self.z[self.environments == e].mean(axis=0) for e in np.unique(self.environments)]
        return np.stack(means) - np.mean(means, axis=0)

    @property
    def one_hot(self) -> Array:
        return np.eye(int(np.max(self.environments)) + 1)[self.environments]


@pytest.fixture
def data() -> Data:
    return Data.draw((150, 90, 60))


@pytest.fixture
def few() -> Data:
    """Seven images in a space of twelve dimensions."""
    return Data.draw((4, 3), seed=1)


@pytest.fixture
def constant() -> Data:
    """All embeddings are equal; their views are not."""
    drawn = Data.draw((20, 15), seed=2)
    same = np.broadcast_to(drawn.z[:1], drawn.z.shape)
    return replace(drawn, z=same, views={kind: same + view - drawn.z for kind, view in drawn.views.items()})


def fit(name: str, data: Data, **params: Any) -> Basis:
    return PROJECTIONS.create({"name": name, **params}).at(lambda_=0.5, seed=3).fit(data.sources)


def spectrum(basis: Basis) -> Array:
    assert basis.spectrum is not None
    return basis.spectrum


def assert_same_spans(vectors: Array, reference: Array, up_to: int) -> None:
    """The first k columns span the same, for every k."""
    for k in range(1, up_to + 1):
        assert subspace_angles(vectors[:, :k], reference[:, :k])[0] < 1e-6, k


def assert_same_directions(vectors: Array, reference: Array) -> None:
    """The columns are the same up to sign."""
    np.testing.assert_allclose(np.abs((vectors * reference).sum(axis=0)), 1.0, atol=1e-9)


def assert_orthonormal(vectors: Array) -> None:
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(len(vectors)), atol=1e-10)


def assert_ordered_by_energy(vectors: Array, second_moment: Array) -> None:
    """The columns are the principal directions, in order, of the second moment within their span."""
    within = vectors.T @ second_moment @ vectors
    np.testing.assert_allclose(within, np.diag(np.diag(within)), atol=1e-10 * np.trace(second_moment))
    assert (np.diff(np.diag(within)) <= 1e-10 * np.trace(second_moment)).all()


def erased_inner_products(data: Data) -> Array:
    """E^T E, on which all inner products after erasure depend: theorem 4.3 of LEACE, word for word."""
    sigma_xz = (data.z - data.z.mean(axis=0)).T @ (data.one_hot - data.one_hot.mean(axis=0)) / len(data.z)
    values, u = np.linalg.eigh(data.covariance)
    varies = values > 1e-10 * np.max(values)
    w = u[:, varies] @ np.diag(values[varies] ** -0.5) @ u[:, varies].T
    eraser = np.eye(len(w)) - pinv(w, rtol=1e-8) @ (w @ sigma_xz) @ pinv(w @ sigma_xz, rtol=1e-8) @ w
    return eraser.T @ eraser


# --- every projection ------------------------------------------------------------------------------------------------


def test_these_are_all_projections_with_ranks() -> None:
    without = ["shrinkage", "fixed", "isotropic", "isotropic_environments", "within_classes"]  # see test_shrinkage.py
    without += ["calibrated", "denoiser", "nap", "centring", "own_mean", "coral"]  # see test_rivals.py
    without += ["within_prompts", "biased_prompts", "roboshot"]  # see test_prompt_rivals.py
    assert sorted(PROJECTIONS.names()) == sorted([*ALL, *without])
    assert [PROJECTIONS.create(name).name for name in ALL] == ALL


@pytest.mark.parametrize(
    ("name", "params"),
    [
        *((name, {}) for name in ORTHONORMAL),
        *((name, {"centered": True}) for name in ("pca", "generalized", "drop_top")),
        ("icm", {"order": "released"}),
    ],
)
def test_rank_d_is_a_rotation(data: Data, few: Data, name: str, params: dict[str, Any]) -> None:
    for each in (data, few):
        assert_orthonormal(fit(name, each, **params).vectors)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("factor", [1e-7, 4e6])
def test_the_scale_of_embeddings_changes_nothing(data: Data, name: str, factor: float) -> None:
    scaled = data.map(lambda z: factor * z)
    np.testing.assert_allclose(fit(name, scaled).vectors, fit(name, data).vectors, atol=1e-8)


@pytest.mark.parametrize("name", ALL)
def test_float32_embeddings_give_the_basis_of_float64_up_to_1e_5(data: Data, name: str) -> None:
    single = data.map(lambda z: z.astype(np.float32))
    np.testing.assert_allclose(fit(name, single).vectors, fit(name, data).vectors, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_equal_input_gives_equal_output(data: Data, name: str) -> None:
    np.testing.assert_array_equal(fit(name, data).vectors, fit(name, data).vectors)


@pytest.mark.parametrize("name", sorted({*ALL} - {"random"}))
def test_signs_are_fixed(data: Data, few: Data, name: str) -> None:
    for each in (data, few):
        vectors = fit(name, each).vectors
        assert (vectors[0] >= 0).all()


@pytest.mark.parametrize("name", sorted({*ALL} - {"environment_means", "leace", "channels"}))
def test_only_three_projections_with_ranks_look_at_environments(data: Data, name: str) -> None:
    together = fit(name, data.in_one_environment())
    np.testing.assert_allclose(together.vectors, fit(name, data).vectors, atol=1e-8)


@pytest.mark.parametrize("name", ["environment_means", "leace"])
def test_with_one_environment_there_is_nothing_to_remove(data: Data, name: str) -> None:
    alone = data.in_one_environment()
    basis, pca = fit(name, alone), fit("pca", alone, centered=name == "leace")
    np.testing.assert_allclose(basis.vectors, pca.vectors, atol=1e-10)
    np.testing.assert_allclose(spectrum(basis), spectrum(pca), atol=1e-10)


@pytest.mark.parametrize("name", ["environment_means", "leace"])
def test_environments_of_equal_mean_are_not_told_apart(data: Data, name: str) -> None:
    means = np.stack([data.z[data.environments == e].mean(axis=0) for e in range(3)])
    alike = replace(data, z=data.z - means[data.environments] + means[0])
    pca = fit("pca", alike, centered=name == "leace")
    np.testing.assert_allclose(fit(name, alike).vectors, pca.vectors, atol=1e-8)


@pytest.mark.parametrize("name", ALL)
def test_an_environment_without_images_changes_nothing(data: Data, name: str) -> None:
    nothing = {kind: view[:0] for kind, view in data.views.items()}
    empty = Moments.of(data.z[:0], nothing, data.labels[:0], CLASSES)
    sources = SourceMoments({**data.sources.environments, "empty": empty})
    basis = PROJECTIONS.create(name).at(lambda_=0.5, seed=3).fit(sources)
    np.testing.assert_allclose(basis.vectors, fit(name, data).vectors, atol=1e-10)


@pytest.mark.parametrize("name", sorted({*ALL} - {"identity", "random"}))
def test_without_any_image_there_is_no_basis(data: Data, name: str) -> None:
    empty = Moments.of(data.z[:0], {"kind0": data.z[:0]}, data.labels[:0], CLASSES)
    with pytest.raises(ValueError, match="no image"):
        PROJECTIONS.create(name).at(lambda_=0.5, seed=3).fit(SourceMoments({"empty": empty}))


# --- constant embeddings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pca", "environment_means"])
def test_of_constant_embeddings_the_first_direction_is_all_there_is(constant: Data, name: str) -> None:
    basis = fit(name, constant)
    length = np.linalg.norm(constant.z[0])
    np.testing.assert_allclose(np.abs(basis.vectors[:, 0] @ constant.z[0]), length)
    np.testing.assert_allclose(spectrum(basis), [length**2] + [0] * (D - 1), atol=1e-10)
    assert_orthonormal(basis.vectors)


def test_of_constant_embeddings_drop_top_drops_everything(constant: Data) -> None:
    basis = fit("drop_top", constant)
    np.testing.assert_allclose(constant.z @ basis.vectors[:, :-1], 0, atol=1e-10)
    assert_orthonormal(basis.vectors)


def test_of_constant_embeddings_generalized_keeps_the_one_direction_with_a_ratio(constant: Data) -> None:
    basis, b = fit("generalized", constant), constant.c_d + 1e-3 * np.trace(constant.c_d) / D * np.eye(D)
    best = np.linalg.solve(b, constant.z[0])
    assert subspace_angles(basis.vectors[:, :1], best[:, None])[0] < 1e-8
    np.testing.assert_allclose(spectrum(basis), [best @ constant.z[0]] + [0] * (D - 1))
    assert_orthonormal(basis.vectors)


def test_of_constant_embeddings_leace_erases_nothing(constant: Data) -> None:
    basis = fit("leace", constant)
    assert_orthonormal(basis.vectors)
    np.testing.assert_allclose(spectrum(basis), 0, atol=1e-10)


@pytest.mark.parametrize("name", ["identity", "random"])
def test_constant_embeddings_are_like_any_others_to_what_does_not_look(constant: Data, data: Data, name: str) -> None:
    np.testing.assert_array_equal(fit(name, constant).vectors, fit(name, data).vectors)


def test_of_constant_embeddings_icm_weighs_one_direction_against_displacement(constant: Data) -> None:
    values, vectors = np.linalg.eigh(np.outer(constant.z[0], constant.z[0]) - 0.5 * constant.c_d)
    basis = fit("icm", constant)
    assert_same_directions(basis.vectors, vectors[:, ::-1])
    np.testing.assert_allclose(spectrum(basis), values[::-1], atol=1e-9)


# --- one by one ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("regularization", [1e-3, 0.1])
@pytest.mark.parametrize("centered", [False, True])
def test_generalized_spans_what_scipys_generalised_eigenvectors_span(
    data: Data, regularization: float, centered: bool
) -> None:
    a = data.covariance if centered else data.c_z
    values, vectors = eigh(a, data.c_d + regularization * np.trace(data.c_d) / D * np.eye(D))
    basis = Generalized(regularization=regularization, centered=centered).fit(data.sources)
    assert_same_spans(basis.vectors, vectors[:, ::-1], D)
    np.testing.assert_allclose(spectrum(basis), values[::-1], rtol=1e-8)


def test_generalized_with_fewer_images_than_dimensions_orders_the_rest_by_energy(few: Data) -> None:
    values, vectors = eigh(few.c_z, few.c_d + 1e-3 * np.trace(few.c_d) / D * np.eye(D))
    basis = fit("generalized", few)
    assert_same_spans(basis.vectors, vectors[:, ::-1], 7)
    np.testing.assert_allclose(spectrum(basis)[:7], values[:-8:-1], rtol=1e-6)
    np.testing.assert_array_equal(spectrum(basis)[7:], 0)
    assert_ordered_by_energy(basis.vectors[:, 7:], few.c_z)


@pytest.mark.parametrize("k", [1, 3, D - 1])
def test_drop_top_is_scikit_learns_pca_with_the_first_directions_last(data: Data, k: int) -> None:
    pca = decomposition.PCA(svd_solver="full").fit(data.z)
    basis = DropTop(k=k, centered=True).fit(data.sources)
    assert_same_directions(basis.vectors, np.vstack([pca.components_[k:], pca.components_[:k]]).T)
    variances = pca.explained_variance_ * (len(data.z) - 1) / len(data.z)
    np.testing.assert_allclose(spectrum(basis), [*variances[k:], *variances[:k]])


def test_drop_top_uncentred_follows_the_singular_vectors(data: Data) -> None:
    _, s, rows = np.linalg.svd(data.z, full_matrices=False)
    basis = fit("drop_top", data, k=2)
    assert_same_directions(basis.vectors, np.vstack([rows[2:], rows[:2]]).T)
    np.testing.assert_allclose(spectrum(basis), np.array([*s[2:], *s[:2]]) ** 2 / len(data.z))


@pytest.mark.parametrize(
    ("name", "params"),
    [("drop_top", {"k": 0}), ("generalized", {"regularization": 0.0}), ("discriminant", {"regularization": -1.0})],
)
def test_impossible_parameters_are_refused(name: str, params: dict[str, float]) -> None:
    with pytest.raises(IcmBenchError, match="greater than"):
        PROJECTIONS.create({"name": name, **params})


@pytest.mark.parametrize(
    ("name", "params", "change", "message"),
    [
        ("drop_top", {"k": D}, lambda _: {}, "k=12 of D=12"),
        ("generalized", {}, lambda _: {"views": {}}, "needs interventional pairs"),
        ("generalized", {}, lambda d: {"views": dict.fromkeys(d.views, d.z)}, "interventions move no embedding"),
        ("discriminant", {}, lambda d: {"z": np.ones_like(d.z)}, "no scatter within classes"),
        ("discriminant", {}, lambda d: {"labels": np.ones_like(d.labels)}, "at least two classes, not of 1"),
    ],
)
def test_what_is_not_defined_says_so(data: Data, name: str, params: Any, change: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(name, replace(data, **change(data)), **params)


def test_environment_means_is_pca_of_what_is_orthogonal_to_mean_differences(data: Data) -> None:
    differences = data.mean_differences.T
    projector = np.eye(D) - differences @ pinv(differences)
    _, s, rows = np.linalg.svd(data.z @ projector)
    basis = fit("environment_means", data)
    assert_same_directions(basis.vectors[:, :-2], rows[:-2].T)
    np.testing.assert_allclose(spectrum(basis)[:-2], s[:-2] ** 2 / len(data.z))
    assert subspace_angles(basis.vectors[:, -2:], differences[:, :2])[0] < 1e-8
    assert_ordered_by_energy(basis.vectors[:, -2:], data.c_z)
    np.testing.assert_allclose(spectrum(basis), basis.energy(data.c_z))


def test_environment_means_removes_no_more_than_there_is() -> None:
    """More environments than dimensions; and means that lie on one line."""
    crowded = Data.draw((9, 8, 7, 6, 5), dim=4, seed=4)
    basis = fit("environment_means", crowded)
    assert_ordered_by_energy(basis.vectors, crowded.c_z)
    line = Data.draw((50, 40, 30), seed=5)
    shift = np.linspace(0, 1, D)
    line = replace(line, z=line.z - (line.one_hot @ line.mean_differences) + np.outer(line.environments, shift))
    removed = fit("environment_means", line).vectors[:, -1:]
    assert subspace_angles(removed, shift[:, None])[0] < 1e-8
    assert_ordered_by_energy(fit("environment_means", line).vectors[:, :-1], line.c_z)


def test_leace_is_the_published_formula(data: Data, few: Data) -> None:
    root = np.linalg.inv(sqrtm(data.covariance))
    values, u = np.linalg.eigh(data.covariance)
    np.testing.assert_allclose(root, u @ np.diag(values**-0.5) @ u.T, rtol=1e-8, atol=1e-8)
    for each in (data, few):
        vectors = fit("leace", each).vectors
        np.testing.assert_allclose(vectors @ vectors.T, erased_inner_products(each), atol=1e-8)


def test_leace_coordinates_are_uncorrelated_and_in_order_of_their_variance(data: Data) -> None:
    basis = fit("leace", data)
    np.testing.assert_allclose(np.cov((data.z @ basis.vectors).T, bias=True), np.diag(spectrum(basis)), atol=1e-10)
    assert (np.diff(spectrum(basis)) <= 0).all()
    np.testing.assert_array_equal(basis.vectors[:, -2:], 0)
    assert np.abs(basis.vectors[:, :-2]).max(axis=0).min() > 0.1


def test_leace_is_what_the_authors_package_computes(data: Data) -> None:
    concept_erasure = pytest.importorskip("concept_erasure")
    torch = pytest.importorskip("torch")
    fitter = concept_erasure.LeaceFitter.fit(
        torch.tensor(data.z), torch.tensor(data.one_hot),
        # What the package adds to the published formula: shrinkage, a bound on the variance, a coarse tolerance.
        shrinkage=False, constrain_cov_trace=False, svd_tol=1e-6,
    )  # fmt: skip
    eraser, vectors = fitter.eraser.P.numpy(), fit("leace", data).vectors
    np.testing.assert_allclose(vectors @ vectors.T, eraser.T @ eraser, atol=1e-8)


def rank_deficient(data: Data) -> Data:
    """Two coordinates depend on the others: one is constant, one a sum."""
    mixing = np.linalg.qr(np.random.default_rng(6).standard_normal((D, D)))[0]
    singular = np.column_stack([data.z[:, :-2], np.full(len(data.z), 2.0), data.z[:, :3].sum(axis=1)])
    return replace(data, z=singular @ mixing, views={})


@pytest.mark.parametrize("case", ["full", "rank_deficient", "few"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_after_leace_the_environment_is_not_linearly_there(data: Data, few: Data, case: str, dtype: type) -> None:
    each = {"full": data, "rank_deficient": rank_deficient(data), "few": few}[case]
    each = each.map(lambda z: z.astype(dtype))
    basis = fit("leace", each)
    erased = each.z.astype(np.float64) @ basis.vectors
    cross = (erased - erased.mean(axis=0)).T @ each.one_hot / len(erased)
    before = (each.z - each.z.mean(axis=0)).T @ each.one_hot / len(erased)
    assert np.abs(cross).max() < (1e-9 if dtype == np.float64 else 1e-5) * np.abs(before).max()


def test_leace_of_a_rank_deficient_covariance_does_not_depend_on_rounding(data: Data) -> None:
    double = rank_deficient(data)
    exact, rounded = (fit("leace", each).vectors for each in (double, double.map(lambda z: z.astype(np.float32))))
    np.testing.assert_allclose(rounded @ rounded.T, exact @ exact.T, atol=1e-5)


def test_leace_leaves_alone_what_does_not_vary(few: Data) -> None:
    outside = null_space(few.z - few.z.mean(axis=0))
    assert outside.shape == (D, D - 6)
    vectors = fit("leace", few).vectors
    np.testing.assert_allclose(outside.T @ vectors @ vectors.T @ outside, np.eye(D - 6), atol=1e-8)


@pytest.mark.parametrize("regularization", [1e-3, 0.1])
def test_discriminant_spans_what_scipys_generalised_eigenvectors_span(
    data: Data, few: Data, regularization: float
) -> None:
    for each in (data, few):
        centred, present = each.z - each.z.mean(axis=0), np.unique(each.labels)
        means = np.stack([centred[each.labels == c].mean(axis=0) for c in range(CLASSES) if c in present])
        fitted = means[np.searchsorted(present, each.labels)]
        between, within = (x.T @ x / len(x) for x in (fitted, centred - fitted))
        values, vectors = eigh(between, within + regularization * np.trace(within) / D * np.eye(D))
        basis, first = Discriminant(regularization=regularization).fit(each.sources), len(present) - 1
        assert_same_spans(basis.vectors, vectors[:, ::-1], first)
        np.testing.assert_allclose(spectrum(basis)[:first], values[: -first - 1 : -1], rtol=1e-8)
        assert_ordered_by_energy(basis.vectors[:, first:], each.c_z)
        np.testing.assert_allclose(spectrum(basis)[first:], basis.energy(each.c_z)[first:], atol=1e-10)


def test_discriminant_with_little_regularization_is_scikit_learns(data: Data) -> None:
    lda = LinearDiscriminantAnalysis(solver="eigen").fit(data.z, data.labels)
    basis = Discriminant(regularization=1e-12).fit(data.sources)
    assert_same_spans(basis.vectors, lda.scalings_, CLASSES - 1)
    ratios = spectrum(basis)[: CLASSES - 1]
    np.testing.assert_allclose(ratios / ratios.sum(), lda.explained_variance_ratio_, rtol=1e-8)


def test_discriminant_of_classes_with_equal_means_is_pca(data: Data) -> None:
    means = np.stack([data.z[data.labels == c].mean(axis=0) for c in range(CLASSES)])
    alike = replace(data, z=data.z - means[data.labels] + means[0])
    np.testing.assert_allclose(fit("discriminant", alike).vectors, fit("pca", alike).vectors, atol=1e-8)
