"""`InvariantProjection` and `Shrinkage` as scikit-learn estimators, and their errors."""

from contextlib import suppress
from unittest import SkipTest

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from sklearn.utils.estimator_checks import estimator_checks_generator

from benchmark.method.subspace import (
    Basis,
    InvariantProjection,
    Moments,
    Projection,
    Shrinkage,
    SourceMoments,
    invariant_basis,
    shrinkage_basis,
)
from benchmark.method.subspace.baselines.plain import PCA, RandomOrthonormal
from benchmark.method.subspace.invariant import ICM


@pytest.fixture
def pairs() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    z = rng.standard_normal((50, 8)) @ rng.standard_normal((8, 8))
    return z, z + rng.standard_normal((50, 8))


@pytest.mark.parametrize(
    # These need neither pairs nor environments, so scikit-learn's own checks can call fit(X).
    "estimator",
    [InvariantProjection(lambda_=0.0), Shrinkage(lambda_=0.0), Shrinkage(nuisance="isotropic")],
)
def test_follows_the_conventions_of_scikit_learn(estimator) -> None:  # type: ignore[no-untyped-def]
    for checked, check in estimator_checks_generator(estimator):
        with suppress(SkipTest):  # of the one check that is skipped, not of those after it
            check(checked)


def test_clone_pipeline_and_shapes(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    z, z_do = pairs
    projection = clone(InvariantProjection(lambda_=2.0, rank=3)).fit(z, Z_do=z_do)
    assert projection.transform(z).shape == (50, 3)
    np.testing.assert_allclose(projection.components_ @ projection.components_.T, np.eye(3), atol=1e-12)
    pipeline = make_pipeline(Normalizer(), InvariantProjection(lambda_=0.0, rank=2)).fit(z)
    assert pipeline.transform(z).shape == (50, 2)


def test_from_moments_is_the_same_object(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    z, z_do = pairs
    direct = InvariantProjection(lambda_=2.0, rank=3).fit(z, z_do)
    indirect = InvariantProjection.from_moments(Moments.of(z, {"do": z_do}), lambda_=2.0, rank=3)
    np.testing.assert_array_equal(direct.components_, indirect.components_)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"rank": 9}, "rank=9 is not between 1 and D=8"),
        ({"rank": 0}, "rank=0 is not between 1 and D=8"),
        ({"lambda_": -1.0}, "negative"),
        ({"order": "smallest"}, "neither 'largest' nor 'released'"),
    ],
)
def test_impossible_parameters_are_refused(pairs, params, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        InvariantProjection(**params).fit(*pairs)


def test_impossible_data_are_refused(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    z, z_do = pairs
    with pytest.raises(ValueError, match="needs interventional pairs"):
        InvariantProjection(lambda_=1.0).fit(z)
    with pytest.raises(ValueError, match="pairs need the same shape"):
        InvariantProjection().fit(z, z_do[:-1])
    z_do[3, 2] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        InvariantProjection().fit(z, z_do)


def test_another_seed_gives_another_random_basis(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    moments = Moments.of(pairs[0])
    bases = [RandomOrthonormal(seed=seed).fit(SourceMoments({"a": moments})).vectors for seed in (0, 1)]
    assert np.abs(bases[0] - bases[1]).max() > 0.1


def test_what_a_sweep_sets_reaches_the_fit_and_no_recipe(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    sources = SourceMoments({"a": Moments.of(pairs[0], {"do": pairs[1]})})
    released = ICM(order="released")
    swept = released.at(lambda_=3.0, seed=5)
    assert swept == ICM(order="released", lambda_=3.0)  # it draws nothing: the seed is ignored
    assert swept.at(seed=6) == swept
    assert (swept.label, swept.params, swept.model_dump()) == (released.label, released.params, released.model_dump())
    assert swept.model_dump() == {"name": "icm", "order": "released", "centered": False, "nuisance": "interventions"}
    np.testing.assert_array_equal(swept.fit(sources).vectors, invariant_basis(sources, 3.0, "released").vectors)
    assert [p.uses_lambda for p in (swept, PCA(), RandomOrthonormal())] == [True, False, False]
    assert PCA(centered=True).at(lambda_=3.0, seed=5) == PCA(centered=True)
    assert RandomOrthonormal().at(lambda_=3.0, seed=5) == RandomOrthonormal(seed=5)
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        released.at(lambda_=-1.0)


@pytest.mark.parametrize("nuisance", ["interventions", "environments", "both", "isotropic", "within_classes"])
@pytest.mark.parametrize("sides", ["symmetric", "images", "texts"])
def test_shrinkage_maps_images_and_texts_as_its_basis(pairs, nuisance, sides) -> None:  # type: ignore[no-untyped-def]
    z, z_do = pairs
    environments, classes = np.array(["a", "b", "c"])[np.arange(50) % 3], np.arange(50) % 2
    parts = {e: Moments.of(z[m], {"do": z_do[m]}, classes[m], 2) for e in "abc" for m in [environments == e]}
    basis = shrinkage_basis(SourceMoments(parts), 3.0, nuisance, sides)
    estimator = clone(Shrinkage(lambda_=3.0, nuisance=nuisance, sides=sides))
    estimator.fit(z, y=classes, Z_do=z_do, environments=environments)
    np.testing.assert_allclose(estimator.transform(z), z @ basis.vectors, atol=1e-9)
    np.testing.assert_allclose(estimator.transform_texts(z[:5] + 1), (z[:5] + 1) @ basis.texts, atol=1e-9)


def test_shrinkage_from_moments_is_the_same_object(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    z, z_do = pairs
    environments = np.arange(50) < 20
    direct = Shrinkage(lambda_=2.0).fit(z, Z_do=z_do, environments=environments)
    parts = {str(e): Moments.of(z[environments == e], {"do": z_do[environments == e]}) for e in (False, True)}
    indirect = Shrinkage.from_moments(SourceMoments(parts), lambda_=2.0)
    np.testing.assert_allclose(direct.components_, indirect.components_, atol=1e-12)
    plain = Shrinkage(lambda_=0.0).fit(z)  # nothing of N is needed where it has no weight
    np.testing.assert_array_equal(plain.transform(z), z)
    pipeline = make_pipeline(Normalizer(), Shrinkage(nuisance="isotropic")).fit(z)
    assert pipeline.transform(z).shape == (50, 8)


@pytest.mark.parametrize(
    ("params", "given", "message"),
    [
        ({"lambda_": -1.0}, {}, "negative"),
        ({"lambda_": float("nan")}, {}, "negative"),
        ({"nuisance": "styles"}, {}, "nuisance='styles' is none of interventions, environments, both"),
        ({"nuisance": "isotropic", "sides": "both"}, {}, "sides='both' is none of symmetric, images, texts"),
        ({"nuisance": "interventions"}, {}, "no interventional pairs|needs interventional pairs"),
        ({"nuisance": "environments"}, {}, "needs two source environments"),
        ({"nuisance": "within_classes"}, {}, "within_classes needs the class of each image: give y"),
        ({"nuisance": "isotropic"}, {"Z_do": np.ones((49, 8))}, "pairs need the same shape"),
        ({"nuisance": "isotropic"}, {"environments": [1, 2]}, r"environments has shape \(2,\)"),
    ],
)
def test_shrinkage_refuses_what_cannot_be(pairs, params, given, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        Shrinkage(**params).fit(pairs[0], **given)


class OwnProjection(Projection):
    """A user's own, with a parameter and with what a sweep sets."""

    strength: float = 1.0
    lambda_: float = 1.0
    seed: int = 0

    def fit(self, sources: SourceMoments) -> Basis:
        return Basis(np.eye(sources.dim) * self.strength * self.lambda_ * self.seed)


def test_a_projection_of_the_users_own_is_swept_by_having_the_fields() -> None:
    own = OwnProjection(strength=2.0)
    swept = own.at(lambda_=3.0, seed=5)
    assert own.uses_lambda
    assert (swept.strength, swept.lambda_, swept.seed) == (2.0, 3.0, 5)
    assert swept.label == own.label == f"{__name__}:OwnProjection(strength=2.0)"
    assert swept.at(seed=6).lambda_ == 3.0


def test_spectra_are_in_the_order_that_their_names_promise(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    moments = Moments.of(pairs[0], {"do": pairs[1]})
    largest, released = (invariant_basis(moments, 1.0, order).spectrum for order in ("largest", "released"))
    assert largest is not None
    assert released is not None
    assert (np.diff(largest) <= 0).all()
    np.testing.assert_allclose(largest, released[::-1])
