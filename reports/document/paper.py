r"""The paper as one document: LaTeX with its PDF where pdflatex is at hand, and Markdown where it is not."""

from collections.abc import Sequence
from dataclasses import dataclass

from reports.document.chapters import Chapter
from reports.document.pdf import compiled, has_pdflatex
from reports.figures import Figure
from reports.figures.wording import latex_figure
from reports.render import latex, markdown
from reports.render.latex import LAYOUT
from reports.render.latex_signs import latex_escape
from reports.render.markdown import markdown_escape

FOLDER = "paper"
NO_PDFLATEX = "pdflatex is not on the PATH: paper.md has in Markdown what paper.tex has."
_HIGHEST = "6.5in"  # of a figure, which has a caption below it
_HEAD = rf"""\documentclass[10pt]{{article}}
\usepackage{{booktabs}}
\usepackage{{graphicx}}
\graphicspath{{{{figures/}}{{../figures/}}}}
{LAYOUT}
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


def write_paper(title: str, opening: Sequence[str], chapters: Sequence[Chapter], figures: Sequence[Figure]) -> Paper:
    """Return the paper in all forms that can be made here.

    Args:
        title: its title.
        opening: sentences before the first chapter, the answer first.
        chapters: in order.
        figures: all that chapters have, which lie in the folder `figures` beside that of the paper.
    """
    source = tex(title, opening, chapters)
    contents = {f"{FOLDER}/paper.tex": source.encode()}
    note = NO_PDFLATEX
    if has_pdflatex():
        pdf, note = compiled(source, {f"{one.name}.pdf": one.contents["pdf"] for one in figures})
        if pdf is not None:
            return Paper({**contents, f"{FOLDER}/paper.pdf": pdf}, f"{FOLDER}/paper.pdf")
    text = in_markdown(title, opening, chapters)
    return Paper({**contents, f"{FOLDER}/paper.md": text.encode()}, f"{FOLDER}/paper.md", note)


def tex(title: str, opening: Sequence[str], chapters: Sequence[Chapter]) -> str:
    """Return the paper as LaTeX; arguments as of `write_paper`."""
    lines = [_HEAD, rf"\begin{{center}}\Large\bfseries {_escaped(title)}\end{{center}}"]
    lines += [rf"\noindent {_escaped(sentence)}\par\smallskip" for sentence in opening]
    for chapter in chapters:
        lines.append(rf"\section{{{_escaped(chapter.title)}}}")
        lines += [latex(table, "page").rstrip() for table in chapter.tables]
        lines += [latex_figure(figure).rstrip() for figure in chapter.figures]
        lines += [rf"\noindent {_escaped(sentence)}\par\smallskip" for sentence in chapter.absent]
    return "\n".join([*lines, r"\end{document}", ""])


def in_markdown(title: str, opening: Sequence[str], chapters: Sequence[Chapter]) -> str:
    """Return the paper as Markdown; arguments as of `write_paper`."""
    parts = [f"# {markdown_escape(title)}", *map(markdown_escape, opening)]
    for chapter in chapters:
        parts.append(f"## {markdown_escape(chapter.title)}")
        for table in chapter.tables:
            parts += [f"### {markdown_escape(f'Table {table.name}')}", markdown(table).rstrip()]
        for one in chapter.figures:
            name = markdown_escape(one.name)
            parts += [f"### {markdown_escape(f'Figure {one.name}')}", f"![{name}](../figures/{one.name}.png)"]
            parts.append(markdown_escape(one.caption))
        parts += map(markdown_escape, chapter.absent)
    return "\n\n".join(parts) + "\n"


def _escaped(text: str) -> str:
    return latex_escape(text, breaks=True)
