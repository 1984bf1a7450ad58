"""Tables of open classes, ImageNet, backbones, selection, metrics and cost, against hand-computed numbers. Synthetic."""

from typing import Any

import numpy as np
import pytest

from benchmark.common.errors import IcmBenchError
from reports.analysis.backbones import lines_of
from reports.analysis.metrics import metrics_of, robustness
from reports.analysis.settings import Options
from reports.tables import backbones, behind, cost, main, paper_tables
from tests.reports.synthetic import only, results_of, row
from tests.reports.tables.rows import (
    ICM,
    PCA,
    PLAIN,
    block,
    built,
    cell,
    column,
    line,
    method_rows,
    setting,
    share,
    table_of,
)


def halves(what: dict[str, Any], base: float, new: float, **more: Any) -> list[dict[str, Any]]:
    common: dict[str, Any] = {**what, "protocol": "open_class", "rounding": "ceil", **more}
    made = []
    for held_out in "ab":
        both = np.concatenate([share(base, 50), share(new, 50)])
        for half, correct in (("base", both[:50]), ("new", both[50:]), ("harmonic", both)):
            made.append(row(held_out=held_out, class_half=half, correct=correct, **common))
    return made


def test_open_classes_have_base_new_and_harmonic_mean_side_by_side() -> None:
    rows = [r for d, x in (("one", 0.2), ("two", 0.1)) for r in (
        *halves(PLAIN, 0.6, 0.4, **setting(d)), *halves(ICM, 0.6 + x, 0.4 + x, **setting(d)),
        *halves(PLAIN, 0.9, 0.0, predictor="linear_probe", **setting(d)),
    )]  # fmt: skip
    table = built(main.OPEN_CLASS, rows)
    assert [(c.group, c.heading) for c in table.columns] == [
        (g, h) for g in ("one", "two", "Average over data sets") for h in ("Base", "New", "H")
    ]
    plain, icm = line(table, "Plain"), line(table, "CLIP-ICM")
    assert [c.value for c in plain.cells] == pytest.approx([60, 40, 48] * 3)
    one, two = [80, 60, 9600 / 140], [70, 50, 7000 / 120]
    assert [c.value for c in icm.cells] == pytest.approx([*one, *two, *np.mean([one, two], axis=0)])
    assert len(table.blocks) == 1  # no linear probe
    assert all(c.best for c in icm.cells)
    assert [t.name for t in paper_tables(results_of(rows), Options())] == ["open_class"]


def test_imagenet_has_its_variants_in_the_order_of_papers_and_their_average() -> None:
    variants = ("ImageNet-A", "ImageNet-R", "ImageNet-Sketch", "ImageNetV2")
    more: dict[str, Any] = {"protocol": "imagenet_shift", "test_split": "full", "dataset": "ImageNet", "lodo": None,
                            "n_sources": 1}  # fmt: skip
    rows = [row(held_out=v, correct=share(x), training_domain=[0.75], **PLAIN, **more)
            for v, x in zip(variants, (0.1, 0.2, 0.3, 0.6), strict=True)]  # fmt: skip
    rows += [row(held_out=v, correct=share(0.5), training_domain=[0.7], **ICM, **more) for v in variants]
    table = built(main.IMAGENET, rows)
    assert [c.heading for c in table.columns] == ["IN", "V2", "R", "A", "Sketch", "Average of shifts"]
    assert [c.value for c in line(table, "Plain").cells] == pytest.approx([75, 60, 20, 10, 30, 30])
    assert [c.best for c in line(table, "CLIP-ICM").cells] == [False] * 5 + [True]
    names = {t.name for t in paper_tables(results_of(rows), Options())}
    assert "imagenet" in names
    assert not any(name.startswith(("main", "environments")) for name in names)


def of_backbones(count: int) -> list[dict[str, Any]]:
    rows = []
    for i in range(count):
        name = f"B{i}"
        source, target = 0.5 + 0.04 * i, 0.4 + 0.05 * i - 0.02 * (i % 2)
        for what, gained in ((PLAIN, 0.0), (ICM, 0.05)):
            more = {**setting("one", name), **what, "training_domain": [source], "lodo": [source]}
            rows += method_rows(more, (target + gained,) * 2)
    return rows


def test_backbones_have_what_they_gain_and_robustness_from_eight_on() -> None:
    few, table = (built(backbones.TABLE, of_backbones(n)) for n in (7, 8))
    assert not any("robustness" in c.name for c in few.columns)
    assert any("needs 8 backbones" in note for note in few.notes)
    assert [c.name for c in table.columns] == [
        "Plain", "CLIP-ICM", "CLIP-ICM minus plain", "CLIP-ICM, effective robustness"]  # fmt: skip
    assert [one.name for one in table.blocks[0].lines] == [f"B{i}" for i in range(8)]
    assert cell(table, "B3", "Plain").value == pytest.approx(53)
    assert cell(table, "B3", "CLIP-ICM minus plain").value == pytest.approx(5)
    eight = results_of(of_backbones(8))
    expected, _ = robustness(metrics_of(eight[3][1], "lodo")[1], lines_of(eight)[3])
    assert expected is not None
    found = cell(table, "B3", "CLIP-ICM, effective robustness")
    assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))


def test_several_data_sets_of_backbones_are_averaged_and_one_backbone_is_no_table() -> None:
    shares = {("one", "A"): 0.4, ("two", "A"): 0.2, ("one", "B"): 0.6, ("two", "B"): 0.5}
    rows = [r for (d, b), x in shares.items() for r in method_rows(PLAIN, (x, x), **setting(d, b))]
    table = built(backbones.TABLE, rows)
    assert [b.title for b in table.blocks] == ["one", "two", "average over data sets"]
    assert [one.cells[0].value for one in block(table, "average over data sets").lines] == pytest.approx([30, 55])
    assert table_of(backbones.TABLE, results_of([r for r in rows if r["backbone"] == "A"])) is None


def test_rules_are_columns_and_the_gap_to_the_oracle_is_a_bound() -> None:
    right = np.array([share(0.4), share(0.8), share(0.6)])
    scores: dict[str, Any] = {"training_domain": [0.9, 0.1, 0.2], "lodo": [0.1, 0.2, 0.9]}
    rows = [row(held_out=h, correct=right, target=[0, 0, 0], **scores, **what) for h in "ab" for what in (PCA, ICM)]
    table = built(behind.SELECTION, rows)
    assert [c.name for c in table.columns] == ["training_domain", "lodo", "oracle †", "ceiling †",
                                               "oracle − training_domain †", "oracle − lodo †"]  # fmt: skip
    cells = line(table, "PCA").cells
    assert [c.value for c in cells] == pytest.approx([40, 60, 80, 80, 40, 20])
    assert [c.bound for c in cells] == [False, False, True, True, True, True]
    assert cells[4].error == pytest.approx(100 * np.sqrt(200 / 199 * 2 * 0.4 * 0.6 / 100 / 4))
    assert any("ceiling: highest reported accuracy, a bound" in note for note in table.notes)
    assert table_of(behind.SELECTION, results_of([row(held_out=h) for h in "ab"])) is None


def test_behind_the_means_stand_worst_environment_and_class_chance_and_majority() -> None:
    labels = [0] * 70 + [1] * 30
    rows = [row(held_out=h, correct=share(x), labels=labels, **what)
            for what, x in ((PLAIN, 0.8), (PCA, 0.7)) for h, x in (("a", x), ("b", x - 0.1))]  # fmt: skip
    table = built(behind.TABLE, rows)
    plain = line(table, "Plain").cells
    # 80: all cats and 10 of 30 dogs; 70: all cats and no dog
    assert plain[column(table, "balanced accuracy")].value == pytest.approx(100 * np.mean([(1 + 1 / 3) / 2, 0.5]))
    assert plain[column(table, "worst environment")].text == "70.0 (b)"
    assert plain[column(table, "worst class")].text == "0.0 (dog, b, n = 30)"
    assert "Chance 50.0, majority 70.0" in table.caption
    (one,) = metrics_of(only(rows[:2])[1], "lodo")
    assert plain[0].value == pytest.approx(one.means["target"])


def test_cost_has_speed_hours_and_price() -> None:
    costs: list[dict[str, Any]] = [
        {"kind": ["embedding", "A"], "work": 7200.0, "seconds": 36.0, "ceiling": 250.0, "actors": 1, "cores": 2,
         "device": "cpu"},
        {"kind": ["embedding", "B"], "work": 100.0, "seconds": 3600.0, "device": "cuda", "machine": "GPU", "actors": 0},
        {"kind": ["trial", "zero_shot", "pca", "x"], "work": 1.0, "seconds": 20.0},
        {"kind": ["trial", "zero_shot", "pca", "y"], "work": 1.0, "seconds": 40.0},
        {"kind": ["start"], "work": 1.0, "seconds": 40.0},
    ]  # fmt: skip
    made = results_of([*method_rows(PLAIN, (0.5, 0.5)), *method_rows(PCA, (0.5, 0.5))])
    table = table_of(cost.TABLE, made, Options(price=3.0), costs=costs)
    assert table is not None
    first, second = table.blocks[0].lines
    assert [c.value for c in first.cells] == pytest.approx([200, 80, None, 0.02, 0.06])
    assert [c.value for c in second.cells] == pytest.approx([100 / 3600, None, 1, None, 3])
    (trials,) = table.blocks[1].lines
    assert trials.name == "zero-shot, pca: 2 trials"
    assert trials.cells[3].value == pytest.approx(2 * 30 / 3600)
    assert table_of(cost.TABLE, made, costs=costs[:1]) is None
    with pytest.raises(IcmBenchError, match="Entry 0 of the costs lacks 'seconds'"):
        table_of(cost.TABLE, made, costs=[{"kind": ["start"], "work": 1}])
