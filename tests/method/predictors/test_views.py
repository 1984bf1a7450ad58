"""Predictors that use views or C_d, against scikit-learn and loops over the formulas."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.linalg import fractional_matrix_power
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression

from benchmark.common.errors import IcmBenchError
from benchmark.method.arrays import Array
from benchmark.method.predictors import PREDICTORS, Predictor, Problem, zero_temperature
from benchmark.method.predictors.linear_probe import LinearProbe
from benchmark.method.predictors.mean_of_views import MeanOfViews
from benchmark.method.predictors.probe_with_views import ProbeWithViews
from benchmark.method.predictors.soft_penalty import SoftPenaltyProbe
from benchmark.method.predictors.zero_temperature import ZeroTemperature, votes_of

D, CLASSES, RANKS, KINDS = 9, 4, (2, 5, 9), 5
AT_TEST_TIME: list[Predictor] = [MeanOfViews(), ZeroTemperature(), ZeroTemperature(keep=1)]
TRAINED: list[Predictor] = [ProbeWithViews(C=3.16), SoftPenaltyProbe(C=3.16, mu=3)]


def synthetic(seed: int = 0, n: int = 120, **changes: Any) -> Problem:
    """Classes with unequal noise, each image seen through kinds of interventions of unequal strength."""
    rng = np.random.default_rng(seed)
    centres, axes = rng.normal(size=(CLASSES, D)), rng.normal(size=(KINDS, D, D))
    spread = rng.uniform(0.5, 2, D)

    def seen(labels: Any) -> tuple[Array, list[Array]]:
        z = 1 + centres[labels] + spread * rng.normal(size=(len(labels), D))
        return z, [z + 0.2 * (kind + 1) * rng.normal(size=z.shape) @ axes[kind] for kind in range(KINDS)]

    labels = np.minimum(rng.integers(CLASSES + 2, size=n), CLASSES - 1)
    train, views = seen(labels)
    tests = [seen(rng.integers(CLASSES, size=count)) for count in (40, 17)]
    d = np.concatenate([train - view for view in views])
    text = 0.3 * (centres + 0.5 * rng.normal(size=(CLASSES, D)))
    problem = Problem(
        train, labels, text, [z for z, _ in tests], environments=np.arange(n) % 3, logit_scale=30.0, seed=seed,
        views=views, test_views=[of_test for _, of_test in tests], c_d=d.T @ d / len(d),
    )  # fmt: skip
    return replace(problem, **changes)


def unit(z: Array) -> Array:
    return z / np.linalg.norm(z, axis=-1, keepdims=True)


def at_rank(z: Array, rank: int, problem: Problem) -> Array:
    return unit(z[:, :rank]) if problem.renormalize else z[:, :rank]


def assert_same_probabilities(scores: Array, expected: Array) -> None:
    np.testing.assert_allclose(softmax(scores, axis=1), expected, atol=2e-3)


@pytest.mark.parametrize("renormalize", [False, True])
def test_the_probe_with_views_is_scikit_learns_in_which_images_with_all_their_views_count_once(
    renormalize: bool,
) -> None:
    problem = synthetic(1, renormalize=renormalize)
    every = [problem.train, *problem.views]
    q = 1.0 if renormalize else float(np.mean([(z**2).sum(axis=1).mean() for z in every]))
    points = iter(ProbeWithViews(C=(0.3, 30)).scores_of_settings(problem, RANKS))
    weights = np.full(len(every) * len(problem.train), 1 / (1 + KINDS))
    for rank in RANKS:
        x = np.concatenate([at_rank(z, rank, problem) for z in every])
        for c in (0.3, 30.0):
            model = LogisticRegression(C=c / q, tol=1e-10, max_iter=100_000)
            model.fit(x, np.tile(problem.labels, len(every)), sample_weight=weights)
            for scores, z in zip(next(points), problem.tests, strict=True):
                assert_same_probabilities(scores, model.predict_proba(at_rank(z, rank, problem)))
    assert problem.notes == []


def reference_soft(problem: Problem, rank: int, c: float, mu: float) -> tuple[Any, Array]:
    """scikit-learn's plain probe in the coordinates in which the penalty is plain, and the map to these."""
    assert problem.c_d is not None
    q = 1.0 if problem.renormalize else float((problem.train**2).sum(axis=1).mean())
    p = np.eye(rank) + mu * (D / np.trace(problem.c_d)) * problem.c_d[:rank, :rank]
    root = np.real(fractional_matrix_power(p, -0.5))
    model = LogisticRegression(C=c / q, tol=1e-10, max_iter=100_000)
    return model.fit(at_rank(problem.train, rank, problem) @ root, problem.labels), root


@pytest.mark.parametrize("renormalize", [False, True])
def test_the_soft_penalty_is_the_plain_probe_in_other_coordinates(renormalize: bool) -> None:
    problem = synthetic(3, renormalize=renormalize)
    grid = SoftPenaltyProbe(C=(0.3, 30), mu=(0, 1, 30))
    points = iter(grid.scores_of_settings(problem, RANKS))
    for rank in RANKS:
        for setting in grid.settings:
            model, root = reference_soft(problem, rank, *setting.C, *setting.mu)
            for scores, z in zip(next(points), problem.tests, strict=True):
                assert_same_probabilities(scores, model.predict_proba(at_rank(z, rank, problem) @ root))
    assert next(points, None) is None
    assert problem.notes == []


def test_the_soft_penaltys_objective_is_its_formula_and_smallest_there() -> None:
    problem, c, mu, rng = synthetic(4), 0.7, 5.0, np.random.default_rng(4)
    assert problem.c_d is not None
    ((head,),) = SoftPenaltyProbe(C=c, mu=mu).heads(problem, [D])
    d = np.concatenate([problem.train - view for view in problem.views])
    q, t = (problem.train**2).sum(axis=1).mean(), (d**2).sum(axis=1).mean()

    def objective(w: Array, b: Array) -> float:
        entropy = -log_softmax(problem.train @ w + b, axis=1)[np.arange(len(problem.labels)), problem.labels].sum()
        moved = ((d @ w) ** 2).sum(axis=1).mean()  # the mean squared change of the logits: tr(W' C_d W)
        return float(entropy + q / (2 * c) * ((w**2).sum() + mu * D / t * moved))

    smallest = objective(head.weights, head.bias)
    assert head.objective == pytest.approx(smallest, rel=1e-9)
    for _ in range(20):
        apart = 1e-3 * rng.normal(size=(D, CLASSES))
        assert objective(head.weights + apart, head.bias) > smallest
    plain = next(LinearProbe(C=c).heads(problem, [D]))[0]
    of_logits = [((d @ w) ** 2).sum(axis=1).mean() for w in (head.weights, plain.weights)]
    assert of_logits[0] < 0.5 * of_logits[1]


def test_where_nothing_moves_the_soft_penalty_is_the_linear_probe() -> None:
    problem = synthetic(5, c_d=np.zeros((D, D)))
    expected = list(LinearProbe(C=3.16).scores(problem, RANKS))
    for scores, of_probe in zip(SoftPenaltyProbe(C=3.16, mu=3).scores(problem, RANKS), expected, strict=True):
        assert_same_probabilities(scores[0], softmax(of_probe[0], axis=1))


def test_the_soft_penalty_has_a_grid_of_eight_under_the_rule() -> None:
    probe = SoftPenaltyProbe()
    assert len(probe.mu) == 8
    assert [(s.mu, s.C) for s in probe.settings] == [((mu,), (c,)) for mu in probe.mu for c in LinearProbe().C]
    assert SoftPenaltyProbe(mu=[3, 0], C=1).mu == (0.0, 3.0)
    assert SoftPenaltyProbe(mu=3, C=1).settings == (SoftPenaltyProbe(mu=3, C=1),)
    with pytest.raises(ValueError, match=r"soft_penalty has 2 settings \(mu = 0, 3, C = 1\); ask for its"):
        SoftPenaltyProbe(mu=(0, 3), C=1).scores(synthetic(), RANKS)
    problem = synthetic(6)
    list(SoftPenaltyProbe(mu=3, C=3160, max_iter=2).scores(problem, [D]))
    assert problem.notes == ["soft_penalty, mu = 3, C = 3160, rank 9: not converged after 2 steps."]
    with pytest.raises(ValueError, match="needs interventional pairs"):
        list(SoftPenaltyProbe(mu=3, C=1).scores(replace(problem, c_d=None), RANKS))
    for wrong in ([], -1, [1, 1.0]):
        with pytest.raises(IcmBenchError, match=r"soft_penalty. is not valid: mu"):
            PREDICTORS.create({"name": "soft_penalty", "mu": wrong})


@pytest.mark.parametrize("renormalize", [False, True])
def test_the_mean_of_views_is_zero_shot_on_their_mean_direction(renormalize: bool) -> None:
    problem = synthetic(7, renormalize=renormalize)
    for rank, of_rank in zip(RANKS, MeanOfViews().scores(problem, RANKS), strict=True):
        for scores, z, views in zip(of_rank, problem.tests, problem.test_views, strict=True):
            for i, row in enumerate(scores):
                mean = np.mean([unit(image[i, :rank]) for image in (z, *views)], axis=0)
                cosines = [mean @ t[:rank] / np.linalg.norm(mean) / np.linalg.norm(t[:rank]) for t in problem.text]
                np.testing.assert_allclose(row, 30 * np.array(cosines), atol=1e-9)


def voted(logits: Array, kept: int) -> tuple[int, bool]:
    """The class that the views of one image elect, (views, classes), and whether there was a tie: as published."""
    p = softmax(logits, axis=1)
    order = sorted(range(len(p)), key=lambda v: -(p[v] * np.log(p[v])).sum())
    likeliest = [int(np.argmax(logits[v])) for v in order]
    votes = {c: likeliest[:kept].count(c) for c in likeliest[:kept]}
    tied = sorted(c for c in votes if votes[c] == max(votes.values()))
    asked = range(kept, len(order)) if kept < len(order) else range(1)
    for v in asked if len(tied) > 1 else ():
        if likeliest[v] in tied:
            return likeliest[v], True
    return max(tied, key=lambda c: logits[order[asked[0]], c]) if len(tied) > 1 else tied[0], len(tied) > 1


@pytest.mark.parametrize(("keep", "kept"), [(0.3, 1), (0.5, 3), (0.01, 1), (0.7, 4), (1.0, 6)])
def test_the_zero_temperature_vote_is_the_published_one(
    keep: float, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zero_temperature, "BLOCK", 7)
    problem, ties = synthetic(8), 0
    for rank, of_rank in zip(RANKS, ZeroTemperature(keep=keep).scores(problem, RANKS), strict=True):
        for scores, z, views in zip(of_rank, problem.tests, problem.test_views, strict=True):
            for i, row in enumerate(scores):
                images = np.stack([unit(image[i, :rank]) for image in (z, *views)])
                expected, tie = voted(30 * images @ unit(problem.text[:, :rank]).T, kept)
                assert row.argmax() == expected
                assert row.sum() == kept + tie
                ties += tie
    assert (ties > 0) == (kept > 1)


def test_ties_are_decided_by_the_views_that_were_not_kept_the_most_confident_first() -> None:
    sure = {c: 9.0 * np.eye(4)[c] for c in range(4)}
    views = [0.9 * sure[3], 0.7 * sure[1], sure[1], 0.95 * sure[2], 0.8 * sure[0], 0.6 * sure[2]]
    # In order: 1, 2, 3, 0, 1, 2. Of 1 and 2 the first one behind 3 and 0 wins, who do not stand.
    for kept in range(1, 7):
        assert votes_of(np.stack(views)[:, None], kept).argmax() == 1
    views[1] = 0.5 * sure[1]  # so that the last one is asked first
    assert [votes_of(np.stack(views)[:, None], kept).argmax() for kept in (1, 2, 3)] == [1, 2, 2]
    assert votes_of(np.stack([sure[1], sure[2], 0.5 * sure[2]])[:, None], 2).argmax() == 2
    # nobody who is left votes for one of them: then the likelier of them for the first that is asked
    hesitant = np.array([0.0, 1.0, 2.0, 3.0])
    assert votes_of(np.stack([sure[1], sure[2], hesitant])[:, None], 2).argmax() == 2


@pytest.mark.parametrize("predictor", AT_TEST_TIME, ids=lambda p: p.label)
def test_an_answer_depends_on_the_images_own_views_alone_and_on_no_training_image(predictor: Predictor) -> None:
    problem = synthetic(9)
    (curve, _) = predictor.predict(problem, RANKS)
    other = synthetic(10)
    own, pairs = np.arange(40)[:, None] == 3, zip(problem.test_views[0], other.test_views[0], strict=True)
    views, none = [np.where(own, view, noise) for view, noise in pairs], problem.labels[:0]
    mixed = replace(problem, train=problem.train[:0], labels=none, views=(), environments=none,
                    test_views=[views, problem.test_views[1]])  # fmt: skip
    (changed, _) = predictor.predict(mixed, RANKS)
    np.testing.assert_array_equal(changed[:, 3], curve[:, 3])
    assert (changed != curve).any()
    with pytest.raises(ValueError, match="needs some, and there are none"):
        list(predictor.scores(replace(problem, test_views=()), RANKS))


@pytest.mark.parametrize("predictor", [*AT_TEST_TIME, *TRAINED], ids=lambda p: p.label)
def test_what_holds_for_every_predictor_holds_for_these(predictor: Predictor) -> None:
    problem = synthetic(11)
    assert PREDICTORS.create(predictor.name).name == predictor.name
    basis = np.linalg.qr(np.random.default_rng(11).normal(size=(D, D)))[0]
    assert problem.c_d is not None
    turned = replace(
        problem, train=problem.train @ basis, text=problem.text @ basis, tests=[z @ basis for z in problem.tests],
        views=[z @ basis for z in problem.views], c_d=basis.T @ problem.c_d @ basis,
        test_views=[[z @ basis for z in views] for views in problem.test_views],
    )  # fmt: skip
    for (scores, _), (expected, _) in zip(predictor.scores(turned, [D]), predictor.scores(problem, [D]), strict=True):
        np.testing.assert_allclose(softmax(scores, axis=1), softmax(expected, axis=1), atol=2e-3)
    if not predictor.uses_training_images:
        return
    assert predictor.learns_classes
    rows = problem.labels != 1
    few = replace(problem, train=problem.train[rows], labels=problem.labels[rows], environments=problem.environments[rows],
                  views=[view[rows] for view in problem.views])  # fmt: skip
    assert all((scores[:, 1] == -np.inf).all() for of_rank in predictor.scores(few, RANKS) for scores in of_rank)
    empty = replace(few, train=few.train[:0], labels=few.labels[:0], environments=few.environments[:0],
                    views=[view[:0] for view in few.views])  # fmt: skip
    with pytest.raises(ValueError, match="training images"):
        list(predictor.scores(empty, RANKS))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"views": [np.zeros((3, D))]}, "same images"),
        ({"test_views": [[np.zeros((40, D))], [np.zeros((3, D))]]}, "same images"),
        ({"test_views": [[np.full((40, D), np.nan)]]}, r"test_views\[0\] contains NaN"),
        ({"views": [np.zeros((120, 2))]}, r"views\[0\] must have shape"),
        ({"c_d": np.zeros((D, 2))}, "c_d must have shape"),
    ],
)
def test_views_that_do_not_belong_to_the_images_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        synthetic(**changes)
