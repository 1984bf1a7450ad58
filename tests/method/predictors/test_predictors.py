"""Every predictor against scikit-learn, SciPy or its published formula, and properties of all of them."""

import pickle
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax
from scipy.stats import ortho_group
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.neighbors import NearestCentroid

from benchmark.common.errors import IcmBenchError
from benchmark.method.arrays import Array, unit
from benchmark.method.predictors import PREDICTORS, Problem, clip_adapter, interpolation
from benchmark.method.predictors.base import Predictor
from benchmark.method.predictors.class_means import ClassMeans
from benchmark.method.predictors.clip_adapter import ClipAdapter
from benchmark.method.predictors.few_shot import FewShotProbe, draw_shots
from benchmark.method.predictors.group_dro import GroupDROProbe
from benchmark.method.predictors.interpolation import Interpolation, calibrated_zero_shot
from benchmark.method.predictors.linear_probe import LinearProbe
from benchmark.method.predictors.ridge import Ridge
from benchmark.method.predictors.tip_adapter import TipAdapter
from benchmark.method.predictors.zero_shot import ZeroShot

D, CLASSES, RANKS = 9, 4, (2, 5, 9)

UNTRAINED: list[Predictor] = [ZeroShot(), ZeroShot(scoring="released"), Interpolation(alpha=0, C=1)]
# At full rank they give the same in every basis.
INVARIANT: list[Predictor] = [
    LinearProbe(C=0.316), LinearProbe(C=0.316, penalty="absolute"), GroupDROProbe(C=0.316), Interpolation(C=31.6),
    FewShotProbe(shots=6, C=3.16), TipAdapter(shots=5), Ridge(), ClassMeans(), ClassMeans(metric="euclidean"),
]  # fmt: skip
# They are trained by AdamW, which works coordinate by coordinate.
STOCHASTIC: list[Predictor] = [TipAdapter(shots=5, trained=True, epochs=3), ClipAdapter(epochs=2)]
LEARNING = INVARIANT + STOCHASTIC
ALL = UNTRAINED + LEARNING


def name(predictor: Predictor) -> str:
    return predictor.label


def synthetic(seed: int = 0, n: int = 120, d: int = D, classes: int = CLASSES, **changes: Any) -> Problem:
    """Embeddings with a class part, an environment part and unequal noise, in classes and environments of any size."""
    rng = np.random.default_rng(seed)
    centres, styles, spread = rng.normal(size=(classes, d)), rng.normal(size=(3, d)), rng.uniform(0.5, 2, d)
    offset = rng.normal(size=d)

    def embeddings(count: int) -> tuple[Array, NDArray[np.int64], NDArray[np.int64]]:
        labels = np.minimum(rng.integers(classes + 2, size=count), classes - 1)
        environments = rng.choice(3, p=[0.6, 0.3, 0.1], size=count)
        noise = spread * rng.normal(size=(count, d)) * (1 + environments[:, None])
        return offset + centres[labels] + styles[environments] + 0.7 * noise, labels, environments

    train, labels, environments = embeddings(n)
    tests = [embeddings(count)[0] for count in (40, 17)]
    text = 0.3 * (centres + 0.5 * rng.normal(size=(classes, d)))
    problem = Problem(train, labels, text, tests, environments=environments, logit_scale=30.0, seed=seed)
    return replace(problem, **changes)


def truncated(problem: Problem, rank: int) -> Problem:
    """The problem with the coordinates of one rank only, at unit length if it asks for it."""
    scale = unit if problem.renormalize else lambda z: z
    train, tests = scale(problem.train[:, :rank]), [scale(z[:, :rank]) for z in problem.tests]
    return replace(problem, train=train, text=problem.text[:, :rank], tests=tests, renormalize=False)


def all_scores(predictor: Predictor, problem: Problem, ranks: tuple[int, ...] = RANKS) -> list[list[Array]]:
    return list(predictor.scores(replace(problem, rotated={}), ranks))  # with no start from an earlier call


def assert_close(actual: list[list[Array]], expected: list[list[Array]], tolerance: float = 1e-9) -> None:
    for of_rank, expected_of_rank in zip(actual, expected, strict=True):
        for scores, expected_scores in zip(of_rank, expected_of_rank, strict=True):
            np.testing.assert_allclose(scores, expected_scores, rtol=tolerance, atol=tolerance)


def tolerance_of(predictor: Predictor) -> float:
    """Logits differ by this at most: the iterative solver's own, round-off in float32, or round-off."""
    if predictor in STOCHASTIC:
        return 1e-3
    return 1e-2 if isinstance(predictor, (LinearProbe, Interpolation)) else 1e-9


# Facts of every predictor


def test_the_registry_creates_every_predictor() -> None:
    # These have tests of their own: they want a tower, views or C_d.
    elsewhere = {"coop", "probe_with_views", "soft_penalty", "mean_of_views", "zero_temperature"}
    assert {p.name for p in ALL} | elsewhere == set(PREDICTORS.names())
    for registered in PREDICTORS.names():
        assert PREDICTORS.create(registered).name == registered


@pytest.mark.parametrize("predictor", ALL, ids=name)
@pytest.mark.parametrize("renormalize", [False, True])
def test_the_class_with_the_highest_score_is_predicted(predictor: Predictor, renormalize: bool) -> None:
    problem = synthetic(1, renormalize=renormalize)
    scores = all_scores(predictor, problem)
    for number, curve in enumerate(predictor.predict(problem, RANKS)):
        assert curve.shape == (len(RANKS), len(problem.tests[number]))
        for row, of_rank in zip(curve, scores, strict=True):
            assert of_rank[number].shape == (len(row), CLASSES)
            np.testing.assert_array_equal(of_rank[number].argmax(axis=1), row)


@pytest.mark.parametrize("ranks", [(2, 7, 40), (40,), tuple(range(2, 41)), tuple(range(2, 41, 2))], ids=len)
@pytest.mark.parametrize("scoring", ["cosine", "released"])
def test_zero_shot_predicts_by_its_scores_at_few_ranks_and_at_many(scoring: Any, ranks: tuple[int, ...]) -> None:
    # Not at rank 1, where all cosines are 1 or -1, but for rounding.
    rng = np.random.default_rng(3)
    z, text = rng.standard_normal((300, 40)), rng.standard_normal((25, 40))
    text[7], z[5] = text[3], 0.0  # classes with the same text, of which the first counts; an image without a direction
    possible = np.array([20, 3, 11])
    model = ZeroShot(scoring=scoring)
    for candidates in ((), (None, None), (possible, None)):
        problem = Problem(z[:0], np.zeros(0, dtype=np.int64), text, [z, z[:9]], candidates=candidates)
        by_scores = Predictor.predict(model, problem, ranks)
        for found, expected in zip(model.predict(problem, ranks), by_scores, strict=True):
            np.testing.assert_array_equal(found, expected)
    assert set(model.predict(problem, ranks)[0].ravel()) == set(possible)


class FarthestClass(ZeroShot):
    """A predictor of somebody's own that scores otherwise and predicts by its scores."""

    def scores(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:
        return ([-scores for scores in of_rank] for of_rank in super().scores(problem, ranks))


@pytest.mark.parametrize("ranks", [(2, 40), tuple(range(2, 41))], ids=len)
def test_who_derives_from_zero_shot_predicts_by_scores_of_their_own(ranks: tuple[int, ...]) -> None:
    rng = np.random.default_rng(4)
    z, text = rng.standard_normal((50, 40)), rng.standard_normal((6, 40))
    problem = Problem(z[:0], np.zeros(0, dtype=np.int64), text, [z])
    scores = [of_rank[0].argmin(axis=1) for of_rank in ZeroShot().scores(problem, ranks)]
    np.testing.assert_array_equal(FarthestClass().predict(problem, ranks)[0], scores)


@pytest.mark.parametrize("predictor", ALL, ids=name)
@pytest.mark.parametrize("renormalize", [False, True])
def test_a_rank_of_a_curve_is_the_predictor_on_these_coordinates_alone(predictor: Predictor, renormalize: bool) -> None:
    problem = synthetic(2, renormalize=renormalize)
    if isinstance(predictor, LinearProbe):
        predictor = predictor.model_copy(update={"penalty": "absolute"})  # the scale is that of all coordinates
    if isinstance(predictor, GroupDROProbe):
        predictor = predictor.model_copy(update={"rounds": 1})  # of several rounds the best differs within GAP
    alone = [all_scores(predictor, truncated(problem, rank), (rank,))[0] for rank in RANKS]
    for of_rank, expected in zip(all_scores(predictor, problem), alone, strict=True):
        for scores, expected_scores in zip(of_rank, expected, strict=True):
            if isinstance(predictor, LinearProbe):  # only differences of logits are determined
                scores, expected_scores = log_softmax(scores, axis=1), log_softmax(expected_scores, axis=1)
            np.testing.assert_allclose(scores, expected_scores, atol=tolerance_of(predictor))


@pytest.mark.parametrize("predictor", ALL, ids=name)
@pytest.mark.parametrize("renormalize", [False, True])
def test_fewer_images_than_coordinates(predictor: Predictor, renormalize: bool) -> None:
    problem = synthetic(3, n=14, d=40, renormalize=renormalize)
    assert len(np.unique(problem.labels)) == CLASSES
    for of_rank in all_scores(predictor, problem, (3, 25, 40)):
        assert all(np.isfinite(scores).all() for scores in of_rank)


def without_images_of(problem: Problem, absent: int) -> Problem:
    rows = problem.labels != absent
    few = {name: getattr(problem, name)[rows] for name in ("train", "labels", "environments")}
    return replace(problem, **few)


ABSENT = 1


@pytest.mark.parametrize("predictor", LEARNING, ids=name)
@pytest.mark.parametrize("renormalize", [False, True])
def test_the_classes_present_are_scored_as_if_an_absent_one_were_not_there(
    predictor: Predictor, renormalize: bool
) -> None:
    problem = without_images_of(synthetic(5, renormalize=renormalize), ABSENT)
    labels, text = problem.labels - (problem.labels > ABSENT), np.delete(problem.text, ABSENT, axis=0)
    without_the_class = replace(problem, labels=labels, text=text)
    with_it, expected = all_scores(predictor, problem), all_scores(predictor, without_the_class)
    assert_close([[np.delete(s, ABSENT, axis=1) for s in of_rank] for of_rank in with_it], expected)


@pytest.mark.parametrize("predictor", LEARNING, ids=name)
def test_a_class_without_training_images_is_predicted_by_what_starts_from_the_names(predictor: Predictor) -> None:
    problem = without_images_of(synthetic(5), ABSENT)
    problem = replace(problem, tests=[problem.text[[ABSENT]], *problem.tests])  # an image that is just the class's name
    learnt_from_images_alone = {"linear_probe", "ridge", "class_means", "few_shot", "group_dro"}
    assert predictor.learns_classes == (predictor.name in learnt_from_images_alone)
    for of_rank in all_scores(predictor, problem):
        if not predictor.learns_classes:
            assert of_rank[0].argmax() == ABSENT
            assert all(np.isfinite(scores).all() for scores in of_rank)
        else:
            assert all((scores[:, ABSENT] == -np.inf).all() for scores in of_rank)


@pytest.mark.parametrize("predictor", LEARNING, ids=name)
def test_without_any_training_image_there_is_nothing_to_learn(predictor: Predictor) -> None:
    problem = synthetic(6)
    empty = replace(problem, train=problem.train[:0], labels=problem.labels[:0], environments=problem.environments[:0])
    with pytest.raises(ValueError, match="training images"):
        all_scores(predictor, empty)


@pytest.mark.parametrize("predictor", ALL, ids=name)
def test_the_seed_decides_all_that_is_random(predictor: Predictor) -> None:
    state, torch_state = pickle.dumps(np.random.get_state()), torch.get_rng_state()  # noqa: NPY002
    first, second, other = (all_scores(predictor, replace(synthetic(7), seed=seed)) for seed in (3, 3, 4))
    for x, y, z in zip(first, second, other, strict=True):
        for a, b, c in zip(x, y, z, strict=True):
            np.testing.assert_array_equal(a, b)
            assert np.array_equal(a, c) != isinstance(predictor, (FewShotProbe, TipAdapter, ClipAdapter))
    assert pickle.dumps(np.random.get_state()) == state  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_state)


@pytest.mark.parametrize("predictor", UNTRAINED + INVARIANT, ids=name)
@pytest.mark.parametrize("renormalize", [False, True])
def test_full_rank_in_another_basis_is_the_plain_result(predictor: Predictor, renormalize: bool) -> None:
    problem = synthetic(8, renormalize=renormalize)
    basis = ortho_group.rvs(D, random_state=8)
    train, text, tests = problem.train @ basis, problem.text @ basis, [z @ basis for z in problem.tests]
    rotated = replace(problem, train=train, text=text, tests=tests)
    turned, expected = (all_scores(predictor, p, (D,)) for p in (rotated, problem))
    assert_close(turned, expected, tolerance_of(predictor))


# Each predictor against its reference


@pytest.mark.parametrize("renormalize", [False, True])
@pytest.mark.parametrize(("alpha", "n"), [(1.0, 120), (0.01, 30), (50.0, 7)])
def test_ridge_is_scikit_learns(alpha: float, n: int, renormalize: bool) -> None:
    problem = synthetic(10, n=n, renormalize=renormalize)
    problem.labels[:CLASSES] = np.arange(CLASSES)
    for rank, of_rank in zip(RANKS, all_scores(Ridge(alpha=alpha), problem), strict=True):
        plain = truncated(problem, rank)
        model = SklearnRidge(alpha=alpha, solver="svd").fit(plain.train, np.eye(CLASSES)[problem.labels])
        for scores, z in zip(of_rank, plain.tests, strict=True):
            np.testing.assert_allclose(scores, model.predict(z), atol=1e-9)


@pytest.mark.parametrize("renormalize", [False, True])
def test_class_means_are_the_nearest_centroid_and_the_formulas(renormalize: bool) -> None:
    problem = synthetic(11, renormalize=renormalize)
    euclidean, cosine = (all_scores(ClassMeans(metric=metric), problem) for metric in ("euclidean", "cosine"))
    for number, rank in enumerate(RANKS):
        plain = truncated(problem, rank)
        means = np.stack([plain.train[problem.labels == c].mean(axis=0) for c in range(CLASSES)])
        centroids = NearestCentroid().fit(plain.train, problem.labels)
        for i, z in enumerate(plain.tests):
            np.testing.assert_array_equal(euclidean[number][i].argmax(axis=1), centroids.predict(z))
            squares = ((z[:, None] - means[None]) ** 2).sum(axis=2)
            np.testing.assert_allclose(euclidean[number][i], -squares / 2, atol=1e-9)
            np.testing.assert_allclose(cosine[number][i], 30 * unit(z) @ unit(means).T, atol=1e-9)


def test_shots_are_drawn_from_every_class_and_no_image_twice() -> None:
    labels = np.random.default_rng(12).choice([0, 2, 3], p=[0.9, 0.085, 0.015], size=300)
    rows = draw_shots(labels, 8, seed=5)
    counts = np.bincount(labels)
    assert counts[3] < 8 < counts[0]
    assert len(set(rows)) == len(rows)
    np.testing.assert_array_equal(np.bincount(labels[rows]), np.minimum(counts, 8))
    np.testing.assert_array_equal(rows, draw_shots(labels, 8, seed=5))
    assert set(rows) != set(draw_shots(labels, 8, seed=6))
    np.testing.assert_array_equal(np.sort(draw_shots(labels, 300, seed=5)), np.arange(300))
    # Over seeds, every image of a class is drawn as often as any other: 8 / counts[0] of the time.
    drawn = np.concatenate([draw_shots(labels, 8, seed) for seed in range(400)])
    often = np.bincount(drawn, minlength=300)[labels == 0]
    expected = 400 * 8 / counts[0]
    assert abs(often.mean() - expected) < 1e-9
    assert often.max() < expected + 6 * expected**0.5


def sklearn_probe(x: Array, labels: NDArray[np.int64], c: float) -> LogisticRegression:
    return LogisticRegression(C=c, tol=1e-10, max_iter=100_000).fit(x, labels)


@pytest.mark.parametrize("renormalize", [False, True])
@pytest.mark.parametrize(("shots", "c"), [(16, 0.316), (3, 2.0)])
def test_the_few_shot_probe_is_scikit_learns_on_the_images_drawn(shots: int, c: float, renormalize: bool) -> None:
    problem = synthetic(13, renormalize=renormalize)
    rng = np.random.default_rng(problem.seed)
    classes = [np.flatnonzero(problem.labels == c) for c in range(CLASSES)]
    rows = np.concatenate([rng.choice(of_class, min(shots, len(of_class)), replace=False) for of_class in classes])
    probe = FewShotProbe(shots=shots, C=c, penalty="absolute")
    for rank, of_rank in zip(RANKS, all_scores(probe, problem), strict=True):
        plain = truncated(problem, rank)
        model = sklearn_probe(plain.train[rows], problem.labels[rows], c)
        for scores, z in zip(of_rank, plain.tests, strict=True):
            np.testing.assert_allclose(log_softmax(scores, axis=1), model.predict_log_proba(z), atol=1e-2)


def likeliest_temperature(logits: Array, labels: NDArray[np.int64]) -> float:
    """By bisection of the slope of the log-likelihood in 1 / T, which is concave."""
    low, high = 1e-3, 1e3
    for _ in range(100):
        middle = np.sqrt(low * high)
        p = np.exp(log_softmax(logits * middle, axis=1))
        slope = (logits[np.arange(len(labels)), labels] - (p * logits).sum(axis=1)).sum()
        low, high = (middle, high) if slope > 0 else (low, middle)
    return float(1 / low)


def interpolated(problem: Problem, rank: int, alpha: float, c: float) -> tuple[Array, Array]:
    """Weights, (rank, classes), and intercepts of both heads in units of calibrated logits, by scikit-learn."""
    x, present = unit(problem.train[:, :rank]), np.unique(problem.labels)
    zero_shot = problem.logit_scale * unit(problem.text[:, :rank])
    zero_shot /= likeliest_temperature(x @ zero_shot[present].T, np.searchsorted(present, problem.labels))
    model = sklearn_probe(x, problem.labels, c)
    probe, bias = zero_shot.copy(), np.zeros(len(zero_shot))
    probe[present] = model.coef_ - model.coef_.mean(axis=0) + zero_shot[present].mean(axis=0)
    bias[present] = model.intercept_ - model.intercept_.mean()
    return ((1 - alpha) * zero_shot + alpha * probe).T, alpha * bias


@pytest.mark.parametrize("absent", [None, ABSENT])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_interpolation_lies_between_calibrated_zero_shot_and_probe_on_unit_length(
    alpha: float, absent: int | None
) -> None:
    problem = synthetic(14) if absent is None else without_images_of(synthetic(14), absent)
    points = iter(Interpolation(alpha=alpha, C=(1.5, 60)).scores_of_settings(problem, RANKS))
    for rank in RANKS:
        for c in (1.5, 60):
            weights, bias = interpolated(problem, rank, alpha, c)
            for scores, z in zip(next(points), problem.tests, strict=True):
                np.testing.assert_allclose(scores, unit(z[:, :rank]) @ weights + bias, atol=2e-2)


def test_few_images_evenly_spaced_fit_the_temperature(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = synthetic(14, n=119)
    monkeypatch.setattr(interpolation, "MAX_CALIBRATED", 30)
    x, zero_shot = unit(problem.train[::4, :5]), 30 * unit(problem.text[:, :5])
    found = calibrated_zero_shot(problem, 5)
    expected = zero_shot.T / likeliest_temperature(x @ zero_shot.T, problem.labels[::4])
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def adamw(
    parameters: list[Array], gradients: Any, batches: list[NDArray[np.int64]], learning_rate: float, epsilon: float
) -> None:
    """AdamW (Loshchilov and Hutter, 2019, algorithm 2) with a half cosine, in place."""
    first, second = [np.zeros_like(p) for p in parameters], [np.zeros_like(p) for p in parameters]
    for t, batch in enumerate(batches):
        rate = learning_rate * (1 + np.cos(np.pi * t / len(batches))) / 2
        for p, g, m, v in zip(parameters, gradients(batch), first, second, strict=True):
            m += 0.1 * (g - m)
            v += 0.001 * (g**2 - v)
            p -= rate * 0.01 * p
            p -= rate * (m / (1 - 0.9 ** (t + 1))) / (np.sqrt(v / (1 - 0.999 ** (t + 1))) + epsilon)


def batches_of(n: int, epochs: int, size: int, generator: torch.Generator) -> list[NDArray[np.int64]]:
    orders = [torch.randperm(n, generator=generator).numpy() for _ in range(epochs)]
    return [order[i : i + size] for order in orders for i in range(0, n, size)]


def cross_entropy(logits: Array, labels: NDArray[np.int64]) -> float:
    return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


def excess(logits: Array, labels: NDArray[np.int64]) -> Array:
    """The gradient of the mean cross-entropy with respect to the logits."""
    return (np.exp(log_softmax(logits, axis=1)) - np.eye(logits.shape[1])[labels]) / len(labels)


@pytest.mark.parametrize("absent", [None, ABSENT])
@pytest.mark.parametrize(("shots", "alpha", "beta"), [(16, 1.0, 5.5), (4, 3.0, 2.0), (4, 0.0, 1.0)])
def test_tip_adapter_is_the_published_formula(shots: int, alpha: float, beta: float, absent: int | None) -> None:
    problem = synthetic(16) if absent is None else without_images_of(synthetic(16), absent)
    rows = draw_shots(problem.labels, shots, problem.seed)
    for rank, of_rank in zip(RANKS, all_scores(TipAdapter(shots=shots, alpha=alpha, beta=beta), problem), strict=True):
        for scores, z in zip(of_rank, problem.tests, strict=True):
            for i, f in enumerate(unit(z[:, :rank])):
                expected = 30 * unit(problem.text[:, :rank]) @ f
                for row in rows:
                    key = problem.train[row, :rank] / np.linalg.norm(problem.train[row, :rank])
                    expected[problem.labels[row]] += alpha * np.exp(-beta * (1 - f @ key))
                np.testing.assert_allclose(scores[i], expected, atol=1e-9)


@pytest.mark.parametrize("batch", [256, 16])
def test_fine_tuned_keys_are_those_of_a_training_by_hand(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_adapter, "BATCH", batch)
    problem, rank, alpha, beta = synthetic(17), 5, 2.0, 3.0
    rows = draw_shots(problem.labels, 12, problem.seed)
    f, labels, text = unit(problem.train[rows, :rank]), problem.labels[rows], 30 * unit(problem.text[:, :rank])
    keys, values = f.copy(), np.eye(CLASSES)[labels]

    def logits_of(z: Array) -> Array:
        return z @ text.T + alpha * np.exp(-beta * (1 - z @ keys.T)) @ values

    def gradients(b: NDArray[np.int64]) -> list[Array]:
        through = alpha * excess(logits_of(f[b]), labels[b]) @ values.T
        return [(through * beta * np.exp(-beta * (1 - f[b] @ keys.T))).T @ f[b]]

    before = cross_entropy(logits_of(f), labels)
    adamw([keys], gradients, batches_of(len(f), 20, batch, torch.Generator().manual_seed(problem.seed)), 0.01, 1e-4)
    predictor = TipAdapter(shots=12, alpha=alpha, beta=beta, trained=True, learning_rate=0.01)
    ((*tests, train),) = all_scores(predictor, replace(problem, tests=[*problem.tests, problem.train[rows]]), (rank,))
    for scores, z in zip(tests, problem.tests, strict=True):
        np.testing.assert_allclose(scores, logits_of(unit(z[:, :rank])), atol=2e-3)
    assert cross_entropy(train, labels) < before - 0.01


def first_weights(rank: int, hidden: int, generator: torch.Generator) -> list[Array]:
    return [
        ((2 * torch.rand(shape, generator=generator) - 1) / shape[0] ** 0.5).double().numpy()
        for shape in ((rank, hidden), (hidden, rank))
    ]


@pytest.mark.parametrize(("rank", "reduction", "hidden"), [(9, 4, 2), (9, 2, 4), (3, 4, 1)])
@pytest.mark.parametrize(("epochs", "batch"), [(0, 256), (5, 256), (3, 50)])
def test_clip_adapter_is_the_published_formula_trained_by_hand(
    rank: int, reduction: int, hidden: int, epochs: int, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_adapter, "BATCH", batch)
    problem, alpha = synthetic(19), 0.4
    generator = torch.Generator().manual_seed(problem.seed)
    w1, w2 = first_weights(rank, hidden, generator)
    f, labels, text = unit(problem.train[:, :rank]), problem.labels, 30 * unit(problem.text[:, :rank])

    def logits_of(z: Array) -> Array:
        return unit(alpha * np.maximum(z @ w1, 0) @ w2 + (1 - alpha) * z) @ text.T

    def gradients(b: NDArray[np.int64]) -> list[Array]:
        before = f[b] @ w1
        adapted = alpha * np.maximum(before, 0) @ w2 + (1 - alpha) * f[b]
        through_unit = excess(unit(adapted) @ text.T, labels[b]) @ text
        along = (through_unit * unit(adapted)).sum(axis=1, keepdims=True) * unit(adapted)
        through = (through_unit - along) / np.linalg.norm(adapted, axis=1, keepdims=True)
        return [f[b].T @ (alpha * through @ w2.T * (before > 0)), alpha * np.maximum(before, 0).T @ through]

    before = cross_entropy(logits_of(f), labels)
    if epochs:
        adamw([w1, w2], gradients, batches_of(len(f), epochs, batch, generator), 0.01, 1e-8)
    predictor = ClipAdapter(alpha=alpha, reduction=reduction, epochs=epochs, learning_rate=0.01)
    ((*tests, train),) = all_scores(predictor, replace(problem, tests=[*problem.tests, problem.train]), (rank,))
    for scores, z in zip(tests, problem.tests, strict=True):
        np.testing.assert_allclose(scores, logits_of(unit(z[:, :rank])), atol=1e-9 if epochs == 0 else 2e-3)
    assert epochs == 0 or cross_entropy(train, labels) < before - 0.01


def test_clip_adapter_with_alpha_0_is_zero_shot_for_an_absent_class_too() -> None:
    problem = without_images_of(synthetic(20), ABSENT)
    assert_close(all_scores(ClipAdapter(alpha=0, epochs=1), problem), all_scores(ZeroShot(), problem))


def group_losses(theta: Array, x: Array, labels: NDArray[np.int64], groups: NDArray[np.int64]) -> tuple[Array, Array]:
    """Mean loss of every group, shape (g,), and its gradient, shape (g, len(theta)); theta is [W; b] row by row."""
    design = np.column_stack([x, np.ones(len(x))])
    logits = design @ theta.reshape(design.shape[1], -1)
    rows = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    losses = [cross_entropy(logits[r], labels[r]) for r in rows]
    return np.array(losses), np.stack([(design[r].T @ excess(logits[r], labels[r])).ravel() for r in rows])


def smallest_worst_group_objective(x: Array, labels: NDArray[np.int64], groups: NDArray[np.int64], c: float) -> float:
    """min over theta of n max_g l_g + |W|^2 / 2C as a smooth problem with constraints t >= l_g, by SciPy's SLSQP."""
    n, size, bias = len(x), (x.shape[1] + 1) * CLASSES, CLASSES

    def objective(v: Array) -> tuple[float, Array]:
        w = np.concatenate([v[: size - bias], np.zeros(bias)])
        return v[-1] + w @ w / (2 * c * n), np.append(w / (c * n), 1.0)

    constraint = {
        "type": "ineq",
        "fun": lambda v: v[-1] - group_losses(v[:-1], x, labels, groups)[0],
        "jac": lambda v: np.insert(-group_losses(v[:-1], x, labels, groups)[1], size, 1.0, axis=1),
    }
    start, options = np.append(np.zeros(size), 2.0), {"maxiter": 2000, "ftol": 1e-12}
    done = minimize(objective, start, jac=True, constraints=[constraint], method="SLSQP", options=options)
    assert done.success
    return float(n * done.fun)


def worst_group_objective(head: Any, x: Array, problem: Problem, c: float) -> tuple[float, float]:
    """The objective of a head, and the worst group's mean loss."""
    theta = np.concatenate([head.weights, head.bias[None]]).ravel()
    worst = float(group_losses(theta, x, problem.labels, problem.environments)[0].max(axis=0))
    return len(x) * worst + float((head.weights**2).sum()) / (2 * c), worst


@pytest.mark.parametrize("seed", [21, 22, 23])
@pytest.mark.parametrize("c", [0.02, 0.316, 10.0])
@pytest.mark.parametrize("renormalize", [False, True])
def test_group_dro_minimises_the_worst_groups_loss(seed: int, c: float, renormalize: bool) -> None:
    problem = synthetic(seed, renormalize=renormalize)
    heads = GroupDROProbe(C=(c, 4 * c), penalty="absolute").heads(problem, RANKS)
    plain = LinearProbe(C=c, penalty="absolute").heads(problem, RANKS)
    for rank, (head, _), (plain_head,) in zip(RANKS, heads, plain, strict=True):
        x = truncated(problem, rank).train
        smallest = smallest_worst_group_objective(x, problem.labels, problem.environments, c)
        of_head, worst = worst_group_objective(head, x, problem, c)
        of_plain, worst_of_plain = worst_group_objective(plain_head, x, problem, c)
        assert smallest * (1 - 1e-6) <= of_head <= smallest * (1 + 2e-3)
        assert of_head < of_plain
        assert worst < worst_of_plain


def test_group_dro_of_one_group_or_of_equal_ones_is_the_linear_probe() -> None:
    problem = synthetic(24)
    expected = all_scores(LinearProbe(C=0.5), problem)
    for environments in (np.zeros(0, dtype=np.int64), np.full(len(problem.labels), 3)):
        scores = all_scores(GroupDROProbe(C=0.5), replace(problem, environments=environments))
        assert_close(scores, expected, 1e-2)
    train, labels = np.tile(problem.train, (2, 1)), np.tile(problem.labels, 2)
    twice = replace(problem, train=train, labels=labels, environments=np.repeat([5, 9], len(problem.labels)))
    assert_close(all_scores(GroupDROProbe(C=0.5), twice), all_scores(LinearProbe(C=0.5), twice), 2e-3)


def test_group_dro_says_when_its_rounds_were_too_few() -> None:
    problem = synthetic(21)
    list(GroupDROProbe(C=31.6, rounds=2).scores(problem, RANKS))
    assert problem.notes
    assert all(re.match(r"group_dro, C = 31\.6, rank \d: after 2 rounds", note) for note in problem.notes)
    enough = replace(problem, notes=[])
    list(GroupDROProbe(C=31.6, rounds=200).scores(enough, RANKS))
    assert enough.notes == []


@pytest.mark.parametrize("predictor", [LinearProbe(C=1), GroupDROProbe(C=1), FewShotProbe(C=1), Interpolation(C=1)])
def test_logistic_regressions_are_solved_on_the_problems_device(predictor: Predictor) -> None:
    with pytest.raises(RuntimeError, match="nowhere"):
        all_scores(predictor, replace(synthetic(21), device="nowhere"))


def test_settings_are_one_for_each_c_and_scored_as_if_alone() -> None:
    for cls in (LinearProbe, FewShotProbe, Interpolation, GroupDROProbe):
        grid = cls(C=[30, 0.5], max_iter=500)
        assert grid.C == (0.5, 30.0)  # in one order, so that rows are found again
        assert grid.settings == (cls(C=0.5, max_iter=500), cls(C=(30,), max_iter=500))
        assert [type(setting) for setting in grid.settings] == [cls, cls]
        assert cls(C=2).settings == (cls(C=2),)
        assert [setting.C for setting in cls().settings] == [(c,) for c in cls().C]
        problem = synthetic(27)
        together = list(grid.scores_of_settings(problem, RANKS))
        alone = [list(setting.scores_of_settings(problem, RANKS)) for setting in grid.settings]
        assert len(together) == 2 * len(RANKS)
        for i, of_point in enumerate(together):
            for scores, expected in zip(of_point, alone[i % 2][i // 2], strict=True):
                p, q = (np.exp(log_softmax(s, axis=1)) for s in (scores, expected))
                np.testing.assert_allclose(p, q, atol=2e-2 if cls is GroupDROProbe else 1e-3)
        with pytest.raises(ValueError, match=rf"{grid.name} has 2 settings \(C = 0\.5, 30\); ask for its"):
            grid.scores(problem, RANKS)
    assert ZeroShot().settings == (ZeroShot(),)


def test_a_predictor_of_the_users_own_with_settings_is_scored_setting_by_setting() -> None:
    class Temperatures(ZeroShot):
        @property
        def settings(self) -> tuple[Predictor, ...]:
            return ZeroShot(temperature=1), ZeroShot(temperature=2)

    problem = synthetic(28)
    once = all_scores(ZeroShot(), problem)
    points = list(Temperatures().scores_of_settings(problem, RANKS))
    assert_close(points, [[z / t for z in of_rank] for of_rank in once for t in (1, 2)])


@pytest.mark.parametrize(
    ("grid", "reason"),
    [([], "at least 1 item"), ([1, 1.0], "each value may stand"), ([1, 0], "greater than 0"), ("all", "valid list")],
)
def test_a_grid_that_is_none_is_refused_in_a_sentence(grid: object, reason: str) -> None:
    with pytest.raises(IcmBenchError, match=f"'linear_probe' is not valid: C.*{reason}"):
        PREDICTORS.create({"name": "linear_probe", "C": grid})


def test_the_released_probe_is_a_line_of_its_own() -> None:
    released = PREDICTORS.create({"name": "linear_probe", "C": 0.316, "penalty": "absolute"})
    assert (released.variant, LinearProbe().variant) == ("released penalty", "")
    assert FewShotProbe(shots=4, penalty="absolute").variant == "4 shots, released penalty"
    assert FewShotProbe(shots=4).variant == "4 shots"
    assert released.params == {"C": (0.316,), "max_iter": 1000, "penalty": "absolute"}


def test_a_singular_ridge_is_solved_by_the_shortest_weights_and_says_so() -> None:
    rng = np.random.default_rng(29)
    x = rng.normal(size=(30, 3)) @ rng.normal(size=(3, 6))
    problem = Problem(x, rng.integers(3, size=30), np.eye(3, 6), [x[:4]])
    first, second = all_scores(Ridge(alpha=1e-25), problem, (2, 6))
    (note,) = problem.notes
    assert note.startswith("ridge, alpha = 1e-25, rank 6: singular;")
    targets = np.eye(3)[problem.labels]
    for scores, z in ((first, x[:, :2]), (second, x)):
        design = z - z.mean(axis=0)
        w = np.linalg.lstsq(design, targets - targets.mean(axis=0), rcond=1e-10)[0]
        np.testing.assert_allclose(scores[0], design[:4] @ w + targets.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize(
    "predictor", [TipAdapter(trained=True, learning_rate=1e30), ClipAdapter(learning_rate=1e30)], ids=name
)
def test_a_training_that_diverges_is_said(predictor: Predictor) -> None:
    with pytest.raises(ValueError, match=f"{predictor.name}: the training has diverged"):
        all_scores(predictor, synthetic(30))


@pytest.mark.parametrize("predictor", ALL, ids=name)
def test_labels_used_are_those_of_the_images_that_are_learnt_from(predictor: Predictor) -> None:
    labels = np.repeat([0, 2], [10, 4])
    expected = {"zero_shot": 0, "few_shot": 6 + 4, "tip_adapter": 5 + 4}
    assert predictor.labels_used(labels) == expected.get(predictor.name, 10 + 4)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"train": np.full((6, 4), np.nan)}, "train contains NaN"),
        ({"train": np.zeros((6, 3))}, r"train must have shape \(n, 4\)"),
        ({"tests": [np.zeros((2, 4)), np.full((1, 4), np.inf)]}, r"tests\[1\] contains NaN or infinite"),
        ({"tests": [np.zeros((2, 5))]}, r"tests\[0\] must have shape"),
        ({"labels": np.zeros(5, dtype=np.int64)}, "6 training images need as many labels"),
        ({"labels": np.full(6, 3)}, "between 0 and 2"),
        ({"environments": np.zeros(2, dtype=np.int64)}, "as many labels and environments"),
    ],
)
def test_a_problem_whose_arrays_do_not_belong_together_is_refused(change: dict[str, Any], reason: str) -> None:
    good: dict[str, Any] = {
        "train": np.zeros((6, 4)), "labels": np.zeros(6, dtype=np.int64), "text": np.eye(3, 4), "tests": [],
    }  # fmt: skip
    Problem(**good)
    with pytest.raises(ValueError, match=reason):
        Problem(**{**good, **change})


@pytest.mark.parametrize("name", sorted({*PREDICTORS.names()} - {"coop"}))
def test_what_learns_classes_from_images_looks_at_no_text_and_all_else_does(name: str) -> None:
    """So a backbone without texts, for which zeros stand there, can be asked for these and for no others."""
    predictor, problem = PREDICTORS.create(name), synthetic(7)
    rng, views = np.random.default_rng(1), {}
    if predictor.uses_views:
        views = {"views": [problem.train], "test_views": [[z] for z in problem.tests]}
    asked: dict[str, Any] = {**views, **({"c_d": np.eye(D)} if predictor.uses_c_d else {})}
    without, other = (
        next(predictor.scores_of_settings(replace(problem, text=text, found={}, **asked), [D]))[0]
        for text in (np.zeros_like(problem.text), rng.normal(size=problem.text.shape))
    )
    assert np.array_equal(without, other) == predictor.learns_classes


@pytest.mark.parametrize("name", sorted({*PREDICTORS.names()} - {"coop"}))
@pytest.mark.parametrize("what", ["constant", "rank one", "zeros"])
def test_embeddings_without_rank_are_predicted_from_what_there_is(name: str, what: str) -> None:
    """No crash and no NaN: equal scores for constant embeddings, where only class frequencies can tell."""
    rng = np.random.default_rng(0)
    train = {
        "constant": np.ones((30, 6)),
        "rank one": np.outer(rng.standard_normal(30), np.arange(1.0, 7.0)),
        "zeros": np.zeros((30, 6)),
    }[what]
    labels = np.repeat(np.arange(3), [15, 10, 5])
    predictor, tests = PREDICTORS.create(name), [train[::7]]
    asked: dict[str, Any] = {"views": [train, train], "test_views": [tests * 2]} if predictor.uses_views else {}
    asked |= {"c_d": np.zeros((6, 6))} if predictor.uses_c_d else {}
    text, environments = rng.standard_normal((3, 6)), np.arange(30) % 2
    problem = Problem(train, labels, text, tests, environments=environments, **asked)
    (scores,) = next(predictor.scores_of_settings(problem, [4]))
    assert scores.shape == (5, 3)
    assert np.isfinite(scores).all()
    if what != "rank one":
        np.testing.assert_allclose(scores, np.tile(scores[0], (5, 1)), atol=1e-9)
