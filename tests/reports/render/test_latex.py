"""Tables that LaTeX prints: they compile with booktabs alone, and nothing is wider than its column."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.common.errors import IcmBenchError
from reports.render.latex import MAX_WORDS, TALLEST, WIDTHS, Width, all_tex, latex
from reports.render.latex_grid import FITS, Grid, broken, letter
from reports.render.latex_signs import latex_escape, latex_width
from reports.render.splits import balanced, filled
from reports.render.table import Block, Cell, Column, Line, Table
from tests.reports.render.made import BACKBONES, METHODS, NOTES, SETS, hostile, main, small

needs_pdflatex = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is absent")
WIDTH_NAMES: tuple[Width, ...] = ("column", "page")
LONG = "A method whose name is so long that no column of any paper has room for it, a_b%_and_no_place_to_break_it"
PAPER = r"""\documentclass[twocolumn]{article}
\usepackage{booktabs}
\setlength{\textwidth}{6.75in}
\setlength{\columnsep}{0.25in}
\setlength{\oddsidemargin}{-0.125in}
\begin{document}
"""
MEASURE = r"""\documentclass{article}
\newlength{\measured}
\begin{document}
"""


def compiled(source: str, folder: Path, runs: int = 2) -> str:
    """Compile a document and return its log, each message on one line."""
    (folder / "paper.tex").write_text(source, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
    for _ in range(runs):
        done = subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    return (folder / "paper.log").read_text(encoding="utf-8", errors="replace")


def complaints(log: str) -> list[str]:
    """Return what a reader of the log would mind: boxes that are more than a point too wide, floats that are too tall."""
    too_wide = [line for line in re.findall(r"Overfull \\hbox \(([\d.]+)pt too wide\)", log) if float(line) > 1]
    others = re.findall(
        r"LaTeX Warning: (?!Label\(s\) may|Reference|There were undef).*|Missing character.*|Overfull \\vbox.*", log
    )
    return [*too_wide, *others]


def words_table() -> Table:
    """Return a table whose last column has sentences."""
    sentence = "template: the prompts of the published row are others, and so is the split_of_its_images"
    lines = tuple(
        Line(name, (Cell(71.5), Cell(text="fail"), Cell(text=sentence))) for name in ("[PACS]", "*VLCS", LONG)
    )
    return Table(
        "words",
        "Against what was published.",
        (Column("accuracy"), Column("verdict"), Column("cause")),
        (Block("", lines),),
    )


def bare() -> Iterator[Table]:
    """Yield tables that lack something, or have what LaTeX would run."""
    column, one = Column("a"), Cell(1.0)
    yield Table("no-lines", "c", (column,), ())
    yield Table("no-columns", "c", (), (Block("", (Line("x", ()),)),))
    yield Table("", "", (Column(""),), (Block("t", (Line("", (one,)),), "p"),))
    line = Line("\\input{/etc/passwd} ^^41 \x7f", (Cell(text="%x\\end{document}"), one))
    yield Table("commands", r"\end{table}", (Column("ÀĄ ﷺ \U0001f468\u200d\U0001f469"), column), (Block("", (line,)),))


def tables() -> Iterator[Table]:
    """Yield tables of all shapes, each with a name of its own."""
    yield from bare()
    yield small()
    yield hostile()
    yield words_table()
    for n in (1, 5, 9):
        for spreads in (True, False):
            yield main(SETS[:n], name=f"sets_{n}_{spreads}", spreads=spreads)
        yield main((SETS * 2)[6 : 6 + n], METHODS[-2:], name=f"names{n}%")
        yield main(SETS[:n], (*METHODS[:3], LONG), BACKBONES[:1], name=f"long{n}", marks=False)
        yield main(SETS[:n], METHODS[:3], name=f"groups{n}", grouped=4)
    yield main((SETS[0],), METHODS, [f"backbone {i}" for i in range(6)], name="tall", spreads=False)
    yield main(SETS[:2], [f"method {i}" for i in range(70)], BACKBONES[:1], name="taller")
    yield replace(
        small(), name="banner", caption=" ".join([r"a_b%\x{}~^$&#<|>é中λ"] * MAX_WORDS), notes=(LONG * 3, *NOTES * 4)
    )


@needs_pdflatex
@pytest.mark.parametrize("width", WIDTH_NAMES)
def test_all_tables_compile_alone(width: Width, tmp_path: Path) -> None:
    log = compiled(all_tex(list(tables()), width), tmp_path)
    assert complaints(log) == []
    assert "undefined references" not in log


@needs_pdflatex
@pytest.mark.parametrize("width", WIDTH_NAMES)
def test_tables_fit_where_they_are_pasted(width: Width, tmp_path: Path) -> None:
    """References are right after a second run, which the document alone has."""
    text = "\\noindent Words between tables, as a paper has them. " * 60
    body = "\n\n".join(f"{latex(table, width)}\n{text}\\clearpage" for table in tables())
    assert complaints(compiled(f"{PAPER}{body}\n\\end{{document}}\n", tmp_path, runs=1)) == []


@needs_pdflatex
def test_a_document_holds_more_tables_than_latex_holds_back(tmp_path: Path) -> None:
    many = [replace(small(), name=f"small{i}") for i in range(70)]
    log = compiled(all_tex(many), tmp_path)
    assert complaints(log) == []
    assert (tmp_path / "paper.aux").read_text().count(r"\newlabel{tab:small") == 70


@needs_pdflatex
def test_text_is_no_wider_than_is_said(tmp_path: Path) -> None:
    """TeX measures each text; the guess is never below it, and not more than a fifth above for what tables have."""
    texts = ["84.7", "100.0", "+1.2", "−0.3", "±0.9", "±<0.1", "[−0.3, +2.7]", "CLIP-ICM, released order", "Random projection",
             "Terra Incognita", "DomainNet", "a_b%|<script>", "ViT-L/14@336px, linear probe", "été λ 中文", *METHODS, *SETS]  # fmt: skip
    fonts = {("", 10): "", ("", 9): r"\small", ("", 8): r"\footnotesize", ("", 7): r"\scriptsize",
             ("b", 9): r"\small\bfseries", ("b", 8): r"\footnotesize\bfseries",
             ("i", 9): r"\small\itshape", ("i", 8): r"\footnotesize\itshape"}  # fmt: skip
    asked = [(text, style, points) for text in texts for style, points in fonts]
    lines = [
        rf"{{{fonts[style, points]}\settowidth{{\measured}}{{{latex_escape(text)}}}\typeout{{MEASURED \the\measured}}}}"
        for text, style, points in asked
    ]
    log = compiled(MEASURE + "\n".join(lines) + "x\n\\end{document}\n", tmp_path, runs=1)
    measured = [float(value) for value in re.findall(r"MEASURED ([\d.]+)pt", log)]
    assert len(measured) == len(asked)
    for (text, style, points), truth in zip(asked, measured, strict=True):
        guess = latex_width(text, points, bold=style == "b", italic=style == "i")
        assert truth <= guess + 0.3, (text, style, points)
        assert guess <= 1.25 * truth + 2, (text, style, points)


def test_a_caption_of_more_than_forty_words_is_refused() -> None:
    assert latex(replace(small(), caption="word " * 40))
    with pytest.raises(IcmBenchError, match=r"table 'small': its caption has 41 words"):
        latex(replace(small(), caption="word " * 41))


def test_only_booktabs_is_needed_and_nothing_is_scaled() -> None:
    written = all_tex(list(tables()))
    assert set(re.findall(r"\\usepackage(.*)", written)) == {"{booktabs}"}
    for word in ("resizebox", "scalebox", "graphicx", r"\tiny", "xcolor", "multirow", "threeparttable", "makecell"):
        assert word not in written


def test_a_table_keeps_its_column_where_it_fits_and_takes_the_page_where_not() -> None:
    few = main(SETS[:1], METHODS[:2], BACKBONES[:1], spreads=False, marks=False)
    assert latex(few).count(r"\begin{table}") == 1
    assert r"\begin{table*}" not in latex(few)
    assert latex(few, "page").count(r"\begin{table*}") == 1
    assert latex(main()).count(r"\begin{table*}") == 1
    assert r"\begin{table}" not in latex(main())


def test_what_does_not_fit_the_page_is_divided_and_no_number_is_lost() -> None:
    table = main(SETS)
    written = latex(table)
    assert written.count(r"\begin{table*}") == 2
    assert re.findall(r"\\label\{(.*?)\}", written) == ["tab:main", "tab:main-a", "tab:main-b"]
    assert [written.count(f"Part {letter(i)} of 2.") for i in (1, 2)] == [1, 1]
    assert written.count(r"\enspace CLIP-ICM &") == 2 * len(table.blocks)  # names stand in both
    assert written.count(r"\pm$") - written.count(r"phantom{$\pm$") >= sum(
        cell.error is not None for _, line in table.lines() for cell in line.cells
    )
    assert written.index("average") > written.index(r"\label{tab:main-b}")


def test_groups_of_columns_stay_together() -> None:
    written = latex(main(SETS[:5], METHODS[:3], grouped=4))
    assert written.count(r"\begin{table*}") > 1
    assert [written.count(rf"\multicolumn{{4}}{{c}}{{{name}}}") for name in SETS[:5]] == [1] * 5


def test_what_is_too_tall_is_divided_by_backbones() -> None:
    names = [f"backbone {i}" for i in range(6)]
    written = latex(main(SETS[:1], METHODS, names, spreads=False))
    floats = written.split(r"\begin{table")[1:]
    assert len(floats) > 1
    for name in names:
        assert [f"{name}, zero-shot" in one for one in floats] == [f"{name}, linear probe" in one for one in floats]
        assert written.count(f"{{{name}, zero-shot}}") == 1


def test_a_block_that_is_too_tall_goes_on_in_the_next_piece() -> None:
    written = latex(main(SETS[:2], [f"method {i}" for i in range(70)], BACKBONES[:1], marks=False))
    assert "(continued)" in written
    assert sum(written.count(rf"\enspace method {i} &") for i in range(70)) == 2 * 70


def test_heights_and_widths_are_within_what_they_are_for() -> None:
    for table in tables():
        for width in WIDTHS.values():
            fitting = [Grid(table, fit, width) for fit in FITS]
            assert all(grid.width <= width + 1e-6 for grid in fitting if grid.fits)
    assert TALLEST < 7.5 * 72.27


@pytest.mark.parametrize(
    ("text", "written"),
    [("a_b%", r"a\_b\%"), ("<script>", r"\textless{}script\textgreater{}"), ("x|y\\z", r"x\textbar{}y\textbackslash{}z"),
     ("é Ł ß", r"\'{e} \L{} \ss{}"), ("ą", "a"), ("λ, Ω, ό, Α", r"$\lambda$, $\Omega$, o, A"), ("中文", "U+4E2D U+6587"), ("🙂", "U+1F642"),
     ("½ ™ ﬁ", "1/2 TM fi"), ("a--b", "a-{}-b"), ("?`", "?{}`"), ('say "a {}"', r"say ``a \{\}''"), ("−1 ± 2 — †", r"$-$1 $\pm$ 2 --- \dag{}"),
     ("two\nlines", "two lines"), ("", ""), ("\x00", "U+0000")],
)  # fmt: skip
def test_signs_are_those_that_latex_prints(text: str, written: str) -> None:
    assert latex_escape(text) == written
    assert latex_escape(text).isascii()


def test_long_words_may_be_broken_and_short_ones_may_not() -> None:
    assert (
        latex_escape("a_name/of_many_parts", breaks=True)
        == r"a\_name/\allowbreak{}of\_\allowbreak{}many\_\allowbreak{}parts"
    )
    assert latex_escape("held-out a_b", breaks=True) == r"held-out a\_b"
    assert latex_escape("x" * 30, breaks=True).count(r"\allowbreak{}") == 2


def test_headings_are_broken_between_words() -> None:
    assert broken("source score", 10.0, 9) == ["source", "score"]
    assert broken("source score", 200.0, 9) == ["source score"]
    assert "".join(broken("x" * 60, 10.0, 9)) == "x" * 60
    assert broken("", 10.0, 9) == [""]


def test_pieces_are_few_and_of_equal_size() -> None:
    assert filled([1.0] * 9, 8.0) == [list(range(8)), [8]]
    assert balanced([1.0] * 9, 8.0) == [[0, 1, 2, 3, 4], [5, 6, 7, 8]]
    assert balanced([9.0, 1.0], 5.0) == [[0], [1]]
    assert balanced([], 5.0) == []


def test_letters_go_on_behind_z() -> None:
    assert [letter(i) for i in (1, 26, 27, 52, 53)] == ["a", "z", "aa", "az", "ba"]
