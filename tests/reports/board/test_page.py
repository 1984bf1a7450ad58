"""The page of the board: what it shows of the lines of board.csv, in a browser where there is one. Answers are made up."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmark.commands.results.board import write_board
from benchmark.common.errors import IcmBenchError
from benchmark.demo.packages import npm_package, read_member
from benchmark.results.packed import Groups, write_packed
from reports.board.build import page
from tests.performance.bench_board import made_up
from tests.reports.page.test_browser import AXE, CHROMIUM, SIZES, Opened, playwright

needs_browser = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")
HOSTILE = "</script><b>\x1b[2J\u202e' & \" " + "long" * 40


def written(folder: Path, groups: Groups) -> Path:
    write_packed(folder, groups)
    write_board(folder)
    return folder / "board.html"


def lines(folder: Path) -> list[dict[str, str]]:
    with (folder / "board.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of 40 encoders, of which one lacks a data set; three have a bound."""
    made = made_up(40, 2, 5, 400, bounds=3)
    (first, second) = made
    lacking = made[second][0], [one for one in made[second][1] if one.model_id != "made-up/encoder-7"]
    return written(tmp_path_factory.mktemp("board"), {first: made[first], second: lacking})


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def shown(opened: Opened, table: str = "#table") -> list[list[str]]:
    """Return the texts of the cells of each line."""
    of_rows = "rows => rows.map(row => [...row.cells].map(cell => cell.innerText))"
    return opened.page.eval_on_selector_all(f"{table} tbody tr", of_rows)


def expected(line: dict[str, str]) -> list[str]:
    """Return the first text in each cell of a line, without the plot."""
    accuracy, low, high = (f"{100 * float(line[name]):.1f}" for name in ("accuracy", "low", "high"))
    best, worst = line["best_rank"], line["worst_rank"]
    rank = "none" if line["bound"] == "true" else best if best == worst else f"{best}–{worst}"
    return [line["encoder"], line["method"], f"{accuracy}\n{low} to {high}", rank, line["images"]]


def same(cells: list[str], line: dict[str, str]) -> None:
    encoder, method, accuracy, rank, _, images = cells
    assert encoder == f"{line['encoder']}\n{line['model_id']} (made up)"
    assert method == f"{line['method']}\n{line['rule']}"
    assert [encoder.split("\n")[0], method.split("\n")[0], "\n".join(accuracy.split("\n")[:2]),
            rank.split("\n")[0], images] == expected(line)  # fmt: skip
    assert ("tied with best" in rank) == (line["tied_with_best"] == "true")


@needs_browser
@pytest.mark.parametrize("size", SIZES)
def test_each_view_fits_without_messages_or_requests(browser: Any, file: Path, size: str) -> None:
    for view in ("", "#view=1", "#view=2&encoder=vit-l", "#method=nothing"):
        with Opened(browser, file, view, size) as opened:
            assert opened.messages == []
            assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []
            assert opened.page.evaluate("document.documentElement.scrollWidth") == SIZES[size][0]


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_it_is_accessible(browser: Any, file: Path, size: str, scheme: str) -> None:
    try:
        axe = read_member(npm_package(*AXE), "package/axe.min.js").decode()
    except IcmBenchError as error:
        pytest.skip(f"axe-core is not at hand: {error}")
    for view in ("", "#view=1&method=probe"):
        with Opened(browser, file, view, size, color_scheme=scheme) as opened:
            opened.page.evaluate(axe)
            assert opened.violations() == []


@needs_browser
def test_it_shows_the_numbers_of_the_csv_file(browser: Any, file: Path) -> None:
    every = lines(file.parent)
    views = list(dict.fromkeys((line["overall"], line["sets"]) for line in every if line["overall"] == "false"))
    of_view = [[line for line in every if line["overall"] == "true"]]
    of_view += [[line for line in every if (line["overall"], line["sets"]) == view] for view in views]
    with Opened(browser, file) as opened:
        assert opened.page.locator("#view option").all_inner_texts() == ["Mean over 2 data sets", "PACS", "VLCS"]
        for number, known in enumerate(of_view):
            opened.page.locator("#view").select_option(str(number))
            ranked = [line for line in known if line["bound"] == "false"]
            found = shown(opened)
            assert len(found) == 100
            for cells, line in zip(found, ranked, strict=False):
                same(cells, line)
            opened.page.locator("#more").click()
            found, bounds = shown(opened), [line for line in known if line["bound"] == "true"]
            assert len(found) == len(ranked)
            assert len(shown(opened, "#bounds-table")) == len(bounds)
            for cells, line in zip([*found, *shown(opened, "#bounds-table")], [*ranked, *bounds], strict=True):
                same(cells, line)
            tied = sum(line["tied_with_best"] == "true" for line in known)
            assert f"{tied} tied with the best" in opened.page.locator("#count").inner_text()


@needs_browser
def test_filters_are_kept_in_the_address(browser: Any, file: Path) -> None:
    with Opened(browser, file) as opened:
        opened.page.locator("#view").select_option("1")
        opened.page.locator("#encoder").fill("RN50")
        opened.page.locator("#method").fill("shrink probe")
        found = shown(opened)
        assert {cells[1] for cells in found} == {"Shrinkage + linear probe\nlodo_1se"}
        assert all("RN50" in cells[0] for cells in found)
        assert 0 < len(found) < 40
        address = opened.page.url
        opened.page.locator("#method").fill("no such method")
        assert opened.page.locator("#table").inner_text() == "No entry matches."
    with Opened(browser, file, "#" + address.partition("#")[2]) as opened:
        assert shown(opened) == found


@needs_browser
def test_hostile_names_are_text(browser: Any, tmp_path: Path) -> None:
    ((key, (images, entries)),) = made_up(2, 1, 2, 400).items()
    for one in entries:
        for name in ("encoder", "method", "model_id", "variant"):
            object.__setattr__(one, name, f"{HOSTILE} {vars(one)[name]}")
    object.__setattr__(key, "dataset", HOSTILE)
    for size, (width, _) in SIZES.items():
        with Opened(browser, written(tmp_path, {key: (images, entries)}), "", size) as opened:
            assert opened.messages == []
            assert opened.page.evaluate("document.documentElement.scrollWidth") == width
            assert opened.page.locator("b").all_inner_texts() == ["MADE UP."]
            assert len(shown(opened)) == 4
            assert shown(opened)[0][0].startswith("</script><b>")


def test_only_made_up_entries_are_marked_so(tmp_path: Path) -> None:
    ((key, (images, entries)),) = made_up(2, 1, 2, 400).items()
    for one in entries[1:]:
        object.__setattr__(one, "made_up", False)
    text = written(tmp_path, {key: (images, entries)}).read_text()
    assert "1 of the 4 entries" in " ".join(text.split())
    object.__setattr__(entries[0], "made_up", False)
    assert "made up" not in written(tmp_path, {key: (images, entries)}).read_text().partition("<script")[0].lower()


def test_data_of_the_page_are_json_without_nan(tmp_path: Path) -> None:
    text = written(tmp_path, made_up(2, 1, 2, 60)).read_text()  # too few images in an environment for an interval
    data = json.loads(text.partition('id="data">')[2].partition("</script>")[0])
    assert {line[2] for view in data["views"] for line in view["lines"]} == {None}
    assert {line["low"] for line in lines(tmp_path)} == {""}
    assert page([]).startswith(b"<!doctype html>")
