"""What records say equals what a few lines of NumPy give from their answers alone, and what the report says."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.commands.gather import rows_of
from benchmark.common.storage.files import Storage
from benchmark.recipe.loading import load_recipe
from reports.analysis.findings import comparisons
from reports.analysis.selections import Predicted, Selections
from reports.analysis.settings import Options, by_setting
from reports.analysis.verdicts import Verdict, answer
from tests.results import recomputed

Record = dict[str, Any]
WITHIN = 1e-9


def records_of(folder: Path, name: str) -> dict[str, tuple[Path, dict[str, str], dict[str, Record]]]:
    """Return for each record of a recipe: name of the file -> the file, its details, and its scores by id."""
    found = {}
    for file in sorted((folder / "data").rglob("*.json")):
        record = json.loads(file.read_text())
        details = record["eval_library"]["additional_details"]
        if details["recipe_name"] == name:
            of = {one["evaluation_result_id"]: one["score_details"] for one in record["evaluation_results"]}
            found[file.stem] = file, details, of
    return found


def verdicts_of(recipe_file: Path, **overrides: Any) -> dict[tuple[str, str], Verdict]:
    """Return the verdicts of a report, which are not rounded: (data set, method) -> verdict."""
    recipe = load_recipe(recipe_file, overrides)
    gathered, *_ = rows_of(recipe, Storage(str(recipe.run.store)))
    predicted = Predicted(gathered.rows)
    results = [(s, Selections(rows, gathered.tested, predicted)) for s, rows in by_setting(gathered.rows)]
    every = answer(results, [comparisons(setting, one, Options()) for setting, one in results]).verdicts
    return {(one.setting.dataset, one.method.label): one for one in every}


def compare(folder: Path, name: str, reported: dict[tuple[str, str], Verdict]) -> int:
    """Compare the records of a recipe with NumPy's numbers and with the report; return the number of verdicts."""
    records, gains, judged = records_of(folder, name), [], []
    for file, details, scores in records.values():
        ours = recomputed.answers(file.with_name(f"{file.stem}_samples.jsonl"))
        check(recomputed.interval(ours["correct"], ours), scores["accuracy"])
        check(recomputed.interval(recomputed.balanced(ours["correct"], ours), ours), scores["balanced_accuracy"])
        for environment in np.unique(ours["environment"]):
            inside = ours["environment"] == environment
            of = {key: value[inside] for key, value in ours.items() if key != "kept_plain"}
            check(recomputed.interval(of["correct"], of), scores[f"accuracy/{environment}"])
        if "plain" in details:
            plain = recomputed.answers(records[details["plain"]][0].with_name(f"{details['plain']}_samples.jsonl"))
            gain = ours["correct"] - plain["correct"]
            both = recomputed.interval(gain, ours), recomputed.interval(recomputed.balanced(gain, ours), ours)
            check(both[0], scores["gain_in_accuracy"])
            check(both[1], scores["gain_in_balanced_accuracy"])
            if details["looks_at_target"] == "false":
                gains.append((*both, ours["kept_plain"]))
                judged.append(details)
    holm = [recomputed.holm([gain[i]["p"] for gain in gains]) for i in (0, 1)]
    said = zip(gains, judged, recomputed.verdicts(gains), *holm, strict=True)
    for (gain, balanced, _), details, verdict, p, p_balanced in said:
        one = reported.pop((details["dataset"], details["method"]))
        assert details["verdict"] == one.kind_label == verdict, details["method"]
        assert one.gain is not None
        assert one.balanced is not None
        assert one.judged is not None
        for interval, mine in ((one.gain.interval, gain), (one.balanced.interval, balanced)):
            expected = [interval.estimate, interval.standard_error, interval.low, interval.high, interval.p]
            found = [mine[key] for key in ("mean", "error", "low", "high", "p")]
            np.testing.assert_allclose(found, expected, rtol=0, atol=WITHIN)
        for mine, key, theirs in (
            (p, "p_holm", one.judged.p_metric), (p_balanced, "p_balanced_holm", one.judged.p_balanced),
        ):  # fmt: skip
            assert float(details[key]) == pytest.approx(theirs, abs=WITHIN) == pytest.approx(mine, abs=WITHIN)
        assert int(details["family"]) == one.family == len(gains)
    assert reported == {}
    return len(gains)


def check(mine: dict[str, float], stated: Record) -> None:
    """Compare an interval of NumPy with that of a record."""
    error, ends = (stated["uncertainty"].get(name, {}) for name in ("standard_error", "confidence_interval"))
    found = [stated["score"], error["value"], ends.get("lower", np.nan), ends.get("upper", np.nan)]
    np.testing.assert_allclose(found, [mine[k] for k in ("mean", "error", "low", "high")], rtol=0, atol=WITHIN)


def test_numbers_and_verdicts_follow_from_the_answers_in_eighty_lines(published: Path, swept: Path) -> None:
    lines = Path(recomputed.__file__).read_text().splitlines()
    assert sum(bool(line.strip()) for line in lines) <= 80
    assert compare(published, "folds", verdicts_of(swept / "folds.json")) == 6


def test_the_report_shows_the_same_verdicts_and_numbers(published: Path, swept: Path) -> None:
    (file,) = (swept / "store" / "reports").glob("folds-*/tables/verdicts.csv")
    with file.open(newline="") as stream:
        lines = {line["method"]: line for line in csv.DictReader(stream)}
    seen = 0
    for _, details, scores in records_of(published, "folds").values():
        if details.get("verdict"):
            line, ends = lines[details["method"]], scores["gain_in_accuracy"]["uncertainty"]["confidence_interval"]
            assert line["verdict"] == details["verdict"]
            expected = [scores["accuracy"]["score"], scores["gain_in_accuracy"]["score"], ends["lower"], ends["upper"]]
            shown = [float(line[name]) for name in ("accuracy", "difference", "low", "high")]
            assert shown == [round(100 * value, 6) for value in expected]
            seen += 1
    assert seen == len(lines) == 6
