"""Numbers of images and notes in curves that come from fits for selection."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from benchmark.method.arrays import Array
from benchmark.method.evaluation.cells import cells_of
from benchmark.method.evaluation.evaluation import Evaluation, FitSettings, Method
from benchmark.method.evaluation.protocols import PROTOCOLS, Holdout, Test
from benchmark.method.evaluation.splits import IN, OUT, Split, TestSplit
from benchmark.method.predictors import Head
from benchmark.method.predictors.base import Problem
from benchmark.method.predictors.class_means import ClassMeans
from benchmark.method.predictors.linear_probe import LinearProbe
from benchmark.method.predictors.logistic import SoftmaxRegression
from benchmark.method.predictors.zero_shot import ZeroShot
from benchmark.method.subspace import PROJECTIONS, Basis, SourceMoments
from tests.method.predictors.test_reference import icm, protocol_of, synthetic
from tests.method.wrapped import Wrapped

RANKS = (2, 4)


class Chatty(ClassMeans):
    """Class means that say what they were fitted on."""

    def scores(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:
        """See `Predictor.scores`."""
        problem.notes.append(f"fitted on {len(problem.train)} images")
        yield from super().scores(problem, ranks)


def test_notes_of_the_fits_that_choose_stand_beside_those_of_the_tested_one() -> None:
    """Against counts of the images: with folds, none of the three kinds of fits learns from what another does."""
    data, views = synthetic()
    fold, side = 1, data.side[Split(0, folds=5)]
    holdouts = PROTOCOLS.create("held_out").holdouts(data.environments, ["out_fold"])
    evaluation = protocol_of(data, views, split=Split(0, folds=5), fold=fold)
    curves = list(evaluation.curves(Method(Wrapped(icm), Chatty(), RANKS), holdouts))
    assert len(curves) == 4
    for h, curve in enumerate(curves):
        sources = [e for e in range(4) if e != h]
        fitted = np.isin(data.environment, sources) & (side != fold)
        learned = fitted & (side != fold + 1)
        of_fits = {"": fitted, "choosing fit: ": learned}
        of_fits |= {f"lodo without {data.environments[s]}: ": learned & (data.environment != s) for s in sources}
        assert curve.notes == tuple(f"{which}fitted on {rows.sum()} images" for which, rows in of_fits.items())


def test_where_one_fit_chooses_and_is_tested_its_notes_are_said_once() -> None:
    data, views = synthetic()
    holdouts = PROTOCOLS.create("held_out").holdouts(data.environments, ["out_20"])
    curve = next(iter(protocol_of(data, views).curves(Method(Wrapped(icm), Chatty(), RANKS), holdouts)))
    inside = data.side[Split(0)] == IN
    assert curve.notes[0] == f"fitted on {(inside & (data.environment > 0)).sum()} images"
    left_out = [f"lodo without {name}" for name in data.environments[1:]]
    assert [note.partition(":")[0] for note in curve.notes[1:]] == left_out


@pytest.mark.parametrize("lodo", [True, False])
def test_labels_by_which_rules_choose_are_those_that_a_rule_looks_at(lodo: bool) -> None:
    data, views = synthetic()
    split = Split(0)
    holdouts = PROTOCOLS.create("held_out").holdouts(data.environments, ["out_20"])
    cells = cells_of(data.layout(split), data.z.astype(np.float64), views)
    evaluation = Evaluation(data, cells, FitSettings(split, "none", lodo=lodo))
    curve = next(iter(evaluation.curves(Method(Wrapped(icm), ZeroShot(), RANKS), holdouts)))
    looked_at = (data.environment > 0) & ((data.side[split] == OUT) | lodo)
    assert (curve.lodo is None, curve.labels_choice) == (not lodo, looked_at.sum())


def test_each_half_of_the_classes_has_the_accuracy_on_its_own_out_split() -> None:
    """A protocol of a user's own with base and new classes of in-splits, against its twin on out-splits."""
    data, views = synthetic()

    def curves(split: TestSplit) -> dict[str, tuple[list[float], list[float] | None]]:
        tests = (Test((3,), split, "base"), Test((3,), split, "new"))
        holdout = Holdout("dun", (0, 1, 2), tests, ("base",))
        found = protocol_of(data, views).curves(Method(Wrapped(icm), ZeroShot(), RANKS), [holdout])
        return {curve.class_half: (curve.metrics["target"], curve.target_out) for curve in found}

    inside, out = curves("in_80"), curves("out_20")
    assert list(inside) == ["base", "new", "harmonic"]
    assert out["base"][0] != out["new"][0]
    for half in inside:
        assert inside[half][1] == pytest.approx(out[half][0])
        assert out[half][1] is None


def test_the_probe_of_the_whole_space_is_fitted_once_for_all_rotations(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second basis of the same sources is not fitted at rank D, and its answers are those without the cache."""
    data, views = synthetic()
    holdouts = PROTOCOLS.create("held_out").holdouts(data.environments, ["out_20"])
    dim, steps = data.z.shape[1], []
    fit = SoftmaxRegression.fit

    def counted(*args: Any, **options: Any) -> Head:
        head = fit(*args, **options)
        if args[1] == dim:
            steps.append(head.steps)
        return head

    def method(rotation: Array) -> Method:
        def rotated(sources: SourceMoments) -> Basis:
            return Basis(np.linalg.qr(icm(sources).vectors @ rotation)[0])  # fits for a choice are in single precision

        return Method(Wrapped(rotated), LinearProbe(C=3.16), (2, dim))

    turned = method(np.linalg.qr(np.random.default_rng(0).standard_normal((dim, dim)))[0])
    alone = list(protocol_of(data, views).curves(turned, holdouts))
    monkeypatch.setattr(SoftmaxRegression, "fit", counted)
    evaluation = protocol_of(data, views)
    list(evaluation.curves(method(np.eye(dim)), holdouts))
    assert min(steps) > 3
    assert len(steps) == 4 + 6  # sets of three sources, and of two
    second = list(evaluation.curves(turned, holdouts))
    assert len(steps) == 4 + 6
    for a, b in zip(second, alone, strict=True):
        np.testing.assert_array_equal(a.correct, b.correct)
        assert a.lodo == pytest.approx(b.lodo, abs=1e-12)


def test_of_methods_that_rules_choose_among_scores_are_looked_at_where_none_is_ahead() -> None:
    """Several values of lambda: every rule selects one, with the same result as for this value alone."""
    data, views = synthetic()
    holdouts = PROTOCOLS.create("held_out").holdouts(data.environments, ["out_fold"])
    evaluation = protocol_of(data, views, split=Split(0, folds=5))
    turned = [Method(PROJECTIONS.create("icm").at(lambda_=value), ZeroShot(), RANKS) for value in (0.0, 1.0, 100.0)]
    together = evaluation.curves_of(turned, holdouts)
    alone = [list(evaluation.curves(method, holdouts)) for method in turned]
    looked_at = 0
    for case in zip(*together, strict=True):
        scores = {rule: [max(getattr(curve, rule)) for curve in case] for rule in ("lodo", "training_domain")}
        picked = [{rule for rule, of in scores.items() if of[i] == max(of)} for i in range(len(case))]
        assert all(rules <= curve.scored.keys() for rules, curve in zip(picked, case, strict=True))
        assert all(rules or not curve.scored for rules, curve in zip(picked, case, strict=True))
        looked_at += sum(len(curve.scored) for curve in case)
    assert looked_at < 2 * len(turned) * len(together[0])
    for mine, theirs in zip(together, alone, strict=True):
        for a, b in zip(mine, theirs, strict=True):
            assert a.scored == {rule: b.scored[rule] for rule in a.scored}
            assert (a.lodo, a.training_domain, a.lodo_se) == (b.lodo, b.training_domain, b.lodo_se)
            np.testing.assert_array_equal(a.correct, b.correct)
