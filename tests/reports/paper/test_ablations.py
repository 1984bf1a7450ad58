"""Ablations and comparisons against hand-made numbers. All rows are synthetic."""

import json
from typing import Any

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from reports.comparisons import compare, over_data_sets
from reports.methods import Method
from reports.options import Options
from reports.paper import ablations, alternatives, comparisons, interventions
from tests.reports.paper.rows import ICM, PCA, PLAIN, RANDOM, cell, column, described, line, method_rows, setting, share
from tests.reports.synthetic import row


def test_each_lambda_is_chosen_for_alone_beside_what_the_rule_picks() -> None:
    # source scores by lambda and environment: the rule picks 1 in a, 10 in b
    scores = {("a", 1.0): (0.9, 0.6), ("a", 10.0): (0.5, 0.4), ("b", 1.0): (0.3, 0.5), ("b", 10.0): (0.7, 0.8)}
    rows = method_rows(PLAIN, (0.5, 0.5))
    rows += [row(held_out=h, correct=share(x), lodo=[s], **{**ICM, "lambda_": z}) for (h, z), (s, x) in scores.items()]
    table = ablations.build_lambda(described(rows), Options())
    assert table is not None
    assert [one.name for one in table.blocks[0].lines] == ["1", "10", "by the rule"]
    assert [[c.value for c in one.cells[:3]] for one in table.blocks[0].lines] == [
        pytest.approx([60, 55, 5]), pytest.approx([60, 60, 10]), pytest.approx([80, 70, 20])]  # fmt: skip
    assert [one.cells[3].text for one in table.blocks[0].lines] == ["1 of 2", "1 of 2", "2 of 2"]
    gain = cell(table, "by the rule", "minus plain")  # 10 of 100 gained in a, 30 of 100 in b
    assert gain.error == pytest.approx(100 * np.sqrt(200 / 199 * (0.1 * 0.9 + 0.3 * 0.7) / 100 / 4))
    assert cell(table, "1", "accuracy on what is held out").trials == tuple(
        f"icm-largest-zero_shot-{h}-0--1" for h in "ab"
    )


def test_each_rank_is_fixed_and_the_full_one_is_plain() -> None:
    rows = method_rows(PLAIN, (0.5, 0.5))
    rows += [row(held_out=h, target=(0.2, 0.6, 0.5), lodo=(0.1, 0.8, 0.3), **PCA) for h in "ab"]
    table = ablations.build_rank(described(rows), Options())
    assert table is not None
    lines = table.blocks[0].lines
    assert [one.name for one in lines] == ["1", "2", "4", "by the rule"]
    assert [one.cells[0].value for one in lines] == pytest.approx([10, 80, 30, 80])
    assert [one.cells[1].value for one in lines] == pytest.approx([20, 60, 50, 60])
    assert [one.cells[3].text for one in lines] == ["0 of 2", "2 of 2", "0 of 2", "2 of 2"]
    assert [one.equals_plain for one in lines] == [False, False, True, False]


def test_of_many_values_the_ends_and_the_most_picked_are_kept() -> None:
    values = list(range(100))
    kept = ablations.thinned(values, [41, 41, 7, 500])
    assert len(kept) <= ablations.MAX_VALUES
    assert kept == sorted(kept)
    assert {0, 99, 41, 7} <= set(kept)
    assert ablations.thinned(values[:16], []) == values[:16]
    assert ablations.thinned(values, [50], most=4) == [0, 33, 50, 99]


def of_set(name: str, kinds: str, x: float, pairs: str | None = None) -> list[dict[str, Any]]:
    content: dict[str, Any] = {"kinds": [{"name": k} for k in kinds.split()]} | ({"pairs": pairs} if pairs else {})
    return method_rows(
        {**ICM, "intervention_set": name, "interventions": json.dumps(content), "projection_variant": pairs}, (x, x)
    )


def test_intervention_sets_are_all_alone_left_out_and_shares_of_the_pairs() -> None:
    rows = [*method_rows(PLAIN, (0.5, 0.5)), *of_set("tenth", "blur noise hue", 0.55, "10 % of the pairs"),
            *of_set("no hue", "blur noise", 0.6), *of_set("hue", "hue", 0.4), *of_set("every", "blur noise hue", 0.7)]  # fmt: skip
    table = interventions.build(described(rows), Options())
    assert table is not None
    lines = table.blocks[0].lines
    assert [one.name for one in lines] == [
        "all (every)", "hue alone", "without hue", "all (tenth), 10 % of the pairs", "by the rule"]  # fmt: skip
    assert [one.cells[1].value for one in lines] == pytest.approx([70, 40, 60, 55, 70])
    assert [one.cells[2].value for one in lines] == pytest.approx([20, -10, 10, 5, 20])
    assert [one.cells[3].text for one in lines] == ["2 of 2", "0 of 2", "0 of 2", None, "2 of 2"]


def test_orders_and_predictors_are_lines() -> None:
    rows = [*method_rows(PLAIN, (0.5, 0.5)), *method_rows(ICM, (0.6, 0.6))]
    rows += method_rows({**ICM, "order": "released"}, (0.4, 0.4))
    rows += method_rows({**PLAIN, "predictor": "ridge"}, (0.7, 0.7))
    order, predictor = (
        build(described(rows), Options()) for build in (alternatives.build_order, alternatives.build_predictor)
    )
    assert order is not None
    assert predictor is not None
    assert {one.name: one.cells[2].value for one in order.blocks[0].lines} == pytest.approx(
        {"released": -10, "largest": 10}
    )
    assert [one.name for one in predictor.blocks[0].lines] == ["zero-shot", "ridge probe"]
    assert [one.cells[1].value for one in predictor.blocks[0].lines] == pytest.approx([50, 70])
    assert len(predictor.blocks) == 1  # CLIP-ICM has one predictor


def several(*datasets: str) -> list[dict[str, Any]]:
    rng, rows = np.random.default_rng(0), []
    for dataset in datasets:
        for what, x in ((PLAIN, 0.5), (PCA, 0.52), (RANDOM, 0.45), (ICM, 0.62)):
            rows += [row(held_out=h, correct=rng.random(200) < x, **what, **setting(dataset)) for h in "abcd"]
    return rows


def test_comparisons_have_intervals_and_p_values_by_holm() -> None:
    made = described(several("one"))
    table = comparisons.build(made, Options())
    assert table is not None
    plain, pca, random = (Method(name, None, "zero_shot") for name in ("identity", "pca", "random"))
    icm = Method("icm", "largest", "zero_shot")
    pairs = [(pca, plain), (random, plain), (random, pca), (icm, plain), (icm, pca), (icm, random)]
    single = [compare(made[0][1], ours, "lodo", theirs) for ours, theirs in pairs]
    expected = multipletests([one.interval.p for one in single if one], method="holm")[1]
    found = {(pca, plain): cell(table, "PCA", "minus plain, p (Holm)")}
    found |= {(random, plain): cell(table, "Random", "minus plain, p (Holm)")}
    found |= {(random, pca): cell(table, "Random", "minus PCA, p (Holm)")}
    found |= {(icm, b): cell(table, "CLIP-ICM", f"minus {w}, p (Holm)")
              for b, w in ((plain, "plain"), (pca, "PCA"), (random, "random"))}  # fmt: skip
    assert [found[pair].value for pair in pairs] == pytest.approx(expected)
    assert [found[pair].text for pair in pairs] == ["<0.001" if p < 0.001 else None for p in expected]
    one = single[3]
    assert one is not None
    gain = cell(table, "CLIP-ICM", "minus plain")
    assert (gain.value, gain.low, gain.high) == pytest.approx(
        (100 * one.interval.estimate, 100 * one.interval.low, 100 * one.interval.high)
    )
    assert cell(table, "CLIP-ICM", "ahead of plain in k of n environments").text == f"{one.others.ahead} of 4"
    assert [c.group for c in table.columns[:4]] == ["minus plain"] * 4
    assert [line_.name for _, line_ in table.lines()] == ["PCA + zero-shot", "Random projection + zero-shot",
                                                         "CLIP-ICM (largest) + zero-shot"]  # fmt: skip


def test_comparisons_over_data_sets_are_pooled() -> None:
    made = described(several("one", "two"))
    table = comparisons.build(made, Options())
    assert table is not None
    icm, plain = Method("icm", "largest", "zero_shot"), Method("identity", None, "zero_shot")
    named = [(s.dataset, one) for s, part in made if (one := compare(part, icm, "lodo", plain)) is not None]
    whole = over_data_sets(named)
    assert whole is not None
    gain = line(table, "CLIP-ICM").cells[column(table, "minus plain")]
    assert (gain.value, gain.low) == pytest.approx((100 * whole.interval.estimate, 100 * whole.interval.low))
    assert "over data sets" in table.caption
