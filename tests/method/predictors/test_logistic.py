"""The solver of the linear probe against scikit-learn's, run to convergence."""

import warnings
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, logsumexp, softmax
from sklearn.linear_model import LogisticRegression

from benchmark.method.arrays import Array, Labels, unit
from benchmark.method.predictors import Head, HeadKey, Problem, logistic
from benchmark.method.predictors.linear_probe import LinearProbe
from benchmark.method.predictors.logistic import PRECISE, AnyArray, SoftmaxRegression

PENALTIES = (0.01, 0.316, 10.0)
SHAPES = [(60, 5, 3), (300, 20, 7), (50, 80, 4), (900, 48, 10), (40, 6, 2)]


def draw(n: int, d: int, classes: int, seed: int = 0, scale: float = 1.0) -> tuple[Array, Labels]:
    """Overlapping classes of unequal size around a common offset, with unequal noise, as embeddings have."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), np.minimum(rng.integers(classes + 2, size=n - classes), classes - 1)])
    spread = np.geomspace(2, 0.1, d)
    x = 3 * rng.normal(size=d) + spread * (0.8 * rng.normal(size=(classes, d))[labels] + rng.normal(size=(n, d)))
    return scale * x, labels


def objective(w: Array, b: Array, x: Array, labels: Labels, c: float, s: Array | float = 1.0) -> float:
    logits = x @ w + b
    penalised = w if w.shape[1] != 2 else w[:, 1] - w[:, 0]
    loss = (s * (logsumexp(logits, axis=1) - logits[np.arange(len(x)), labels])).sum()
    return float(loss + (penalised**2).sum() / (2 * c))


def reference(x: Array, labels: Labels, c: float, s: Array | None = None) -> tuple[Array, Array, float]:
    """Weights, intercepts and objective of scikit-learn's solution; intercepts sum to 0.

    It is computed on centred columns, which changes only intercepts, and by two solvers, since each has cases in which
    it stops early: the better one counts.
    """
    mean, y = x.mean(axis=0), np.unique(labels, return_inverse=True)[1]
    binary = len(np.unique(labels)) == 2  # fitted with one column w, which is the difference of two opposite ones
    solutions = []
    for solver in ("newton-cholesky", "lbfgs"):
        model = LogisticRegression(C=c, solver=solver, tol=1e-12, max_iter=20_000)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the line search can do no more at this tolerance
            model.fit(x - mean, y, sample_weight=s)
        w, b = (np.vstack([-m / 2, m / 2]) if binary else m for m in (model.coef_, model.intercept_[:, None]))
        b = b[:, 0] - w @ mean
        solutions.append((w.T, b - b.mean(), objective(w.T, b, x, y, c, 1.0 if s is None else s)))
    return min(solutions, key=lambda of_solver: of_solver[2])


def assert_optimal(head: Head, x: Array, labels: Labels, c: float, s: Array | None = None) -> None:
    """The head's objective is what it says, and scikit-learn's within 1e-6."""
    _, _, smallest = reference(x, labels, c, s)
    present, y = np.unique(labels, return_inverse=True)
    value = objective(head.weights[:, present], head.bias[present], x, y, c, 1.0 if s is None else s)
    assert head.converged
    assert head.objective == pytest.approx(value, rel=1e-9)
    assert value == pytest.approx(smallest, rel=1e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("c", PENALTIES)
def test_the_objective_is_scikit_learns(shape: tuple[int, int, int], scale: float, c: float) -> None:
    x, labels = draw(*shape, scale=scale)
    assert_optimal(SoftmaxRegression(x, labels, shape[2]).fit(shape[1], c, max_iter=10_000), x, labels, c)


@pytest.mark.parametrize("c", PENALTIES)
def test_weights_and_probabilities_are_scikit_learns(c: float) -> None:
    x, labels = draw(400, 12, 5, seed=1)
    w, b, _ = reference(x, labels, c)
    head = SoftmaxRegression(x, labels, 5).fit(12, c)
    np.testing.assert_allclose(head.weights, w, atol=2e-3 * np.abs(w).max())
    # A constant added to all intercepts changes nothing, so that only their differences are determined.
    np.testing.assert_allclose(head.bias - head.bias.mean(), b, atol=2e-3 * max(np.abs(b).max(), 1.0))
    np.testing.assert_allclose(log_softmax(head.logits(x), axis=1), log_softmax(x @ w + b, axis=1), atol=2e-2)


def test_a_solution_for_a_choice_ends_earlier_close_to_the_one_that_is_tested() -> None:
    x, labels = draw(600, 40, 8, seed=5)
    exact, coarse = (SoftmaxRegression(x, labels, 8, for_choice=f).fit(40, 3.16) for f in (False, True))
    assert_optimal(exact, x, labels, 3.16)
    assert coarse.converged
    assert coarse.steps < 0.85 * exact.steps  # the number depends on the processor: 62 of 77 on one
    assert 1e-9 < coarse.objective / exact.objective - 1 < 1e-5


def test_a_solution_for_another_penalty_or_for_fewer_or_more_coordinates_is_a_start() -> None:
    x, labels = draw(250, 30, 6, seed=4)
    regression = SoftmaxRegression(x, labels, 6)
    heads: list[Head] = []
    for rank, c in ((1, 0.316), (30, 0.01), (30, 10.0), (30, 0.316), (12, 0.316), (3, 10.0), (30, 0.01)):
        heads.append(regression.fit(rank, c, heads[-1:]))
        assert_optimal(heads[-1], x[:, :rank], labels, c)
    # Of several starts the best is taken: the solution itself is among them.
    assert regression.fit(30, 0.01, heads).steps <= 1
    assert regression.fit(30, 0.01, heads[:-1][::-1]).steps <= 1
    assert regression.fit(30, 0.01, heads[2:4]).steps > 1


@pytest.mark.parametrize("c", PENALTIES)
@pytest.mark.parametrize("kind", ["spectrum", "repeated", "constant", "offset", "separable", "outlier"])
def test_ill_conditioned_embeddings(kind: str, c: float) -> None:
    x, labels = draw(200, 16, 4, seed=5)
    x = {
        "spectrum": x * np.geomspace(1, 1e-6, 16),
        "repeated": np.column_stack([x[:, :8], x[:, :8]]),
        "constant": np.column_stack([x[:, :14], np.full((200, 2), 3.7)]),
        "offset": x + 200,
        "separable": x + 20 * np.eye(16)[labels],
        "outlier": np.vstack([100 * x[:1], x[1:]]),
    }[kind]
    assert_optimal(SoftmaxRegression(x, labels, 4).fit(16, c), x, labels, c)


@pytest.mark.parametrize("c", PENALTIES)
def test_sample_weights(c: float) -> None:
    x, labels = draw(300, 10, 5, seed=6)
    s = np.random.default_rng(6).uniform(0.01, 5, 300)
    s[5:20] = 0  # these do not count; every class stays
    assert_optimal(SoftmaxRegression(x, labels, 5, s).fit(10, c), x, labels, c, s)


def test_absent_classes_are_as_if_they_were_not_there() -> None:
    x, labels = draw(150, 6, 3, seed=8)
    among_seven = np.array([1, 4, 5])[labels]
    head = SoftmaxRegression(x, among_seven, 7).fit(6, 0.316)
    alone = SoftmaxRegression(x, labels, 3).fit(6, 0.316)
    absent = [0, 2, 3, 6]
    assert (head.bias[absent] == -np.inf).all()
    assert (head.weights[:, absent] == 0).all()
    np.testing.assert_array_equal(head.logits(x)[:, [1, 4, 5]], alone.logits(x))
    assert_optimal(head, x, among_seven, 0.316)
    assert_optimal(SoftmaxRegression(x, among_seven, 7).fit(6, 10.0, [head]), x, among_seven, 10.0)
    only = SoftmaxRegression(x, np.full(150, 2), 4).fit(6, 0.316)
    assert (only.logits(x).argmax(axis=1) == 2).all()
    with pytest.raises(ValueError, match="training images"):
        SoftmaxRegression(x[:0], labels[:0], 3)


def test_a_bound_on_the_steps_is_kept_and_said() -> None:
    x, labels = draw(300, 20, 7, seed=9)
    regression = SoftmaxRegression(x, labels, 7)
    values = [regression.fit(20, 10.0, max_iter=steps) for steps in (1, 2, 3, 1000)]
    assert [head.converged for head in values] == [False, False, False, True]
    assert [head.steps for head in values[:3]] == [1, 2, 3]
    objectives = [head.objective for head in values]
    assert objectives == sorted(objectives, reverse=True)


@pytest.mark.parametrize("halved", [False, True])
@pytest.mark.parametrize("c", [0.05, 0.5, 5.0])
def test_a_large_problem_ends_close_to_the_solution_in_single_precision(
    c: float, halved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, labels = draw(5000, 30, 12, seed=17)
    test, of_test = x[3000:], labels[3000:]
    _, _, smallest = reference(x[:3000], labels[:3000], c)
    precise = SoftmaxRegression(x[:3000], labels[:3000], 12).fit(30, c)
    monkeypatch.setattr(logistic, "PRECISE", 0)
    monkeypatch.setattr(logistic, "CELLS", 12 * 700)  # several blocks
    used = halve(monkeypatch, halved)
    for sample in (logistic.SAMPLE, 600):  # without and with a part that is solved first
        monkeypatch.setattr(logistic, "SAMPLE", sample)
        head = SoftmaxRegression(x[:3000], labels[:3000], 12).fit(30, c)
        value = objective(head.weights, head.bias, x[:3000], labels[:3000], c)
        assert head.converged
        assert head.steps < precise.steps
        assert head.objective == pytest.approx(value, rel=1e-3 if halved and sample > 600 else 1e-5)
        assert smallest * (1 - 1e-6) <= value <= smallest * (1 + 1e-2)
        right, rightly = ((h.logits(test).argmax(axis=1) == of_test).mean() for h in (head, precise))
        assert abs(right - rightly) <= 0.004
        assert ("bfloat16" in used) == halved
        if sample == 600 or not halved:
            assert "float32" in used  # in which answers that stand in tables end
    if halved:
        assert used["bfloat16"] > used["float32"]


def halve(monkeypatch: pytest.MonkeyPatch, halved: bool) -> Counter[str]:
    """Have large problems begin in bfloat16, or not; return what counts the factors of each precision."""
    used: Counter[str] = Counter()
    factor = logistic._Stage.factor

    def counted(stage: logistic._Stage, array: AnyArray) -> AnyArray:
        found = factor(stage, array)
        used[str(found.dtype).removeprefix("torch.")] += 1
        return found

    monkeypatch.setattr(logistic._Stage, "factor", counted)
    monkeypatch.setattr(logistic, "multiplies_bfloat16", lambda: halved)
    monkeypatch.setattr(logistic, "HALF_FROM", 12)
    return used


def test_products_that_say_nothing_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = draw(3000, 30, 12, seed=17)
    monkeypatch.setattr(logistic, "PRECISE", 0)
    monkeypatch.setattr(logistic, "multiplies_bfloat16", lambda: False)
    alone = SoftmaxRegression(x, labels, 12).fit(30, 0.5)
    used, counted = halve(monkeypatch, True), logistic._Stage.factor
    generator = torch.Generator().manual_seed(18)

    def noisy(stage: logistic._Stage, array: AnyArray) -> AnyArray:
        found = counted(stage, array)
        return found + torch.randn(found.shape, generator=generator).bfloat16() if stage.in_bfloat16 else found

    monkeypatch.setattr(logistic._Stage, "factor", noisy)
    head = SoftmaxRegression(x, labels, 12).fit(30, 0.5)
    assert 0 < used["bfloat16"] < 100 * used["float32"]
    assert head.converged
    assert head.objective == pytest.approx(alone.objective, rel=1e-3)


@pytest.mark.parametrize(("rank", "classes"), [(11, 12), (12, 11)])
def test_small_products_are_not_made_in_bfloat16(rank: int, classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = draw(600, 20, classes, seed=18)
    monkeypatch.setattr(logistic, "PRECISE", 0)
    used = halve(monkeypatch, True)
    assert SoftmaxRegression(x, labels, classes).fit(rank, 0.5).converged
    assert set(used) == {"float32"}


def test_embeddings_in_single_precision_and_any_memory_order() -> None:
    x, labels = draw(120, 8, 4, seed=10)
    single = x.astype(np.float32)
    expected = SoftmaxRegression(single.astype(np.float64), labels, 4).fit(8, 0.316)
    for z in (single, np.asfortranarray(single), np.repeat(single, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(SoftmaxRegression(z, labels, 4).fit(8, 0.316).weights, expected.weights)


GRID = (0.316, 3.16, 31.6, 316.0, 3160.0)


def first_of(problem: Problem, probe: LinearProbe) -> dict[HeadKey, Head]:
    """Solutions of the probe at the ranks 5 and 20, as starts."""
    found = replace(problem, found={})
    list(probe.heads(found, (5, 20)))
    return found.found


def test_a_classifier_of_other_orthonormal_coordinates_is_the_answer_at_rank_d_and_a_start_below() -> None:
    x, labels = draw(300, 20, 4, seed=15)
    rotation = np.linalg.qr(np.random.default_rng(15).standard_normal((20, 20)))[0]
    probe, classes = LinearProbe(C=(3.16, 31.6)), np.eye(4, 20)
    first, turned = Problem(x, labels, classes, []), Problem(x @ rotation, labels, classes, [])
    alone = list(probe.heads(turned, (5, 20)))
    found = list(probe.heads(first, (20,)))
    rotated = {name: head.turned(rotation.T) for name, head in first.found.items()}
    helped = list(probe.heads(replace(turned, rotated=rotated), (5, 20)))
    for mine, theirs in zip(helped[1], found[0], strict=True):
        np.testing.assert_array_equal(mine.weights, rotation.T @ theirs.weights)
    assert min(head.steps for head in (*alone[1], *found[0])) > 3
    liked = list(probe.heads(replace(turned, starts=first_of(turned, probe)), (5, 20)))
    assert [head.steps for of_rank in liked for head in of_rank] == [0] * 4
    for i, c in enumerate(probe.strengths(turned)):
        assert_optimal(helped[0][i], x @ rotation[:, :5], labels, c)
        assert_optimal(helped[1][i], x @ rotation, labels, c)


def test_more_steps_than_are_remembered_end_at_the_solution_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "MEMORY", 3)
    x, labels = draw(300, 20, 7, seed=16)
    head = SoftmaxRegression(x, labels, 7).fit(20, 10.0)
    assert head.steps > 10
    assert_optimal(head, x, labels, 10.0)


@pytest.mark.parametrize("renormalize", [False, True])
@pytest.mark.parametrize(("penalty", "grid", "scale"), [("scaled", GRID, 7.0), ("absolute", PENALTIES, 1.0)])
def test_every_c_of_the_grid_has_scikit_learns_solution_at_every_rank(
    penalty: Any, grid: tuple[float, ...], scale: float, renormalize: bool
) -> None:
    x, labels = draw(340, 12, 5, seed=13, scale=scale)
    problem = Problem(x[:250], labels[:250], np.eye(5, 12), [x[250:290], x[290:]], renormalize=renormalize)
    q = 1.0 if renormalize or penalty == "absolute" else float(np.mean([np.sum(row * row) for row in x[:250]]))
    points = iter(LinearProbe(C=grid, penalty=penalty).scores_of_settings(problem, (1, 3, 12)))
    for rank in (1, 3, 12):
        z = unit(x[:, :rank]) if renormalize else x[:, :rank]
        for c in grid:
            w, b, _ = reference(z[:250], labels[:250], c / q)
            expected = softmax(z[250:] @ w + b, axis=1)
            np.testing.assert_allclose(softmax(np.concatenate(next(points)), axis=1), expected, atol=1e-3)
    assert next(points, None) is None
    assert problem.notes == []


def test_a_fit_that_did_not_converge_or_is_singular_is_noted_by_name() -> None:
    x, labels = draw(300, 20, 7, seed=16)
    problem = Problem(x, labels, np.eye(7, 20), [x[:5]])
    list(LinearProbe(C=(3.16, 3160.0), max_iter=4).scores_of_settings(problem, (2, 20)))
    assert "linear_probe, C = 3160, rank 20: not converged after 4 steps." in problem.notes
    assert len(problem.notes) == len(set(problem.notes)) > 1
    longer = replace(problem, notes=[], train=np.column_stack([x[:, :10], x[:, :10]]))
    list(LinearProbe(C=1e18, penalty="absolute", max_iter=10).scores(longer, (5, 20)))
    assert [note for note in longer.notes if "rank 5" in note and "singular" in note] == []
    assert any(note.startswith("linear_probe, C = 1000000000000000000, rank 20: singular;") for note in longer.notes)


# Of PyTorch's name for the first CPU arrays are tensors too.
DEVICES = ["cpu:0", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("n", "classes", "close"), [(500, 5, 1e-4), (PRECISE // 50 + 5, 50, 1e-2)])
def test_arrays_of_numpy_and_tensors_of_pytorch_find_the_same_solution(
    device: str, n: int, classes: int, close: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logistic, "CELLS_OF_GPU", 2**20)  # several blocks, and a smaller last one
    x, labels = draw(n, 24, classes, seed=6)
    rng = np.random.default_rng(0)
    root, s = rng.standard_normal((24, 24)), rng.uniform(0.5, 2.0, n)
    penalty = root @ root.T + np.eye(24)
    for weights, matrix in ((None, None), (s, penalty)):
        here, there = (
            SoftmaxRegression(x, labels, classes + 1, weights, d).fit(20, 0.316, matrix=matrix) for d in ("cpu", device)
        )
        assert here.converged
        assert there.converged
        assert there.objective == pytest.approx(here.objective, rel=1e-7 if n * classes <= PRECISE else 1e-3)
        np.testing.assert_allclose(there.weights, here.weights, atol=close)
        assert there.bias[classes] == here.bias[classes] == -np.inf  # which no image is of


def test_large_embeddings_are_centred_in_their_place_where_nobody_looks_at_them_again() -> None:
    x, labels = draw(PRECISE // 100 + 1, 6, 100, seed=5)
    single = x.astype(np.float32)
    kept, spent = single.copy(), single.copy()
    heads = [SoftmaxRegression(z, labels, 100, overwrites=z is spent).fit(6, 1.0) for z in (kept, spent)]
    np.testing.assert_array_equal(kept, single)
    np.testing.assert_allclose(spent, single - single.mean(axis=0, dtype=np.float64), atol=1e-5)
    for name in ("weights", "bias"):  # equal but for the rounding of products of arrays in another memory order
        first, second = (getattr(head, name) for head in heads)
        np.testing.assert_allclose(first, second, atol=1e-4)
    for other in (x, x[:100].astype(np.float32)):  # in double precision, and so few that they end in it
        before = other.copy()
        SoftmaxRegression(other, labels[: len(other)], 100, overwrites=True).fit(6, 1.0)
        np.testing.assert_array_equal(other, before)
