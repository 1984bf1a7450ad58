"""Correctness by truncated dot products, against NumPy: float32 gives the same answers as float64."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmark.method.arrays import Array, Labels, Normalize
from benchmark.method.evaluation.dot_products import Correct, DotProducts
from benchmark.method.evaluation.evaluation import Method
from benchmark.method.evaluation.protocols import PROTOCOLS
from benchmark.method.predictors.zero_shot import ZeroShot
from benchmark.method.subspace import Basis, SourceMoments
from tests.method.predictors.test_reference import D as WIDTH
from tests.method.predictors.test_reference import icm, protocol_of, synthetic
from tests.method.wrapped import Wrapped

D, N, CLASSES = 48, 400, 5
RANKS = {
    "all": range(1, D + 1), "from the third": range(3, D), "every second": range(2, D + 1, 2), "every sixteenth": range(16, D + 1, 16),
    "powers": (4, 8, 16, 32, D), "unequal": (3, 7, 30, D), "last": (D,), "first": (1,),
}  # fmt: skip


def drawn(seed: int = 0) -> tuple[Array, Array, Any, Labels]:
    """Return directions, texts, images and labels: directions are oblique, of unequal length."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((D, D)) * np.geomspace(2, 0.1, D)
    images = rng.standard_normal((N, D)).astype(np.float32)
    return vectors, rng.standard_normal((CLASSES, D)), images, rng.integers(CLASSES, size=N)


def cosines(vectors: Array, text: Array, images: Any, ranks: Any, kind: Any = np.longdouble) -> Any:
    """Return the ranking scores for each rank separately, shape (ranks, n, classes), without shared sums."""
    z, t = images.astype(kind) @ vectors.astype(kind), text.astype(kind)
    return np.stack([z[:, :k] @ t[:, :k].T / np.sqrt((t[:, :k] ** 2).sum(axis=1)) for k in ranks])


def nobody(count: int) -> Correct:
    raise AssertionError(f"there are no ties at the first {count} ranks")


def factors(text: Array, ranks: Any) -> Array:
    of_zero_shot = ZeroShot().text_factors(text, ranks)
    assert of_zero_shot is not None
    return of_zero_shot


def made(vectors: Array, text: Array, ranks: Any) -> DotProducts:
    dots = DotProducts.of(Basis(vectors), text, factors(text, ranks), tuple(ranks))
    assert dots is not None
    return dots


@pytest.mark.parametrize("ranks", RANKS.values(), ids=RANKS)
@pytest.mark.parametrize("scale", [1.0, 1e-36, 1e-20, 1e30])
def test_answers_are_those_of_exact_scores(ranks: Any, scale: float) -> None:
    vectors, text, images, labels = drawn()
    images = images * np.float32(scale)
    expected = cosines(vectors, text, images, ranks).argmax(axis=2) == labels
    # At rank 1 all classes on the image's side are tied.
    found = made(vectors, text, ranks).correct(
        images.__getitem__, labels, (lambda n: expected[:n]) if ranks[0] == 1 else nobody
    )
    np.testing.assert_array_equal(found, expected)
    assert 0.05 < expected.mean() < 0.95


@pytest.mark.parametrize("ranks", [RANKS["from the third"], RANKS["powers"]])
@pytest.mark.parametrize("apart", [1e-4, 1e-7, 1e-10])
def test_near_ties_are_decided_as_exact_scores_do(ranks: Any, apart: float) -> None:
    """Texts come in pairs so alike that float32 cannot tell them apart."""
    vectors, text, images, labels = drawn()
    rng = np.random.default_rng(1)
    text = np.repeat(text, 2, axis=0)
    text = text * (1 + apart * rng.standard_normal(text.shape))
    labels = 2 * labels + rng.integers(2, size=N)
    exact = cosines(vectors, text, images, ranks)
    expected = exact.argmax(axis=2) == labels
    in_double = cosines(vectors, text, images, ranks, np.float64).argmax(axis=2) == labels
    found = made(vectors, text, ranks).correct(images.__getitem__, labels, lambda count: in_double[:count])
    np.testing.assert_array_equal(found, expected)
    in_single = cosines(vectors, text, images, ranks, np.float32).argmax(axis=2) == labels
    assert apart > 1e-6 or (in_single != expected).sum() > 50


@pytest.mark.parametrize("ranks", [RANKS["all"], RANKS["powers"]])
def test_ties_are_left_to_who_knows_how_they_are_broken(ranks: Any) -> None:
    vectors, text, images, labels = drawn()
    text[3] = text[1]
    images[7] = 0
    labels[7] = 0
    expected = cosines(vectors, text, images, ranks, np.float64).argmax(axis=2) == labels
    asked = []

    def ties(count: int) -> Correct:
        asked.append(count)
        return expected[:count]

    found = made(vectors, text, ranks).correct(images.__getitem__, labels, ties)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found[:, 7], True)  # of equals the first
    assert asked == [len(ranks)]


def test_no_margin_is_further_off_than_its_bound() -> None:
    """Images and directions without a negative number, so that no rounding errors cancel."""
    vectors, text, images, labels = drawn()
    vectors, images = abs(vectors), abs(images)
    for ranks in (tuple(RANKS["all"]), RANKS["powers"]):
        dots, exact = made(vectors, text, ranks), cosines(vectors, text, images, ranks)
        lengths = np.linalg.norm(images.astype(np.float64), axis=1)
        own = np.eye(CLASSES, dtype=bool)[labels]
        true = exact[:, own] - np.where(own, -np.inf, exact).max(axis=2)
        for j, margins in enumerate(dots._margins(images, labels)):
            off = abs(margins - true[j :: dots._span])
            bound = np.multiply.outer(dots._bounds[j :: dots._span], lengths)
            assert (off <= bound).all()
            assert off.max() > 1e-4 * bound.max()  # a bound that says something


def test_where_it_is_no_cheaper_there_is_none() -> None:
    vectors, _, _, _ = drawn()
    text = np.random.default_rng(0).standard_normal((200, D))
    assert DotProducts.of(Basis(vectors), text, factors(text, (8, D)), (8, D)) is None


class ByScores(ZeroShot):
    """Zero-shot that is asked for its scores."""


@pytest.mark.parametrize("ranks", [tuple(range(1, WIDTH + 1)), (2, 5, WIDTH)])
@pytest.mark.parametrize("scoring", ["cosine", "released"])
@pytest.mark.parametrize("normalize", ["none", "before", "both"])
@pytest.mark.parametrize("extra", [{}, {"offset": np.full(WIDTH, 0.3), "text_share": 0.5}])
def test_rank_curves_are_those_by_scores(ranks: Any, scoring: Any, normalize: Normalize, extra: Any) -> None:
    data, views = synthetic()
    candidates = {1: np.array([2, 0]), 2: np.array([0, 1, 2])}

    def fit(moments: SourceMoments) -> Basis:
        return Basis(icm(moments).vectors, **extra)

    keep = (data.environment != 1) | (data.label != 1)
    side = {split: of_split[keep] for split, of_split in data.side.items()}
    of_images: dict[str, Any] = {name: getattr(data, name)[keep] for name in ("z", "environment", "label")}
    data = replace(data, **of_images, side=side, candidates=candidates)
    evaluation = protocol_of(data, {kind: view[keep] for kind, view in views.items()}, normalize)
    holdouts = PROTOCOLS.create("held_out").holdouts(data.environments, ["full", "in_80"])
    one, other = (
        list(evaluation.curves(Method(Wrapped(fit), predictor, ranks), holdouts))
        for predictor in (ZeroShot(scoring=scoring), ByScores(scoring=scoring))
    )
    assert len(one) == len(other) == 8
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.correct, b.correct)
        for name in ("metrics", "training_domain", "lodo", "target_out"):
            assert getattr(a, name) == getattr(b, name)
        for rule, calibration in a.scored.items():
            assert calibration.error == pytest.approx(b.scored[rule].error, abs=1e-12)
            assert calibration.temperature == pytest.approx(b.scored[rule].temperature, rel=1e-9)
