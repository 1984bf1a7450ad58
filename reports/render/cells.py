"""Functions shared by all renderers: numbers, signs, footnotes, names without line breaks, and splitting."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from benchmark.common.terminal.escaping import one_line
from reports.render.table import GAP, Cell, Column, Table

DECIMALS = 6  # decimals of numbers in data files
_STEPS = 40  # number of limits that `balanced` tries
BOUND_SIGN = "†"
PLAIN_SIGN = "="  # suffix of numbers equal to plain prediction's
_UNNAMED_UNITS = ("", "%")  # units that headings omit: captions say that accuracies are in percent


def finite(value: float | None) -> float | None:
    """Return a number, or None for NaN and infinity."""
    return None if value is None or not math.isfinite(value) else value


def exact_text(value: float | None) -> str:
    """Return a number for data files, with at most six decimals; empty if there is none."""
    value = finite(value)
    if value is None:
        return ""
    text = f"{value:.{DECIMALS}f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def number_text(value: float, cell: Cell, minus: str = "-") -> str:
    """Return a number with the decimals and the sign of its cell: "84.7", "+1.2", "12,345"; zero has no sign."""
    digits = f"{abs(value):,.{cell.decimals}f}"
    if not any(c in "123456789" for c in digits):
        return digits
    return (minus if value < 0 else "+" if cell.signed else "") + digits


def is_number(cell: Cell) -> bool:
    """Return whether a cell prints a number: it has a finite value and no text."""
    return cell.text is None and finite(cell.value) is not None


def is_gap(cell: Cell) -> bool:
    """Return whether a cell has neither a number nor a text."""
    return cell.text is None and finite(cell.value) is None


def value_text(cell: Cell, minus: str = "-") -> str:
    """Return the text of a cell: `Cell.text`, its number without error or interval, or `GAP`."""
    if cell.text is not None:
        return one_line(cell.text)
    value = finite(cell.value)
    return GAP if value is None else number_text(value, cell, minus)


def error_text(cell: Cell) -> str:
    """Return one standard error, "0.5", or "<0.1" if it would be printed as zero.

    It is empty for gaps and texts, and for differences with an interval, since the interval is printed instead.
    """
    error = finite(cell.error)
    if error is None or not is_number(cell) or (cell.signed and interval_text(cell)):
        return ""
    least = 10.0**-cell.decimals
    return f"<{least:.{cell.decimals}f}" if error < least / 2 else f"{error:,.{cell.decimals}f}"


def interval_text(cell: Cell, minus: str = "-") -> str:
    """Return the interval of a cell, "[-0.3, 2.7]"; empty if there is none."""
    low, high = finite(cell.low), finite(cell.high)
    if low is None or high is None or not is_number(cell):
        return ""
    return f"[{number_text(low, cell, minus)}, {number_text(high, cell, minus)}]"


@dataclass(frozen=True)
class Signs:
    """Notation of a renderer; each template has `{}` for its content.

    Attributes:
        escape: function that escapes text.
        best: template of a bold number and its error or interval.
        error: template of one standard error after a number.
        interval: template of an interval after a number.
        bound: sign of a bound.
        same: sign of a number equal to plain prediction's.
        note: template of a footnote number.
        minus: minus sign.
    """

    escape: Callable[[str], str]
    best: str
    error: str
    interval: str
    bound: str
    same: str
    note: str
    minus: str = "-"

    def written(self, cell: Cell, notes: Mapping[str, int]) -> str:
        """Return a rendered cell: number or text, error or interval, signs."""
        behind = ""
        if error := error_text(cell):
            behind = self.error.format(self.escape(error))
        elif interval := interval_text(cell, self.minus):
            behind = self.interval.format(self.escape(interval))
        marked = not is_gap(cell)
        text = (self.best if cell.best and marked else "{}{}").format(self.escape(value_text(cell, self.minus)), behind)
        text += (self.bound if cell.bound else "") + (self.same if cell.equals_plain and marked else "")
        return text + (self.note.format(notes[sentence(cell.note)]) if cell.note else "")


def unit_of(column: Column, table: Table) -> str:
    """Return the unit for a heading. It is empty for percent, and if all columns have the same unit."""
    shared = len({c.unit for c in table.columns}) == 1
    return "" if shared or column.unit in _UNNAMED_UNITS else one_line(column.unit)


def heading_text(column: Column, table: Table) -> str:
    """Return the heading of a column, with its unit if needed."""
    unit = unit_of(column, table)
    return one_line(f"{column.heading} ({unit})" if unit else column.heading)


def notes_of(table: Table, shared: Sequence[str] = ()) -> list[str]:
    """Return the notes of a table, and explanations of its signs and unit if the notes have none.

    Notes in `shared` are printed once, at the end of the document. The table refers to them by number, from 1.
    """
    notes = [one_line(note) for note in table.notes]
    known = " ".join([one_line(table.caption), *notes])
    units = {c.unit for c in table.columns}
    if len(units) == 1 and not units & set(_UNNAMED_UNITS) and (unit := one_line(units.pop())) not in known:
        notes.append(f"Numbers are in {unit}.")
    if any(c.bound for c in _cells(table)) and BOUND_SIGN not in known:
        notes.append(f"{BOUND_SIGN} is a bound, no result: labels of what is tested enter it.")
    same = any(line.equals_plain for _, line in table.lines()) or any(c.equals_plain for c in _cells(table))
    if same and f'"{PLAIN_SIGN}"' not in known and not any(note.startswith(PLAIN_SIGN) for note in notes):
        notes.append(f'"{PLAIN_SIGN}" marks plain prediction\'s number: every pick is the full space.')
    own = [note for note in notes if note not in shared]
    numbers = [i for i, note in enumerate(shared, 1) if note in notes]
    runs = [[i for _, i in run] for _, run in groupby(enumerate(numbers), key=lambda one: one[1] - one[0])]
    listed = ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)
    return [*own, f"Notes at the end: {listed}."] if listed else own


def shared_notes(tables: Iterable[Table]) -> list[str]:
    """Return the notes that two or more tables have, in order of appearance."""
    counts = Counter(note for table in tables for note in dict.fromkeys(notes_of(table)))
    return [note for note, n in counts.items() if n > 1]


def footnotes(table: Table) -> dict[str, int]:
    """Return the footnote number of each distinct cell note. Keys are the notes as sentences."""
    return {note: i for i, note in enumerate(dict.fromkeys(sentence(c.note) for c in _cells(table) if c.note), 1)}


def sentence(note: str) -> str:
    """Return a cell's note as a sentence with final punctuation."""
    note = one_line(note)
    return note if note.endswith((".", "!", "?")) else f"{note}."


def size_words(cell: Cell) -> str:
    """Return interval and sample size of a number: "95 % interval [84.0, 85.4]; n = 1,200 images; seed 0"."""
    spread, images, clusters = map(finite, (cell.spread, cell.n_images, cell.n_clusters))
    seeds, interval = ", ".join(map(str, cell.seeds)), interval_text(cell)
    parts = [
        f"95 % interval {interval}" if interval else "",
        "" if spread is None else f"standard deviation over splits {spread:,.{cell.decimals}f}",
        "" if images is None else f"n = {_count(images)} images",
        "" if clusters is None or clusters == images else f"{_count(clusters)} groups",
        f"{'seeds' if len(cell.seeds) > 1 else 'seed'} {seeds}" if seeds else "",
        f"{cell.folds} folds" if cell.folds else "",
    ]
    return "; ".join(filter(None, parts))


def _count(value: float) -> str:
    return f"{value:,.1f}".removesuffix(".0")


def _cells(table: Table) -> Iterable[Cell]:
    return (cell for _, line in table.lines() for cell in line.cells)


def filled(sizes: Sequence[float], limit: float) -> list[list[int]]:
    """Split sizes, in order, into pieces of at most `limit` in sum, and return the indices in each piece.

    A size above the limit is a piece of its own.
    """
    pieces: list[list[int]] = []
    total = 0.0
    for i, size in enumerate(sizes):
        if not pieces or total + size > limit:
            pieces.append([])
            total = 0.0
        pieces[-1].append(i)
        total += size
    return pieces


def balanced(sizes: Sequence[float], limit: float) -> list[list[int]]:
    """Return as few pieces as `filled`, with sizes as equal as possible: nine columns as 5 and 4, not 8 and 1."""
    best = filled(sizes, limit)
    for step in range(_STEPS):
        pieces = filled(sizes, limit * (1 - step / _STEPS))
        if len(pieces) > len(best):
            break
        best = pieces
    return best
