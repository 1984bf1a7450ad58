"""Student's t in lines and slopes over backbones, against scipy.stats, which reports do not import."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, logit

from reports.analysis.backbones import AccuracyLine, slope_of


@pytest.mark.parametrize("n", [3, 4, 8, 40])
def test_a_prediction_interval_is_scipys_to_eleven_digits(n: int) -> None:
    rng = np.random.default_rng(n)
    source = rng.uniform(0.3, 0.9, n)
    target = source - rng.uniform(0.0, 0.2, n)
    fit = stats.linregress(logit(source), logit(target))
    x, x0 = logit(source), logit(0.7)
    rest = logit(target) - fit.intercept - fit.slope * x
    error = np.sqrt((rest @ rest) / (n - 2) * (1 + 1 / n + (x0 - x.mean()) ** 2 / (n * x.var())))
    middle, half = fit.intercept + fit.slope * x0, stats.t.ppf(0.975, n - 2) * error
    expected = expit([middle, middle - half, middle + half])
    found = AccuracyLine(tuple(source), tuple(target), n + 1).expected(0.7)
    np.testing.assert_allclose(found, expected, rtol=1e-11)


@pytest.mark.parametrize("n", [3, 4, 8, 40])
def test_the_interval_of_a_slope_is_scipys_to_eleven_digits(n: int) -> None:
    rng = np.random.default_rng(n)
    x, y = rng.normal(50, 5, n), rng.normal(3, 1, n)
    fit, found = stats.linregress(x, y), slope_of(x, y)
    assert found is not None
    half = stats.t.ppf(0.975, n - 2) * fit.stderr
    np.testing.assert_allclose(
        (found.value, found.low, found.high), (fit.slope, fit.slope - half, fit.slope + half), rtol=1e-11
    )
