"""The report as a whole. All rows are synthetic."""

import csv
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.method.evaluation.selection import SOURCE_RULES
from reports.analysis.settings import Options
from reports.build import write_report
from reports.made import ReportFiles
from reports.text.sentences import Origin
from reports.text.summary import MAX_LINES
from tests.reports.synthetic import TESTED, frame, row

TABLES = ("main", "environments", "ablation_rank", "selection", "behind", "comparisons")
FIGURES = ("forest", "environments", "rank", "selection", "spectrum")
ANSWER = ("Accuracy and gain", "Can it be trusted?")
END = ("Files", "Protocol", "Provenance", "How to read this")
RECORDS = ("verdicts", "accuracies", "differences", "picks", "metrics", "per_class")


def rows(**other: Any) -> list[dict[str, Any]]:
    return [
        row(held_out=h, seed=s, projection=p, order=o, target=t, lambda_=x, spectrum=v, **other)
        for h in ("a_b", "c|d", "e")
        for s in (0, 1)
        for p, o, t, x, v in (
            ("identity", None, [0.5], None, None),
            ("pca", None, [0.3, 0.4, 0.5], None, [3.0, 2.0, 1.0, 0.5]),
            ("icm", "largest", [0.3, 0.6, 0.5], 1.0, [2.0, 1.0, -1.0, -2.0]),
        )
    ]


def write(made: list[dict[str, Any]], place: Path, origin: Origin, options: Options | None = None) -> ReportFiles:
    return write_report(frame(made), TESTED, Storage(str(place)), "reports/x", origin, options)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def records(place: Path, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((place / f"reports/x/tables/{name}.csv").read_text())))


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip drawing, which is slow and has tests of its own."""
    monkeypatch.setattr("reports.build.all_drawings", lambda *_: [])


def test_files_are_written_by_name_and_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    one = write(rows(), tmp_path / "one", Origin("My report"))
    assert one.report == one.files[0] == str(tmp_path / "one/reports/x/report.md")
    found = contents(tmp_path / "one/reports/x")
    assert sorted(one.files) == sorted(str(tmp_path / "one/reports/x" / name) for name in found)
    assert set(found) == {
        "report.md", "index.html", "tables/all.tex", "figures/captions.md", "figures/captions.tex", "made.json",
        *(f"tables/{name}.{suffix}" for name in TABLES for suffix in ("md", "tex", "csv", "json")),
        *(f"tables/{name}.csv" for name in RECORDS),
        *(f"figures/{name}.{suffix}" for name in FIGURES for suffix in ("pdf", "svg", "png")),
    }  # fmt: skip
    assert all(found.values())
    other = write(rows(), tmp_path / "two", Origin("My report"))
    assert contents(tmp_path / "two/reports/x") == found
    assert other.text.replace("two/reports", "one/reports") == one.text


@pytest.mark.usefixtures("without_figures")
def test_the_report_says_the_answer_first_then_a_table_and_where_the_files_are(tmp_path: Path) -> None:
    written = write(rows(), tmp_path, Origin("My report", encoders=("X is one draw of many.",)))
    text = Path(written.report).read_text()
    assert text.startswith(f"# My report\n\n**{written.headline}**\n\n## Accuracy and gain\n\n|  | accuracy")
    assert re.findall("^## (.*)", text, re.MULTILINE) == [*ANSWER, "Table 1", *END]
    assert f"| tables | {', '.join(f'`{name}`' for name in TABLES)} |" in text
    assert r"c\|d" in text
    assert "18 result rows of 18 trials; recipe recipe0; code 0.\n- X is one draw of many." in text
    assert "X is one draw of many." in Path(written.report).with_name("index.html").read_text()
    assert written.verdicts[0]["sentence"].startswith("synthetic, ViT-B-32, zero-shot: CLIP-ICM helps: 60.0 instead of")
    assert " ".join(written.text.split()).startswith(written.headline)
    assert written.text.endswith("\nPage: " + str(tmp_path / "reports/x/index.html"))
    texts = {name: data for name, data in contents(tmp_path).items() if name.endswith((".csv", ".md", ".tex", ".json"))}
    assert not [name for name, data in texts.items() if re.search(rb"\bnan\b", data, re.IGNORECASE)]


@pytest.mark.usefixtures("without_figures")
def test_several_settings_get_names_of_their_own_and_random_weights_come_first(tmp_path: Path) -> None:
    mixed = [*rows(), *rows(backbone="MiniLiT", backbone_fingerprint="weights1", random_weights=True)]
    written = write(mixed, tmp_path, Origin("Two"))
    names = {str(Path(f).relative_to(tmp_path / "reports/x")) for f in written.files}
    assert {"tables/main.md", "tables/backbones.md", "tables/environments-MiniLiT-random-weights.csv",
            "tables/environments-ViT-B-32.csv"} <= names  # fmt: skip
    text = Path(written.report).read_text()
    assert text.startswith("# RANDOM WEIGHTS, NOT A RESULT: Two\n")
    assert "Backbones with random weights: MiniLiT." in text
    assert "| MiniLiT (random weights): plain prediction | 50.0 |" in text
    assert "| ViT-B-32: plain prediction | 50.0 |" in text
    assert written.text.startswith("RANDOM WEIGHTS, NOT A RESULT: ")


@pytest.mark.usefixtures("without_figures")
def test_unfinished_and_failed_trials_are_said_first(tmp_path: Path) -> None:
    partial = Origin("Part", planned=40, finished=37, failed={"toy, pca": "no memory"}, conflicts=("Conflict: x.",))
    written = write(rows(), tmp_path, partial)
    report = Path(written.report).read_text()
    assert "PARTIAL: 37 of 40 trials" in report.split("\n## ")[0]
    missing = report.split("## What is missing")[1].split("\n## ")[0]
    assert ("no memory" in missing, "Conflict: x." in missing, "PARTIAL" in missing) == (True, True, False)
    for words in ("PARTIAL: 37 of 40 trials", "Gap: toy, pca: no memory", "Conflict: x."):
        assert words in written.text
        assert words in (tmp_path / "reports/x/index.html").read_text()
    whole = write(rows(), tmp_path, Origin("Part", planned=40, finished=40))
    for data in (
        whole.text,
        *(d.decode() for name, d in contents(tmp_path).items() if name.endswith((".md", ".html"))),
    ):
        assert "PARTIAL: " not in data


@pytest.mark.usefixtures("without_figures")
def test_notes_of_fits_are_listed_by_name(tmp_path: Path) -> None:
    note = "the probe did not converge at rank 4"
    made = [*rows(), row(held_out="e", predictor="linear_probe", notes=[note]), row(predictor="linear_probe")]
    write(made, tmp_path, Origin("Notes"))
    found = [line["finding"] for line in records(tmp_path, "findings")]
    assert f"Linear probe: {note} (1 of 2 rows: e seed 0)" in found


@pytest.mark.usefixtures("without_figures")
def test_what_the_gate_keeps_is_plain_prediction_everywhere(tmp_path: Path) -> None:
    made = [r | {"lodo_se": [0.6] * len(r["ranks"]), "training_domain_se": [0.0] * len(r["ranks"])} for r in rows()]
    written = write(made, tmp_path, Origin("Held back"))
    assert {one["verdict"] for one in written.verdicts} == {"is plain"}
    of_icm = [line for line in records(tmp_path, "picks") if line["method"].startswith("CLIP-ICM")]
    kept = {rule: {line["kept_plain"] for line in of_icm if line["rule"] == rule} for rule in SOURCE_RULES}
    assert kept == {
        "training_domain": {"False"},
        "lodo": {"False"},
        "training_domain_1se": {"False"},
        "lodo_1se": {"True"},
    }
    shown = {line["line"]: line for line in records(tmp_path, "main") if line["column"] == "synthetic"}
    assert shown["CLIP-ICM + zero-shot"]["value"] == shown["Zero-shot"]["value"]


@pytest.mark.usefixtures("without_figures")
def test_several_data_sets_have_a_section_of_their_own(tmp_path: Path) -> None:
    mixed = [*rows(), *rows(dataset="other", dataset_fingerprint="data1")]
    text = Path(write(mixed, tmp_path, Origin("Two")).report).read_text()
    headings = [*ANSWER, "Table 1", "Over all data sets", *END]
    assert re.findall("^## (.*)", text, re.MULTILINE) == headings
    assert "over 2 data sets (other, synthetic)" in text
    [line, *_] = records(tmp_path, "over_data_sets")
    assert (line["datasets"], line["ahead"], line["difference"]) == ("other synthetic", "6", "10.0")
    alone = write(rows(), tmp_path / "alone", Origin("One"))
    assert "Over all data sets" not in Path(alone.report).read_text()
    assert not any("over_data_sets" in name for name in alone.files)


@pytest.mark.usefixtures("without_figures")
def test_the_reader_chooses_the_margin_and_what_plus_minus_is(tmp_path: Path) -> None:
    written = write(rows(), tmp_path, Origin("Asked"), Options(plus_minus="seeds", margin=0.05))
    assert "± is DomainBed's" in Path(written.report).read_text()
    assert {line["margin"] for line in records(tmp_path, "differences") if line["margin"]} == {"5.0"}
    assert {line["plus_minus"] for line in records(tmp_path, "main")} == {"seeds"}
    assert {line["error"] for line in records(tmp_path, "main")} == {""}  # both seeds have the same answers


def test_no_rows_is_one_sentence_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(IcmBenchError, match="'Empty'; run `icm-bench sweep RECIPE` first"):
        write([], tmp_path, Origin("Empty"))
    assert contents(tmp_path) == {}


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize("settings", [1, pytest.param(40, marks=pytest.mark.long("a report grows with its settings"))])
def test_the_report_has_at_most_150_lines_whatever_there_is(tmp_path: Path, settings: int) -> None:
    failed = {f"trial {i}": "no memory" for i in range(60)}
    made = [
        one
        for i in range(settings)
        for one in rows(dataset=f"set{i:02}", dataset_fingerprint=f"data{i}")
        if one["seed"] == 0 and one["held_out"] != "e"
    ]
    written = write(made, tmp_path, Origin("Long", planned=400, finished=340, failed=failed))
    lines = Path(written.report).read_text().splitlines()
    assert len(lines) <= MAX_LINES == 150
    assert len(written.verdicts) == settings
    assert len(written.text.splitlines()) <= 40
    assert ("And 60 more lines: `tables/verdicts.csv`." in lines) == (settings == 40)


@pytest.mark.parametrize(
    ("code", "absent"),
    [("import reports.build", {"torch", "ray"}), ("import reports.analysis.settings", {"torch", "ray", "matplotlib"})],
)
def test_importing_reports_imports_no_model_and_nothing_that_draws_before_it_is_needed(
    code: str, absent: set[str]
) -> None:
    command = f"import sys; {code}; print(*sorted({absent!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
