"""Hostile names in all files of a report: nothing runs, links, loads or breaks in their readers. Synthetic rows."""

import csv
import io
import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.common.code import UNASKED
from benchmark.common.errors import PluginError
from benchmark.common.storage.files import Storage
from benchmark.common.terminal.escaping import one_line
from reports.analysis.settings import Options
from reports.build import write_report
from reports.made import MADE, ReportFiles
from reports.text.sentences import Origin
from tests.reports.page.test_browser import CHROMIUM, Opened, axe
from tests.reports.render.test_latex import compiled, complaints, needs_pdflatex
from tests.reports.synthetic import TESTED, frame, row

RUNS = "<script>document.title = 'ran'</script>"
CLASSES = [
    RUNS, "<img src=http://evil.test/x onerror=alert(1)>", "$\\input{/etc/passwd}$", "\\write18{id}", "a|b",
    '=HYPERLINK("http://evil.test","x")', "=cmd|' /C calc'!A0", "@SUM(1+1)", "+1+1", "-2+3", "\t=1+1", "\r=1+1", "\uff1d1+1",
    "\x1b[31mred\x1b]0;owned\x07", "two\nlines", "x" * 300, "..", "../../up", "CON", "\u202egnp.exe", "cat", "c\u0430t",
    "ca\u200bt", "[link](javascript:alert(1))", "![i](http://evil.test/i.png)", "http://evil.test/bare",
    "<http://evil.test/auto>", "`code`", "{{7*7}}", "%s%n", "# heading", "é 中文 نعم", "bad\udcff",
]  # fmt: skip
HELD_OUTS = (
    f"art {RUNS}",
    '=HYPERLINK("http://evil.test","e")',
    "$\\input{/etc/passwd}$ a|b",
    "\x1b[2J\u202e[l](http://evil.test)",
)
DATASET, BACKBONE = "../=cmd|' /C calc'!A0 <b>\n\x1b[1m", "ViT\n`x` |$\\input{/etc/passwd}$"
PROMPT = "a \x1b[5mphoto\n| of <i>a {}</i> $x_1$ [l](http://evil.test)"


__all__ = ["axe"]  # a fixture of the page's tests


def storable(name: str) -> str:
    """Return a name that Arrow can store: lone surrogates are replaced by their code point."""
    return one_line(name) if "\udcff" in name else name


def rows() -> list[dict[str, Any]]:
    random = np.random.default_rng(3)
    classes = [storable(name) for name in CLASSES]
    n = 3 * len(classes)
    shared: dict[str, Any] = {
        "dataset": DATASET, "backbone": BACKBONE, "prompts": json.dumps([PROMPT]), "classes": classes,
        "n_classes": len(classes), "labels": np.arange(n) % len(classes), "notes": [f"{RUNS} did not converge"],
    }  # fmt: skip
    made = []
    for held_out in HELD_OUTS:
        for projection, order, lambda_ in (("identity", None, None), ("pca", "largest", None), ("icm", "largest", 1.0)):
            answers = random.random((1 if projection == "identity" else 3, n)) < 0.5
            what: dict[str, Any] = {"projection": projection, "order": order, "lambda_": lambda_, **shared}
            made.append(row(held_out=held_out, correct=answers, **what))
    return made


@pytest.fixture(scope="module")
def report(
    tmp_path_factory: pytest.TempPathFactory, draws_where_it_is_looked_at: list[bool]
) -> tuple[Path, ReportFiles]:
    """Return the folder of a report with hostile names and figures."""
    draws_where_it_is_looked_at[0] = True
    place = tmp_path_factory.mktemp("hostile")
    failed = {f"{DATASET}, pca": f"{RUNS} \x1b[2J at http://evil.test"}
    origin = Origin(f"Report {RUNS} \x1b[31m", planned=20, failed=failed)
    return place / "x", write_report(frame(rows()), TESTED, Storage(str(place)), "x", origin, Options())


@pytest.mark.parametrize("refused", ["1", UNASKED])
def test_rows_that_name_code_import_none_where_nobody_wants_it(
    refused: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "of_a_stranger.py").write_text("raise SystemExit(3)")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("ICM_BENCH_NO_PLUGINS", refused)
    made = [row(held_out=held_out, protocol="of_a_stranger:Part") for held_out in ("a", "b", "c")]
    with pytest.raises(PluginError, match="'of_a_stranger:Part' is a plugin"):
        write_report(frame(made), TESTED, Storage(str(tmp_path)), "x", Origin("Rows"), Options())
    assert "of_a_stranger" not in sys.modules


def files(folder: Path, suffix: str) -> dict[str, str]:
    found = {str(f.relative_to(folder)): f.read_text(encoding="utf-8") for f in sorted(folder.rglob(f"*{suffix}"))}
    assert found
    return found


def test_files_have_plain_names_and_no_control_characters(report: tuple[Path, ReportFiles]) -> None:
    folder, _ = report
    assert all(re.fullmatch(r"[A-Za-z0-9_./-]{1,120}", str(f.relative_to(folder))) for f in folder.rglob("*"))
    assert [f.name for f in folder.parent.iterdir()] == ["x"]
    for suffix in (".md", ".tex", ".csv", ".json", ".html", ".svg"):
        for name, text in files(folder, suffix).items():
            bad = re.findall(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]", text)
            assert bad == [], name


def test_a_terminal_gets_plain_lines(report: tuple[Path, ReportFiles]) -> None:
    text = report[1].text
    assert not re.search(r"[^\n\x20-\x7e\xa0-\u1fff\u2010-\u2027\u2030-\u205f\u2070-\uffff]", text)
    assert "\u202e" not in text
    assert max(map(len, text.splitlines()[:-1])) <= 80


def test_a_spreadsheet_runs_no_cell(report: tuple[Path, ReportFiles]) -> None:
    cells = set()
    for name, text in files(report[0], ".csv").items():
        lines = list(csv.reader(io.StringIO(text), strict=True))
        assert len({len(line) for line in lines}) == 1, name
        cells |= {cell for line in lines for cell in line}
    numbers = {cell for cell in cells if re.fullmatch(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?", cell)}
    starts = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
    assert {cell for cell in cells - numbers if cell.lstrip().startswith(starts)} == set()
    assert {'\'=HYPERLINK("http://evil.test","e")'} <= cells
    # Names that look alike stay distinct.
    assert {"cat", "c\u0430t", "caU+200Bt"} <= cells


def test_markdown_is_text(report: tuple[Path, ReportFiles]) -> None:
    reader = pytest.importorskip("markdown_it").MarkdownIt("commonmark", {"html": True}).enable("table")
    for name, text in files(report[0], ".md").items():
        parsed = reader.parse(text)
        tokens = [token for outer in parsed for token in (outer, *(outer.children or ()))]
        assert [t.content for t in tokens if t.type in ("html_inline", "html_block")] == [], name
        targets = [t.attrGet("href") or t.attrGet("src") for t in tokens if t.type in ("link_open", "image")]
        assert [target for target in targets if re.search(r"evil|javascript|:", str(target))] == [], name
        assert not [t.content for t in tokens if t.type == "code_inline" and ("code" in t.content or t.content == "x")]
        assert not re.search(r"(?<![\w\\])(https?://|www\.)", text), name  # which GitHub makes a link of


@needs_pdflatex
def test_latex_prints_it(report: tuple[Path, ReportFiles], tmp_path: Path) -> None:
    source = (report[0] / "tables" / "all.tex").read_text(encoding="utf-8")
    log = compiled(source, tmp_path, runs=1)
    assert "passwd" not in re.sub(r"\\OT1\S*|\[\]", "", log)
    assert [line for line in complaints(log) if "undefined references" not in line] == []
    assert not re.search(r"\\(input|write)\b(?!18)", source.replace(r"\textbackslash{}", ""))


def test_figures_are_drawings_alone(report: tuple[Path, ReportFiles]) -> None:
    for name, text in files(report[0], ".svg").items():
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(text).iter()}
        assert not tags & {"script", "a", "image", "foreignObject"}, name


def test_json_is_read_and_cannot_end_a_script(report: tuple[Path, ReportFiles]) -> None:
    for name, text in files(report[0], ".json").items():
        assert json.loads(text)
        assert "<" not in text or name == MADE  # not embedded in a page


@pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")
def test_a_browser_shows_it(report: tuple[Path, ReportFiles], axe: str) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for fragment in ("", "#open=trust.tables.protocol&cell=1.0", "#rule=lodo&open=classes"):
            with Opened(browser, report[0] / "index.html", fragment) as opened:
                assert opened.messages == []
                assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []
                assert opened.page.title() != "ran"
                made = "main script, main img, main iframe, main a[href*=evil], main b b, a[href^=javascript]"
                assert opened.page.locator(made).count() == 0
                assert opened.page.evaluate("document.documentElement.scrollWidth") == 1440
                shown = opened.page.locator("body").inner_text()
                assert RUNS in shown
                assert "\x1b" not in shown
                opened.page.evaluate(axe)
                assert opened.violations() == []
        browser.close()
