"""Numbers agree between all parts of a report: terminal, report.md, first screen under each rule, tables, CSV files."""

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.common.storage.files import Storage
from reports.build import write_report
from reports.made import ReportFiles
from reports.text.sentences import Origin
from tests.reports import whole
from tests.reports.figures.rows import rows_of
from tests.reports.page.test_build import blobs, table_lines
from tests.reports.synthetic import TESTED, frame, row
from tests.reports.test_imported import imported

ENVIRONMENTS = ("art", "photo", "sketch", "toy")
N = 123  # images per environment: accuracies that double rounding would change
RIGHT = {"identity": (0.5,), "pca": (0.52, 0.5), "icm": (0.61, 0.5), "shrinkage": (0.57,)}  # by rank: 2, then 4
SCORES = {"lodo": {"icm": (0.9, 0.5), "pca": (0.6, 0.5)}, "training_domain": {"icm": (0.4, 0.5), "pca": (0.7, 0.5)}}
LABELS = {
    "plain": "Zero-shot", "cLIP-ICM": "CLIP-ICM + zero-shot", "pCA": "PCA + zero-shot",
    "shrinkage": "Shrinkage + zero-shot", "plain prediction": "Zero-shot",
}  # fmt: skip


def rows() -> list[dict[str, Any]]:
    made = []
    for held_out in ENVIRONMENTS:
        draws, labels = np.random.default_rng(ENVIRONMENTS.index(held_out)).random(N), np.arange(N) % 2
        for projection, shares in RIGHT.items():
            correct = [draws < share + 0.07 * (len(held_out) - 4) for share in shares]
            scores: dict[str, Any] = {}
            for rule, of in SCORES.items():
                known = list(of.get(projection, (0.8,) if projection == "shrinkage" else (0.5,)))
                scores |= {rule: known, f"{rule}_se": [0.01] * len(known)}
            made.append(
                row(
                    held_out=held_out, projection=projection, order={"icm": "largest"}.get(projection), correct=correct,
                    labels=labels.tolist(), predicted=np.where(correct, labels, 1 - labels).astype("<u2").tobytes(),
                    predicted_ranks=[2, 4][-len(shares) :], **scores,
                )
            )  # fmt: skip
    return made


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[ReportFiles, Path]:
    folder = tmp_path_factory.mktemp("report")
    return write_report(frame(rows()), TESTED, Storage(str(folder)), "", Origin("equal")), folder


def lines(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "tables" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def accuracies(folder: Path, rule: str) -> dict[tuple[str, str], float]:
    return {(one["method"], one["held_out"]): float(one["mean"]) for one in lines(folder, "accuracies")
            if one["rule"] == rule}  # fmt: skip


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"[-+]?\d+\.\d+", text.replace("\N{MINUS SIGN}", "-"))]


def label(name: str) -> str:
    return LABELS[name[:1].lower() + name[1:]]


def test_the_rules_pick_different_numbers(report: tuple[ReportFiles, Path]) -> None:
    by_rule = {rule: accuracies(report[1], rule)[LABELS["cLIP-ICM"], "average"] for rule in SCORES}
    assert abs(by_rule["lodo"] - by_rule["training_domain"]) > 5


@pytest.mark.parametrize("rule", ["lodo", "lodo_1se", "training_domain", "training_domain_1se"])
def test_the_first_screen_has_the_numbers_of_the_tables_by_each_rule(
    report: tuple[ReportFiles, Path], rule: str
) -> None:
    _, folder = report
    known, screen = accuracies(folder, rule), blobs((folder / "index.html").read_bytes())[f"rule-{rule}"]["answer"]
    table = table_lines(screen)
    methods = [label(name) for name in table.pop("Held out")]
    compared = 0
    for place in (*ENVIRONMENTS, "average"):
        plain, *others = (numbers(cell) for cell in table["Mean over environments" if place == "average" else place])
        assert plain == pytest.approx([known["Zero-shot", place]], abs=0.0501)
        for method, (value, difference) in zip(methods[1:], others, strict=True):
            assert value == pytest.approx(known[method, place], abs=0.0501)
            assert difference == pytest.approx(known[method, place] - known["Zero-shot", place], abs=0.0502)
            compared += 1
    assert compared == 3 * (len(ENVIRONMENTS) + 1)
    forest = {label(name): numbers(said) for name, said in re.findall(
        r'<th scope="row">([^<]*)</th>\s*<td class="plot">.*?<td class="value">([^<]*)', screen.partition("</table")[0], re.S
    )}  # fmt: skip
    assert len(forest) == 3
    for method, (gain, *_) in forest.items():
        assert gain == pytest.approx(known[method, "average"] - known["Zero-shot", "average"], abs=0.0502)


def test_terminal_report_md_verdicts_and_main_table_have_the_same_numbers(report: tuple[ReportFiles, Path]) -> None:
    files, folder = report
    known, markdown = accuracies(folder, "lodo_1se"), (folder / "report.md").read_text(encoding="utf-8")
    verdicts = {one["method"]: one for one in lines(folder, "verdicts")}
    assert verdicts.keys() == {LABELS["cLIP-ICM"], LABELS["shrinkage"]}
    for method, one in verdicts.items():
        assert float(one["value"]) == pytest.approx(known[method, "average"], abs=1e-3)
        assert float(one["difference"]) == pytest.approx(float(one["value"]) - float(one["plain"]), abs=1e-5)
    main = {one["line"]: float(one["value"]) for one in lines(folder, "main") if one["column"] == "synthetic"}
    for name, value in main.items():
        method = name if (name, "average") in known else f"{name} + zero-shot"
        assert value == pytest.approx(known[method, "average"], abs=1e-3)
    assert len(main) == 4
    said = [re.split(r"\s{2,}", line.strip()) for line in files.text.splitlines() if line.startswith("  ")]
    said += [line.strip("| ").split(" | ") for line in markdown.partition("## Table 1")[0].splitlines()
             if re.match(r"\| (Plain prediction|CLIP-ICM|Shrinkage) ", line)]  # fmt: skip
    assert len(said) == 4 + 3
    for name, accuracy, *gain in said:
        assert float(accuracy) == pytest.approx(known[label(name), "average"], abs=0.0501)
        if label(name) in verdicts and gain:
            one = verdicts[label(name)]
            ends = [float(one[key]) for key in ("difference", "low", "high")]
            assert numbers(gain[0]) == pytest.approx(ends, abs=0.0501)
    stated = numbers(files.headline)
    for name in ("plain", "cLIP-ICM"):  # the shrinkage of these rows is no better than CLIP-ICM
        assert any(value == pytest.approx(known[LABELS[name], "average"], abs=0.0501) for value in stated)


def careful(made: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows with standard errors of scores, so large that the careful rule keeps plain prediction here and there."""
    return [one | {f"{rule}_se": [0.06] * len(one[rule]) for rule in SCORES if one[rule]} for one in made]


def trained_elsewhere() -> list[dict[str, Any]]:
    """Return plain prediction and CLIP-ICM, with two imported methods that are far ahead of and behind them."""
    made = []
    for held_out in ENVIRONMENTS:
        draws = np.random.default_rng(len(held_out)).random(N)
        made += [row(held_out=held_out, correct=draws < 0.5), imported(draws < 0.8, held_out)]
        made += [row(held_out=held_out, projection="icm", order="largest", correct=draws < 0.55)]
        made += [imported(draws < 0.2, held_out) | {"predictor": "prompts"}]
    return made


def open_classes() -> list[dict[str, Any]]:
    """Return plain prediction and CLIP-ICM on base classes, new classes and both, far apart in accuracy."""
    made = []
    for held_out in ENVIRONMENTS:
        draws = np.random.default_rng(len(held_out)).random(2 * N)
        new = np.arange(2 * N) >= N
        for projection, base_share, new_share in (("identity", 0.9, 0.3), ("icm", 0.95, 0.4)):
            right = draws < np.where(new, new_share, base_share)
            for half, images in (("base", ~new), ("new", new), ("harmonic", new | ~new)):
                made.append(
                    row(
                        held_out=held_out, projection=projection, order={"icm": "largest"}.get(projection),
                        correct=right[images], protocol="held_out_open_class", class_half=half, rounding="ceil",
                    )
                )  # fmt: skip
    return made


CASES = {
    "four environments": (careful(rows()), "lodo_1se"),
    "all figures": (careful(rows_of()), "lodo_1se"),
    "three environments": ([one | {"lodo": None, "lodo_se": None, "n_sources": 2} for one in careful(rows_of())],
                           "training_domain_1se"),
    "imported": (trained_elsewhere(), "lodo"),
    "open classes": (open_classes(), "lodo"),
}  # fmt: skip


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[whole.WholeReport, str]:
    made, rule = CASES[request.param]
    return whole.write(frame(made), TESTED, tmp_path_factory.mktemp("whole"), request.param), rule


def test_every_number_is_equal_in_all_its_places(case: tuple[whole.WholeReport, str]) -> None:
    report, _ = case
    wrong, shared = whole.disagreements(report)
    assert wrong == []
    places = {
        "accuracies",
        "metrics",
        "verdicts",
        "differences",
        "page",
        "terminal",
        "figure environments",
        "figure forest",
    }
    if report.lines("main"):  # there is none with a line per method if classes are open
        places |= {"main", "environments", "behind"}
    places |= {f"figure {name}" for name in ("rank", "selection", "lambda_rank") if report.of_figure(name)}
    assert shared.keys() >= places


def test_all_but_what_is_about_rules_uses_the_rule_of_the_report(case: tuple[whole.WholeReport, str]) -> None:
    report, rule = case
    assert {core["rule"] for core in report.page.values()} == {rule}
    assert whole.other_rules(report) == []
    assert f"Rule {rule}, protocol" in report.files.text
    captions = (report.folder / "figures" / "captions.md").read_text(encoding="utf-8").replace("\\", "")
    assert set(re.findall(r"Rule (\w+)", captions)) == {rule}
    if report.of_figure("lambda_rank"):  # else the numbers of the rule would be those of its base
        assert any(one["value"] != one["value_ungated"] for one in report.lines("verdicts"))


def test_a_method_has_one_name(case: tuple[whole.WholeReport, str]) -> None:
    assert whole.unknown_names(case[0]) == []


def test_gains_of_imported_predictions_are_over_plain_prediction(tmp_path: Path) -> None:
    report = whole.write(frame(trained_elsewhere()), TESTED, tmp_path, "imported")
    gains = {
        one["line"]: float(one["value"])
        for one in report.lines("main")
        if one["column"] == "minus plain" and one["value"]
    }
    assert gains["ERM (imported)"] > 20
    assert f"(+{gains['ERM (imported)']:.1f} points" in " ".join(report.files.headline.split())
    assert gains["prompts (imported)"] < -20
