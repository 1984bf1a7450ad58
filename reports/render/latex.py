r"""LaTeX renderer of tables with booktabs, tabularx and graphicx; LaTeX scales tables that are wider than the line.

Widths are estimated by counting letters. They decide whether a table has column or page width, and where it is split.
So no font is scaled below 6 points.
"""

import math
import textwrap
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby, islice

from benchmark.common.errors import IcmBenchError
from benchmark.common.terminal.escaping import one_line
from reports.render import cells
from reports.render.table import MAX_WORDS, Table

_MIN_SCALE = 6 / 7  # smallest scale of a table: \scriptsize, its smallest font, has 7 points
_LETTERS = {"table": 54, "table*": 113}  # letters of \footnotesize on a line of 3.25 and of 6.75 in
_LINES = 48  # lines of \footnotesize on a page of a plain article
_GAP = 1.5  # letters between columns
_LONG = 24  # letters: longer names and texts are wrapped if the page is too narrow
_WORD = 14  # letters of a heading's word that are kept on one line
_BETWEEN = 8  # tables between page breaks: LaTeX holds only a few dozen floats back
# Column types of a number, a number with error or interval, a text, and a wrapped text.
_NUMBER, _PAIR, _WORDS = "r", r"r@{}>{\scriptsize}l", "l"
_BROKEN = r">{\raggedright\arraybackslash\hangindent=1em}X"
# docs/report.md names the packages, and so does the first line that `latex` writes.
PACKAGES = r"""\usepackage{booktabs,graphicx,tabularx}
\usepackage[textwidth=6.75in,textheight=9in,columnsep=0.25in]{geometry}"""
COMMANDS = r"""\providecommand{\icmfit}[1]{\sbox0{#1}%
  \ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi}
\providecommand{\icmmark}[1]{\raisebox{.7ex}{\scriptsize#1}}"""


_UNBROKEN = 14  # letters: longer words may be broken there, and after `_BREAKABLE` characters
_BREAKABLE = "_/,.:+"
_LIGATURES = "-'`,"  # characters that LaTeX joins if doubled
_GREEK = (
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi",
    "omicron", "pi", "rho", "varsigma", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
)  # fmt: skip
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "—": "---", "–": "--", "−": "$-$", "±": r"$\pm$", "×": r"$\times$", "÷": r"$\div$",
    "†": r"$\dagger$", "‡": r"$\ddagger$", "…": r"\ldots{}", "‘": "`{}", "’": "'{}", "“": "``", "”": "''", "„": ",,",
    "·": r"$\cdot$", "•": r"$\bullet$", "≤": r"$\leq$", "≥": r"$\geq$", "≠": r"$\neq$", "≈": r"$\approx$",
    "→": r"$\rightarrow$", "←": r"$\leftarrow$", "∞": r"$\infty$", "°": r"$^\circ$", "§": r"\S{}", "¶": r"\P{}",
    "©": r"\copyright{}", "®": r"\textregistered{}", "£": r"\pounds{}", "€": "EUR", "«": r"$\ll$", "»": r"$\gg$",
    "ß": r"\ss{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}", "Œ": r"\OE{}", "ø": r"\o{}", "Ø": r"\O{}",
    "ł": r"\l{}", "Ł": r"\L{}", "ı": r"\i{}", "đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th",
    "\u2044": "/", "\u2010": "-", "\u2011": "-", "\u00a0": "~", "µ": r"$\mu$",
    **{chr(ord("α") + i): rf"$\{name}$" for i, name in enumerate(_GREEK)},
    **{sign: rf"$\{_GREEK[ord(sign) - ord('Α')].title()}$" for sign in "ΓΔΘΛΞΠΣΥΦΨΩ"},
    **dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΧο", "ABEZHIKMNOPTXo", strict=True)),
}  # fmt: skip
_ACCENTS = {
    "\u0300": r"\`", "\u0301": r"\'", "\u0302": r"\^", "\u0303": r"\~", "\u0304": r"\=", "\u0306": r"\u",
    "\u0307": r"\.", "\u0308": r"\"", "\u030a": r"\r", "\u030b": r"\H", "\u030c": r"\v", "\u0327": r"\c",
    "\u0323": r"\d", "\u0331": r"\b",
}  # fmt: skip


@dataclass(frozen=True)
class _Column:
    """A column in LaTeX.

    Attributes:
        kind: LaTeX column type; errors and intervals have a column of their own.
        heading: lines of the heading.
        cells: LaTeX of each cell.
        lengths: number of letters of each cell.
    """

    kind: str
    heading: list[str]
    cells: list[str]
    lengths: list[int]

    @property
    def span(self) -> int:
        """Number of LaTeX columns."""
        return 2 if self.kind == _PAIR else 1

    @property
    def letters(self) -> int:
        """Letters of the widest line."""
        return max([*map(len, self.heading), *self.lengths])

    @property
    def min_letters(self) -> int:
        """Letters of the widest line if long texts are wrapped as narrowly as allowed."""
        return min(self.letters, _LONG) if self.kind == _WORDS else self.letters


def latex(table: Table) -> str:
    """Return a table as a LaTeX file: required commands, and floats with all notes; see `floats`."""
    return "\n".join([r"% needs \usepackage{booktabs,graphicx,tabularx}", COMMANDS, *floats(table), ""])


def floats(table: Table, shared: Sequence[str] = ()) -> list[str]:
    r"""Return the lines of a table as LaTeX floats, for a document with `PACKAGES` and `COMMANDS`.

    A table that does not fit a column (3.25 in) is set at page width (6.75 in, `table*`), where long texts are wrapped
    and LaTeX scales fonts down to 6 points. A table that is still too wide is split by columns, keeping groups
    together; one that is too tall is split by blocks. The first piece has the label `tab:NAME`, the others
    `tab:NAME-b`, `tab:NAME-c`, ...

    Raises:
        IcmBenchError: the caption has more than 40 words.
    """
    words = len(table.caption.split())
    if words > MAX_WORDS:
        raise IcmBenchError(
            f"table '{table.name}': its caption has {words} words, more than the {MAX_WORDS} of a printed table; move "
            "what is not needed at first sight to its notes."
        )
    notes = cells.notes_of(table, shared)
    height = sum(2 + len(block.lines) for block in table.blocks)
    is_narrow = _row(column.letters for column in _columns(table)) <= _LETTERS["table"]
    if is_narrow and height <= _rest(table, "table", notes):
        return _float([table], 0, "table", notes)
    pieces = [short for narrow in _narrow_enough(table) for short in _short_enough(narrow, notes)]
    return [line for i in range(len(pieces)) for line in _float(pieces, i, "table*", notes)]


def all_tex(tables: Sequence[Table]) -> str:
    r"""Return a two-column LaTeX document with all tables, which compiles on its own.

    Raises:
        IcmBenchError: a caption has more than 40 words.
    """
    shared = cells.shared_notes(tables)
    lines = [r"\documentclass[10pt,twocolumn]{article}", PACKAGES, COMMANDS, r"\begin{document}"]
    for i, table in enumerate(tables):
        lines += [r"\clearpage"] if i and i % _BETWEEN == 0 else []
        lines += floats(table, shared)
        # Without a line of text LaTeX would hold all floats back until the end.
        file = latex_escape(f"{table.name}.tex", breaks=True)
        lines.append(rf"\noindent Table~\ref{{{_label(table)}}}: \texttt{{{file}}}.\par")
    return "\n".join([*lines, *shared_notes_tex(shared), r"\end{document}", ""])


def shared_notes_tex(shared: Sequence[str]) -> list[str]:
    """Return the notes shared by tables of a document as a numbered list for its end."""
    if not shared:
        return []
    notes = [rf"\item {latex_escape(note, breaks=True)}" for note in shared]
    begin = r"\begin{enumerate}\small\raggedright\setlength{\itemsep}{0pt}"
    return [r"\section*{Notes on the tables}", begin, *notes, r"\end{enumerate}"]


def letter(number: int) -> str:
    """Return the letter of a footnote: a, ..., z, 27, 28, ..."""
    return chr(ord("a") + number - 1) if number <= 26 else str(number)


def _row(letters: Iterable[int]) -> float:
    """Return the width of a line in letters, from the widths of its columns."""
    return sum(n + _GAP for n in letters) - _GAP


def _rest(table: Table, environment: str, notes: Sequence[str]) -> int:
    """Return the number of lines on a page that caption and notes leave for a table."""
    around = [1.5 * len(spelled(table.caption)), sum(map(len, notes)), sum(map(len, cells.footnotes(table)))]
    return _LINES - sum(math.ceil(n / _LETTERS[environment]) for n in around)


def _narrow_enough(table: Table) -> list[Table]:
    """Return a table split by columns into pieces that fit the page; columns of a group stay together."""
    names, *others = [column.min_letters + _GAP for column in _columns(table)]
    room = _LETTERS["table*"] / _MIN_SCALE - names
    groups = groupby(range(len(others)), key=lambda i: table.columns[i].group or str(i))
    units = [list(run) for _, run in groups]
    pieces = cells.balanced([sum(others[i] for i in unit) for unit in units], room)
    return [table.with_columns([i for unit in piece for i in units[unit]]) for piece in pieces] or [table]


def _short_enough(table: Table, notes: Sequence[str]) -> list[Table]:
    """Return a table split into pieces that fit the page's height: by blocks, and by lines of a large block."""
    rest, columns = max(_rest(table, "table*", notes), _LINES // 4), _columns(table)
    broken = _broken(columns, "table*")
    rows = [[math.ceil(1.2 * length / n) for length in columns[i].lengths] for i, n in broken.items()]
    heights = map(max, zip([1] * len(columns[0].cells), *rows, strict=True))
    blocks, sizes = [], []
    for block in table.blocks:
        own = [next(heights) for _ in block.lines]
        for i, places in enumerate(cells.balanced(own, rest - 2) or [[]]):
            title = f"{block.title} (continued)" if i and block.title else block.title
            blocks.append(replace(block, title=title, lines=tuple(block.lines[place] for place in places)))
            sizes.append(2 + sum(own[place] for place in places))
    return [replace(table, blocks=tuple(blocks[i] for i in piece)) for piece in cells.balanced(sizes, rest)] or [table]


def _broken(columns: Sequence[_Column], environment: str) -> dict[int, float]:
    """Return the width in letters of each column with wrapped text, by index of the column."""
    long = [i for i, column in enumerate(columns) if column.min_letters < column.letters]
    spare = _LETTERS[environment] - _row(column.min_letters for column in columns)
    fits = _row(column.letters for column in columns) <= _LETTERS[environment]
    return {} if fits else {i: _LONG + max(0, spare) / len(long) for i in long}


def _columns(table: Table) -> list[_Column]:
    """Return the column of line names, then the columns of a table."""
    notes, names, lengths = cells.footnotes(table), [], []
    for block, line in table.lines():
        name = latex_escape(line.heading, breaks=True)
        indent = r"\enspace " if block.title else "{}" if name.startswith(("[", "*")) else ""
        names.append(indent + name + _marked([cells.PLAIN_SIGN] if line.equals_plain else []))
        lengths.append(len(spelled(line.heading)) + bool(block.title) + line.equals_plain)
    columns = [_Column(_WORDS, [spelled(table.corner)], names, lengths)]
    return [*columns, *(_column(table, i, notes) for i in range(len(table.columns)))]


def _column(table: Table, place: int, notes: Mapping[str, int]) -> _Column:
    column, own = table.columns[place], [(line, line.cells[place]) for _, line in table.lines()]
    words = any(cell.text for _, cell in own) and not any(cells.is_number(cell) for _, cell in own)
    # A number is followed by ± and one standard error, or by an interval.
    behind = [f"±{error}" if (error := cells.error_text(c)) else cells.interval_text(c, "−") for _, c in own]
    kind = _WORDS if words else _PAIR if any(behind) else _NUMBER
    made, lengths = [], []
    for (line, cell), more in zip(own, behind, strict=True):
        value, marks = spelled(cells.value_text(cell, "−")), [r"$\dagger$"] if cell.bound else []
        marks += [cells.PLAIN_SIGN] if cell.equals_plain and not (cells.is_gap(cell) or line.equals_plain) else []
        marks += [letter(notes[cells.sentence(cell.note)])] if cell.note else []
        lengths.append(len(value) + len(more) + len(marks))
        text, marked = latex_escape(value, breaks=cell.text is not None), _marked(marks, apart=kind == _NUMBER)
        if cells.is_number(cell):
            text = rf"\textbf{{{text}}}" if cell.best else rf"\textit{{{text}}}" if cell.equals_plain else text
        if kind != _PAIR:
            made.append(text + marked)
        elif cells.is_number(cell):
            made.append(f"{text}&{'~' if more.startswith('[') else ''}{latex_escape(more)}{marked}")
        else:
            made.append(rf"\multicolumn{{2}}{{c}}{{{text}{marked}}}")
    heading = _wrapped(cells.heading_text(column, table), max(lengths, default=0))
    return _Column(kind, heading, made, lengths)


def _wrapped(heading: str, letters: int) -> list[str]:
    """Return a heading wrapped to `letters` or to its longest word, also after `_`."""
    parts = spelled(heading).replace("_", "_ ")
    longest = max([1, letters, *(min(len(word), _WORD) for word in parts.split())])
    lines = textwrap.wrap(parts, longest + ("_" in parts))
    return [line.replace("_ ", "_") for line in lines] or [""]


def _marked(marks: Sequence[str], apart: bool = False) -> str:
    """Return signs in LaTeX; with `apart` they have no width, so that digits stay aligned."""
    marked = rf"\icmmark{{{','.join(marks)}}}" if marks else ""
    return rf"\rlap{{{marked}}}" if marked and apart else marked


def _tabular(table: Table, environment: str) -> list[str]:
    columns = _columns(table)
    broken = _broken(columns, environment)
    kinds = "".join(_BROKEN if i in broken else column.kind for i, column in enumerate(columns))
    min_width = _row(column.min_letters for column in columns)
    scale = max(1.0, min_width / _LETTERS[environment])  # a scaled table is laid out on a longer line
    name, line = ("tabularx", rf"{{{scale:.2f}\linewidth}}") if broken else ("tabular", "")
    lines = [rf"\icmfit{{\begin{{{name}}}{line}{{@{{}}{kinds}}}", r"\toprule", *_head(table, columns)]
    span, rows = sum(column.span for column in columns), zip(*(column.cells for column in columns), strict=True)
    for block in table.blocks:
        lines.append(r"\midrule")
        for title in textwrap.wrap(spelled(block.title), max(round(min_width), _LONG)):
            lines.append(rf"\multicolumn{{{span}}}{{@{{}}l}}{{\textit{{{latex_escape(title)}}}}} \\")
        lines += [" & ".join(row) + r" \\" for row in islice(rows, len(block.lines))]
    return [*lines, r"\bottomrule", rf"\end{{{name}}}}}"]


def _head(table: Table, columns: Sequence[_Column]) -> list[str]:
    """Return the lines of headings, with group names above."""
    lines, place = [], 1 + columns[0].span
    if any(column.group for column in table.columns):
        groups, rules = [(columns[0].span, [""])], []
        for group, run in groupby(zip(table.columns, columns[1:], strict=True), key=lambda one: one[0].group):
            own = [column for _, column in run]
            n = sum(column.span for column in own)
            room = round(_row(column.letters for column in own))
            groups.append((n, _wrapped(group, room)))
            rules += [rf"\cmidrule(lr){{{place}-{place + n - 1}}}"] if group else []
            place += n
        lines = [*_stacked(groups), " ".join(rules)]
    return [*lines, *_stacked([(column.span, column.heading) for column in columns])]


def _stacked(headings: Sequence[tuple[int, list[str]]]) -> list[str]:
    """Return headings, each given as (span, lines), as table lines. The headings are aligned at the bottom."""
    height = max(len(lines) for _, lines in headings)
    rows = zip(*([""] * (height - len(lines)) + lines for _, lines in headings), strict=True)
    spans = [rf"\multicolumn{{{n}}}{{c}}{{%s}}" if n > 1 else "%s" for n, _ in headings]
    return [" & ".join(s % latex_escape(text) for s, text in zip(spans, row, strict=True)) + r" \\" for row in rows]


def _label(table: Table) -> str:
    """Return the label of a table, without characters that are special in LaTeX."""
    return "tab:" + "".join(sign if sign.isascii() and (sign.isalnum() or sign in ".-") else "-" for sign in table.name)


def _float(pieces: Sequence[Table], place: int, environment: str, notes: Sequence[str]) -> list[str]:
    """Return the lines of one float, which holds one piece of a table. The notes are below the first piece."""
    table, n = pieces[place], len(pieces)
    caption = table.caption + (f" Part {letter(place + 1)} of {n}." if n > 1 else "")
    label, part = _label(table), f"-{letter(place + 1)}" if place else ""
    see = rf"Notes: see Table~\ref{{{label}}}."
    sentences = [see] if place and notes else [latex_escape(note, breaks=True) for note in notes]
    footnotes = cells.footnotes(table)
    numbered = [rf"\icmmark{{{letter(i)}}}{latex_escape(note, breaks=True)}" for note, i in footnotes.items()]
    below = "\\par\n".join(" ".join(part) for part in (sentences, numbered) if part)
    return [
        rf"\begin{{{environment}}}[tp]",
        r"\centering\emergencystretch=3em",
        r"\setlength{\abovecaptionskip}{0pt}\setlength{\belowcaptionskip}{5pt}",
        rf"\caption{{{latex_escape(caption, breaks=True)}}}",
        rf"\label{{{label}{part}}}",
        r"\footnotesize\setlength{\tabcolsep}{3pt}",
        *_tabular(table, environment),
        *([r"\par\vspace{4pt}", rf"\parbox{{\linewidth}}{{\raggedright {below}}}"] if below else []),
        rf"\end{{{environment}}}",
    ]


@lru_cache(maxsize=8192)
def spelled(text: str) -> str:
    """Return text in characters that LaTeX can print. Others are transliterated, or written as a code ("U+4E2D")."""
    written: list[str] = []
    for sign in unicodedata.normalize("NFC", one_line(text)):
        own = _transliterated(sign)
        apart = own.startswith("U+") and written and written[-1].startswith(("U+", " U+"))
        written.append(f" {own}" if apart else own)
    return "".join(written)


@lru_cache(maxsize=8192)
def latex_escape(text: str, breaks: bool = False) -> str:
    r"""Return text escaped for LaTeX, after `spelled`.

    With `breaks` long words may be broken after `_`, `/`, `.` and similar characters, or else after 14 characters.
    """
    written: list[str] = []
    quoted = False
    for is_blank, run in groupby(spelled(text), key=lambda sign: sign == " "):
        signs = list(run)
        long = breaks and not is_blank and len(signs) > _UNBROKEN
        before, since = "", 0
        for sign in signs:
            tex = _LATEX.get(sign, sign)
            if not _is_known(sign):  # an accented letter: only its first accent is kept
                base, *marks = list(unicodedata.normalize("NFD", sign))
                tex = f"{next(_ACCENTS[mark] for mark in marks if mark in _ACCENTS)}{{{base}}}"
            if tex == '"':
                quoted, tex = not quoted, "''" if quoted else "``"
            parted = (before == tex and tex in _LIGATURES) or (tex == "`" and before in ("?", "!"))
            written.append(f"{{}}{tex}" if parted else tex)
            before, since = tex, since + 1
            if long and (since >= _UNBROKEN or (since > 2 and sign in _BREAKABLE)):
                written.append(r"\allowbreak{}")
                since = 0
            since = 0 if sign == "-" else since  # LaTeX breaks there
    return "".join(written)


def _is_known(sign: str) -> bool:
    return sign in _LATEX or (sign.isascii() and sign.isprintable())


@lru_cache(maxsize=8192)
def _transliterated(sign: str) -> str:
    """Return a character if LaTeX prints it, else without accent, as compatible characters, or as its code point."""
    base, *marks = list(unicodedata.normalize("NFD", sign))
    is_letter = bool(marks) and base.isascii() and base.isalpha()
    if _is_known(sign) or (is_letter and not _ACCENTS.keys().isdisjoint(marks)):
        return sign
    if is_letter or base in _LATEX:
        return base
    alike = [s for s in unicodedata.normalize("NFKD", sign) if not unicodedata.combining(s)]
    return "".join(alike) if alike and all(map(_is_known, alike)) else f"U+{ord(sign):04X}"
