"""Shrinkage of class texts by factors, without a D x D matrix, against NumPy with the matrix."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from benchmark.method.arrays import Array, unit
from benchmark.method.evaluation.checked import checked_basis
from benchmark.method.evaluation.dot_products import DotProducts
from benchmark.method.predictors.zero_shot import ZeroShot
from benchmark.method.subspace.basis import Basis
from benchmark.method.subspace.shrinkage import Filter, FilteredBasis, Sides, filtered_basis

D, CLASSES, N = 24, 4, 300
SIDES = get_args(Sides)


def moments(rank: int) -> tuple[Array, Array]:
    """C_z of some rank, far from round, and N that has energy outside of it."""
    rng = np.random.default_rng(rank)
    few = rng.standard_normal((D, rank)) * np.geomspace(1, 1e-3, rank)
    other = rng.standard_normal((D, 3))
    return few @ few.T, other @ other.T + few[:, :2] @ few[:, :2].T


def maps(rank: int, lambda_: float, sides: Sides) -> tuple[FilteredBasis, Basis]:
    """The basis in factors, and one of matrices."""
    made = Filter.of(*moments(rank))
    basis = filtered_basis(made, lambda_, sides)
    assert isinstance(basis, FilteredBasis)
    f = made.power(lambda_, 0.5 if sides == "symmetric" else 1.0)
    texts = {"symmetric": None, "images": np.eye(D), "texts": f}[sides]
    return basis, Basis(np.eye(D) if sides == "texts" else f.T, None, texts)


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("rank", [D, 9])
@pytest.mark.parametrize("lambda_", [0.03, 10.0])
def test_texts_and_answers_are_those_of_the_matrices(sides: Sides, rank: int, lambda_: float) -> None:
    basis, formed = maps(rank, lambda_, sides)
    rng = np.random.default_rng(1)
    text, images, labels = rng.standard_normal((CLASSES, D)), rng.standard_normal((N, D)), rng.integers(CLASSES, size=N)
    ours, theirs = basis.of_texts(text), formed.of_texts(text)
    scale = np.abs(theirs).max()
    np.testing.assert_allclose(ours, theirs, atol=1e-11 * scale)
    np.testing.assert_allclose(basis.sums(ours, [D]), formed.sums(theirs, [D]), atol=1e-11 * scale)
    assert (basis.rounding_bounds(ours, [D]) >= formed.rounding_bounds(theirs, [D]) * (1 - 1e-12)).all()
    z, t = images @ formed.vectors, text @ formed.texts
    predicted = (z @ t.T / np.linalg.norm(t, axis=1)).argmax(axis=1)
    factors = ZeroShot().text_factors(ours, (D,))
    assert factors is not None
    dots = DotProducts.of(basis, ours, factors, (D,))
    assert dots is not None
    np.testing.assert_array_equal(
        dots.correct(images.__getitem__, labels, lambda _: predicted[None] == labels), [predicted == labels]
    )
    checked_basis(basis, "shrinkage", D)
    assert not {"_f", "vectors", "text_vectors"} & vars(basis).keys()  # no matrix was formed
    np.testing.assert_array_equal(basis.vectors, formed.vectors)
    np.testing.assert_array_equal(basis.texts, formed.texts)
    np.testing.assert_array_equal(basis.of_images(images), z)


@pytest.mark.parametrize("sides", SIDES)
def test_equal_texts_are_ties_that_are_left_to_who_breaks_them(sides: Sides) -> None:
    basis, _ = maps(D, 3.0, sides)
    text, images = np.random.default_rng(2).standard_normal((2, D)), np.random.default_rng(3).standard_normal((N, D))
    text = basis.of_texts(unit(text))[[0, 1, 0]]
    factors = ZeroShot().text_factors(text, (D,))
    assert factors is not None
    dots, first = DotProducts.of(basis, text, factors, (D,)), (images @ basis.vectors) @ text.T
    assert dots is not None
    right = (first * factors).argmax(axis=1) == 0
    np.testing.assert_array_equal(
        dots.correct(images.__getitem__, np.zeros(N, dtype=int), lambda _: right[None]), [right]
    )
    assert right.any()


def test_a_filter_that_is_not_finite_or_nothing_is_no_basis() -> None:
    made = Filter.of(*moments(D))
    for wrong, reason in ((np.nan, "NaN"), (0.0, "all zero")):
        with pytest.raises(ValueError, match=reason):
            checked_basis(filtered_basis(replace(made, left=made.left * wrong), 1.0, "symmetric"), "shrinkage", D)
