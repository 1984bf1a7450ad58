"""Placebos of C_d against their definitions, and uniform ranks of a C_d drawn from the placebo distribution."""

from typing import Any

import numpy as np
import pytest
from scipy import linalg

from benchmark.method.arrays import Array
from benchmark.method.subspace import PROJECTIONS, Moments, SourceMoments, shrinkage_basis
from benchmark.method.subspace.nuisance import between_environments, nuisance
from benchmark.method.subspace.placebos import Borrowed, Matched, Rotated, Shuffled, haar

D = 7


def sources(seed: int = 0, rank: int = D) -> SourceMoments:
    """Two environments with two kinds of intervention; embeddings of some rank."""
    rng = np.random.default_rng(seed)
    span = rng.standard_normal((rank, D))
    environments = {}
    for i, name in enumerate("ab"):
        z = (rng.standard_normal((40, rank)) + i) @ span
        moved = {kind: z + rng.standard_normal((40, 3)) @ span[:3] for kind in ("blur", "grey", "shuffled 1")}
        environments[name] = Moments.of(z, moved)
    return SourceMoments(environments, {"blur": 1.0, "grey": 2.0})


def with_placebo(moments: SourceMoments, placebo: Any) -> SourceMoments:
    return moments.reweighted(moments.weights, placebo)


def root(c: Array, power: float) -> Array:
    values, vectors = np.linalg.eigh(c)
    return np.asarray((vectors * values**power) @ vectors.T)


def test_rotated_and_matched_are_their_formulas() -> None:
    moments = sources()
    c_z, c_d, q = moments.c_z(), moments.c_d(), haar(D, 3, 17)
    np.testing.assert_allclose(q @ q.T, np.eye(D), atol=1e-12)
    rotated, matched = (with_placebo(moments, kind(3, 17)).c_d() for kind in (Rotated, Matched))
    np.testing.assert_allclose(rotated, q @ c_d @ q.T, atol=1e-10)
    whitened = root(c_z, -0.5) @ c_d @ root(c_z, -0.5)
    np.testing.assert_allclose(matched, root(c_z, 0.5) @ q @ whitened @ q.T @ root(c_z, 0.5), atol=1e-9)
    assert np.trace(rotated) == pytest.approx(np.trace(c_d), rel=1e-12)
    np.testing.assert_allclose(linalg.eigvalsh(matched, c_z), linalg.eigvalsh(c_d, c_z), rtol=1e-10, atol=1e-12)
    for placebo in (rotated, matched):
        assert np.linalg.norm(placebo - c_d) > 0.3 * np.linalg.norm(c_d)


def test_random_orthogonal_matrices_are_uniform() -> None:
    drawn = np.array([haar(3, 0, draw) for draw in range(2000)])
    # Entries have mean 0 and variance 1/D, and as many matrices are rotations as reflections.
    assert np.abs(drawn.mean(axis=0)).max() < 5 * np.sqrt(1 / 3 / 2000)
    np.testing.assert_allclose((drawn**2).mean(axis=0), 1 / 3, atol=0.03)
    assert abs((np.linalg.det(drawn) > 0).mean() - 0.5) < 5 * np.sqrt(0.25 / 2000)


def test_matched_keeps_generalised_eigenvalues_where_c_z_is_singular() -> None:
    moments = sources(rank=5)
    matched = with_placebo(moments, Matched(0, 1)).c_d()
    span = np.linalg.svd(moments.c_z())[0][:, :5]
    within = [linalg.eigvalsh(span.T @ c @ span, span.T @ moments.c_z() @ span) for c in (matched, moments.c_d())]
    np.testing.assert_allclose(within[0], within[1], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(span @ span.T @ matched, matched, atol=1e-9)


def test_a_draw_is_the_same_matrix_and_other_draws_are_others() -> None:
    np.testing.assert_array_equal(haar(D, 0, 1), haar(D, 0, 1))
    assert not np.allclose(haar(D, 0, 1), haar(D, 0, 2))
    assert not np.allclose(haar(D, 0, 1), haar(D, 1, 1))


def test_borrowed_and_shuffled_have_the_trace_of_the_real_one_and_their_own_directions() -> None:
    moments, other = sources(0), sources(9).c_d()
    t = np.trace(moments.c_d())
    np.testing.assert_allclose(with_placebo(moments, Borrowed(other)).c_d(), t / np.trace(other) * other, atol=1e-12)
    shuffled = moments.differences("shuffled 1").moment()
    placebo = with_placebo(moments, Shuffled("shuffled 1"))
    np.testing.assert_allclose(placebo.c_d(), t / np.trace(shuffled) * shuffled, atol=1e-12)
    with pytest.raises(ValueError, match="do not differ"):
        with_placebo(moments, Borrowed(np.zeros((D, D)))).c_d()


@pytest.mark.parametrize("placebo", [Rotated(0, 1), Matched(0, 1), Borrowed(sources(9).c_d()), Shuffled("shuffled 1")])
def test_a_placebo_replaces_c_d_and_keeps_b(placebo: Any) -> None:
    moments = sources()
    t, b = np.trace(moments.c_d()), between_environments(moments)
    instead = with_placebo(moments, placebo)
    np.testing.assert_allclose(nuisance(instead, "both") - instead.c_d(), t * b / np.trace(b), atol=1e-9)
    np.testing.assert_allclose(nuisance(instead, "environments"), nuisance(moments, "environments"), atol=1e-12)
    np.testing.assert_allclose(nuisance(instead, "interventions"), instead.c_d(), atol=1e-12)


def test_what_is_remembered_of_one_placebo_is_not_taken_for_another() -> None:
    moments = sources()
    icm = PROJECTIONS.create("icm").at(lambda_=2.0)
    for placebo in (None, Rotated(0, 1), Rotated(0, 2), Matched(0, 2), Borrowed(sources(9).c_d()), None, Rotated(0, 1)):
        alone = with_placebo(sources(), placebo)
        instead = with_placebo(moments, placebo)  # shares what the others have left
        np.testing.assert_allclose(
            shrinkage_basis(instead, 3.0, "both").vectors, shrinkage_basis(alone, 3.0, "both").vectors, atol=1e-9
        )
        np.testing.assert_allclose(icm.fit(instead).spectrum, icm.fit(alone).spectrum, atol=1e-9)  # type: ignore[arg-type]


def test_which_projections_take_placebos() -> None:
    def taken(spec: Any) -> bool:
        return PROJECTIONS.create(spec).takes_placebo

    assert {name for name in PROJECTIONS.names() if taken(name)} == {"icm", "shrinkage"}
    assert taken({"name": "shrinkage", "sides": "texts"})
    for spec in ({"name": "icm", "order": "released"}, {"name": "shrinkage", "nuisance": "environments"}):
        assert not taken(spec)
    settings = PROJECTIONS.create("shrinkage").settings
    assert [s.params["nuisance"] for s in settings if s.takes_placebo] == ["interventions", "both"]
