r"""The paper as one document: LaTeX with its PDF where pdflatex is at hand, and Markdown where it is not."""

from collections.abc import Sequence
from dataclasses import dataclass

from reports.analysis.verdicts import DECIDED, Answer
from reports.document.chapters import Chapter
from reports.document.pdf import compiled, has_pdflatex
from reports.figures import Figure
from reports.figures.wording import latex_figure
from reports.render import markdown
from reports.render.cells import shared_notes
from reports.render.latex import COMMANDS, PACKAGES, floats, shared_notes_tex
from reports.render.latex_signs import latex_escape
from reports.render.markdown import markdown_escape
from reports.text.headline import headline
from reports.text.verdicts import sentence

FOLDER = "paper"
NO_PDFLATEX = "pdflatex is not on the PATH: paper.md has in Markdown what paper.tex has."
MAX_VERDICTS = 8
_ABSENT = "What is not here"
_HIGHEST = "6.5in"  # of a figure, which has a caption below it
_HEAD = rf"""\documentclass[10pt]{{article}}
{PACKAGES}
{COMMANDS}
\graphicspath{{{{figures/}}{{../figures/}}}}
% Equal rows give equal bytes: no date, and no number drawn from the clock.
\ifdefined\pdftrailerid\pdftrailerid{{}}\pdfinfoomitdate=1\fi
% A figure at its own size, or as high as a page takes it.
\newsavebox{{\drawing}}
\let\own\includegraphics
\renewcommand{{\includegraphics}}[1]{{\sbox{{\drawing}}{{\own{{#1}}}}%
  \ifdim\ht\drawing>{_HIGHEST}\own[height={_HIGHEST}]{{#1}}\else\usebox{{\drawing}}\fi}}
% Tables and figures stand where they are named, in order: nothing floats out of its chapter.
\makeatletter
\newenvironment{{placed}}[1]{{\par\addvspace{{14pt}}\noindent\begin{{minipage}}{{\textwidth}}\def\@captype{{#1}}}}%
  {{\end{{minipage}}\par\addvspace{{14pt}}}}
\renewenvironment{{table}}[1][]{{\begin{{placed}}{{table}}}}{{\end{{placed}}}}
\renewenvironment{{table*}}[1][]{{\begin{{placed}}{{table}}}}{{\end{{placed}}}}
\renewenvironment{{figure}}[1][]{{\begin{{placed}}{{figure}}}}{{\end{{placed}}}}
\renewenvironment{{figure*}}[1][]{{\begin{{placed}}{{figure}}}}{{\end{{placed}}}}
\makeatother
\raggedbottom
\begin{{document}}"""


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
    return [headline(answer), *map(sentence, decided[:MAX_VERDICTS]), *rest]


def write_paper(
    title: str, opening: Sequence[str], chapters: Sequence[Chapter], absent: Sequence[str], figures: Sequence[Figure]
) -> Paper:
    """Return the paper in all forms that can be made here.

    Args:
        title: its title.
        opening: paragraphs before the first chapter, the answer first.
        chapters: in order.
        absent: sentences on what is not in it, which end it.
        figures: all that chapters have, which lie in the folder `figures` beside that of the paper.
    """
    source = _tex(title, opening, chapters, absent)
    contents = {f"{FOLDER}/paper.tex": source.encode()}
    note = NO_PDFLATEX
    if has_pdflatex():
        pdf, note = compiled(source, {f"{one.name}.pdf": one.contents["pdf"] for one in figures})
        if pdf is not None:
            return Paper({**contents, f"{FOLDER}/paper.pdf": pdf}, f"{FOLDER}/paper.pdf")
    text = _markdown(title, opening, chapters, absent)
    return Paper({**contents, f"{FOLDER}/paper.md": text.encode()}, f"{FOLDER}/paper.md", note)


def _tex(title: str, opening: Sequence[str], chapters: Sequence[Chapter], absent: Sequence[str]) -> str:
    shared = shared_notes([table for chapter in chapters for table in chapter.tables])
    lines = [_HEAD, rf"\begin{{center}}\Large\bfseries {_escaped(title)}\end{{center}}"]
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
