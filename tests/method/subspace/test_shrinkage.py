"""Shrinkage against its formula, its limits, and LEACE."""

from typing import Any, cast

import numpy as np
import pytest
from scipy.linalg import null_space, sqrtm
from sklearn.covariance import oas as sklearn_oas

from benchmark.method.arrays import Array
from benchmark.method.subspace import PROJECTIONS, SourceMoments, shrinkage_basis
from benchmark.method.subspace.nuisance import Nuisance, nuisance
from benchmark.method.subspace.shrinkage import Filter, oas
from tests.method.subspace.test_rivals import D, Data

KINDS: tuple[Nuisance, ...] = (
    "interventions", "environments", "both", "isotropic", "isotropic_environments", "within_classes", "within_cells",
)  # fmt: skip


def sources() -> SourceMoments:
    return Data().sources


def stated(name: Nuisance) -> tuple[Array, Array]:
    """Return C_z and N, from their definitions."""
    return Data().c_z, Data().nuisance(name)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("lambda_", [0.03, 1.0, 30.0])
def test_it_is_the_formula(name: Nuisance, lambda_: float) -> None:
    c_z, n = stated(name)
    f = c_z @ np.linalg.inv(c_z + lambda_ * n)
    root = np.real(sqrtm(f))
    np.testing.assert_allclose(root @ root, f, atol=1e-10)
    of_images, of_texts, both = (shrinkage_basis(sources(), lambda_, name, s) for s in ("images", "texts", "symmetric"))
    np.testing.assert_allclose(of_images.vectors.T, f, atol=1e-10)
    np.testing.assert_allclose(of_images.texts, np.eye(D))
    np.testing.assert_allclose(of_texts.vectors, np.eye(D))
    np.testing.assert_allclose(of_texts.texts.T, f.T, atol=1e-10)
    one, other = (basis.vectors @ basis.texts.T for basis in (of_images, of_texts))  # z' (this) t
    np.testing.assert_allclose(one, other, atol=1e-10)
    np.testing.assert_allclose(both.vectors.T, root, atol=1e-10)
    np.testing.assert_allclose(both.texts, both.vectors)


@pytest.mark.parametrize("name", ["both", "interventions", "environments", "within_classes"])
def test_oas_is_that_of_scikit_learn(name: Nuisance) -> None:
    data = Data()
    z, n = np.vstack([*data.z.values()]), sources().images.n
    of_z = sklearn_oas(z, assume_centered=True)[0]
    np.testing.assert_allclose(oas(data.c_z, n), of_z, rtol=1e-12)
    nuisances = data.nuisance(name)
    if name == "within_classes":
        nuisances = oas(nuisances, n)
    elif name != "environments":
        nuisances = nuisances + oas(c_d := data.nuisance("interventions"), n) - c_d
    expected = of_z @ np.linalg.inv(of_z + 3.0 * nuisances)
    found = shrinkage_basis(sources(), 3.0, name, "images", "oas").vectors.T
    np.testing.assert_allclose(found, expected, atol=1e-10)
    assert abs(found - shrinkage_basis(sources(), 3.0, name, "images").vectors.T).max() > 1e-4


def test_oas_keeps_the_trace_and_takes_a_multiple_of_the_identity_as_it_is() -> None:
    c = Data().c_z
    assert np.trace(oas(c, 7)) == pytest.approx(np.trace(c))
    np.testing.assert_allclose(oas(np.eye(4) * 3, 7), np.eye(4) * 3)
    np.testing.assert_allclose(oas(c, 10**9), c, rtol=1e-6, atol=1e-8)


def test_lambda_zero_is_the_plain_space_and_shrinking_stays_between_0_and_1() -> None:
    c_z, n = stated("both")
    shrinking = Filter.of(c_z, n)
    np.testing.assert_array_equal(shrinking.power(0.0), np.eye(D))
    for lambda_ in (0.1, 10.0, 1e6):
        kept = np.linalg.eigvals(shrinking.power(lambda_)).real
        assert kept.min() >= -1e-9
        assert kept.max() <= 1 + 1e-9


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_scale_of_embeddings_does_not_matter(name: Nuisance, scale: float) -> None:
    one, other = (shrinkage_basis(Data(scale=s).sources, 3.0, name).vectors for s in (1.0, scale))
    np.testing.assert_allclose(other, one, atol=1e-9)


def test_for_a_large_lambda_it_is_the_oblique_projection_onto_what_is_no_nuisance() -> None:
    c_z, n = stated("interventions")  # three directions are moved
    v = null_space(n, rcond=1e-10)
    assert v.shape == (D, D - 3)
    oblique = c_z @ v @ np.linalg.inv(v.T @ c_z @ v) @ v.T
    np.testing.assert_allclose(Filter.of(c_z, n).power(1e12), oblique, atol=1e-8)


def test_with_centred_moments_and_weighted_means_that_is_leace() -> None:
    z = Data().z
    every, label = np.concatenate(list(z.values())), np.repeat(np.arange(len(z)), [len(x) for x in z.values()])
    centred = every - every.mean(axis=0)
    means = np.stack([centred[label == e].mean(axis=0) for e in range(len(z))])
    # LEACE whitens and removes the span of the cross-covariance with the label: means weighted by their images.
    between = (means * np.bincount(label)[:, None] / len(label)).T @ means
    torch, concept_erasure = pytest.importorskip("torch"), pytest.importorskip("concept_erasure")
    one_hot = torch.tensor(np.eye(len(z))[label])
    fitter = concept_erasure.LeaceFitter.fit(
        torch.tensor(every), one_hot, shrinkage=False, constrain_cov_trace=False, svd_tol=1e-6
    )
    limit = Filter.of(centred.T @ centred / len(centred), between).power(1e12)
    np.testing.assert_allclose(limit, fitter.eraser.P.numpy(), atol=1e-6)


@pytest.mark.parametrize("p", [0.5, 1.0])
def test_singular_moments_give_the_limit(p: float) -> None:
    rng = np.random.default_rng(3)
    few, other = rng.standard_normal((D, 5)), rng.standard_normal((D, 3))
    c_z = few @ few.T / 5  # rank 5
    n = other @ other.T / 3 + 0.3 * few[:, :2] @ few[:, :2].T  # 3 directions outside of C_z, 2 inside; 4 in neither
    limit = Filter.of(c_z, n).power(2.0, p)
    scale = np.trace(c_z)
    regular = [c_z + eps * scale * np.eye(D) for eps in (1e-7, 1e-8)]
    of_regular = [m @ np.linalg.inv(m + 2.0 * n) for m in regular]
    near = of_regular if p == 1 else [np.real(sqrtm(f)) for f in of_regular]
    # What is left at eps shrinks with its root, or with eps: extrapolated, it is the limit.
    step = 10**p
    np.testing.assert_allclose((step * near[1] - near[0]) / (step - 1), limit, atol=2e-5)
    neither = null_space(np.hstack([few, other]).T)
    np.testing.assert_allclose(limit @ neither, neither, atol=1e-10)
    only_n = null_space(np.hstack([few, neither]).T)
    np.testing.assert_allclose(null_space(few.T).T @ limit @ only_n, 0, atol=1e-10)


def test_one_environment_has_no_means_that_differ() -> None:
    single = SourceMoments({"a": sources().environments["a"]})
    for name in ("environments", "both", "isotropic_environments"):
        with pytest.raises(ValueError, match="two source environments"):
            nuisance(single, cast(Any, name))
        assert PROJECTIONS.create({"name": "icm", "nuisance": "both"}).min_sources == 2
    assert PROJECTIONS.create({"name": "shrinkage", "nuisance": "interventions"}).fit(single).vectors.shape == (D, D)


def test_truncation_takes_the_same_nuisance() -> None:
    c_z, n = stated("both")
    basis = PROJECTIONS.create({"name": "icm", "nuisance": "both"}).at(lambda_=2.0).fit(sources())
    values, vectors = np.linalg.eigh(c_z - 2.0 * n)
    assert basis.spectrum is not None
    np.testing.assert_allclose(basis.spectrum, values[::-1], atol=1e-9)
    np.testing.assert_allclose(np.abs(np.sum(basis.vectors * vectors[:, ::-1], axis=0)), 1, atol=1e-8)


def test_what_is_a_method_of_its_own_says_so() -> None:
    create = PROJECTIONS.create
    assert [create(name).variant for name in ("shrinkage", "icm")] == ["", ""]
    assert create({"name": "shrinkage", "sides": "images"}).variant == "images"
    assert create({"name": "shrinkage", "nuisance": ["environments"]}).variant == "environments"
    assert create({"name": "icm", "nuisance": ["both", "interventions", "environments"]}).variant == "equal N"
    assert create("fixed").own_lambdas == (10.0,)
    with pytest.raises(ValueError, match="candidates of a rule"):
        create("shrinkage").fit(sources())
