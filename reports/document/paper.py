r"""The paper as one document: LaTeX with its PDF where pdflatex is at hand, and Markdown where it is not.

Pdflatex runs in a temporary folder, with a time limit, without a shell.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from benchmark.common.terminal.progress import Progress
from reports.analysis.verdicts import DECIDED, Answer
from reports.document.chapters import Chapter
from reports.figures.writing import latex_figure
from reports.render.cells import shared_notes
from reports.render.latex import COMMANDS, PACKAGES, floats, shared_notes_tex
from reports.render.latex_signs import latex_escape
from reports.render.markdown import markdown, markdown_escape
from reports.text import headline, verdicts

FOLDER = "paper"
MAX_VERDICTS = 8
_ABSENT = "What is not here"
LIMIT_S = 120.0  # of one run
RUNS = 2  # the second one knows the numbers of tables
# Dates of the PDF from the clock would make equal rows unequal bytes; files outside its folder stay closed.
_ENVIRONMENT = {"SOURCE_DATE_EPOCH": "0", "FORCE_SOURCE_DATE": "1", "openin_any": "p", "openout_any": "p"}


@dataclass(frozen=True)
class Paper:
    """The files of a paper.

    Attributes:
        contents: name of a file, with the folder `paper` -> bytes.
        main: the file to be read first: the PDF, else the Markdown.
        note: a sentence on why there is no PDF; empty where there is one.
    """

    contents: dict[str, bytes]
    main: str
    note: str = ""


def answer_paragraphs(answer: Answer) -> list[str]:
    """Return the first paragraphs: the headline, then the verdict on each method, those that decide something first."""
    decided = sorted(answer.verdicts, key=lambda one: one.kind not in DECIDED)
    more = len(decided) - MAX_VERDICTS
    rest = [f"{more:,} more verdicts stand in tables/verdicts.csv of the report."] if more > 0 else []
    return [headline.headline(answer), *map(verdicts.sentence, decided[:MAX_VERDICTS]), *rest]


def write_paper(title: str, opening: Sequence[str], chapters: Sequence[Chapter], absent: Sequence[str]) -> Paper:
    """Return the paper in all forms that can be made here.

    Args:
        title: its title.
        opening: paragraphs before the first chapter, the answer first.
        chapters: in order; their figures lie in the folder `figures` beside that of the paper.
        absent: sentences on what is not in it, which end it.
    """
    source = _tex(title, opening, chapters, absent)
    figures = {f"{one.name}.pdf": one.contents["pdf"] for chapter in chapters for one in chapter.figures}
    content, note = compiled(source, figures)
    main = f"{FOLDER}/paper.pdf"
    if content is None:
        main, content = f"{FOLDER}/paper.md", _markdown(title, opening, chapters, absent).encode()
    return Paper({f"{FOLDER}/paper.tex": source.encode(), main: content}, main, note)


def compiled(source: str, figures: Mapping[str, bytes]) -> tuple[bytes | None, str]:
    """Return a document as PDF, or None and a sentence on what went wrong.

    Args:
        source: the document.
        figures: name of a file in its folder `figures` -> bytes.
    """
    if shutil.which("pdflatex") is None:
        return None, "pdflatex is not on the PATH: paper.md has in Markdown what paper.tex has."
    with tempfile.TemporaryDirectory(prefix="icm-bench-paper-") as place:
        folder = Path(place)
        (folder / "figures").mkdir()
        for name, content in figures.items():
            (folder / "figures" / name).write_bytes(content)
        (folder / "paper.tex").write_text(source, encoding="utf-8")
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
        progress = Progress("pdflatex", RUNS, "runs")
        for _ in range(RUNS):
            try:
                done = subprocess.run(
                    command, cwd=folder, env=os.environ | _ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True,
                    timeout=LIMIT_S, check=False,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                return None, f"pdflatex was ended after {LIMIT_S:.0f} s; paper.tex is there to be compiled by hand."
            except OSError as error:
                return None, f"pdflatex could not be started ({error.strerror}); paper.tex is there to be compiled."
            if done.returncode:
                found = re.search(r"^! *(.+)$", done.stdout.decode(errors="replace"), re.MULTILINE)
                reason = found[1].strip().rstrip(".") if found else "no message"
                return None, f"pdflatex failed with '{reason}'; paper.tex is there to be mended."
            progress.update()
        return (folder / "paper.pdf").read_bytes(), ""


def _tex(title: str, opening: Sequence[str], chapters: Sequence[Chapter], absent: Sequence[str]) -> str:
    shared = shared_notes([table for chapter in chapters for table in chapter.tables])
    head = files("reports.document").joinpath("head.tex").read_text(encoding="utf-8").rstrip()
    lines = [r"\documentclass[10pt]{article}", PACKAGES, COMMANDS, head, r"\begin{document}"]
    lines += [rf"\begin{{center}}\Large\bfseries {_escaped(title)}\end{{center}}"]
    lines += [rf"\noindent {_escaped(sentence)}\par\smallskip" for sentence in opening]
    for chapter in chapters:
        lines.append(rf"\section{{{_escaped(chapter.title)}}}")
        lines += [line for table in chapter.tables for line in floats(table, shared)]
        lines += [latex_figure(figure).rstrip() for figure in chapter.figures]
    lines += shared_notes_tex(shared)
    if absent:
        items = [rf"\item {_escaped(sentence)}" for sentence in absent]
        lines += [rf"\section*{{{_ABSENT}}}", r"\begin{itemize}\raggedright", *items, r"\end{itemize}"]
    return "\n".join([*lines, r"\end{document}", ""])


def _markdown(title: str, opening: Sequence[str], chapters: Sequence[Chapter], absent: Sequence[str]) -> str:
    parts = [f"# {markdown_escape(title)}", *map(markdown_escape, opening)]
    for chapter in chapters:
        parts.append(f"## {markdown_escape(chapter.title)}")
        for table in chapter.tables:
            parts += [f"### {markdown_escape(f'Table {table.name}')}", markdown(table).rstrip()]
        for one in chapter.figures:
            name = markdown_escape(one.name)
            parts += [f"### {markdown_escape(f'Figure {one.name}')}", f"![{name}](../figures/{one.name}.png)"]
            parts.append(markdown_escape(one.caption))
    if absent:
        parts += [f"## {_ABSENT}", "\n".join(f"- {markdown_escape(sentence)}" for sentence in absent)]
    return "\n\n".join(parts) + "\n"


def _escaped(text: str) -> str:
    return latex_escape(text, breaks=True)
