"""Intervals for a new environment, against SciPy and statsmodels."""

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize_scalar
from statsmodels.stats.meta_analysis import combine_effects

from benchmark.method.evaluation.other_environments import environment_interval, random_effects_interval

MEANS = np.array([0.031, -0.012, -0.0003, 0.024, 0.0003, 0.018])


def test_the_interval_over_environments_is_student_s() -> None:
    got = environment_interval(MEANS)
    assert got.interval is not None
    expected = stats.ttest_1samp(MEANS, 0)
    np.testing.assert_allclose([got.interval.low, got.interval.high], expected.confidence_interval(0.95))
    assert got.interval.p == pytest.approx(expected.pvalue)
    assert (got.ahead, got.tied, got.behind) == (3, 2, 1)
    narrow = environment_interval(MEANS[:4], confidence=0.5).interval
    assert narrow is not None
    np.testing.assert_allclose([narrow.low, narrow.high], stats.ttest_1samp(MEANS[:4], 0).confidence_interval(0.5))
    few = environment_interval(MEANS[:3])
    assert few.interval is None
    assert (few.ahead, few.tied, few.behind) == (1, 1, 1)


def test_equal_methods_are_level_everywhere() -> None:
    for got in (environment_interval(np.zeros(5)), random_effects_interval(np.zeros(5), np.zeros(5), [0, 0, 1, 1, 1])):
        assert got.interval is not None
        assert (got.interval.low, got.interval.high, got.tied) == (0, 0, 5)


@pytest.mark.parametrize("scale", [1.0, 8.0])  # of the effects: 1 is what their variances explain, 8 is not
def test_one_environment_in_each_data_set_is_statsmodels_paule_and_mandel_with_hartung_and_knapp(scale: float) -> None:
    rng = np.random.default_rng(2)
    variances = np.exp(rng.normal(np.log(1e-4), 0.7, 9))
    effects = 0.02 + scale * np.sqrt(variances) * rng.standard_normal(9)
    # It takes an estimating equation that rounding makes negative for a variance of 0, so it is to stop before.
    result = combine_effects(effects, variances, method_re="iterated", atol=1e-5, use_t=True)
    assert (result.tau2 > 1e-5) == (scale > 1)
    got = random_effects_interval(effects, variances, np.arange(9)).interval
    assert got is not None
    assert got.estimate == pytest.approx(result.mean_effect_re, rel=1e-6)
    expected = max(result.sd_eff_w_re_hksj, result.sd_eff_w_re)
    assert got.standard_error == pytest.approx(expected, rel=1e-6)
    assert got.degrees_of_freedom == 8


def test_data_sets_alike_are_a_t_test_over_their_means() -> None:
    rng = np.random.default_rng(3)
    effects = (0.02 * rng.standard_normal((4, 1)) + 0.02 * rng.standard_normal((4, 5)) + 0.01).reshape(-1)
    got = random_effects_interval(effects, np.full(20, 1e-4), np.repeat([3, 1, 8, 4], 5), 0.9)
    expected = stats.ttest_1samp(effects.reshape(4, 5).mean(axis=1), 0)
    assert got.interval is not None
    np.testing.assert_allclose([got.interval.low, got.interval.high], expected.confidence_interval(0.9), rtol=1e-6)
    assert got.interval.p == pytest.approx(expected.pvalue)
    assert got.ahead + got.tied + got.behind == 20


def test_data_sets_that_are_not_alike_are_weighted_by_both_variances() -> None:
    rng = np.random.default_rng(4)
    sets = np.repeat([0, 1, 2], [3, 4, 6])
    variances = np.exp(rng.normal(np.log(1e-4), 0.7, 13))
    effects = 0.03 * rng.standard_normal(3)[sets] + 0.03 * rng.standard_normal(13)

    def of_sets(tau2: float) -> tuple[list[float], list[float], float]:
        w = [1 / (variances[sets == k] + tau2) for k in range(3)]
        means = [float(np.average(effects[sets == k], weights=w[k])) for k in range(3)]
        q = sum(float((w[k] * (effects[sets == k] - means[k]) ** 2).sum()) for k in range(3))
        return means, [1 / float(weights.sum()) for weights in w], q

    within = minimize_scalar(
        lambda tau2: (of_sets(tau2)[2] - 10) ** 2, bounds=(0, 0.01), method="bounded", options={"xatol": 1e-12}
    ).x
    means, of_means, _ = of_sets(within)
    result = combine_effects(np.array(means), np.array(of_means), method_re="iterated", atol=1e-12, use_t=True)
    assert min(within, result.tau2) > 1e-5
    got = random_effects_interval(effects, variances, sets).interval
    assert got is not None
    assert got.estimate == pytest.approx(result.mean_effect_re, rel=1e-5)
    assert got.standard_error == pytest.approx(result.sd_eff_w_re_hksj, rel=1e-5)
    assert got.degrees_of_freedom == 2


def test_sets_with_other_numbers_of_environments_are_the_formula_to_nine_digits() -> None:
    """Paule and Mandel twice (by bisection), then Hartung and Knapp, written as the papers have them."""
    rng = np.random.default_rng(6)
    sizes = [8, 6, 4]
    of_sets = [
        (0.02 * rng.standard_normal() + 0.03 * rng.standard_normal(n), rng.uniform(1e-4, 9e-4, n)) for n in sizes
    ]

    def solved(parts: list[tuple[np.ndarray, np.ndarray]]) -> float:
        def q(tau2: float) -> float:
            total = 0.0
            for y, v in parts:
                w = 1 / (v + tau2)
                total += float((w * (y - (w * y).sum() / w.sum()) ** 2).sum())
            return total - (sum(len(y) for y, _ in parts) - len(parts))

        low, high = 0.0, 1.0
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if q(middle) > 0 else (low, middle)
        return low if q(0.0) > 0 else 0.0

    within = solved(of_sets)
    weights = [1 / (v + within) for _, v in of_sets]
    means = np.array([(w * y).sum() / w.sum() for w, (y, _) in zip(weights, of_sets, strict=True)])
    variances = np.array([1 / w.sum() for w in weights])
    w = 1 / (variances + solved([(means, variances)]))
    mu = (w * means).sum() / w.sum()
    error = max(np.sqrt((w * (means - mu) ** 2).sum() / (2 * w.sum())), w.sum() ** -0.5)
    t = stats.t.ppf(0.975, 2)
    effects, known = (np.concatenate(part) for part in zip(*of_sets, strict=True))
    got = random_effects_interval(effects, known, np.repeat([0, 1, 2], sizes))
    assert got.interval is not None
    ours = got.interval.estimate, got.interval.low, got.interval.high
    np.testing.assert_allclose(ours, [mu, mu - t * error, mu + t * error], rtol=0, atol=1e-9)


def test_an_environment_without_variation_is_not_taken_as_certain() -> None:
    variances = np.array([0.0, 4e-4, 1e-4, 2e-4])
    effects = np.array([0.0, 0.02, 0.01, 0.015])
    got = random_effects_interval(effects, variances, np.arange(4))
    assert got == random_effects_interval(effects, np.array([1e-4, 4e-4, 1e-4, 2e-4]), np.arange(4))


def test_data_sets_that_happen_to_agree_leave_the_error_of_their_weighted_mean() -> None:
    effects = np.array([0.01, 0.02, 0.03, 0.01, 0.02, 0.03])  # equal means of sets: Hartung and Knapp's error is 0
    got = random_effects_interval(effects, np.full(6, 1e-4), np.repeat([0, 1], 3)).interval
    assert got is not None
    assert got.standard_error == pytest.approx(np.sqrt(1e-4 / 6))
    low, high = stats.t.interval(0.95, 1, 0.02, np.sqrt(1e-4 / 6))
    np.testing.assert_allclose([got.low, got.high], [low, high])


def test_one_data_set_is_no_sample_of_data_sets() -> None:
    got = random_effects_interval(MEANS, np.full(6, 1e-4), np.zeros(6, dtype=int))
    assert got.interval is None
    assert (got.ahead, got.tied, got.behind) == (3, 2, 1)


def test_environments_that_agree_leave_the_error_of_their_images() -> None:
    variances = np.array([4e-4, 1e-4, 9e-4, 2e-4, 0.0])
    floor = np.sqrt(variances.sum() + 1e-4) / 5  # the one without variation counts as the most certain of the others
    for slope in (0.0, 1e-4):
        means = np.asarray(0.02 + slope * np.arange(5), dtype=np.float64)
        got = environment_interval(means, variances).interval
        assert got is not None
        expected = stats.t(4, means.mean(), floor).interval(0.95)
        np.testing.assert_allclose([got.low, got.high], expected)
        assert got == environment_interval(means, [*variances[:4], np.nan]).interval  # nor one with too few images
    apart = 0.05 * MEANS[:5] / MEANS.max()
    assert environment_interval(apart, variances) == environment_interval(apart)  # they differ by more than that
    assert environment_interval(apart, np.zeros(5)) == environment_interval(apart)
    # The same floor as over data sets, of one environment each whose variances are alike.
    sets = random_effects_interval(np.full(5, 0.02), np.full(5, 1e-4), np.arange(5)).interval
    alone = environment_interval(np.full(5, 0.02), np.full(5, 1e-4)).interval
    assert sets is not None
    assert alone is not None
    assert alone.standard_error == pytest.approx(sets.standard_error)
