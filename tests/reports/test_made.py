"""The manifest of a report: the report is recognized by its key, as long as all its files are as they were written.

All rows are synthetic. tests/commands/test_up_to_date.py has the inputs that enter the key.
"""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from threadpoolctl import threadpool_info

import reports.build
from benchmark.common.storage.files import Storage
from reports.analysis.settings import Options
from reports.build import write_report
from reports.made import MADE, ReportFiles, key_of, unchanged
from reports.text.sentences import Origin
from tests.conftest import S3
from tests.reports.synthetic import TESTED, frame, row


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the content of each report by three files."""
    files = {"report.md": b"# A report", "index.html": b"<p>", "tables/main.csv": b"value"}
    said = {"headline": "A", "verdicts": [], "texts": ["A\nPage: ", "B\nPage: "], "paper": "", "note": ""}

    def build(*_: Any) -> tuple[dict[str, bytes], dict[str, Any]]:
        assert {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"} == {1}
        return files, said

    monkeypatch.setattr(reports.build, "_build", build)


def rows(seeds: int = 2) -> list[dict[str, Any]]:
    return [
        row(held_out=h, seed=s, projection=p, order=o, target=t, lambda_=x)
        for h in ("a", "b")
        for s in range(seeds)
        for p, o, t, x in (("identity", None, [0.5], None), ("icm", "largest", [0.3, 0.6, 0.5], 1.0))
    ]


def write(storage: Storage, key: str = "key", **options: Any) -> ReportFiles:
    origin, counts = Origin("Made"), {"rows": 8, "conflicts": ["one"]}
    return write_report(frame(rows()), TESTED, storage, "x", origin, Options(**options), key=key, counts=counts)


def contents(place: Path) -> dict[str, tuple[bytes, int]]:
    files = (file for file in place.rglob("*") if file.is_file())
    return {str(file.relative_to(place)): (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


def test_a_report_is_recognized_by_its_key(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    assert unchanged(storage, "x", "key") is None
    first = write(storage)
    before = contents(tmp_path)
    again = unchanged(storage, "x", "key")
    assert again == dataclasses.replace(first, built=False)
    assert [*map(list, again.verdicts)] == [*map(list, first.verdicts)]
    assert again.counts == {"rows": 8, "conflicts": ["one"]}
    assert unchanged(storage, "x", "another") is None
    bold = unchanged(storage, "x", "key", color=True)
    assert bold
    assert ("\033[1m" in bold.text, bold.text.replace("\033[1m", "").replace("\033[0m", "")) == (True, again.text)
    assert contents(tmp_path) == before
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    there = unchanged(Storage(str(moved)), "x", "key")
    assert there
    assert there.text.endswith(f"Page: {moved / 'x' / 'index.html'}")


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("file", ["index.html", "tables/main.csv", MADE])
@pytest.mark.parametrize("gone", [True, False])
def test_a_missing_or_changed_file_is_found(gone: bool, file: str, tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    write(storage)
    assert unchanged(storage, "x", "key")
    changed = tmp_path / "x" / file
    changed.unlink() if gone else changed.write_bytes(changed.read_bytes()[:-2] + b"}")
    assert unchanged(storage, "x", "key") is None
    write(storage)
    assert unchanged(storage, "x", "key")


@pytest.mark.usefixtures("small")
def test_a_killed_writer_leaves_a_report_that_is_rebuilt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(_: Storage, name: str, __: bytes) -> None:
        raise KeyboardInterrupt(name)

    storage = Storage(str(tmp_path))
    write(storage)
    with monkeypatch.context() as patch:
        patch.setattr(Storage, "write_bytes", killed)
        with pytest.raises(KeyboardInterrupt, match=r"report\.md"):  # the manifest is written last
            write(storage, "another")
    assert unchanged(storage, "x", "another") is None


def test_changed_code_changes_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_of("inputs")
    assert key_of("inputs") == before != key_of("others")
    monkeypatch.setattr("reports.made.packages_as_they_are", lambda: "another")
    assert key_of("inputs") != before


@pytest.mark.usefixtures("small")
def test_tables_of_the_user_and_a_failed_pdf_are_never_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage(str(tmp_path))
    monkeypatch.setattr("reports.build.shutil.which", lambda _: "pdflatex")
    write(storage, paper=True)  # without a PDF
    assert unchanged(storage, "x", "key") is None
    monkeypatch.setattr("reports.build.own_tables", lambda _: [])
    write(storage, tables=("module:NAME",))
    assert unchanged(storage, "x", "key") is None


@pytest.mark.usefixtures("small")
def test_the_manifest_works_in_an_object_store(s3: S3) -> None:
    storage = Storage("s3://bucket/reports")
    assert write(storage).files[-1] == "s3://bucket/reports/x/made.json"
    assert unchanged(storage, "x", "key")
    s3.client.delete_object(Bucket="bucket", Key="reports/x/index.html")
    assert unchanged(storage, "x", "key") is None
