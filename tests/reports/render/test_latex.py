"""LaTeX tables: no overfull lines, no font below 6 points, and the same numbers as in CSV."""

import csv
import io
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.common.errors import IcmBenchError
from reports.render.cells import balanced, filled, shared_notes
from reports.render.formats import csv_text
from reports.render.latex import all_tex, latex, latex_escape, letter
from reports.render.table import MAX_WORDS, Block, Cell, Column, Line, Table
from tests.reports.render.made import BACKBONES, METHODS, NOTES, SETS, hostile, main, small

needs_pdflatex = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is absent")
LONG = "A method whose name is so long that no column of any paper has room for it, a_b%_and_no_place_to_break_it"
PAPER = r"""\documentclass[twocolumn]{article}
\usepackage{booktabs,graphicx,tabularx}
\setlength{\textwidth}{6.75in}
\setlength{\columnsep}{0.25in}
\setlength{\oddsidemargin}{-0.125in}
% Says by how much a table would have to be scaled.
\newcommand{\icmfit}[1]{\sbox0{#1}\typeout{SCALE \the\linewidth\space \the\wd0}%
  \ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi}
\begin{document}
"""
GOLDEN = Path(__file__).parents[1] / "golden" / "tables"


def compiled(source: str, folder: Path, runs: int = 2) -> str:
    """Compile a document and return its log, each message on one line."""
    (folder / "paper.tex").write_text(source, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
    for _ in range(runs):
        done = subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    return (folder / "paper.log").read_text(encoding="utf-8", errors="replace")


def complaints(log: str) -> list[str]:
    """Return the warnings in a log: boxes that are more than a point too wide, and floats that are too tall."""
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
    """Yield tables with missing parts, or with LaTeX commands in names."""
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
def test_all_tables_compile_alone(tmp_path: Path) -> None:
    log = compiled(all_tex(list(tables())), tmp_path)
    assert complaints(log) == []
    assert "undefined references" not in log


@needs_pdflatex
def test_tables_fit_where_they_are_pasted(tmp_path: Path) -> None:
    """References are only resolved in the second run, which is made for the document."""
    text = "\\noindent Words between tables, as a paper has them. " * 60
    body = "\n\n".join(f"{latex(table)}\n{text}\\clearpage" for table in tables())
    log = compiled(f"{PAPER}{body}\n\\end{{document}}\n", tmp_path, runs=1)
    assert complaints(log) == []
    sizes = [(float(line), float(needed)) for line, needed in re.findall(r"SCALE ([\d.]+)pt ([\d.]+)pt", log)]
    assert len(sizes) >= len(list(tables()))
    assert min(7 * line / needed for line, needed in sizes if needed) >= 6  # \scriptsize has 7 points


@needs_pdflatex
def test_a_document_holds_more_tables_than_latex_holds_back(tmp_path: Path) -> None:
    many = [replace(small(), name=f"small{i}") for i in range(70)]
    log = compiled(all_tex(many), tmp_path)
    assert complaints(log) == []
    assert (tmp_path / "paper.aux").read_text().count(r"\newlabel{tab:small") == 70


def test_a_caption_of_more_than_forty_words_is_refused() -> None:
    assert latex(replace(small(), caption="word " * 40))
    with pytest.raises(IcmBenchError, match=r"table 'small': its caption has 41 words"):
        latex(replace(small(), caption="word " * 41))


def numbers_of(source: str) -> list[list[list[float]]]:
    """Return the numbers of each cell of each line of all tables of a source, without names and headings."""
    found = []
    for body in re.findall(r"\\toprule\n.*?\\midrule\n(.*?)\\bottomrule", source, re.DOTALL):
        cells = [line.removesuffix(r" \\").split(" & ")[1:] for line in body.splitlines()]
        found += [[numbers_in(cell) for cell in line] for line in cells if line]
    return found


def numbers_in(cell: str) -> list[float]:
    """Return the numbers of a cell: value, then error or interval; without errors that round to zero."""
    text = re.sub(r"\\icmmark\{[^}]*\}|\\multicolumn\{2\}|\$\\pm\$\\textless.*|,(?=\d)", "", cell)
    return [float(number) for number in re.findall(r"[-+]?\d+(?:\.\d+)?", text.replace("$-$", "-"))]


def check_numbers(source: str, data: str, lines: int) -> None:
    """Check that each cell of a LaTeX source has the numbers of the same cell in the CSV."""
    found = numbers_of(source)
    joined = [[cell for row in found[i::lines] for cell in row] for i in range(lines)]  # pieces are divided by columns
    cells = [cell for row in joined for cell in row]
    expected = list(csv.DictReader(io.StringIO(data)))
    assert len(cells) == len(expected)
    for shown, known in zip(cells, expected, strict=True):
        if not known["value"]:
            assert shown == []
            continue
        assert shown[0] == pytest.approx(float(known["value"]), abs=0.0501)
        behind = [[float(known[name]) for name in names if known[name]] for names in (("low", "high"), ("error",))]
        assert shown[1:] == [] or any(shown[1:] == pytest.approx(one, abs=0.0501) for one in behind)


@pytest.mark.parametrize("sets", [1, 5, 9])
def test_the_numbers_are_those_of_the_csv(sets: int) -> None:
    table = main(SETS[:sets], METHODS[:5])
    check_numbers(latex(table), csv_text(table), 20)
    check_numbers(latex(small()), csv_text(small()), 3)


def test_the_numbers_of_a_report_are_those_of_its_csv() -> None:
    check_numbers((GOLDEN / "main.tex").read_text(), (GOLDEN / "main.csv").read_text(), 10)


def test_no_package_outside_of_texlive_latex_recommended_and_no_smaller_font_is_asked_for() -> None:
    written = all_tex(list(tables()))
    packages = ",".join(re.findall(r"\\usepackage(?:\[.*\])?\{(.*)\}", written)).split(",")
    assert set(packages) == {"booktabs", "graphicx", "tabularx", "geometry"}
    for word in (r"\tiny", r"\textsuperscript", r"\scalebox", r"\fontsize"):
        assert word not in written


def test_six_environments_stand_in_one_table() -> None:
    written = latex(main([f"environment_{i}" for i in range(6)], METHODS[:5]))
    assert written.count(r"\begin{table*}") == 1


def test_notes_of_several_tables_stand_once_at_the_end() -> None:
    own = replace(small(), name="own", notes=(*NOTES, "A note of its own."))
    several = [main(name="a"), main(name="b"), own]
    shared = shared_notes(several)
    assert shared[:2] == list(NOTES)
    written = all_tex(several)
    body, end = written.split(r"\section*{Notes on the tables}")
    assert [end.count(latex_escape(note, breaks=True)) for note in shared] == [1] * len(shared)
    assert not [note for note in shared if latex_escape(note, breaks=True) in body]
    assert body.count("A note of its own.") == 1
    assert re.findall(r"Notes at the end: (.*?)\.", body)[0] == f"1 to {len(shared)}"
    assert all(latex_escape(note, breaks=True) in latex(own) for note in own.notes)  # a file alone has all of them


def test_a_table_has_column_width_if_it_fits_else_page_width() -> None:
    few = main(SETS[:1], METHODS[:2], BACKBONES[:1], spreads=False, marks=False)
    assert latex(few).count(r"\begin{table}") == 1
    assert r"\begin{table*}" not in latex(few)
    assert latex(main()).count(r"\begin{table*}") == 1
    assert r"\begin{table}" not in latex(main())


def test_wide_tables_are_split_without_losing_numbers() -> None:
    table = main(SETS)
    written = latex(table)
    assert written.count(r"\begin{table*}") == 2
    assert re.findall(r"\\label\{(.*?)\}", written) == ["tab:main", "tab:main-b"]
    assert [written.count(f"Part {letter(i)} of 2.") for i in (1, 2)] == [1, 1]
    assert written.count(r"\enspace CLIP-ICM &") == 2 * len(table.blocks)  # names stand in both
    assert written.index("average") > written.index(r"\label{tab:main-b}")


def test_groups_of_columns_stay_together() -> None:
    written = latex(main(SETS[:5], METHODS[:3], grouped=4))
    assert written.count(r"\begin{table*}") > 1
    assert [written.count(rf"\multicolumn{{8}}{{c}}{{{latex_escape(name)}}}") for name in SETS[:5]] == [1] * 5


def test_tall_tables_are_split_by_blocks() -> None:
    names = [f"backbone {i}" for i in range(6)]
    written = latex(main(SETS[:1], METHODS, names, spreads=False))
    assert written.count(r"\begin{table*}") > 1
    assert "(continued)" not in written
    assert [written.count(f"{{{name}, {how}}}") for name in names for how in ("zero-shot", "linear probe")] == [1] * 12


def test_a_block_that_is_too_tall_goes_on_in_the_next_piece() -> None:
    written = latex(main(SETS[:2], [f"method {i}" for i in range(70)], BACKBONES[:1], marks=False))
    assert "(continued)" in written
    assert sum(written.count(rf"\enspace method {i} &") for i in range(70)) == 2 * 70


@pytest.mark.parametrize(
    ("text", "written"),
    [("a_b%", r"a\_b\%"), ("<script>", r"\textless{}script\textgreater{}"), ("x|y\\z", r"x\textbar{}y\textbackslash{}z"),
     ("é Ł ß", r"\'{e} \L{} \ss{}"), ("ą", "a"), ("λ, Ω, ό, Α", r"$\lambda$, $\Omega$, o, A"), ("中文", "U+4E2D U+6587"), ("🙂", "U+1F642"),
     ("½ ™ ﬁ", "1/2 TM fi"), ("a--b", "a-{}-b"), ("?`", "?{}`"), ('say "a {}"', r"say ``a \{\}''"), ("−1 ± 2 — †", r"$-$1 $\pm$ 2 --- $\dagger$"),
     ("two\nlines", "two lines"), ("", ""), ("\x00", "U+0000")],
)  # fmt: skip
def test_characters_are_escaped_or_transliterated(text: str, written: str) -> None:
    assert latex_escape(text) == written
    assert latex_escape(text).isascii()


def test_long_words_may_be_broken_and_short_ones_may_not() -> None:
    assert (
        latex_escape("a_name/of_many_parts", breaks=True)
        == r"a\_name/\allowbreak{}of\_\allowbreak{}many\_\allowbreak{}parts"
    )
    assert latex_escape("held-out a_b", breaks=True) == r"held-out a\_b"
    assert latex_escape("x" * 30, breaks=True).count(r"\allowbreak{}") == 2


def test_pieces_are_few_and_of_equal_size() -> None:
    assert filled([1.0] * 9, 8.0) == [list(range(8)), [8]]
    assert balanced([1.0] * 9, 8.0) == [[0, 1, 2, 3, 4], [5, 6, 7, 8]]
    assert balanced([9.0, 1.0], 5.0) == [[0], [1]]
    assert balanced([], 5.0) == []


def test_footnotes_have_letters_then_numbers() -> None:
    assert [letter(i) for i in (1, 26, 27)] == ["a", "z", "27"]
