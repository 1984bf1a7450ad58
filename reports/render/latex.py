r"""A table in LaTeX, as a paper prints it: no package but booktabs, nothing scaled, nothing wider than its column."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import Literal

from benchmark.common.errors import IcmBenchError
from reports.render import cells
from reports.render.latex_grid import FITS, Fit, Grid, letter
from reports.render.latex_signs import latex_escape, latex_width
from reports.render.splits import balanced
from reports.render.table import Block, Table

Width = Literal["column", "page"]

MAX_WORDS = 40  # of a caption
INCH = 72.27  # points
WIDTHS: dict[Width, float] = {"column": 3.25 * INCH, "page": 6.75 * INCH}
TALLEST = 510.0  # points of the smallest page that is meant, that of a plain article
_NOTE_BASELINE, _CAPTION_BASELINE = 9.5, 12.0
_COLUMN_ROWS = 3  # into which names and words are broken before a table takes the page
_NAMED_PARTS = 3  # beyond which a caption does not list what stands in its piece
_NEEDS = r"% needs \usepackage{booktabs}"
LAYOUT = r"""\setlength{\textwidth}{6.75in}
\setlength{\columnsep}{0.25in}
\setlength{\oddsidemargin}{-0.125in}
\setlength{\evensidemargin}{-0.125in}
\setlength{\textheight}{9in}
\setlength{\topmargin}{-0.5in}
\setlength{\headheight}{0in}
\setlength{\headsep}{0in}
\renewcommand{\topfraction}{0.95}
\renewcommand{\dbltopfraction}{0.95}
\renewcommand{\textfraction}{0.02}
\renewcommand{\floatpagefraction}{0.6}
\renewcommand{\dblfloatpagefraction}{0.6}
\setcounter{topnumber}{9}
\setcounter{dbltopnumber}{9}
\setcounter{totalnumber}{18}"""
_DOCUMENT = rf"""\documentclass[10pt,twocolumn]{{article}}
\usepackage{{booktabs}}
{LAYOUT}
\begin{{document}}"""
_BETWEEN = 8  # tables between two breaks of the page: LaTeX holds no more than some dozens back


@dataclass(frozen=True)
class _Piece:
    """What stands in one float: a table or a piece of one, how it is set, and for which width."""

    table: Table
    fit: Fit
    width: Width

    @cached_property
    def grid(self) -> Grid:
        """Its table at its fit."""
        return Grid(self.table, self.fit, WIDTHS[self.width])

    @property
    def is_narrow_enough(self) -> bool:
        """Whether it fits, in a column without names that are broken all too often."""
        return self.grid.fits and (self.width == "page" or self.grid.most_rows <= _COLUMN_ROWS)

    @cached_property
    def rest(self) -> float:
        """Points that are left for the grid below the caption and above the notes."""
        width = WIDTHS[self.width]
        notes = [*cells.notes_of(self.table), " ".join(cells.footnotes(self.table).texts)]
        lines = sum(1 + 1.15 * latex_width(note, 8) // width for note in notes)
        caption = 2 + 1.15 * latex_width(self.table.caption, 10) // width  # one more for what a piece adds
        return TALLEST - lines * _NOTE_BASELINE - caption * _CAPTION_BASELINE - 20.0


def latex(table: Table, width: Width = "column", placement: str = "tp") -> str:
    r"""Return a table as LaTeX floats that need nothing but `\usepackage{booktabs}`.

    What does not fit a column (3.25 in) is set across the page (6.75 in, `table*`). What does not fit the page is
    divided by the parts of its blocks, the backbones, or else by columns, groups of columns first; what is too tall is
    divided by parts, blocks and lines. The first piece has the label `tab:NAME`, the pieces `tab:NAME-a`,
    `tab:NAME-b`, ...

    Args:
        table: what is printed, with the short names of lines and columns.
        width: of what the table is meant for: "column" or "page".
        placement: where LaTeX may set it, in its letters.

    Raises:
        IcmBenchError: the caption has more than 40 words.
    """
    words = len(table.caption.split())
    if words > MAX_WORDS:
        raise IcmBenchError(
            f"table '{table.name}': its caption has {words} words, more than the {MAX_WORDS} of a printed table; move "
            "what is not needed at first sight to its notes."
        )
    pieces = [short for piece in _pieces(table, width) for short in _short_enough(piece)]
    captions = _captions(table, pieces)
    return "\n".join(
        [_NEEDS, *(line for i, piece in enumerate(pieces) for line in _float(piece, i, captions, placement)), ""]
    )


def all_tex(tables: Sequence[Table], width: Width = "column") -> str:
    r"""Return a document in two columns with all tables, which `pdflatex` compiles alone.

    Args:
        tables: what it has, in order.
        width: as in `latex`.

    Raises:
        IcmBenchError: a caption has more than 40 words.
    """
    lines = [_NEEDS, _DOCUMENT]
    for i, table in enumerate(tables):
        lines += [r"\clearpage"] if i and i % _BETWEEN == 0 else []
        lines.append(latex(table, width).removeprefix(f"{_NEEDS}\n").rstrip())
        # Without a line of text LaTeX would hold all tables back until the end.
        file = latex_escape(f"{table.name}.tex", breaks=True)
        lines.append(rf"\noindent Table~\ref{{{_label(table)}}}: \texttt{{{file}}}.\par")
    return "\n".join([*lines, r"\end{document}", ""])


def _pieces(table: Table, width: Width) -> list[_Piece]:
    """Return the pieces of a table that fit side by side, whatever their height."""
    widths: list[Width] = ["column", "page"] if width == "column" else ["page"]
    for where in widths:
        fit = _fit([table], where)
        if fit and (where == "page" or _Piece(table, fit, where).rest > TALLEST / 2):  # a caption can fill a column
            return [_Piece(table, fit, where)]
    parts = [_with_blocks(table, blocks) for _, blocks in _parts(table.blocks)]
    divided = parts if len(parts) > 1 and _fit(parts, "page") else _by_columns(table)
    fit = _fit(divided, "page") or FITS[-1]
    return [_Piece(piece, fit, "page") for piece in divided]


def _fit(tables: Sequence[Table], width: Width) -> Fit | None:
    """Return the most readable fit at which all tables fit, those that are not too tall first; None where none does."""
    if not all(Grid(table, FITS[-1], WIDTHS[width]).fits for table in tables):
        return None  # where the tightest is too wide, all are
    too_tall = None
    for fit in FITS:
        pieces = [_Piece(table, fit, width) for table in tables]
        if all(piece.is_narrow_enough for piece in pieces):
            if all(piece.grid.height <= piece.rest for piece in pieces):
                return fit
            too_tall = too_tall or fit
    return too_tall


def _parts(blocks: Sequence[Block]) -> list[tuple[str, tuple[Block, ...]]]:
    return [(part, tuple(run)) for part, run in groupby(blocks, key=lambda block: block.part)]


def _with_blocks(table: Table, blocks: Iterable[Block]) -> Table:
    return replace(table, blocks=tuple(blocks))


def _with_columns(table: Table, places: Sequence[int]) -> Table:
    """Return a table with some of its columns."""
    blocks = tuple(
        replace(block, lines=tuple(replace(line, cells=tuple(line.cells[i] for i in places)) for line in block.lines))
        for block in table.blocks
    )
    return replace(table, columns=tuple(table.columns[i] for i in places), blocks=blocks)


def _by_columns(table: Table) -> list[Table]:
    """Return a table divided by columns; those of a group stay together where they fit."""
    grid = Grid(table, FITS[-1], WIDTHS["page"])
    widths = [width + 2 * grid.gap for width in grid.column_widths]
    room = WIDTHS["page"] - (grid.width - sum(widths))
    units: list[list[int]] = []
    for group, run in groupby(range(len(widths)), key=lambda i: table.columns[i].group):
        places = list(run)
        together = group and sum(widths[i] for i in places) <= room
        units += [places] if together else [[i] for i in places]
    pieces = balanced([sum(widths[i] for i in unit) for unit in units], room)
    return [_with_columns(table, [i for unit in piece for i in units[unit]]) for piece in pieces]


def _short_enough(piece: _Piece) -> list[_Piece]:
    """Return a piece, or the pieces of one that is too tall: whole parts, else whole blocks, else lines."""
    grid, rest = piece.grid, piece.rest
    if grid.height <= rest:
        return [piece]
    room = rest - grid.head_height
    units: list[tuple[Block, ...]] = []
    for _, blocks in _parts(piece.table.blocks):
        if sum(map(grid.block_height, blocks)) <= room:
            units.append(blocks)
        else:
            units += [(short,) for block in blocks for short in _short_blocks(block, grid, room)]
    heights = [sum(map(grid.block_height, unit)) for unit in units]
    return [
        replace(piece, table=_with_blocks(piece.table, (block for i in places for block in units[i])))
        for places in balanced(heights, room)
    ]


def _short_blocks(block: Block, grid: Grid, room: float) -> list[Block]:
    """Return a block, or pieces of its lines, all with its title."""
    heights = [grid.line_height(line) for line in block.lines]
    extra = grid.block_height(block) - sum(heights)
    pieces = balanced(heights, max(room - extra, max(heights, default=0.0)))
    titles = [block.title if i == 0 or not block.title else f"{block.title} (continued)" for i in range(len(pieces))]
    return [
        replace(block, title=title, lines=tuple(block.lines[i] for i in places))
        for title, places in zip(titles, pieces, strict=True)
    ]


def _label(table: Table) -> str:
    """Return the label of a table: no sign in it means anything to LaTeX."""
    return "tab:" + "".join(sign if sign.isascii() and (sign.isalnum() or sign in ".-") else "-" for sign in table.name)


def _float(piece: _Piece, place: int, captions: Sequence[str], placement: str) -> list[str]:
    """Return the lines of one float, one of as many as there are captions."""
    table, label = piece.table, _label(piece.table)
    labels = rf"\label{{{label}}}" if place == 0 else ""
    labels += rf"\label{{{label}-{letter(place + 1)}}}" if len(captions) > 1 else ""
    environment = "table" if piece.width == "column" else "table*"
    grid = piece.grid
    return [
        rf"\begin{{{environment}}}[{placement}]",
        r"\centering\emergencystretch=3em",
        r"\setlength{\abovecaptionskip}{0pt}\setlength{\belowcaptionskip}{5pt}",
        rf"\caption{{{latex_escape(captions[place], breaks=True)}}}",
        labels,
        rf"{piece.fit.command}\setlength{{\tabcolsep}}{{{grid.gap:.3g}pt}}",
        *grid.tabular(),
        *_below(table, place),
        rf"\end{{{environment}}}",
    ]


def _captions(table: Table, pieces: Sequence[_Piece]) -> list[str]:
    """Return the caption of each piece: where there are several, with its letter, and its parts where they differ."""
    if len(pieces) == 1:
        return [table.caption]
    parts = [[part for part, _ in _parts(piece.table.blocks) if part] for piece in pieces]
    differ = any(own != parts[0] for own in parts)
    named = [f": {', '.join(own)}" if differ and 0 < len(own) <= _NAMED_PARTS else "" for own in parts]
    return [f"{table.caption} Part {letter(i)} of {len(pieces)}{own}." for i, own in enumerate(named, 1)]


def _below(table: Table, place: int) -> list[str]:
    """Return notes and footnotes; the pieces behind the first have the notes by its number."""
    notes = [latex_escape(note, breaks=True) for note in cells.notes_of(table)]
    if place and notes:
        notes = [rf"Notes: see Table~\ref{{{_label(table)}}}."]
    numbered = [
        rf"\textsuperscript{{{letter(i)}}}{latex_escape(note, breaks=True)}"
        for i, note in enumerate(cells.footnotes(table).texts, 1)
    ]
    paragraphs = [" ".join(sentences) for sentences in (notes, numbered) if sentences]
    if not paragraphs:
        return []
    return [
        r"\par\vspace{4pt}",
        r"\begin{minipage}{\linewidth}\footnotesize\raggedright",
        "\\par\n".join(paragraphs),
        r"\end{minipage}",
    ]
