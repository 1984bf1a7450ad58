"""Every rival of shrinkage against its formula, in NumPy and scikit-learn."""

from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import fractional_matrix_power
from sklearn.linear_model import Ridge

from benchmark.common.errors import IcmBenchError
from benchmark.method.subspace import PROJECTIONS, Basis, Differences, Moments, SourceMoments
from benchmark.method.subspace.nuisance import Chosen, Nuisance

D, CLASSES = 12, 3
Array = NDArray[np.float64]
KINDS: tuple[Chosen, ...] = ("interventions", "environments", "both")


class Data:
    """Embeddings, intervened ones (two kinds) and labels of three environments of different sizes."""

    def __init__(self, seed: int = 0, scale: float = 1.0) -> None:
        rng = np.random.default_rng(seed)
        sizes, mixing, moved = {"a": 40, "b": 70, "c": 55}, rng.standard_normal((D, D)), rng.standard_normal((3, D))
        self.labels = {e: np.arange(n) % CLASSES for e, n in sizes.items()}
        centres = 2 * rng.standard_normal((CLASSES, D))
        shift = {e: rng.standard_normal((1 + CLASSES, D)) for e in sizes}
        drawn = {e: centres[y] + shift[e][y] + rng.standard_normal((len(y), D)) for e, y in self.labels.items()}
        self.z = {e: scale * (x @ mixing + shift[e][-1]) for e, x in drawn.items()}
        self.views = [
            {e: x + scale * strength * rng.standard_normal((len(x), 3)) @ moved for e, x in self.z.items()}
            for strength in (1.0, 0.5)
        ]
        self.every = np.concatenate(list(self.z.values()))
        self.moved = [np.concatenate(list(view.values())) for view in self.views]

    @property
    def sources(self) -> SourceMoments:
        kinds = {e: {f"kind{i}": view[e] for i, view in enumerate(self.views)} for e in self.z}
        return SourceMoments({e: Moments.of(z, kinds[e], self.labels[e], CLASSES) for e, z in self.z.items()})

    @property
    def c_z(self) -> Array:
        return self.every.T @ self.every / len(self.every)

    def nuisance(self, name: Nuisance) -> Array:
        """N, from its definition."""
        c_d = sum((self.every - v).T @ (self.every - v) / len(v) for v in self.moved) / len(self.moved)
        label = np.concatenate(list(self.labels.values()))
        cell = label + CLASSES * np.repeat(np.arange(len(self.z)), [len(x) for x in self.z.values()])

        def within(part: NDArray[np.int64]) -> Array:
            apart = self.every - np.stack([self.every[part == c].mean(axis=0) for c in range(part.max() + 1)])[part]
            return np.asarray(apart.T @ apart)

        b = np.cov(np.stack([x.mean(axis=0) for x in self.z.values()]).T, bias=True)
        b, eye, c_w, of_cells = (np.trace(c_d) * n / np.trace(n) for n in (b, np.eye(D), within(label), within(cell)))
        n = {"interventions": c_d, "environments": b, "both": c_d + b, "isotropic": eye,
             "isotropic_environments": eye + b, "within_classes": c_w, "within_cells": of_cells}  # fmt: skip
        return np.asarray(n[name])


def fit(data: Data, name: str, lambda_: float | None = None, **params: Any) -> Basis:
    return PROJECTIONS.create({"name": name, **params}).at(lambda_=lambda_).fit(data.sources)


# --- calibrated projection -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("lambda_", [0.0, 0.03, 30.0])
def test_calibrated_is_the_formula_on_texts_and_its_root_on_both_sides(name: Chosen, lambda_: float) -> None:
    data = Data()
    g = np.linalg.inv(np.eye(D) + lambda_ * data.nuisance(name) * D / np.trace(data.c_z))
    of_texts = fit(data, "calibrated", lambda_, nuisance=name)
    np.testing.assert_allclose(of_texts.texts, g, atol=1e-10)
    np.testing.assert_array_equal(of_texts.vectors, np.eye(D))
    both = fit(data, "calibrated", lambda_, nuisance=name, sides="symmetric")
    np.testing.assert_allclose(both.vectors, fractional_matrix_power(g, 0.5), atol=1e-10)
    np.testing.assert_allclose(both.texts, both.vectors)
    of_images = fit(data, "calibrated", lambda_, nuisance=name, sides="images")
    np.testing.assert_allclose(of_images.vectors, g, atol=1e-10)


def test_calibrated_minimises_distance_and_movement() -> None:
    """|P - I|^2 + lambda D / tr(C_z) tr(P N P'): no step away from it is better."""
    data, rng = Data(), np.random.default_rng(0)
    weight, n = 3.0 * D / np.trace(data.c_z), data.nuisance("both")

    def cost(p: Array) -> float:
        return float(((p - np.eye(D)) ** 2).sum() + weight * np.trace(p @ n @ p.T))

    best = fit(data, "calibrated", 3.0, nuisance="both").texts
    for step in (1e-2, 1e-4):
        assert all(cost(best + step * rng.standard_normal((D, D))) > cost(best) for _ in range(20))


# --- least-squares denoiser -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lambda_", [1e-6, 0.1, 3.0])
def test_the_denoiser_is_the_ridge_regression_of_originals_on_their_views(lambda_: float) -> None:
    data = Data()
    z, z_do = np.concatenate([data.every] * 2), np.concatenate(data.moved)  # two kinds that count alike
    w = z.T @ z_do @ np.linalg.inv(z_do.T @ z_do + lambda_ * np.trace(z_do.T @ z_do) / D * np.eye(D))
    basis = fit(data, "denoiser", lambda_)
    np.testing.assert_allclose(basis.of_images(data.every), data.every @ w.T, atol=1e-8)
    np.testing.assert_array_equal(basis.texts, np.eye(D))
    ridge = Ridge(alpha=lambda_ * np.trace(z_do.T @ z_do) / D, fit_intercept=False).fit(z_do, z)
    np.testing.assert_allclose(basis.vectors.T, ridge.coef_, atol=1e-8)


def test_the_denoiser_weighs_the_kinds_as_the_intervention_set_does() -> None:
    data = Data()
    z, (z_0, z_1) = data.every, data.moved
    cross, inner = z.T @ (3 * z_0 + z_1), 3 * z_0.T @ z_0 + z_1.T @ z_1
    w = cross @ np.linalg.inv(inner + 0.1 * np.trace(inner) / D * np.eye(D))
    of_set = data.sources.reweighted({"kind0": 3.0, "kind1": 1.0})
    np.testing.assert_allclose(PROJECTIONS.create("denoiser").at(lambda_=0.1).fit(of_set).vectors.T, w, atol=1e-9)


def test_the_denoiser_needs_views() -> None:
    data = Data()
    texts = Differences.of(data.every - data.moved[0])
    only_texts = SourceMoments(data.sources.environments, {"text": 1.0}, {"text": texts})
    with pytest.raises(ValueError, match="'text' is no such kind"):
        PROJECTIONS.create("denoiser").fit(only_texts)


# --- nuisance attribute projection -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("j", [0, 1, 2])
def test_nap_takes_the_leading_eigenvectors_of_the_nuisance_away(name: Chosen, j: int) -> None:
    data = Data()
    u = np.linalg.svd(data.nuisance(name))[0][:, :j]
    basis = fit(data, "nap", nuisance=name, removed=j)
    np.testing.assert_allclose(basis.vectors, np.eye(D) - u @ u.T, atol=1e-9)
    np.testing.assert_array_equal(basis.texts, basis.vectors)


def test_nap_never_removes_what_holds_no_nuisance_nor_the_last_direction() -> None:
    data = Data()
    two, eight = (fit(data, "nap", nuisance="environments", removed=j).vectors for j in (2, 8))
    np.testing.assert_allclose(eight, two)  # three environments differ in two directions
    np.testing.assert_allclose(np.trace(fit(data, "nap", nuisance="interventions", removed=64).vectors), D - 3)
    full = Data()
    full.views = [{e: x + np.random.default_rng(4).standard_normal(x.shape) for e, x in full.z.items()}]
    np.testing.assert_allclose(np.trace(fit(full, "nap", nuisance="interventions", removed=64).vectors), 1)


def test_nap_has_a_grid_of_numbers_and_nuisances_that_remove_least_first() -> None:
    nap = PROJECTIONS.create("nap")
    assert [(cast(Any, s).removed, cast(Any, s).nuisance) for s in nap.settings][:4] == [
        (0, "interventions"), (0, "environments"), (0, "both"), (1, "interventions")]  # fmt: skip
    assert len(nap.settings) == 8 * 3
    assert not nap.uses_lambda
    assert PROJECTIONS.create({"name": "nap", "nuisance": "environments"}).variant == "environments"
    with pytest.raises(ValueError, match="candidates of a rule"):
        nap.fit(Data().sources)


# --- centring --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_centring_subtracts_a_share_of_the_mean_from_images_and_from_texts(share: float) -> None:
    data = Data()
    text = np.random.default_rng(1).standard_normal((5, D))
    images, texts = data.every - share * data.every.mean(axis=0), text - share * text.mean(axis=0)
    for sides, moved in {"symmetric": (1, 1), "images": (1, 0), "texts": (0, 1)}.items():
        basis = fit(data, "centring", share, sides=sides)
        np.testing.assert_allclose(basis.of_images(data.every), images if moved[0] else data.every, atol=1e-12)
        np.testing.assert_allclose(basis.of_texts(text), texts if moved[1] else text, atol=1e-12)


def test_a_share_is_between_0_and_1() -> None:
    with pytest.raises(IcmBenchError, match="lambdas"):
        PROJECTIONS.create({"name": "centring", "lambdas": [0.0, 2.0]})


# --- channels --------------------------------------------------------------------------------------------------------


def test_channels_are_in_order_of_the_variance_of_classes_over_that_of_environments() -> None:
    data = Data()
    means = np.stack([[data.z[e][data.labels[e] == c].mean(axis=0) for c in range(CLASSES)] for e in data.z])
    ratio = means.var(axis=1).mean(axis=0) / means.var(axis=0).mean(axis=0)
    basis = fit(data, "channels")
    order = np.argsort(-ratio)
    np.testing.assert_array_equal(basis.vectors, np.eye(D)[:, order])
    np.testing.assert_allclose(cast(Array, basis.spectrum), ratio[order], rtol=1e-9)


def test_channels_leave_out_what_is_missing_and_say_what_they_need() -> None:
    data = Data()
    for e in "ac":  # class 0 is in b alone
        there = data.labels[e] != 0
        data.z[e], data.labels[e] = data.z[e][there], data.labels[e][there]
    data.views = []
    mean = {(e, c): data.z[e][y == c].mean(axis=0) for e, y in data.labels.items() for c in np.unique(y)}
    of_environments = [np.var([m for (_, of), m in mean.items() if of == c], axis=0) for c in (1, 2)]
    of_classes = [np.var([m for (of, _), m in mean.items() if of == e], axis=0) for e in "abc"]
    ratio = np.mean(of_classes, axis=0) / np.mean(of_environments, axis=0)
    np.testing.assert_allclose(cast(Array, fit(data, "channels").spectrum), np.sort(ratio)[::-1], rtol=1e-9)
    alone = SourceMoments({"a": data.sources.environments["a"]})
    with pytest.raises(ValueError, match="two environments with images of one class"):
        PROJECTIONS.create("channels").fit(alone)
    assert PROJECTIONS.create("channels").min_sources == 2
    data.labels = {e: np.zeros_like(y) for e, y in data.labels.items()}
    with pytest.raises(ValueError, match="images of two classes in an environment"):
        fit(data, "channels")


# --- all of them -----------------------------------------------------------------------------------------------------

ALL: list[dict[str, Any]] = [{"name": name} for name in ("calibrated", "denoiser", "nap", "centring", "channels")]
ALL += [{"name": "calibrated", "sides": "symmetric"}]


@pytest.mark.parametrize("spec", ALL, ids=str)
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_scale_of_embeddings_does_not_matter(spec: dict[str, Any], scale: float) -> None:
    """Cosines of images and texts stay: each map is the same up to a factor, and an offset grows with the embeddings."""
    text = np.random.default_rng(1).standard_normal((5, D))
    for setting in PROJECTIONS.create(spec).settings:
        plain, other = (setting.at(lambda_=0.7).fit(Data(scale=s).sources) for s in (1.0, scale))
        images = other.of_images(scale * Data().every) / scale
        np.testing.assert_allclose(images, plain.of_images(Data().every), atol=1e-8)
        np.testing.assert_allclose(other.of_texts(text), plain.of_texts(text), atol=1e-8)


@pytest.mark.parametrize("spec", [spec for spec in ALL if spec["name"] not in ("channels", "denoiser")], ids=str)
def test_the_grid_is_as_large_as_shrinkages_and_begins_with_the_plain_space(spec: dict[str, Any]) -> None:
    projection = PROJECTIONS.create(spec)
    lambdas = projection.own_lambdas or (0.0,)
    assert len(lambdas) * len({getattr(setting, "removed", 0) for setting in projection.settings}) == 8
    first = projection.settings[0].at(lambda_=lambdas[0]).fit(Data().sources)
    np.testing.assert_allclose(first.of_images(Data().every), Data().every, atol=1e-12)
    np.testing.assert_allclose(first.of_texts(np.eye(D)), np.eye(D), atol=1e-12)
    assert projection.full_rank_only
    assert len(PROJECTIONS.create("denoiser").own_lambdas or ()) == 8  # whose formula has no plain space
