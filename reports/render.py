"""The main table as Markdown, CSV, LaTeX and plain text. Formatting only: every number is in the `Table`."""

import csv
import io
import textwrap
from collections.abc import Iterable
from itertools import groupby

from reports.captions import rule_words
from reports.forms.markdown import markdown_escape as markdown_escape
from reports.forms.markdown import markdown_grid as markdown_grid
from reports.tables import SHIFT, Cell, Table, TableRow

GAP = "—"
TERMINAL_WIDTH = 120

# Published files keep their columns: "class_group" is the half of the classes.
_CSV_COLUMNS = (
    "dataset", "backbone", "random_weights", "precision", "protocol", "test_split", "class_group", "grouped",
    "folds", "rule", "looks_at_target", "method", "projection", "order", "predictor", "held_out", "unit", "mean",
    "stderr", "plus_minus", "n_seeds", "seeds", "n_units", "n_images", "source_accuracy", "labels_fit",
    "labels_choice", "note",
)  # fmt: skip

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "—": "---", "†": r"\dag{}", "‡": r"\ddag{}", "±": r"$\pm$",
    "×": r"$\times$", "−": "$-$",
}  # fmt: skip


def markdown(table: Table) -> str:
    """Return caption, table and footnotes in GitHub's Markdown."""
    notes = _Notes()
    body = []
    for line in table.lines:
        cells = []
        for cell in line.cells:
            text = number_text(cell, " ± ")
            cells.append((f"**{text}**" if cell.best else text) + notes.mark(cell))
        body.append([markdown_escape(line.method.label), *cells])
    grid = markdown_grid(["Method", *map(markdown_escape, headings(table))], body)
    return "\n\n".join([markdown_escape(table.caption), grid, *notes.lines()]) + "\n"


def headings(table: Table) -> list[str]:
    """Return what stands above the columns: a column of bounds is marked."""
    return [f"{name} †" if name == SHIFT else name for name in table.columns]


def csv_text(columns: Iterable[str], body: Iterable[Iterable[object]]) -> str:
    """Return lines of cells as CSV with a head."""
    sink = io.StringIO()
    csv.writer(sink, lineterminator="\n").writerows([list(columns), *body])
    return sink.getvalue()


def comma_separated(tables: list[Table], plus_minus: str = "images") -> str:
    """Return the tables in long form, one line per cell, numbers in percent with four decimals."""
    body = [
        _csv_row(table, line, name, cell, plus_minus)
        for table in tables
        for line in table.lines
        for name, cell in zip(table.columns, line.cells, strict=True)
    ]
    return csv_text(_CSV_COLUMNS, body)


def records_csv(records: list[dict[str, object]]) -> str:
    """Return records as CSV: a column for each key in order of appearance, empty where a record lacks it."""
    columns = list(dict.fromkeys(name for record in records for name in record))
    return csv_text(columns, [[record.get(name, "") for name in columns] for record in records])


def latex(table: Table) -> str:
    r"""Return a LaTeX table environment that needs only \usepackage{booktabs}."""
    notes = _Notes()
    body = []
    for _, block in groupby(table.lines, key=lambda line: line.method.predictor):
        body.append(r"\midrule")
        for line in block:
            cells = []
            for cell in line.cells:
                text = latex_escape(number_text(cell, " ± "))
                mark = latex_escape(notes.mark(cell))
                cells.append((rf"\textbf{{{text}}}" if cell.best else text) + mark)
            body.append(" & ".join([latex_escape(line.method.label), *cells]) + r" \\")
    header = " & ".join(["Method", *map(latex_escape, headings(table))]) + r" \\"
    # A caption is a moving argument in one paragraph; footnotes go below the rule.
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering\small",
            rf"\caption{{{latex_escape(table.caption)}}}",
            rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
            r"\toprule",
            header,
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            *(rf"\par\footnotesize {latex_escape(note)}" for note in notes.lines()),
            r"\end{table}",
            "",
        ]
    )


def latex_escape(text: str) -> str:
    """Escape what LaTeX would take for markup."""
    return "".join(_LATEX.get(sign, sign) for sign in text)


def plain_text(tables: list[Table], caption: str) -> str:
    """Return the tables of one setting for a terminal: aligned, 120 characters wide with six environments.

    Args:
        tables: the tables of one setting, one per selection rule.
        caption: what all of them share; it is printed once, above them.
    """
    parts = [textwrap.fill(caption, TERMINAL_WIDTH)]
    for table in tables:
        title = table.setting.banner + rule_words(table.rule, table.setting)
        parts.append(textwrap.fill(title, TERMINAL_WIDTH) + "\n" + _plain_grid(table))
    return "\n\n".join(parts) + "\n"


def number_text(cell: Cell, plus_minus: str) -> str:
    """Return "84.7 ± 0.5", "84.7" without a standard error, with † where it looks at the target, or a gap."""
    if cell.mean is None:
        return GAP
    text = f"{cell.mean:{'+' if cell.signed else ''}.1f}"
    if cell.stderr is not None:
        text += f"{plus_minus}{error_text(cell.stderr)}"
    return f"{text}†" if cell.bound else text


def error_text(error: float) -> str:
    """Return a standard error with one decimal; one that would be 0.0 is said to be below 0.1."""
    return "<0.1" if error < 0.05 else f"{error:.1f}"


class _Notes:
    """Footnotes of one table: equal reasons share a letter."""

    def __init__(self) -> None:
        self._letters: dict[str, str] = {}

    def mark(self, cell: Cell) -> str:
        if cell.note is None:
            return ""
        letter = self._letters.setdefault(cell.note, _letter(len(self._letters)))
        return f" ({letter})"

    def lines(self) -> list[str]:
        return [f"({letter}) {note}." for note, letter in self._letters.items()]


def _letter(index: int) -> str:
    return chr(ord("a") + index) if index < 26 else str(index)


def _csv_row(table: Table, line: TableRow, held_out: str, cell: Cell, plus_minus: str) -> list[object]:
    s, method = table.setting, line.method
    what = [s.dataset, s.backbone_label, s.random_weights, s.precision, s.protocol, s.test_split, s.class_half]
    how = [s.grouped, s.folds, table.rule, cell.bound]
    who = [method.label, method.projection, method.order or "", method.predictor, held_out]
    numbers = ["" if x is None else f"{x:.4f}" for x in (cell.mean, cell.stderr)]
    sizes = ["" if x is None else f"{x:.1f}" for x in (cell.n_units, cell.n_images)]
    source = "" if cell.source is None else f"{cell.source:.4f}"
    labels = ["" if x is None else x for x in (cell.labels_fit, cell.labels_choice)]
    unit = "points" if cell.signed else "percent"
    seeds = " ".join(map(str, cell.seeds))
    return [
        *what, *how, *who, unit, *numbers, plus_minus, len(cell.seeds), seeds, *sizes, source, *labels, cell.note or "",
    ]  # fmt: skip


def _plain_grid(table: Table) -> str:
    notes = _Notes()
    texts = [
        [number_text(cell, "±") + notes.mark(cell).replace(" ", "") for cell in line.cells] for line in table.lines
    ]
    label_width = max(len(line.method.projection_label) for line in table.lines) + 2
    widths = [max(len(row[i]) for row in texts) for i in range(len(table.columns))]
    # Names may take what the numbers leave free; longer ones are cut.
    share = (TERMINAL_WIDTH - label_width) // len(table.columns) - 1
    widths = [max(w, min(len(name), share)) for w, name in zip(widths, headings(table), strict=True)]
    lines = [_plain_line("", [_cut(n, w) for n, w in zip(headings(table), widths, strict=True)], label_width, widths)]
    predictor = None
    for line, row in zip(table.lines, texts, strict=True):
        if line.method.predictor != predictor:
            predictor = line.method.predictor
            lines.append(line.method.predictor_label)
        lines.append(_plain_line(f"  {line.method.projection_label}", row, label_width, widths))
    return "\n".join([*lines, *(textwrap.fill(note, TERMINAL_WIDTH) for note in notes.lines())])


def _plain_line(label: str, cells: list[str], label_width: int, widths: list[int]) -> str:
    padded = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
    return f"{label.ljust(label_width)} {' '.join(padded)}".rstrip()


def _cut(name: str, width: int) -> str:
    return name if len(name) <= width else name[: width - 1] + "…"
