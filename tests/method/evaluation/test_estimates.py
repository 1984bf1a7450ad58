"""Estimates of accuracies without labels, against a few lines of NumPy and planted shifts."""

from itertools import combinations
from statistics import NormalDist

import numpy as np
import pytest

from benchmark.method.evaluation.estimates import agreements, aline_estimates, confidence, share_above, threshold


def test_confidence_is_the_largest_probability_or_the_margin() -> None:
    scores = np.array([[2.0, 1.0, 0.0], [0.0, -np.inf, 3.0]])
    largest = np.exp(scores / 2).max(axis=1) / np.exp(scores / 2).sum(axis=1)
    np.testing.assert_allclose(confidence(scores, 2.0), largest, rtol=1e-14)
    np.testing.assert_array_equal(confidence(scores, None), [1.0, 3.0])


@pytest.mark.parametrize("accuracy", [0.0, 0.37, 0.5, 1.0])
def test_as_many_images_lie_above_the_threshold_as_are_right(accuracy: float) -> None:
    sure = np.random.default_rng(0).random(100)
    assert share_above(sure, threshold(sure, accuracy)) == pytest.approx(accuracy)


def test_atc_is_right_where_errors_are_the_images_with_the_lowest_confidence() -> None:
    rng = np.random.default_rng(1)
    source, target = rng.random(4000), rng.random(4000) ** 2  # a shift towards low confidence
    right = lambda sure: np.mean(sure > 0.3)  # noqa: E731
    assert share_above(target, threshold(source, right(source))) == pytest.approx(right(target), abs=0.02)
    assert abs(right(source) - right(target)) > 0.1  # and that is not the sources' accuracy


def test_accuracies_lie_on_the_line_of_agreements() -> None:
    normal = NormalDist()
    line = lambda share: normal.cdf(0.8 * normal.inv_cdf(share) - 0.4)  # noqa: E731  # slope 0.8, bias -0.4
    accuracies, sources = np.array([0.9, 0.7, 0.6, 0.5]), np.array([0.8, 0.7, 0.55, 0.6, 0.5, 0.65])
    targets = np.array([line(share) for share in sources])
    found = aline_estimates(accuracies, sources, targets, (1000, 1000))
    assert found is not None
    np.testing.assert_allclose(found, [line(share) for share in accuracies], rtol=1e-9)


def test_predictors_that_agree_alike_move_by_the_mean_and_two_make_no_line() -> None:
    accuracies, same = np.array([0.8, 0.6, 0.7]), np.full(3, 0.7)
    found = aline_estimates(accuracies, same, same, (100, 100))
    assert found is not None
    np.testing.assert_allclose(found, accuracies, rtol=1e-9)  # nothing shifted
    certain = aline_estimates(np.ones(3), np.ones(3), np.ones(3), (100, 50))
    assert certain is not None
    assert np.isfinite(certain).all()
    assert aline_estimates(accuracies[:2], same[:1], same[:1], (100, 100)) is None


def test_agreements_are_of_pairs() -> None:
    answers = list(np.random.default_rng(2).integers(0, 3, (4, 50)))
    by_hand = [np.mean([a == b for a, b in zip(x, y, strict=True)]) for x, y in combinations(answers, 2)]
    np.testing.assert_allclose(agreements(answers), by_hand)
