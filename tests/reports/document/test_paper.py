"""The paper: tables once and in order, notes on published numbers, and missing parts. All rows are synthetic."""

import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

import reports.build
from benchmark.common.storage.files import Storage
from reports.analysis.published_checks import OWN_ROWS
from reports.analysis.settings import Options
from reports.build import write_report
from reports.document import paper
from reports.made import ReportFiles
from reports.render.latex import latex_escape
from reports.text.sentences import Origin
from tests.reports.document.rows import rows
from tests.reports.render.test_latex import compiled, complaints
from tests.reports.synthetic import TESTED, frame

pytestmark = pytest.mark.long("pdflatex refuses the paper, or a table of it stands nowhere")

needs_pdflatex = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is absent")
CHAPTERS = (
    "Domain shift", "Open class", "Domain shift and open class", "ImageNet variants", "Ablation: lambda",
    "Ablation: rank", "Ablation: interventions", "Ablation: interventions on texts", "Cost", "Beside the paper",
)  # fmt: skip
MAX_PAGES = 16  # of two data sets, ImageNet and two backbones
COSTS = (
    {"kind": ["embedding", "ViT-B-32"], "work": 8000, "seconds": 80.0, "machine": "x", "device": "cuda"},
    {"kind": ["embedding", "ViT-L-14"], "work": 8000, "seconds": 200.0, "machine": "x", "device": "cuda"},
)


def write(place: Path, *protocols: str, draws: bool = False) -> ReportFiles:
    """Write the report of synthetic rows as a paper, with the figures of its first settings or with none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reports.figures.every.MAX_SETTINGS", 1)
        if not draws:
            patch.setattr(reports.build, "all_drawings", lambda *_: [])
        origin = Origin("a_b% & more", planned=90, finished=80, costs=COSTS)
        return write_report(frame(rows(*protocols)), TESTED, Storage(str(place)), "", origin,
                            Options(paper=True, price=2.0))  # fmt: skip


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, draws_where_it_is_looked_at: list[bool]
) -> tuple[Path, ReportFiles]:
    """The report of rows of all protocols."""
    draws_where_it_is_looked_at[0] = True
    place = tmp_path_factory.mktemp("whole")
    return place, write(place, draws=True)


def source(place: Path) -> str:
    return (place / "paper" / "paper.tex").read_text(encoding="utf-8")


def chapters_of(text: str) -> dict[str, str]:
    """Return title -> LaTeX of each chapter."""
    _, *parts = re.split(r"\\section\{(.*)\}\n", text)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_chapters_come_in_the_order_of_the_paper_and_every_table_stands_in_one_or_is_named(
    whole: tuple[Path, ReportFiles],
) -> None:
    place, written = whole
    chapters = chapters_of(source(place))
    assert tuple(chapters) == CHAPTERS
    found = {title: re.findall(r"\\label\{tab:([^}]+)\}", chapter) for title, chapter in chapters.items()}
    labels = [label for of_chapter in found.values() for label in of_chapter if not re.search(r"-[a-z]$", label)]
    assert len(labels) == len(set(labels))
    files = {Path(file).stem for file in written.files if file.endswith(".tex") and "/tables/" in file}
    of_report = Counter(name.partition("-")[0] for name in files - {"all", "published"})
    [kept] = [said for said in absent_of(source(place)) if said.startswith("In the report's folder tables")]
    named = dict(re.findall(r"(\w+) \((\d+)\)", kept))
    printed = {re.sub(r"[^A-Za-z0-9.-]", "-", name) for name in files} & set(labels)
    for kind, count in of_report.items():
        whole_ones = [label for label in printed if label.startswith(kind.replace("_", "-"))]
        assert len(whole_ones) + int(named.get(kind, 0)) == count, kind
    starts = {title: list(dict.fromkeys(label.partition("-")[0] for label in own)) for title, own in found.items()}
    assert starts["Domain shift"] == ["main", "environments", "published"]
    assert [x for x in found["Domain shift"] if x.startswith("env")] == ["environments-PACS", "environments-a-b-"]
    assert found["Open class"] == ["open-class-open-class"]
    assert found["Domain shift and open class"] == ["open-class-held-out-open-class"]
    assert starts["ImageNet variants"] == ["imagenet", "published"]
    assert found["Ablation: lambda"] == ["ablation-lambda"]  # one set has lambdas: its own table
    assert found["Ablation: rank"] == ["ablation-rank"]
    assert found["Ablation: interventions"] == ["ablation-interventions"]
    assert found["Ablation: interventions on texts"] == ["ablation-text"]
    assert found["Cost"] == ["cost"]
    assert {"selection", "comparisons", "behind"} <= set(named)


def absent_of(text: str) -> list[str]:
    """Return the sentences on missing parts at the end of the paper."""
    end = text.replace(r"\allowbreak{}", "").replace(r"\_", "_").partition(r"\section*{What is not here}")[2]
    return re.findall(r"\\item (.*)", end)


def test_a_table_over_data_sets_has_the_cells_of_the_tables_of_each(whole: tuple[Path, ReportFiles]) -> None:
    place, _ = whole
    rank = chapters_of(source(place))["Ablation: rank"].replace(r"\allowbreak{}", "")
    head, body = rank.split(r"\midrule", 1)
    assert all(name in head for name in ("PACS", r"a\_b\%", "ImageNet"))
    assert "ImageNet: Protocol imagenet" in body
    assert "everything else chosen by the rule" in head
    assert body.count("by the rule") == 4  # PCA and CLIP-ICM under two backbones
    assert "Picked:" not in body


def test_figures_stand_in_their_chapters_each_once(whole: tuple[Path, ReportFiles]) -> None:
    place, written = whole
    chapters = chapters_of(source(place))
    found = {title: re.findall(r"\\includegraphics\{([^}-]+)[^}]*\}", part) for title, part in chapters.items()}
    assert {title: names for title, names in found.items() if names} == {
        "Domain shift": ["forest", "environments"], "Ablation: lambda": ["lambda_rank"],
        "Ablation: rank": ["rank", "spectrum"], "Ablation: interventions": ["interventions"],
    }  # fmt: skip
    drawn = {Path(file).name for file in written.files if "/figures/" in file and file.endswith(".pdf")}
    assert drawn - set(re.findall(r"\\includegraphics\{([^}]+)\}", source(place))) == {
        next(name for name in drawn if name.startswith("selection"))
    }
    opening = source(place).replace(r"\allowbreak{}", "").partition(r"\section")[0]
    assert "Figures of data sets are of ViT-B-32 openai, protocol held\\_out, split full;" in opening


@needs_pdflatex
def test_it_compiles_without_a_box_that_is_too_wide(whole: tuple[Path, ReportFiles], tmp_path: Path) -> None:
    place, written = whole
    assert (place / "paper" / "paper.pdf").read_bytes().startswith(b"%PDF")
    assert f"\nPaper: {place / 'paper' / 'paper.pdf'}" in written.text
    assert str(place / "paper" / "paper.pdf") in written.files
    (tmp_path / "figures").symlink_to(place / "figures")
    log = compiled(source(place), tmp_path)
    assert complaints(log) == []
    assert "undefined" not in log
    pages = re.search(r"Output written on \S+ \((\d+) pages", log)
    assert pages is not None
    assert int(pages[1]) <= MAX_PAGES
    again, note = paper.compiled(source(place), {f.name: f.read_bytes() for f in (place / "figures").glob("*.pdf")})
    assert (again, note) == (
        (place / "paper" / "paper.pdf").read_bytes(),
        "",
    )  # neither a date nor a name drawn at random


def test_each_table_has_a_note_on_published_and_reproduced_numbers(whole: tuple[Path, ReportFiles]) -> None:
    place, _ = whole
    text, _, end = source(place).replace(r"\allowbreak{}", "").partition(r"\section*{Notes on the tables}")
    tables = re.split(r"\\begin\{table\*?\}", text)[1:]
    whole_ones = [table for table in tables if "Notes: see Table" not in table and "tab:published" not in table]
    assert all("Published: " in table or "Notes at the end: " in table for table in whole_ones)
    of_label = {re.findall(r"\\label\{tab:([^}]*)\}", table)[0]: table for table in tables}
    pacs = "Published: 10 of its numbers; 4 reproduced within the tolerance, 6 not reproduced, 1 never"
    assert pacs in of_label["environments-PACS"]
    assert "Published: none of its numbers." in of_label["environments-a-b-"] + end
    assert re.search(r"Published: 2 of its numbers; 2 not comparable\.", of_label["imagenet"])
    assert r"\item Published: no number of this table." in end
    assert (text + end).count(OWN_ROWS) == 1


def test_names_are_escaped_and_the_opening_says_what_is_missing(whole: tuple[Path, ReportFiles]) -> None:
    text = source(whole[0])
    assert r"a\_b\% \& more\end{center}" in text
    assert "PARTIAL: 80 of 90 trials are finished" in text
    assert r"out\%door" in text
    assert "a_b%" not in text


def test_missing_tables_and_figures_are_named_with_the_reason(tmp_path: Path) -> None:
    write(tmp_path, "open_class")
    text = source(tmp_path)
    chapters = chapters_of(text)
    assert tuple(chapters) == ("Open class", "Cost")
    assert r"\label{tab:open-class}" in chapters["Open class"]
    absent = absent_of(text)
    assert [said for title in CHAPTERS for said in absent if said.startswith(f"{title}: ")] == absent
    assert absent[:3] == [
        "Domain shift: there are no rows of protocol held_out.",
        "Domain shift and open class: there are no rows of protocol held_out_open_class.",
        "ImageNet variants: there are no rows of protocol imagenet_shift.",
    ]
    assert "no table ablation_text" in absent[6]
    assert absent[7].endswith(", no figure robustness.")
    assert re.findall(r"\\section\{.*\}\n\\section", text) == []


def test_the_answer_comes_first_and_a_note_of_several_tables_once(whole: tuple[Path, ReportFiles]) -> None:
    place, written = whole
    text = source(place)
    paragraphs = re.findall(r"\\noindent (.*)\\par\\smallskip", text)
    assert paragraphs[0] == latex_escape(written.headline, breaks=True)
    sentences = [latex_escape(one["sentence"], breaks=True) for one in written.verdicts]
    shown = min(paper.MAX_VERDICTS, len(sentences))
    assert shown
    assert set(paragraphs[1 : 1 + shown]) <= set(sentences)
    body, end = text.split(r"\section*{Notes on the tables}")
    notes = re.findall(r"\\item (.*)", end.partition(r"\end{enumerate}")[0])
    assert len(notes) > 2
    main = body.partition(r"\label{tab:main}")[2].partition(r"\end{table")[0]
    assert not [note for note in notes if note in main]
    assert "Notes at the end: 1" in main


def test_without_pdflatex_the_paper_is_markdown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    written = write(tmp_path, "open_class", "imagenet_shift")
    text = (tmp_path / "paper" / "paper.md").read_text()
    assert tuple(re.findall(r"^## (.*)$", text, re.MULTILINE)) == (
        "Open class", "ImageNet variants", "Ablation: rank", "Cost", "What is not here",
    )  # fmt: skip
    assert "\n- Domain shift: there are no rows of protocol held_out.\n" in text
    assert text.startswith("# a_b% & more\n")
    assert text.count("Published: ") == text.count("\n### Table ") - 1  # that of published accuracies has none
    assert "\n### Table imagenet\n" in text
    assert written.text.endswith("paper.md\npdflatex is not on the PATH: paper.md has in Markdown what paper.tex has.")
    assert (tmp_path / "paper" / "paper.tex").exists()
    assert not (tmp_path / "paper" / "paper.pdf").exists()


@pytest.mark.parametrize(
    ("script", "note"),
    [
        ("echo '! Undefined control sequence.'; exit 1", "failed with 'Undefined control sequence'; fix paper.tex"),
        ("exec sleep 30", "pdflatex exceeded its limit of 1 s; compile paper.tex"),
    ],
)
def test_a_pdflatex_that_fails_is_one_sentence(
    script: str, note: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = tmp_path / "pdflatex"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(paper, "LIMIT_S", 0.6)
    content, said = paper.compiled(r"\documentclass{article}", {})
    assert content is None
    assert note in said
    assert said.count(". ") == 0
