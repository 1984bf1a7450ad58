"""SYNTHETIC rows: gains against plain accuracy over backbones, against statsmodels."""

from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm

from reports.chosen import Selections
from reports.settings import by_setting
from reports.trend import slope_of, trends
from tests.reports.synthetic import TESTED, frame, row

PLAIN = {"a": 0.40, "b": 0.44, "c": 0.50, "d": 0.47, "e": 0.55, "f": 0.60, "g": 0.58, "h": 0.63, "i": 0.70}
GAIN = {"a": 0.09, "b": 0.07, "c": 0.06, "d": 0.08, "e": 0.02, "f": 0.03, "g": 0.03, "h": 0.0, "i": 0.01}


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


def text_of(rows: list[dict[str, Any]]) -> str:
    return "\n".join(trends([(s, Selections(part, TESTED)) for s, part in by_setting(frame(rows))]))


def words(x: list[float], y: list[float]) -> str:
    fit = sm.OLS(y, sm.add_constant(np.array(x))).fit()
    low, high = fit.conf_int()[1]
    return f"{fit.params[1]:+.2f} [{low:+.2f}, {high:+.2f}]"


def test_the_trend_is_statsmodels_least_squares_over_backbones() -> None:
    text = text_of([r for name in PLAIN for r in rows_of(name)]).replace("\\", "")
    plain, gain = ([100 * of[name] for name in PLAIN] for of in (PLAIN, GAIN))
    mean = [x + y / 2 for x, y in zip(plain, gain, strict=True)]
    assert text.startswith("## Does the gain survive a better encoder? synthetic, 9 backbones, protocol held_out")
    assert f"mean gain {np.mean(gain):+.1f} points over 9 backbones with plain accuracies from 40.0 to 70.0" in text
    assert f"For each point of plain accuracy the gain changes by {words(plain, gain)} points" in text
    assert f"on the mean of both accuracies by {words(mean, gain)}." in text
    order = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ") and len(line) < 60]
    assert [name for name in order if name in PLAIN] == sorted(PLAIN, key=lambda name: PLAIN[name])
    assert "| a | 40.0 | 49.0 | +9.0 [" in text


def test_eight_encoders_are_needed_and_neither_random_weights_nor_a_second_name_count() -> None:
    names = list(PLAIN)
    assert text_of([r for name in names[:8] for r in rows_of(name)])
    assert text_of([r for name in names[:7] for r in rows_of(name)]) == ""
    second = [r | {"backbone": "another name"} for r in rows_of(names[6])]
    assert text_of([*(r for name in names[:7] for r in rows_of(name)), *second]) == ""
    random = [r for name in names[7:8] for r in rows_of(name, random_weights=True)]
    assert text_of([*(r for name in names[:7] for r in rows_of(name)), *random]) == ""


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
