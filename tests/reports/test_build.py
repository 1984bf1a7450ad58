"""The report as a whole. All rows are synthetic."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage import Storage
from reports import write_report
from tests.reports.synthetic import frame, row


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
    written = write_report(frame(rows()), Storage(str(tmp_path)), "reports/x", "My report")
    assert written.report == str(tmp_path / "reports/x/report.md")
    assert sorted(written.files) == sorted(str(tmp_path / name) for name in contents(tmp_path))
    names = {Path(f).name for f in written.files}
    assert names == {
        "report.md", "main_table.md", "main_table.csv", "main_table.tex", "rank_curve.png", "rank_curve.pdf",
        "spectrum.png", "spectrum.pdf", "metrics.csv", "per_class.csv",
    }  # fmt: skip
    text = Path(written.report).read_text()
    assert text.startswith("# My report\n")
    assert set(re.findall(r"\]\((\S+)\)", text)) <= names
    for heading in ("Findings", "Accuracy", "Figures", "Selected hyper-parameters", "Protocol"):
        assert f"### {heading}" in text
    assert r"c\|d" in text
    assert "Plain" in written.text


def test_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_report(frame(rows()), Storage(str(tmp_path / name)), "r", "Same")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_several_settings_get_a_suffix_each(tmp_path: Path) -> None:
    mixed = [*rows(), *rows(backbone="MiniLiT", random_weights=True)]
    written = write_report(frame(mixed), Storage(str(tmp_path)), "", "Two")
    names = {str(Path(f).relative_to(tmp_path)) for f in written.files}
    assert "main_table-synthetic-MiniLiT-out_20.csv" in names
    assert "rank_curve-synthetic-ViT-B-32-out_20.png" in names
    text = (tmp_path / "report.md").read_text()
    assert text.startswith("# RANDOM WEIGHTS, NOT A RESULT: Two\n")
    assert "## RANDOM WEIGHTS, NOT A RESULT: synthetic, MiniLiT (random weights)" in text
    assert "## synthetic, ViT-B-32" in text


def test_unfinished_trials_are_said_first(tmp_path: Path) -> None:
    written = write_report(frame(rows()), Storage(str(tmp_path)), "r", "Part", 40, 37)
    assert "PARTIAL: 37 of 40 trials" in (tmp_path / "r/report.md").read_text().split("##")[0]
    assert written.text.startswith("PARTIAL")
    whole = write_report(frame(rows()), Storage(str(tmp_path)), "r", "Part", 40, 40)
    assert "PARTIAL" not in whole.text


def test_no_rows_is_one_sentence_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(IcmBenchError, match="run `icm-bench sweep RECIPE` first"):
        write_report(frame([]), Storage(str(tmp_path)), "r", "Empty")


def test_importing_reports_does_not_import_matplotlib() -> None:
    code = "import sys, reports; reports.write_report; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
