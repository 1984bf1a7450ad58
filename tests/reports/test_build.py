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
from benchmark.common.storage import Storage
from reports import Options, write_report
from tests.reports.synthetic import TESTED, frame, row


def rows(**other: Any) -> list[dict[str, Any]]:
    return [
        row(held_out=h, seed=s, projection=p, order=o, target=t, lambda_=x, spectrum=v, **other)
        for h in ("a_b", "c|d", "e")
        for s in (0, 1)
        for p, o, t, x, v in (
            ("identity", None, [0.5], None, None),
            ("pca", "largest", [0.3, 0.4, 0.5], None, [3.0, 2.0, 1.0, 0.5]),
            ("icm", "largest", [0.3, 0.6, 0.5], 1.0, [2.0, 1.0, -1.0, -2.0]),
        )
    ]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_one_setting_gives_plain_names_and_working_links(tmp_path: Path) -> None:
    written = write_report(frame(rows()), TESTED, Storage(str(tmp_path)), "reports/x", "My report")
    assert written.report == str(tmp_path / "reports/x/report.md")
    assert sorted(written.files) == sorted(str(tmp_path / name) for name in contents(tmp_path))
    names = {str(Path(f).relative_to(tmp_path / "reports/x")) for f in written.files}
    assert {name for name in names if not name.startswith("figures/")} == {
        "report.md", "main_table.md", "main_table.csv", "main_table.tex", "metrics.csv", "per_class.csv",
        "comparisons.csv",
    }  # fmt: skip
    assert {f"figures/{name}" for name in ("rank.pdf", "rank.svg", "rank.png", "captions.md", "captions.tex")} < names
    text = Path(written.report).read_text()
    assert text.startswith("# My report\n")
    assert set(re.findall(r"\]\((\S+)\)", text)) <= names
    for heading in ("Findings", "Accuracy", "Selected hyper-parameters", "Protocol"):
        assert f"### {heading}" in text
    assert r"c\|d" in text
    assert "Plain" in written.text


def test_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_report(frame(rows()), TESTED, Storage(str(tmp_path / name)), "r", "Same")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_several_settings_get_a_suffix_each(tmp_path: Path) -> None:
    mixed = [*rows(), *rows(backbone="MiniLiT", random_weights=True)]
    written = write_report(frame(mixed), TESTED, Storage(str(tmp_path)), "", "Two")
    names = {str(Path(f).relative_to(tmp_path)) for f in written.files}
    assert "main_table-synthetic-MiniLiT-out_20.csv" in names
    assert "figures/rank-synthetic-ViT-B-32-out_20.png" in names
    text = (tmp_path / "report.md").read_text()
    assert text.startswith("# RANDOM WEIGHTS, NOT A RESULT: Two\n")
    assert "## RANDOM WEIGHTS, NOT A RESULT: synthetic, MiniLiT (random weights)" in text
    assert "## synthetic, ViT-B-32" in text


def test_unfinished_trials_are_said_first(tmp_path: Path) -> None:
    written = write_report(frame(rows()), TESTED, Storage(str(tmp_path)), "r", "Part", 40, 37)
    assert "PARTIAL: 37 of 40 trials" in (tmp_path / "r/report.md").read_text().split("##")[0]
    assert written.text.startswith("PARTIAL")
    whole = write_report(frame(rows()), TESTED, Storage(str(tmp_path)), "r", "Part", 40, 40)
    assert "PARTIAL" not in whole.text


def test_notes_of_fits_are_listed_by_name(tmp_path: Path) -> None:
    note = "the probe did not converge at rank 4"
    made = [*rows(), row(held_out="e", predictor="linear_probe", notes=[note]), row(predictor="linear_probe")]
    write_report(frame(made), TESTED, Storage(str(tmp_path)), "", "Notes")
    text = (tmp_path / "report.md").read_text()
    assert f"### What fits had to say\n\n- Linear probe: {note} (1 of 2 rows: e seed 0)" in text
    write_report(frame(rows()), TESTED, Storage(str(tmp_path)), "none", "None")
    assert "What fits had to say" not in (tmp_path / "none/report.md").read_text()


def test_several_data_sets_have_a_section_of_their_own(tmp_path: Path) -> None:
    mixed = [*rows(), *rows(dataset="other")]
    written = write_report(frame(mixed), TESTED, Storage(str(tmp_path)), "", "Two")
    text = (tmp_path / "report.md").read_text()
    assert text.index("## synthetic") < text.index("## Over all data sets") < text.index("## Provenance")
    assert "over 2 data sets (other, synthetic)" in text
    assert "over 2 data sets" in written.text
    [line, *_] = csv.DictReader(io.StringIO((tmp_path / "over_data_sets.csv").read_text()))
    assert (line["datasets"], line["ahead"], line["difference"]) == ("other synthetic", "6", "10.0")
    alone = write_report(frame(rows()), TESTED, Storage(str(tmp_path)), "alone", "One")
    assert "Over all data sets" not in Path(alone.report).read_text()


def test_the_reader_chooses_the_margin_and_what_plus_minus_is(tmp_path: Path) -> None:
    options = Options(plus_minus="seeds", margin=0.05)
    written = write_report(frame(rows()), TESTED, Storage(str(tmp_path)), "", "Asked", options=options)
    text = Path(written.report).read_text()
    assert "± is DomainBed's" in text
    assert "being level within 5 points" in text
    assert {line["margin"] for line in written.comparisons if "margin" in line} == {5.0}


def test_no_rows_is_one_sentence_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(IcmBenchError, match="run `icm-bench sweep RECIPE` first"):
        write_report(frame([]), TESTED, Storage(str(tmp_path)), "r", "Empty")


def test_importing_reports_does_not_import_matplotlib() -> None:
    code = "import sys, reports; reports.write_report; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
