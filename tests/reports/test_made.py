"""Unchanged reports are not built again. All rows are synthetic."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from threadpoolctl import threadpool_info

import reports.build
from benchmark.common.storage.files import Storage
from reports.analysis.settings import Options
from reports.build import MADE, ReportFiles, key_of, write_report
from reports.page.data import Images
from reports.text.sentences import Origin
from tests.conftest import S3
from tests.reports.synthetic import TESTED, frame, row

KINDS = ("all_drawings", "drawn", "paper_tables", "accuracy_records", "page")


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Return counters of builds of tables, figures and page."""
    return counted(monkeypatch, *KINDS)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Return a counter of builds of a report, which is replaced by three files."""
    files = {"report.md": b"# A report", "index.html": b"<p>", "tables/main.csv": b"value"}
    said = {"headline": "A", "verdicts": [], "texts": ["A\nPage: ", "B\nPage: "], "paper": "", "note": ""}

    def build(*_: Any) -> tuple[dict[str, bytes], dict[str, Any]]:
        assert {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"} == {1}
        return files, said

    monkeypatch.setattr(reports.build, "_build", build)
    return counted(monkeypatch, "_build")


def counted(monkeypatch: pytest.MonkeyPatch, *names: str) -> Counter[str]:
    times: Counter[str] = Counter()

    def counts(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            times[name] += 1
            return function(*args, **options)

        return call

    for name in names:
        monkeypatch.setattr(reports.build, name, counts(name, getattr(reports.build, name)))
    return times


def rows(seeds: int = 2) -> list[dict[str, Any]]:
    return [
        row(held_out=h, seed=s, projection=p, order=o, target=t, lambda_=x)
        for h in ("a", "b")
        for s in range(seeds)
        for p, o, t, x in (("identity", None, [0.5], None), ("icm", "largest", [0.3, 0.6, 0.5], 1.0))
    ]


def write(place: Path, made: list[dict[str, Any]] | None = None, **options: Any) -> ReportFiles:
    origin = options.pop("origin", Origin("Made"))
    return write_report(frame(made or rows()), TESTED, Storage(str(place)), "x", origin, Options(**options))


def contents(place: Path) -> dict[str, bytes]:
    return {str(file.relative_to(place)): file.read_bytes() for file in place.rglob("*") if file.is_file()}


def test_unchanged_inputs_are_not_built_again(
    built: Counter[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = write(tmp_path)
    assert set(built) == set(KINDS)
    before, states = contents(tmp_path), {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    assert "up to date" not in capsys.readouterr().err
    built.clear()
    again = write(tmp_path)
    assert built == Counter()
    assert again == dataclasses.replace(first, built=False)
    assert [*map(list, again.verdicts)] == [*map(list, first.verdicts)]
    assert (contents(tmp_path), {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}) == (before, states)
    assert capsys.readouterr().err.count("report: up to date") == 1
    bold = write(tmp_path, color=True)  # of the terminal alone
    assert (built, "\033[1m" in bold.text, bold.text.replace("\033[1m", "").replace("\033[0m", "")) == (
        Counter(), True, again.text,
    )  # fmt: skip
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    assert write(moved).text.endswith(f"Page: {moved / 'x' / 'index.html'}")
    assert built == Counter()


CHANGES: dict[str, dict[str, Any]] = {
    "one more row": {"made": [*rows(), row(held_out="a", seed=2)]},
    "one number of a row": {"made": [rows()[0] | {"n_train": 7}, *rows()[1:]]},
    "an option": {"margin": 0.02},
    "what is missing": {"origin": Origin("Made", planned=9, finished=8)},
    "a price": {"price": 1.0},
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_row_or_option_rebuilds_the_report(change: str, made: Counter[str], tmp_path: Path) -> None:
    write(tmp_path)
    assert (write(tmp_path, **CHANGES[change]).built, made["_build"]) == (True, 2)
    assert (write(tmp_path, **CHANGES[change]).built, made["_build"]) == (False, 2)


@pytest.mark.parametrize("file", ["index.html", "tables/main.csv", MADE])
@pytest.mark.parametrize("gone", [True, False])
def test_a_missing_or_changed_file_rebuilds_the_report(
    gone: bool, file: str, made: Counter[str], tmp_path: Path
) -> None:
    write(tmp_path)
    before, changed = contents(tmp_path), tmp_path / "x" / file
    changed.unlink() if gone else changed.write_bytes(changed.read_bytes()[:-2] + b"}")
    assert (write(tmp_path).built, made["_build"]) == (True, 2)
    assert contents(tmp_path) == before
    assert (write(tmp_path).built, made["_build"]) == (False, 2)


def test_a_killed_writer_leaves_a_report_that_is_rebuilt(
    made: Counter[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_: Storage, name: str, __: bytes) -> None:
        raise KeyboardInterrupt(name)

    write(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Storage, "write_bytes", killed)
        with pytest.raises(KeyboardInterrupt, match=r"report\.md"):  # the manifest is written last
            write(tmp_path, margin=0.02)
    assert (write(tmp_path, margin=0.02).built, made["_build"]) == (True, 3)


def test_changed_code_rebuilds_the_report(made: Counter[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    monkeypatch.setattr("reports.build.packages_as_they_are", lambda: "another")
    assert (write(tmp_path).built, made["_build"]) == (True, 2)


@pytest.mark.usefixtures("made")
def test_costs_enter_the_key_only_if_they_are_shown(tmp_path: Path) -> None:
    def built(*costs: tuple[str, float], **options: Any) -> bool:
        known = tuple({"kind": (kind,), "work": 1, "seconds": seconds} for kind, seconds in costs)
        return write(tmp_path, origin=Origin("Made", costs=known), **options).built

    assert [built(("trial", 2)), built(("trial", 3))] == [True, False]
    assert [built(("trial", 2), price=1.0), built(("trial", 3), price=1.0)] == [True, True]
    assert not built(("trial", 3), ("report", 4), price=1.0)  # each report adds its own cost


@pytest.mark.usefixtures("made")
def test_new_image_lists_and_thumbnails_rebuild_the_report(tmp_path: Path) -> None:
    def built(**given: Any) -> bool:
        named = frame([one | {"images": "list0"} for one in rows()])
        return write_report(named, TESTED, Storage(str(tmp_path)), "x", Origin("Made"), images=Images(**given)).built

    assert [built(), built(images_of=lambda _: "a list"), built(images_of=lambda _: "a list")] == [True, True, False]
    assert built(images_of=lambda _: "a list", thumbnails_of=lambda _: None)


def test_equal_rows_have_one_key_whether_or_not_their_values_are_one_object() -> None:
    one, other = [0.25, 0.5], "words of a row"
    alike = [{"curve": one, "words": other, "answers": b"12"}] * 2
    apart = [{"curve": [0.25, 0.5], "words": "".join(["words ", "of a row"]), "answers": b"12"} for _ in range(2)]
    assert key_of(pd.DataFrame(alike)) == key_of(pd.DataFrame(apart)) != key_of(pd.DataFrame(alike[:1]))
    assert key_of(pd.DataFrame(alike), "an option") != key_of(pd.DataFrame(alike), "another")


@pytest.mark.usefixtures("made")
def test_the_manifest_works_in_an_object_store(s3: S3) -> None:
    storage = Storage("s3://bucket/reports")

    def built() -> ReportFiles:
        return write_report(frame(rows()), TESTED, storage, "x", Origin("Made"))

    assert [built().built, built().built] == [True, False]
    assert built().files[-1] == "s3://bucket/reports/x/made.json"
    s3.client.delete_object(Bucket="bucket", Key="reports/x/index.html")
    assert [built().built, built().built] == [True, False]
