"""SYNTHETIC rows: gains against plain accuracy over backbones, against statsmodels."""

from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm

from reports.methods import Method
from reports.options import Options
from reports.paper import paper_tables, trend
from reports.table import Table
from reports.trend import slope_of, trend_of
from tests.reports.paper.rows import cell, described
from tests.reports.synthetic import row

PLAIN = {"a": 0.40, "b": 0.44, "c": 0.50, "d": 0.47, "e": 0.55, "f": 0.60, "g": 0.58, "h": 0.63, "i": 0.70}
GAIN = {"a": 0.09, "b": 0.07, "c": 0.06, "d": 0.08, "e": 0.02, "f": 0.03, "g": 0.03, "h": 0.0, "i": 0.01}

SHRINKAGE = Method("shrinkage", None, "zero_shot")


def rows_of(backbone: str, **other: Any) -> list[dict[str, Any]]:
    common = {"backbone": backbone, "backbone_fingerprint": f"weights of {backbone}", **other}
    return [
        made
        for h, shift in (("art", 0.02), ("sketch", -0.02))
        for made in (
            row(held_out=h, target=[PLAIN[backbone] + shift], **common),
            row(held_out=h, projection="shrinkage", lambda_=3.0, target=[PLAIN[backbone] + GAIN[backbone] + shift],
                projection_params='{"nuisance": "both"}', **common),
        )
    ]  # fmt: skip


def table_of(rows: list[dict[str, Any]]) -> Table | None:
    return trend.build(described(rows), Options())


def fitted(x: list[float], y: list[float]) -> list[float]:
    fit = sm.OLS(y, sm.add_constant(np.array(x))).fit()
    return [fit.params[1], *fit.conf_int()[1]]


def test_the_trend_is_statsmodels_least_squares_over_backbones() -> None:
    table = table_of([r for name in PLAIN for r in rows_of(name)])
    assert table is not None
    plain, gain = ([100 * of[name] for name in PLAIN] for of in (PLAIN, GAIN))
    mean = [x + y / 2 for x, y in zip(plain, gain, strict=True)]
    assert table.caption.startswith("synthetic: does the gain survive a better encoder?")
    [block] = table.blocks
    assert block.title == "Shrinkage, zero-shot: 9 backbones"
    for name, x in (("plain accuracy", plain), ("mean of both accuracies", mean)):
        slope = cell(table, name, "slope")
        assert [slope.value, slope.low, slope.high] == pytest.approx(fitted(x, gain))
        assert cell(table, name, "mean gain over plain").value == pytest.approx(np.mean(gain))
        assert cell(table, name, "plain accuracies").text == "40.0 to 70.0"
    # of 200 images as many more are right: errors of the mean of 0 and 1
    ahead = sum(x > 1.98 * np.sqrt(x * (1 - x) / 200) for x in GAIN.values())
    assert cell(table, "plain accuracy", "backbones with a gain whose interval is above 0").text == f"{ahead} of 9"
    assert "trend" in {one.name for one in paper_tables(described([r for n in PLAIN for r in rows_of(n)]), Options())}


def test_eight_encoders_are_needed_and_neither_random_weights_nor_a_second_name_count() -> None:
    names = list(PLAIN)
    assert table_of([r for name in names[:8] for r in rows_of(name)])
    assert table_of([r for name in names[:7] for r in rows_of(name)]) is None
    second = [r | {"backbone": "another name"} for r in rows_of(names[6])]
    assert table_of([*(r for name in names[:7] for r in rows_of(name)), *second]) is None
    random = [r for name in names[7:8] for r in rows_of(name, random_weights=True)]
    assert table_of([*(r for name in names[:7] for r in rows_of(name)), *random]) is None
    beside = table_of([*(r for name in names[:8] for r in rows_of(name)), *rows_of("i", random_weights=True)])
    assert beside is not None
    assert "RANDOM" not in beside.caption


def test_equal_accuracies_have_no_trend_and_no_table() -> None:
    rows = [r | {"backbone": n, "backbone_fingerprint": n} for n in PLAIN for r in rows_of("a")]
    made = trend_of(described(rows), SHRINKAGE, "lodo")
    assert made is not None
    assert (made.on_plain, made.on_mean) == (None, None)
    assert table_of(rows) is None


def test_noise_pulls_the_slope_on_plain_accuracy_down_and_not_that_on_the_mean() -> None:
    rng = np.random.default_rng(0)
    slopes = []
    for _ in range(400):
        truth = rng.normal(50, 4, 12)
        plain, ours = truth + rng.normal(0, 2, 12), truth + 3 + rng.normal(0, 2, 12)  # a gain without any trend
        both = slope_of(plain, ours - plain), slope_of((plain + ours) / 2, ours - plain)
        slopes.append([slope.value for slope in both if slope])
    on_plain, on_mean = np.mean(slopes, axis=0)
    error = np.std(slopes, axis=0) / 20
    assert on_plain < -5 * error[0]
    assert abs(on_mean) < 3.3 * error[1]


def test_an_interval_covers_the_slope() -> None:
    rng, covered = np.random.default_rng(1), 0
    x = rng.normal(50, 5, 10)
    for _ in range(2000):
        slope = slope_of(x, 7 - 0.1 * x + rng.normal(0, 1, 10))
        assert slope is not None
        covered += slope.low <= -0.1 <= slope.high
    assert covered / 2000 == pytest.approx(0.95, abs=3.3 * np.sqrt(0.95 * 0.05 / 2000))
    assert slope_of(np.ones(9), x[:9]) is None
