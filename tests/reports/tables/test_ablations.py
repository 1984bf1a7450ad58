"""Ablations and comparisons against hand-computed numbers. All rows are synthetic."""

from typing import Any

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from reports.analysis.comparisons import compare, over_data_sets
from reports.analysis.methods import Method
from reports.tables import ablations, main
from reports.tables.all import TABLES
from tests.reports.synthetic import only, results_of, row
from tests.reports.tables.rows import (
    ICM,
    PCA,
    PLAIN,
    RANDOM,
    built,
    cell,
    column,
    line,
    method_rows,
    setting,
    share,
    table_of,
)


def test_each_lambda_is_fixed_and_compared_with_the_rules_picks() -> None:
    # source scores by lambda and environment: the rule picks 1 in a, 10 in b
    scores = {("a", 1.0): (0.9, 0.6), ("a", 10.0): (0.5, 0.4), ("b", 1.0): (0.3, 0.5), ("b", 10.0): (0.7, 0.8)}
    rows = method_rows(PLAIN, (0.5, 0.5))
    rows += [row(held_out=h, correct=share(x), lodo=[s], **{**ICM, "lambda_": z}) for (h, z), (s, x) in scores.items()]
    table = built(ablations.LAMBDA, rows)
    assert [one.name for one in table.blocks[0].lines] == ["1", "10", "by the rule"]
    assert [[c.value for c in one.cells[:3]] for one in table.blocks[0].lines] == [
        pytest.approx([60, 55, 5]), pytest.approx([60, 60, 10]), pytest.approx([80, 70, 20])]  # fmt: skip
    assert [one.cells[3].text for one in table.blocks[0].lines] == ["1 of 2", "1 of 2", "2 of 2"]
    gain = cell(table, "by the rule", "minus plain")  # 10 of 100 gained in a, 30 of 100 in b
    assert gain.error == pytest.approx(100 * np.sqrt(200 / 199 * (0.1 * 0.9 + 0.3 * 0.7) / 100 / 4))
    trials = cell(table, "1", "accuracy on what is held out").trials
    assert trials == tuple(f"icm-largest-zero_shot-{h}-0--1" for h in "ab")


def test_each_rank_is_fixed_and_the_full_one_is_plain() -> None:
    rows = method_rows(PLAIN, (0.5, 0.5))
    rows += [row(held_out=h, target=(0.2, 0.6, 0.5), lodo=(0.1, 0.8, 0.3), **PCA) for h in "ab"]
    lines = built(ablations.RANK, rows).blocks[0].lines
    assert [one.name for one in lines] == ["1", "2", "4", "by the rule"]
    assert [one.cells[0].value for one in lines] == pytest.approx([10, 80, 30, 80])
    assert [one.cells[1].value for one in lines] == pytest.approx([20, 60, 50, 60])
    assert [one.cells[3].text for one in lines] == ["0 of 2", "2 of 2", "0 of 2", "2 of 2"]
    assert [one.equals_plain for one in lines] == [False, False, True, False]


def test_many_values_are_thinned_to_the_ends_and_the_most_picked() -> None:
    values = list(range(100))
    kept = ablations.thinned(values, [41, 41, 7, 500])
    assert len(kept) <= ablations.MAX_VALUES
    assert kept == sorted(kept)
    assert {0, 99, 41, 7} <= set(kept)
    assert ablations.thinned(values[:16], []) == values[:16]
    assert ablations.thinned(values, [50], max_values=4) == [0, 33, 50, 99]


def test_orders_and_predictors_are_lines() -> None:
    rows = [*method_rows(PLAIN, (0.5, 0.5)), *method_rows(ICM, (0.6, 0.6))]
    rows += method_rows({**ICM, "order": "released"}, (0.4, 0.4))
    rows += method_rows({**PLAIN, "predictor": "ridge"}, (0.7, 0.7))
    order, predictor = (built(spec, rows) for spec in (ablations.ORDER, ablations.PREDICTOR))
    gains = {one.name: one.cells[2].value for one in order.blocks[0].lines}
    assert gains == pytest.approx({"released": -10, "largest": 10})
    assert [one.name for one in predictor.blocks[0].lines] == ["zero-shot", "ridge probe"]
    assert [one.cells[1].value for one in predictor.blocks[0].lines] == pytest.approx([50, 70])
    assert len(predictor.blocks) == 1  # CLIP-ICM has one predictor


def test_shares_of_the_source_images_are_a_learning_curve_and_in_no_other_table() -> None:
    whole = [*method_rows(PLAIN, (0.5, 0.5)), *method_rows(PCA, (0.5, 0.6)), *method_rows(ICM, (0.7, 0.8), n_train=240)]
    rows = [*whole, *method_rows(ICM, (0.55, 0.55), n_train=120, train_share=0.5)]
    rows += method_rows(ICM, (0.4, 0.5), n_train=60, train_share=0.25)
    table = built(ablations.LEARNING_CURVE, rows)
    (block,) = table.blocks
    assert [one.name for one in block.lines] == ["25 %", "50 %", "100 %"]
    dim = rows[-1]["dim"]
    images = [one.cells[column(table, "source images for each dimension")].value for one in block.lines]
    assert images == pytest.approx([60 / dim, 120 / dim, 240 / dim])
    gains = [one.cells[column(table, "minus plain")].value for one in block.lines]
    assert gains == pytest.approx([-5, 5, 25])
    sentence = next(note for note in table.notes if "of the source images" in note)
    assert "-5.0 points" in sentence
    assert "+25.0 with all" in sentence
    for spec in TABLES:
        if spec.name != "learning_curve":
            assert table_of(spec, results_of(rows)) == table_of(spec, results_of(whole)), spec.name
    assert table_of(ablations.LEARNING_CURVE, results_of(whole)) is None


def several(*datasets: str) -> list[dict[str, Any]]:
    rng, rows = np.random.default_rng(0), []
    for dataset in datasets:
        for what, x in ((PLAIN, 0.5), (PCA, 0.52), (RANDOM, 0.45), (ICM, 0.62)):
            rows += [row(held_out=h, correct=rng.random(200) < x, **what, **setting(dataset)) for h in "abcd"]
    return rows


METHODS = {"plain": Method("identity", None, "zero_shot"), "PCA": Method("pca", None, "zero_shot"),
           "random projection": Method("random", None, "zero_shot"),
           "CLIP-ICM": Method("icm", "largest", "zero_shot")}  # fmt: skip


def test_comparisons_have_intervals_and_p_values_by_holm() -> None:
    table, (_, selections) = built(main.COMPARISONS, several("one")), only(several("one"))
    random = "random projection"
    pairs = [("PCA", "plain"), (random, "plain"), (random, "PCA")]
    pairs += [("CLIP-ICM", name) for name in ("plain", "PCA", random)]
    single = [compare(selections, METHODS[ours], "lodo", METHODS[theirs]) for ours, theirs in pairs]
    expected = multipletests([one.interval.p for one in single if one], method="holm")[1]
    found = [cell(table, ours.replace("random", "Random"), f"minus {theirs}, p (Holm)") for ours, theirs in pairs]
    assert [one.value for one in found] == pytest.approx(expected)
    assert [one.text for one in found] == ["<0.001" if p < 0.001 else None for p in expected]
    one, gain = single[3], cell(table, "CLIP-ICM", "minus plain")
    assert one is not None
    ends = one.interval.estimate, one.interval.low, one.interval.high
    assert (gain.value, gain.low, gain.high) == pytest.approx([100 * end for end in ends])
    counts = one.others.ahead, one.others.tied, one.others.behind
    heading = "environments ahead of, equal to and behind plain"
    assert cell(table, "CLIP-ICM", heading).text == " / ".join(map(str, counts))
    assert sum(counts) == 4
    assert [c.group for c in table.columns[:4]] == ["minus plain"] * 4


def test_comparisons_over_data_sets_are_pooled() -> None:
    rows = several("one", "two")
    table, parts = built(main.COMPARISONS, rows), results_of(rows)
    icm, plain = METHODS["CLIP-ICM"], METHODS["plain"]
    whole = over_data_sets([(s.dataset, one) for s, part in parts if (one := compare(part, icm, "lodo", plain))])
    assert whole is not None
    gain = line(table, "CLIP-ICM").cells[column(table, "minus plain")]
    assert (gain.value, gain.low) == pytest.approx((100 * whole.interval.estimate, 100 * whole.interval.low))
