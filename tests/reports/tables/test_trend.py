"""SYNTHETIC rows: gains against plain accuracy over backbones, against statsmodels."""

from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm

from reports.analysis.backbones import trend_of
from reports.analysis.methods import Method
from reports.analysis.settings import Options
from reports.tables import backbones, paper_tables
from tests.reports.synthetic import results_of, row
from tests.reports.tables.rows import built, cell, table_of

PLAIN = {"a": 0.40, "b": 0.44, "c": 0.50, "d": 0.47, "e": 0.55, "f": 0.60, "g": 0.58, "h": 0.63, "i": 0.70}
GAIN = {"a": 0.09, "b": 0.07, "c": 0.06, "d": 0.08, "e": 0.02, "f": 0.03, "g": 0.03, "h": 0.0, "i": 0.01}

SHRINKAGE = Method("shrinkage", None, "zero_shot")


def rows_of(*backbones: str, **other: Any) -> list[dict[str, Any]]:
    shrinkage: dict[str, Any] = {"projection": "shrinkage", "lambda_": 3.0, "projection_params": '{"nuisance": "both"}'}
    return [
        row(held_out=h, target=[PLAIN[name] + gain + shift], backbone=name, backbone_fingerprint=f"weights of {name}",
            **what, **other)
        for name in backbones for h, shift in (("art", 0.02), ("sketch", -0.02))
        for what, gain in (({}, 0.0), (shrinkage, GAIN[name]))
    ]  # fmt: skip


def fitted(x: list[float], y: list[float]) -> list[float]:
    fit = sm.OLS(y, sm.add_constant(np.array(x))).fit()
    return [fit.params[1], *fit.conf_int()[1]]


def test_the_trend_is_statsmodels_least_squares_over_backbones() -> None:
    table = built(backbones.TREND, rows_of(*PLAIN))
    plain, gain = ([100 * of[name] for name in PLAIN] for of in (PLAIN, GAIN))
    mean = [x + y / 2 for x, y in zip(plain, gain, strict=True)]
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
    assert "trend" in {one.name for one in paper_tables(results_of(rows_of(*PLAIN)), Options())}


def test_eight_encoders_are_needed_and_neither_random_weights_nor_a_second_name_count() -> None:
    seven = rows_of(*"abcdefg")
    second_name = [r | {"backbone": "another name"} for r in rows_of("g")]
    for more in ([], second_name, rows_of("h", random_weights=True)):
        assert table_of(backbones.TREND, results_of([*seven, *more])) is None
    beside = built(backbones.TREND, [*seven, *rows_of("h"), *rows_of("i", random_weights=True)])
    assert "RANDOM" not in beside.caption


def test_equal_accuracies_have_no_trend_and_no_table() -> None:
    rows = [r | {"backbone": n, "backbone_fingerprint": n} for n in PLAIN for r in rows_of("a")]
    made = trend_of(results_of(rows), SHRINKAGE, "lodo")
    assert made is not None
    assert (made.on_plain, made.on_mean) == (None, None)
    assert table_of(backbones.TREND, results_of(rows)) is None
