"""Imported methods in tables and comparisons. All rows are synthetic."""

import json
from typing import Any

import numpy as np
import pytest

from benchmark.common.storage.files import Storage
from reports.analysis.comparisons import compare, to_records
from reports.analysis.findings import comparisons, overall
from reports.analysis.methods import Method
from reports.analysis.metrics import metrics_of
from reports.analysis.selections import Selections, rule_for
from reports.analysis.settings import Options
from reports.analysis.verdicts import answer
from reports.build import write_report
from reports.render.table import Cell
from reports.tables import cells
from reports.text.captions import imported_words
from reports.text.sentences import Origin
from tests.reports.synthetic import TESTED, frame, only, row

PLAIN, ERM = Method("identity", None, "zero_shot"), Method("imported", None, "ERM")
NULL = dict.fromkeys(("n_train", "labels_fit", "labels_choice", "normalize", "view_draw"))


def imported(right: np.ndarray, held_out: str, score: float = np.nan, setting: str = "", **more: Any) -> dict[str, Any]:
    params = json.dumps({"setting": setting} if setting else {})
    scores: dict[str, Any] = {"training_domain": [score], "lodo": [score], "predictor_params": params}
    return row(held_out=held_out, projection="imported", predictor="ERM", correct=right, **scores) | NULL | more


def both(**more: Any) -> list[dict[str, Any]]:
    """Return plain zero-shot, an imported method with the same predictions, and CLIP-ICM."""
    made = []
    for i, held_out in enumerate("abcd"):
        right = np.random.default_rng(i).random(200) < 0.6
        made += [row(held_out=held_out, correct=right, **more), imported(right, held_out, **more)]
        made += [row(held_out=held_out, projection="icm", order="largest", correct=right[::-1], **more)]
    return made


def line_cells(selections: Selections, method: Method, rule: str) -> list[Cell]:
    """Return the cells of a method: each held-out environment, then the average."""
    names = [*selections.held_outs, None]
    return [cells.accuracy(selections, method, rule, Options(), name).cell for name in names]


@pytest.mark.parametrize("rule", ["training_domain", "lodo", "oracle", "ceiling"])
def test_equal_answers_are_equal_cells_and_a_difference_of_0_from_0_to_0(rule: str) -> None:
    _, selections = only(both())
    plain, ours = (line_cells(selections, method, rule) for method in (PLAIN, ERM))
    for name in ("value", "low", "high", "error", "seeds", "n_clusters", "n_images", "note"):
        assert [getattr(cell, name) for cell in plain] == [getattr(cell, name) for cell in ours], name
    assert [cell.value is None for cell in ours] == [False] * 5
    [sources] = [m.source_accuracy for m in metrics_of(selections, rule) if m.method == ERM]
    assert sources is None
    one = compare(selections, ERM, rule, PLAIN)
    assert one is not None
    assert {(line["difference"], line["low"], line["high"]) for line in to_records(one, 0.01)} == {(0.0, 0.0, 0.0)}


def test_other_answers_are_another_cell_and_another_difference() -> None:
    made = both()
    made[1] = imported(np.zeros(200, dtype=bool), "a")
    _, selections = only(made)
    assert line_cells(selections, ERM, "lodo")[0].value == 0
    one = compare(selections, ERM, "lodo", PLAIN)
    assert one is not None
    assert one.interval.estimate < -0.1


def test_a_method_without_scores_leaves_the_rule_as_it_is() -> None:
    _, selections = only(both())
    assert rule_for(selections.rows) == "lodo"
    assert ERM.label == "ERM (imported)"
    assert "ERM, chosen by its author." in imported_words(selections)
    assert imported_words(only([one for one in both() if one["projection"] != "imported"])[1]) == ""


def test_with_one_source_there_is_no_lodo_cell() -> None:
    made = [{**one, "lodo": None, "n_sources": 1} for one in both()]
    _, selections = only(made)
    assert (
        line_cells(selections, ERM, "lodo")[0].note == "lodo is undefined: leaving a source out leaves fewer than two"
    )
    assert line_cells(selections, ERM, "training_domain")[0].value is not None


def test_the_rule_takes_the_setting_with_the_highest_score_and_none_without() -> None:
    wrong, right = np.zeros(200, dtype=bool), np.ones(200, dtype=bool)
    made = [imported(answers, "a", score, name) for name, answers, score in (("x", wrong, 0.7), ("y", right, 0.6))]
    _, selections = only([*both()[:1], *made])
    assert line_cells(selections, ERM, "lodo")[0].value == 0
    [sources] = [m.source_accuracy for m in metrics_of(selections, "lodo") if m.method == ERM]
    assert sources == pytest.approx(70)
    assert "ERM, chosen among 2 settings by the source score that came with them" in imported_words(selections)
    unscored = [imported(answers, "a", setting=name) for name, answers in (("x", wrong), ("y", right))]
    _, selections = only([*both()[:1], *unscored])
    assert line_cells(selections, ERM, "lodo")[0].value is None


def test_imported_methods_are_judged_and_compared_with_what_else_is() -> None:
    setting, selections = only(both())
    findings = comparisons(setting, selections, Options())
    assert [(one.method.label, one.baseline.label) for one in findings.compared] == [
        ("CLIP-ICM + zero-shot", "Zero-shot"),
        ("ERM (imported)", "Zero-shot"),
        ("CLIP-ICM + zero-shot", "ERM (imported)"),
    ]
    assert [one.method.name for one in answer([(setting, selections)], [findings]).verdicts] == [
        "ERM (imported)",
        "CLIP-ICM",
    ]
    parts = [only(both(dataset=name)) for name in "xy"]
    families = overall([(s, comparisons(s, selections, Options())) for s, selections in parts])
    assert [len(family.members) for family in families] == [3]


def test_a_report_of_imported_rows_alone_can_be_written(tmp_path: Any) -> None:
    rows = frame([one for one in both() if one["projection"] == "imported"])
    written = write_report(rows, TESTED, Storage(str(tmp_path)), "", Origin("Imported"))
    report = (tmp_path / "report.md").read_text()
    assert written.files
    assert "0 result rows of 0 trials and 4 imported ones" in report
    assert "nan" not in (tmp_path / "tables/metrics.csv").read_text()
