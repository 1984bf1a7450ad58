"""Subsamples for selection: their size, class proportions and reproducibility."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest

from benchmark.method.arrays import Array
from benchmark.method.evaluation.cells import cells_of
from benchmark.method.evaluation.curves import RankCurve
from benchmark.method.evaluation.evaluation import Evaluation, FitSettings, Method, full_fit_points
from benchmark.method.evaluation.protocols import PROTOCOLS, Holdout
from benchmark.method.evaluation.splits import IN, OUT, Split, sampled
from benchmark.method.predictors import PREDICTORS, Predictor, Problem
from benchmark.method.predictors.class_means import ClassMeans
from benchmark.method.subspace import PROJECTIONS
from tests.method.predictors.test_reference import D, synthetic

MOST = 5  # images of an environment and fold, of some 12; of an in-split four times as many
RANKS = (2, 4, D)


def drawn(most: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    environment = rng.integers(3, size=4000)
    label = np.minimum(rng.geometric(0.2, size=4000) - 1, 12)
    which = (rng.random(4000) < 0.7) & ((environment < 2) | (rng.random(4000) < 0.2))
    return sampled(which, environment, label, most, seed), which, environment, label


@pytest.mark.parametrize("most", [50, 500, 10_000])
def test_each_environment_gives_so_many_with_classes_in_proportion(most: int) -> None:
    chosen, which, environment, label = drawn(most)
    assert not (chosen & ~which).any()
    for e in range(3):
        before, after = (np.bincount(label[w & (environment == e)], minlength=13) for w in (which, chosen))
        assert after.sum() == min(most, before.sum())
        assert np.abs(after - before * min(1, most / before.sum())).max() < 1
    assert which[environment == 2].sum() < 500 < which[environment == 0].sum()


def test_the_seed_decides_which() -> None:
    same, other = drawn(100)[0], drawn(100, seed=1)[0]
    np.testing.assert_array_equal(same, drawn(100)[0])
    assert (same & other).sum() < 100 < same.sum()
    # Within a class every image is as likely as any other: none is preferred by its place.
    counts = np.sum([drawn(300, seed)[0] for seed in range(60)], axis=0)
    _, which, environment, _ = drawn(300)
    rows = np.flatnonzero(which & (environment == 0))
    first, second = np.array_split(counts[rows], 2)
    assert first.mean() == pytest.approx(second.mean(), rel=0.1)


class Sampled(ClassMeans):
    """Class means, as if their fits took long; they say how many images they got."""

    samples: ClassVar[bool] = True

    def scores(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:
        """See `Predictor.scores`."""
        problem.notes.append(f"fitted on {len(problem.train)} images")
        yield from super().scores(problem, ranks)


def evaluations(
    predictor: Predictor, fold: int | None, protocol: str = "held_out", scores: Sequence[Sequence[float]] = ()
) -> tuple[list[list[list[RankCurve]]], list[Holdout]]:
    """Curves of two maps: with all images everywhere, with some, and with some and full fits at what is picked.

    Scores of each map, if given, replace those found with a subsample.
    """
    data, _ = synthetic()
    split = Split(0, folds=0 if fold is None else 5)
    holdouts = PROTOCOLS.create(protocol).holdouts(data.environments, ["out_20" if fold is None else "out_fold"])
    methods = [Method(PROJECTIONS.create(name), predictor, RANKS) for name in ("pca", "random")]
    cells = cells_of(data.layout(split), data.z.astype(np.float64), {})
    whole, few = (
        Evaluation(data, cells, FitSettings(split, "none", fold, selection_images=most)) for most in (None, MOST)
    )
    assert (whole.samples(predictor), few.samples(predictor)) == (False, True)
    every, some = ([list(e.curves(method, holdouts)) for method in methods] for e in (whole, few))
    for of_method, given in zip(some, scores, strict=False):
        of_method[:] = [replace(c, training_domain=list(given), lodo=list(given)) for c in of_method]
    return [every, some, few.with_full_fits(methods, some, holdouts)], holdouts


def test_with_as_many_images_as_there_are_nothing_is_left_out() -> None:
    data, _ = synthetic()
    evaluation = Evaluation(
        data, cells_of(data.layout(Split(0)), data.z, {}), FitSettings(Split(0), "none", selection_images=60)
    )
    assert not evaluation.samples(Sampled())
    assert not evaluation.samples(PREDICTORS.create("ridge"))
    assert PREDICTORS.create("linear_probe").samples


@pytest.mark.parametrize("fold", [None, 1])
def test_scores_by_which_rules_choose_are_of_some_images_and_accuracies_where_they_pick_of_all(
    fold: int | None,
) -> None:
    (every, some, refined), holdouts = evaluations(Sampled(), fold)
    for holdout in holdouts:
        own = [[c for c in of_method if c.held_out == holdout.name] for of_method in (*every, *some, *refined)]
        whole, few, full = ([c for of_one in own[i : i + 2] for c in of_one] for i in (0, 2, 4))
        assert len(whole) == len(few) == len(full) == 2
        picked = {}
        for rule in ("training_domain", "lodo"):
            scores = np.array([getattr(curve, rule) for curve in few])
            number, index = max(np.ndindex(scores.shape), key=lambda at: (scores[at], at[1], -at[0]))
            picked[rule] = number, index
            last = max(range(2), key=lambda i: (scores[i, -1], -i))
            picked[f"{rule} at the last rank"] = last, len(RANKS) - 1
        data, split = synthetic()[0], Split(0, folds=0 if fold is None else 5)
        validation, learned = (OUT, IN) if fold is None else (fold + 1, fold + 1)
        counts = [
            min(int(((data.environment == e) & (data.side[split] == s)).sum()), MOST if s == validation else 4 * MOST)
            for s in {validation, learned}
            for e in holdout.sources
        ]
        assert {curve.labels_choice for curve in few} == {sum(counts)}
        for i, (a, b, c) in enumerate(zip(whole, few, full, strict=True)):
            assert (c.training_domain, c.lodo, c.labels_choice) == (b.training_domain, b.lodo, b.labels_choice)
            assert c.n_selection == 4 * MOST * len(holdout.sources) < c.n_train == a.n_train
            at = {index for number, index in picked.values() if number == i}
            assert c.full_ranks == tuple(sorted(RANKS[index] for index in at))
            for index in range(len(RANKS)):
                expected = a if index in at else b
                np.testing.assert_array_equal(c.correct[index], expected.correct[index])
                assert c.metrics["target"][index] == expected.metrics["target"][index]
            assert any(f"fitted on {a.n_train} images" in note for note in c.notes) == bool(at)
    assert any((a.correct != b.correct).any() for a, b in zip(every[0], some[0], strict=True))


def test_the_last_rank_where_it_is_best_is_fitted_on_all_images_though_no_rule_picks_it() -> None:
    (_, _, (pca, random)), holdouts = evaluations(Sampled(), None, scores=((0.9, 0.5, 0.1), (0.8, 0.5, 0.2)))
    assert [c.full_ranks for c in pca] == [(RANKS[0],)] * len(holdouts)
    assert [c.full_ranks for c in random] == [(RANKS[-1],)] * len(holdouts)


def test_a_calibration_stands_where_a_rule_picks_and_is_of_the_full_fit() -> None:
    probe = PREDICTORS.create({"name": "linear_probe", "C": [0.316, 31.6]})
    (_, some, refined), holdouts = evaluations(probe, None)
    for holdout in holdouts:
        for rule in ("training_domain", "lodo"):
            curves = [c for of_method in refined for c in of_method if c.held_out == holdout.name]
            (having,) = [c for c in curves if rule in c.scored]
            assert having.full_ranks
    assert not any(curve.scored for of_method in some for curve in of_method)


def test_what_is_hidden_changes_no_pick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels of what is held out are never looked at, but where no source can score."""
    seen: list[dict[str, object]] = []

    def noted(*args: Any) -> Any:
        seen.append({"validation": args[2].training_domain, "picks": full_fit_points(*args)})
        return seen[-1]["picks"]

    monkeypatch.setattr("benchmark.method.evaluation.evaluation.full_fit_points", noted)
    evaluations(Sampled(), None)
    before, data = list(seen), synthetic()[0]
    seen.clear()
    wrong = replace(data, label=np.where(data.environment == 0, (data.label + 1) % 3, data.label))
    monkeypatch.setattr("tests.method.evaluation.test_sampling.synthetic", lambda: (wrong, {}))
    evaluations(Sampled(), None)
    assert before[0] == seen[0]  # the first environment is held out
    assert before != seen
    (_, some, refined), _ = evaluations(Sampled(), None, "in_domain")
    assert all(curve.lodo is None for curve in some[0])
    for i in range(4):
        scores = [max(of_method[i].metrics["target"]) for of_method in some]
        full = [score for score, of_method in zip(scores, refined, strict=True) if of_method[i].full_ranks]
        assert max(scores) in full
