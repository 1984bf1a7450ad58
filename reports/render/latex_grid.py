"""How wide and how tall a table is in LaTeX at one size of the font, and what stands in its grid.

Columns are centred, and their numbers are as wide as one another: what a shorter one lacks is put in as blank of the
same width, so that digits stand below digits in whatever font. Marks have no width and reach into the space between
columns.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from benchmark.common.visible import one_line
from reports.render import cells
from reports.render.latex_signs import latex_escape, latex_width
from reports.render.table import Block, Cell, Column, Line, Table

MARK_POINTS, SPREAD_POINTS = 6, 7  # of superscripts and of what stands behind ±, in a document of ten points
_MINUS = "−"
_WORDS = 70.0  # points, beyond which a column of words is broken into lines
_HEADING_WORD = 62.0  # points, beyond which a word of a heading is broken
_WRAPPED_NAME = 84.0  # points that wrapped names must have
_INDENT = r"\enspace "  # before the names below the title of a block
_RULE = 5.5  # points that a rule takes with the space around it


@dataclass(frozen=True)
class Fit:
    r"""One way to set a table.

    Attributes:
        command: the size of its font: "\small".
        points: that size.
        gap: `\tabcolsep`, half of what stands between columns, in points.
        stacked: whether headings are set in several lines where that makes columns narrower.
        wrapped: whether the names of lines, and columns of words, may be broken into lines.
    """

    command: str
    points: int
    gap: float
    stacked: bool
    wrapped: bool

    @property
    def baseline(self) -> float:
        """Points from line to line."""
        return {9: 11.0, 8: 9.5}[self.points]


# The most readable first.
FITS = (
    Fit(r"\small", 9, 6, False, False), Fit(r"\small", 9, 6, True, False), Fit(r"\small", 9, 4, True, False),
    Fit(r"\footnotesize", 8, 4, True, False), Fit(r"\footnotesize", 8, 3, True, False),
    Fit(r"\small", 9, 4, True, True), Fit(r"\footnotesize", 8, 4, True, True), Fit(r"\footnotesize", 8, 3, True, True),
)  # fmt: skip


class Grid:
    r"""A table at one fit, in a given width.

    Attributes:
        width: points that it needs.
        height: points that its lines and rules take.
        gap: `\tabcolsep` in points: no mark reaches into the next column.
        fits: whether it needs no more than it has.
        column_widths: points of each column, without what stands between columns.
        most_rows: into how many lines a name or a word is broken at most.
    """

    def __init__(self, table: Table, fit: Fit, target: float) -> None:
        self._table, self._fit = table, fit
        self._notes = cells.footnotes(table)
        lines = [line for _, line in table.lines()]
        self._columns = [
            _Column(column, [line.cells[i] for line in lines], table, fit, self._notes)
            for i, column in enumerate(table.columns)
        ]
        marks = max((column.marks for column in self._columns), default=0.0)
        self.gap = max(fit.gap, (marks + 1.5) / 2)
        natural = max(self._name_widths())
        self._name_width = min(natural, _WRAPPED_NAME) if fit.wrapped else natural
        beside = 2 * self.gap * len(self._columns) + self._last_marks
        spare = target - beside - sum(self._widened()) - self._name_width
        self.fits = spare >= 0
        self._give([natural - self._name_width, *(column.lacks for column in self._columns)], spare)
        self._names_wrap = self._name_width < natural
        self.column_widths = self._widened()
        self.width = beside + sum(self.column_widths) + self._name_width
        self.most_rows = max(map(self._rows, lines), default=1)
        self.height = self._height()

    def _give(self, lacking: Sequence[float], spare: float) -> None:
        """Give names and columns of words what is left, by what they lack of a single line."""
        share = min(1.0, max(0.0, spare) / (sum(lacking) or 1.0))
        self._name_width += share * lacking[0]
        for column, more in zip(self._columns, lacking[1:], strict=True):
            column.width += share * more

    @property
    def _last_marks(self) -> float:
        """What the marks of the last column need beside it."""
        return self._columns[-1].marks + 0.5 if self._columns and self._columns[-1].marks else 0.0

    def _widened(self) -> list[float]:
        """Return the width of each column; the last one of a group has what the name of the group needs more."""
        widths = [column.width for column in self._columns]
        place = 0
        for group, run in groupby(column.group for column in self._table.columns):
            n = len(list(run))
            has = sum(widths[place : place + n]) + 2 * self.gap * (n - 1)
            if group:
                needs = max(latex_width(line, self._fit.points) for line in self._group_lines(group, has))
                widths[place + n - 1] += max(0.0, needs - has)
            place += n
        return widths

    def _group_lines(self, group: str, has: float) -> list[str]:
        if latex_width(group, self._fit.points) <= has or not self._fit.stacked:
            return [one_line(group)]
        return broken(group, has, self._fit.points)

    def _name_widths(self) -> list[float]:
        points = self._fit.points
        widths = [latex_width(self._table.corner, points)]
        for block, line in self._table.lines():
            mark = latex_width(cells.SAME, MARK_POINTS) if line.equals_plain else 0.0
            widths.append(latex_width(line.heading, points) + (points / 2 if block.title else 0.0) + mark)
        return widths

    def block_height(self, block: Block) -> float:
        """Return how tall a block is, with its title and the rule above it, in points."""
        title = self._fit.baseline * (1 + latex_width(block.title, self._fit.points) // self.width)
        return _RULE + (title if block.title else 0.0) + sum(map(self.line_height, block.lines))

    def line_height(self, line: Line) -> float:
        """Return how tall a line is in points, as its names and words are broken."""
        return self._rows(line) * self._fit.baseline

    def _rows(self, line: Line) -> int:
        """Return into how many lines names and words are broken."""
        broken_into = [(line.heading, self._name_width)] if self._names_wrap else []
        for column, cell in zip(self._columns, line.cells, strict=True):
            broken_into += [(cell.text, column.width)] if column.broken and cell.text else []
        relative = max((latex_width(text, self._fit.points) / width for text, width in broken_into), default=0.0)
        return 1 if relative <= 1 else math.ceil(1.25 * relative)  # ragged lines are filled to four fifths or so

    @property
    def head_height(self) -> float:
        """How tall the headings and the outer rules are, in points."""
        heading = max((len(column.heading) for column in self._columns), default=1)
        group = 2 if any(column.group for column in self._table.columns) else 0
        return (heading + group) * self._fit.baseline + 2 * _RULE

    def _height(self) -> float:
        return self.head_height + sum(map(self.block_height, self._table.blocks))

    def tabular(self) -> list[str]:
        """Return the lines of the `tabular` environment."""
        names = f"p{{{self._name_width:.1f}pt}}" if self._names_wrap else "l"
        end = rf"@{{\hspace{{{self._last_marks:.1f}pt}}}}" if self._last_marks else "@{}"
        columns = "".join(column.kind for column in self._columns)
        lines = [rf"\begin{{tabular}}{{@{{}}{names}{columns}{end}}}", r"\toprule", *self._head()]
        place = 0
        for block in self._table.blocks:
            lines += [r"\midrule", *([self._title(block.title)] if block.title else [])]
            for line in block.lines:
                texts = [column.cell(place) for column in self._columns]
                lines.append(_row([self._name(block, line), *self._ended(texts)]))
                place += 1
        return [*lines, r"\bottomrule", r"\end{tabular}"]

    def _ended(self, texts: list[str]) -> list[str]:
        r"""Return the cells of a line; a last one that is set ragged would take `\\` for its own."""
        if self._columns and self._columns[-1].broken:
            return [*texts[:-1], texts[-1].replace(r"\raggedright ", r"\raggedright\let\\\tabularnewline ", 1)]
        return texts

    def _head(self) -> list[str]:
        lines, rules, place = [], [], 2
        if any(column.group for column in self._table.columns):
            groups = [""]
            for group, run in groupby(zip(self._table.columns, self.column_widths, strict=True), lambda c: c[0].group):
                widths = [width for _, width in run]
                n = len(widths)
                has = sum(widths) + 2 * self.gap * (n - 1)
                text = stacked([latex_escape(line) for line in self._group_lines(group, has)]) if group else ""
                groups.append(rf"\multicolumn{{{n}}}{{c}}{{{text}}}" if n > 1 or group else "")
                if group:
                    rules.append(rf"\cmidrule(lr){{{place}-{place + n - 1}}}")
                place += n
            lines = [_row(groups), " ".join(rules)]
        headings = [column.head() for column in self._columns]
        return [*lines, _row([latex_escape(self._table.corner), *headings])]

    def _title(self, title: str) -> str:
        n = len(self._columns) + 1
        text = rf"\textit{{{latex_escape(title, breaks=True)}}}"
        if latex_width(title, self._fit.points, italic=True) > self.width:
            return rf"\multicolumn{{{n}}}{{@{{}}p{{{self.width:.1f}pt}}@{{}}}}{{\raggedright {text}}} \\"
        return rf"\multicolumn{{{n}}}{{@{{}}l}}{{{text}}} \\"

    def _name(self, block: Block, line: Line) -> str:
        text = latex_escape(line.heading, breaks=self._names_wrap)
        text += rf"\textsuperscript{{{cells.SAME}}}" if line.equals_plain else ""
        text = (_INDENT if block.title else "") + text
        return rf"\raggedright\hangindent=1em\hangafter=1 {text}" if self._names_wrap else text


class _Column:
    """One column of a grid.

    Attributes:
        width: points that it needs.
        marks: points that the widest marks behind its numbers take.
        heading: lines of what stands above it.
        lacks: points that words lack of a single line.
        broken: whether it has words that are broken into lines.
    """

    def __init__(self, column: Column, of: Sequence[Cell], table: Table, fit: Fit, notes: cells.Footnotes) -> None:
        self._cells, self._fit, self._notes = of, fit, notes
        self._values = [_value(cell) for cell in of]
        self._behind = [_behind(cell) for cell in of]
        numbers = [i for i, cell in enumerate(of) if cell.text is None and not cells.is_gap(cell)]
        self._widest = max((self._values[i] for i in numbers), key=lambda text: (len(_digits(text)), text), default="")
        self._signed = any(self._values[i][:1] in ("+", _MINUS) for i in numbers)
        self._longest = max((self._behind[i] for i in numbers), key=len, default="")
        words = not numbers and any(cell.text for cell in of)
        widths = [self._content_width(i) for i in range(len(of))]
        natural = max(widths, default=0.0)
        self.broken = words and fit.wrapped and natural > _WORDS
        content = max(_WORDS, _longest_word(self._values, fit.points)) if self.broken else natural
        self._align = "l" if words and natural > _WORDS / 2 else "c"
        unit = cells.unit_of(column, table)
        name = f"{one_line(column.heading)} ({unit})" if unit else one_line(column.heading)
        self.heading = broken(name, content, fit.points) if fit.stacked or unit else [name]
        self.marks = max((self._mark_width(cell) for cell in of), default=0.0)
        self.width = max(content, *(latex_width(line, fit.points) for line in self.heading))
        self.lacks = max(0.0, natural - self.width)

    @property
    def kind(self) -> str:
        """How LaTeX aligns it."""
        return f"p{{{self.width:.1f}pt}}" if self.broken else self._align

    def _content_width(self, i: int) -> float:
        cell, points = self._cells[i], self._fit.points
        width = latex_width(self._values[i], points, bold=cell.best, italic=cell.equals_plain)
        if cell.text is not None or cells.is_gap(cell):
            return width
        filler = latex_width("0" * self._lacking(i) + ("+" if self._lacks_sign(i) else ""), points)
        return width + filler + latex_width(self._longest, SPREAD_POINTS) + 2.5  # and a thin space

    def _lacking(self, i: int) -> int:
        return max(0, len(_digits(self._widest)) - len(_digits(self._values[i])))

    def _lacks_sign(self, i: int) -> bool:
        return self._signed and self._values[i][:1] not in ("+", _MINUS)

    def head(self) -> str:
        """Return what stands above the column."""
        text = stacked([latex_escape(line) for line in self.heading], "c" if self.kind == "c" else "l")
        return rf"\multicolumn{{1}}{{l}}{{{text}}}" if self.broken else text

    def cell(self, i: int) -> str:
        """Return what stands in the cell of a line."""
        cell = self._cells[i]
        text = latex_escape(self._values[i], breaks=self.broken)
        if self.broken:
            return rf"\raggedright {text}{self._mark(cell)}"
        if cell.text is not None or cells.is_gap(cell):
            return text + self._mark(cell)
        text = rf"\textbf{{{text}}}" if cell.best else rf"\textit{{{text}}}" if cell.equals_plain else text
        blank = "".join(_digits(self._widest)[: self._lacking(i)])
        blank = rf"\phantom{{{'$-$' if self._lacks_sign(i) else ''}{blank}}}" if blank or self._lacks_sign(i) else ""
        return blank + text + self._behind_number(i)

    def _behind_number(self, i: int) -> str:
        """Return what stands behind a number: ± or interval, marks, and a blank up to the widest of the column."""
        text, mark = self._behind[i], self._mark(self._cells[i])
        written = (r"\," if text.startswith("[") else "") + latex_escape(text)
        lacking = latex_escape(self._longest[len(text) :])
        blank = rf"{{\scriptsize\phantom{{{lacking}}}}}" if lacking else ""
        return (rf"{{\scriptsize{written}}}" if written else "") + mark + blank

    def _mark(self, cell: Cell) -> str:
        marks = self._marks(cell)
        return rf"\rlap{{\textsuperscript{{{','.join(marks)}}}}}" if marks else ""

    def _marks(self, cell: Cell) -> list[str]:
        marks = [r"\dag"] if cell.bound else []
        marks += [cells.SAME] if cell.equals_plain and not cells.is_gap(cell) else []
        return marks + ([letter(self._notes.number(cell))] if cell.note else [])

    def _mark_width(self, cell: Cell) -> float:
        shown = ",".join("n" if mark == r"\dag" else mark for mark in self._marks(cell))
        return latex_width(shown, MARK_POINTS)


@lru_cache(maxsize=32768)  # a table is laid out at several sizes
def _value(cell: Cell) -> str:
    return cells.value_text(cell, _MINUS)


@lru_cache(maxsize=32768)
def _behind(cell: Cell) -> str:
    """Return what stands behind a number: ± and one standard error, or an interval."""
    error = cells.error_text(cell)
    return f"±{error}" if error else cells.interval_text(cell, _MINUS)


def letter(number: int) -> str:
    """Return the letter of a footnote: a, ..., z, aa, ab, ..."""
    letters = ""
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("a") + rest) + letters
    return letters


def stacked(lines: Sequence[str], align: str = "c") -> str:
    """Return lines of a heading one above the other, the last at the height of the other headings."""
    if len(lines) < 2:
        return "".join(lines)
    return rf"\begin{{tabular}}[b]{{@{{}}{align}@{{}}}}" + r"\\".join(map(_opened, lines)) + r"\end{tabular}"


def broken(text: str, width: float, points: float) -> list[str]:
    """Return a heading in lines that are no wider than they must be: a given width, or that of the longest word.

    Args:
        text: the heading.
        width: in points, what the column has anyhow.
        points: size of the font.
    """
    words = [part for word in one_line(text).split(" ") for part in _parts(word, points)]
    width = max([width, *(latex_width(word, points) for word in words)])
    lines: list[str] = []
    for word in words:
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and latex_width(joined, points) <= width:
            lines[-1] = joined
        else:
            lines.append(word)
    return lines or [""]


def _parts(word: str, points: float) -> list[str]:
    """Return a word, in parts where it is too long for a heading."""
    parts = [""]
    for sign in word:
        if latex_width(parts[-1] + sign, points) > _HEADING_WORD:
            parts.append("")
        parts[-1] += sign
    return parts


def _longest_word(texts: Sequence[str], points: float) -> float:
    """Return the width of the longest piece of a text that LaTeX does not break; longer words are broken."""
    return max((latex_width(word[:16], points) for text in texts for word in text.split(" ")), default=0.0)


def _digits(text: str) -> str:
    return text.lstrip(f"+{_MINUS}")


def _opened(text: str) -> str:
    r"""Return what may stand behind `\\`, which takes a bracket or an asterisk for its own."""
    return "{}" + text if text.startswith(("[", "*")) else text


def _row(texts: Sequence[str]) -> str:
    return " & ".join([_opened(texts[0]), *texts[1:]]) + r" \\"
