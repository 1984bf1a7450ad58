"""Distributions against scipy.stats."""

import numpy as np
import pytest
from scipy import stats

from benchmark.method.evaluation.inference import (
    clopper_pearson,
    mcnemar,
    normal_quantile,
    ranks,
    t_above,
    t_quantile,
)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4.37, 30, 399.2, 7999])
def test_students_t_is_scipys(freedom: float) -> None:
    for p in (0.5, 0.8, 0.975, 0.9995):
        assert t_quantile(p, freedom) == pytest.approx(stats.t.ppf(p, freedom), rel=1e-14, abs=1e-15)
        assert normal_quantile(p) == pytest.approx(stats.norm.ppf(p), rel=1e-14, abs=1e-15)
    for t in (-3.0, 0.0, 0.5, 2.1, 8.0):
        assert t_above(t, freedom) == pytest.approx(stats.t.sf(t, freedom), rel=1e-13)
    assert np.isnan(t_quantile(0.975, np.nan))
    assert np.isnan(t_above(np.nan, freedom))


@pytest.mark.parametrize("n", [1, 2, 7, 40, 333])
def test_shares_are_scipys(n: int) -> None:
    for k in sorted({0, 1, n // 3, n // 2, n - 1, n}):
        assert mcnemar(k, n - k) == pytest.approx(stats.binomtest(k, n).pvalue, rel=1e-11)
        ends = stats.binomtest(k, n).proportion_ci(0.95, method="exact")
        assert clopper_pearson(k, n, 0.95) == pytest.approx((ends.low, ends.high), rel=1e-7)
        low, high = clopper_pearson(k, n, 0.9)  # by its definition: 5 % on either side
        assert k == 0 or stats.binom.sf(k - 1, n, low) == pytest.approx(0.05, rel=1e-10)
        assert k == n or stats.binom.cdf(k, n, high) == pytest.approx(0.05, rel=1e-10)


def test_equal_values_share_their_ranks() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        values = rng.integers(0, 6, size=9).astype(float)
        np.testing.assert_array_equal(ranks(values), stats.rankdata(values))
