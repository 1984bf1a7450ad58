"""Adjusted p-values against statsmodels, ranks against paired t tests one by one."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from benchmark.method.evaluation.inference import Scores
from benchmark.method.evaluation.multiple_testing import holm, rank_intervals


def test_holm_is_that_of_statsmodels() -> None:
    rng = np.random.default_rng(0)
    for m in (1, 2, 5, 45):
        p = rng.random(m) ** 3
        np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])
    ties = [0.01, 0.04, 0.01, 0.9, 0.04]
    np.testing.assert_allclose(holm(ties), multipletests(ties, method="holm")[1])


def test_comparisons_that_could_not_be_made_do_not_count() -> None:
    np.testing.assert_allclose(holm([0.02, np.nan, 0.03]), [0.04, np.nan, 0.04])
    assert np.isnan(holm([np.nan, np.nan])).all()
    assert len(holm([])) == 0


def methods(*accuracies: float, n: int = 600, seed: int = 0) -> Scores:
    rng = np.random.default_rng(seed)
    difficulty = rng.random(n)
    values = np.array([difficulty + 0.15 * rng.standard_normal(n) < accuracy for accuracy in accuracies])
    one = np.zeros(n, dtype=np.int64)
    return Scores(values.astype(float), one, one, np.arange(n))


def test_ranks_are_those_of_all_paired_t_tests_adjusted_by_holm() -> None:
    accuracies = (0.60, 0.62, 0.645, 0.66, 0.70)
    changed = set()
    for seed in range(20):
        scores = methods(*accuracies, seed=seed)
        pairs = list(combinations(range(5), 2))
        p = [stats.ttest_rel(scores.values[i], scores.values[j]).pvalue for i, j in pairs]
        means = scores.values.mean(axis=1)
        results = {}
        for adjust in ("holm", "bonferroni", "none"):
            significant = np.array(p) <= 0.05 if adjust == "none" else multipletests(p, 0.05, method=adjust)[0]
            beaten = [
                [(i, j)[int(means[i] > means[j])], (i, j)[int(means[i] <= means[j])]]
                for (i, j), yes in zip(pairs, significant, strict=True)
                if yes
            ]
            highest = [1 + sum(loser == m for loser, _ in beaten) for m in range(5)]
            lowest = [5 - sum(winner == m for _, winner in beaten) for m in range(5)]
            level = [[m, int(means.argmax())] not in beaten for m in range(5)]
            results[adjust] = (highest, lowest, level)
        got = rank_intervals(scores)
        assert (got.highest.tolist(), got.lowest.tolist(), got.tied_with_best.tolist()) == results["holm"]
        np.testing.assert_allclose([got.adjusted[pair] for pair in pairs], multipletests(p, method="holm")[1])
        changed |= {adjust for adjust, result in results.items() if result != results["holm"]}
        for (i, j), difference in got.differences.items():
            assert difference.estimate == pytest.approx(means[i] - means[j])
    assert changed == {"bonferroni", "none"}  # the test tells these from Holm


def test_equal_methods_share_every_rank_and_one_far_ahead_is_alone() -> None:
    scores = methods(0.5, 0.5, 0.9)
    same = Scores(scores.values[[0, 0, 2]], scores.environment, scores.seed, scores.cluster)
    got = rank_intervals(same)
    assert got.highest.tolist() == [2, 2, 1]
    assert got.lowest.tolist() == [3, 3, 1]
    assert got.tied_with_best.tolist() == [False, False, True]
    assert got.adjusted[0, 1] == 1


def test_confidence_is_of_the_whole_family() -> None:
    scores = methods(0.50, 0.54, n=400, seed=1)
    p = rank_intervals(scores).adjusted[0, 1]
    assert 0.05 < p < 0.9
    assert rank_intervals(scores, 1 - p - 0.01).tied_with_best.tolist() == [False, True]
    assert rank_intervals(scores, 1 - p + 0.01).tied_with_best.all()


def test_too_few_units_give_no_winner() -> None:
    got = rank_intervals(methods(0.1, 0.9, n=29))
    assert not got.tied_with_best.any()
    assert (got.highest.tolist(), got.lowest.tolist()) == ([1, 1], [2, 2])


def test_none_is_the_best_where_all_means_are_equal() -> None:
    values = np.zeros((3, 200))
    scores = Scores(values, np.repeat([0, 1], 100), np.zeros(200, dtype=np.int64), np.arange(200))
    assert not rank_intervals(scores).tied_with_best.any()
    values[2, ::2] = 1
    assert rank_intervals(replace(scores)).tied_with_best.tolist() == [False, False, True]


def test_one_method_alone_is_the_best() -> None:
    got = rank_intervals(methods(0.5))
    assert (got.highest.tolist(), got.lowest.tolist(), got.tied_with_best.tolist()) == ([1], [1], [True])
