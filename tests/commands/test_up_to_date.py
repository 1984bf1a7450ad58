"""A report is built again if one of its inputs changes, and only then; likewise a sweep. Answers are invented."""

import dataclasses
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import reports.build
from benchmark.cli import main
from benchmark.commands import sweep
from benchmark.commands.report import Options, Outcome, report_any
from benchmark.common.storage.files import Storage
from benchmark.recipe.recipe import Recipe
from benchmark.store.costs import Cost, remember
from benchmark.store.rows import write_failure, write_rows
from benchmark.store.tested import IMAGE_COLUMNS, write_images
from benchmark.sweep.trials import Trial, trials_of
from tests.conftest import Swept
from tests.performance.bench_report import Invented, Row, of_seeds

Report = Callable[..., Outcome]


@pytest.fixture
def store(tmp_path: Path) -> Invented:
    return of_seeds(Invented(Storage(str(tmp_path / "store"))), 2)


@pytest.fixture
def report(store: Invented, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Report:
    """Return a function that reports on the store, with the options of a report. Contents are replaced by two files."""
    said = {"headline": "A", "verdicts": [], "texts": ["A ", "B "], "paper": "", "note": ""}
    monkeypatch.setattr(reports.build, "_build", lambda *_: ({"report.md": b"", "index.html": b""}, said))
    monkeypatch.setattr("benchmark.commands.report.shutil.which", lambda _: None)

    def _report(where: dict[str, list[str]] | None = None, **options: Any) -> Outcome:
        return report_any([], [store.storage], where or {}, Options(**options), out=str(tmp_path / "report"))

    return _report


def a_row(store: Invented, **columns: Any) -> Row:
    one, *_ = store.rows(7, projection="identity", predictor="zero_shot")
    return {**one, **columns}


def change_a_number(store: Invented) -> None:
    write_rows(store.storage, store.names[0], [a_row(store, n_train=4801)])


def add_a_row(store: Invented) -> None:
    write_rows(store.storage, "new", [a_row(store)])


def add_a_failure(store: Invented) -> None:
    write_failure(store.storage, "failed", "a trial", "no memory", "")


def add_a_list(store: Invented) -> None:
    write_images(store.storage, "list", pa.table({name: ["text"] for name in IMAGE_COLUMNS}))


def remove_rows(store: Invented) -> None:
    store.storage.delete(f"rows/{store.names[0]}.parquet")


@pytest.mark.parametrize("change", [change_a_number, add_a_row, add_a_failure, add_a_list, remove_rows])
def test_a_change_in_the_store_rebuilds_the_report(
    change: Callable[[Invented], None], store: Invented, report: Report
) -> None:
    assert [report().built, report().built] == [True, False]
    change(store)
    assert [report().built, report().built] == [True, False]


@pytest.mark.parametrize(
    "asked",
    [{"margin": 0.02}, {"price": 1.0}, {"compare": ("pca",)}, {"paper": True}, {"where": {"seed": ["0"]}}],
    ids=lambda one: next(iter(one)),
)
def test_an_option_rebuilds_the_report(asked: dict[str, Any], report: Report) -> None:
    report()
    assert [report(**asked).built, report(**asked).built] == [True, False]


def test_the_same_again_says_the_same(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    first = report()
    assert "up to date" not in capsys.readouterr().err
    assert report() == dataclasses.replace(first, built=False)
    assert capsys.readouterr().err.count("report: up to date") == 1
    assert (first.trials, first.rows) == (20, 80)
    assert report(color=True) == dataclasses.replace(first, built=False, text=first.text.replace("A", "B", 1))


def test_failures_are_told_again(store: Invented, report: Report) -> None:
    add_a_failure(store)
    assert [report().failed, report().failed] == [{"a trial": "no memory"}] * 2


def test_costs_count_only_if_they_are_shown(store: Invented, report: Report) -> None:
    def built(kind: str, seconds: float, **options: Any) -> bool:
        remember([store.storage], [Cost((kind,), 2.0, seconds)])
        return report(**options).built

    assert [built("trial", 2), built("trial", 3)] == [True, False]
    assert [built("trial", 2, price=1.0), built("trial", 3, price=1.0)] == [True, True]
    assert not built("report", 4, price=1.0)  # each report adds its own cost


def test_changed_code_and_pdflatex_rebuild_the_report(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    report()
    monkeypatch.setattr("reports.made.packages_as_they_are", lambda: "another")
    assert report().built
    assert [report(paper=True).built, report(paper=True).built] == [True, False]
    monkeypatch.setattr("benchmark.commands.report.shutil.which", lambda _: "pdflatex")
    assert report(paper=True).built


@pytest.fixture
def again(
    swept_toy: Swept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, int]]:
    """Return a function that runs a recipe again: numbers of listings of trials with all seeds, and of trials run."""
    listed: list[int] = []
    list_all = trials_of

    def counted(recipe: Recipe, *given: Any) -> list[Trial]:
        listed.append(len(recipe.sweep.seeds))
        return list_all(recipe, *given)

    shutil.copytree(swept_toy.store, tmp_path / "store", ignore=shutil.ignore_patterns("reports"))
    monkeypatch.setattr(sweep, "trials_of", counted)

    def _again(*options: str) -> tuple[int, int]:
        listed.clear()
        capsys.readouterr()
        assert main(["run", str(swept_toy.file), "--store", str(tmp_path / "store"), *options]) == 0
        (counts,) = re.findall(r"sweep: (\d+) trials, (\d+) of them done before", capsys.readouterr().err)
        return sum(seeds > 1 for seeds in listed), int(counts[0]) - int(counts[1])

    return _again


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("kind", ["rows", "tested", "images"])
def test_a_finished_sweep_is_not_listed_again_while_its_files_are_there(
    kind: str, again: Callable[..., tuple[int, int]], tmp_path: Path
) -> None:
    assert again() == again("--margin", "2") == (0, 0)
    file = next((tmp_path / "store" / kind).glob("*.parquet"))
    file.unlink()
    listed, ran = again()
    assert (listed, file.exists()) == (1, True)
    assert (ran > 0) == (kind != "images")
    assert again() == (0, 0)


@pytest.mark.usefixtures("local_ray")
def test_a_sweep_of_other_code_is_listed_anew(
    again: Callable[..., tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmark.sweep.trials.evaluation_code", lambda: "another")
    listed, ran = again()
    assert (listed, ran) == (1, 10)
