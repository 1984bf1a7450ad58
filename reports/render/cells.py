"""What all forms of a table print alike: numbers, marks, footnotes, and names without line breaks."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby

from benchmark.common.visible import one_line
from reports.render.table import GAP, Cell, Column, Table

DECIMALS = 6  # of numbers that are data
BOUND = "†"
SAME = "="  # behind what is plain prediction's number
_UNNAMED_UNITS = ("", "%")  # accuracies are in percent, as the caption says; the others stand in the heading
_LEGEND = {
    BOUND: "† is a bound, no result: labels of what is tested enter it.",
    SAME: '"=" stands where all that was picked is the full space: the number is plain prediction\'s.',
}


def finite(value: float | None) -> float | None:
    """Return a number that can be printed: None for NaN and infinity."""
    return None if value is None or not math.isfinite(value) else value


def exact_text(value: float | None) -> str:
    """Return a number as data, with at most six decimals; nothing where there is none."""
    value = finite(value)
    if value is None:
        return ""
    text = f"{value:.{DECIMALS}f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def number_text(value: float, cell: Cell, minus: str = "-") -> str:
    """Return a number with the decimals and the sign of its cell: "84.7", "+1.2", "12,345"; zero has no sign.

    Args:
        value: the cell's number, or an end of its interval.
        cell: what says the decimals and whether it is a difference.
        minus: the sign of negative numbers.
    """
    digits = f"{abs(value):,.{cell.decimals}f}"
    if not any(c in "123456789" for c in digits):
        return digits
    return (minus if value < 0 else "+" if cell.signed else "") + digits


def value_text(cell: Cell, minus: str = "-") -> str:
    """Return the word of a cell, its number without what stands behind it, or a gap."""
    if cell.text is not None:
        return one_line(cell.text)
    value = finite(cell.value)
    return GAP if value is None else number_text(value, cell, minus)


def is_gap(cell: Cell) -> bool:
    """Say whether a cell has neither a number nor a word."""
    return cell.text is None and finite(cell.value) is None


def error_text(cell: Cell) -> str:
    """Return one standard error, "0.5", or "<0.1" where it would be printed as zero.

    There is none for a gap, a word, and a difference that has an interval, which stands in its place.
    """
    error = finite(cell.error)
    if error is None or cell.text is not None or is_gap(cell) or (cell.signed and interval_text(cell)):
        return ""
    least = 10.0**-cell.decimals
    return f"<{least:.{cell.decimals}f}" if error < least / 2 else f"{error:,.{cell.decimals}f}"


def interval_text(cell: Cell, minus: str = "-") -> str:
    """Return the interval of a cell, "[-0.3, 2.7]"; nothing where there is none."""
    low, high = finite(cell.low), finite(cell.high)
    if low is None or high is None or cell.text is not None or is_gap(cell):
        return ""
    return f"[{number_text(low, cell, minus)}, {number_text(high, cell, minus)}]"


def unit_of(column: Column, table: Table) -> str:
    """Return the unit that a heading has to say: none for percent, nor where all columns share it."""
    shared = len({c.unit for c in table.columns}) == 1
    return "" if shared or column.unit in _UNNAMED_UNITS else one_line(column.unit)


def name_heading(line_name: str, same: bool) -> str:
    """Return the name of a line, marked where all of it is plain prediction."""
    return f"{line_name} {SAME}" if same else line_name


def notes_of(table: Table, shared: Sequence[str] = ()) -> list[str]:
    """Return the sentences below a table, with those for its marks and its unit where none of its own says them.

    Args:
        table: whose notes they are.
        shared: notes that stand at the end of the document; the table has their numbers, the first one's is 1.
    """
    notes = [one_line(note) for note in table.notes]
    said = " ".join([one_line(table.caption), *notes])
    units = {c.unit for c in table.columns}
    if len(units) == 1 and not units & set(_UNNAMED_UNITS) and (unit := one_line(units.pop())) not in said:
        notes.append(f"Numbers are in {unit}.")
    if any(c.bound for c in _cells(table)) and BOUND not in said:
        notes.append(_LEGEND[BOUND])
    same = any(line.equals_plain for _, line in table.lines()) or any(c.equals_plain for c in _cells(table))
    if same and f'"{SAME}"' not in said and not any(note.startswith(SAME) for note in notes):
        notes.append(_LEGEND[SAME])
    own = [note for note in notes if note not in shared]
    numbers = [i for i, note in enumerate(shared, 1) if note in notes]
    runs = [[i for _, i in run] for _, run in groupby(enumerate(numbers), key=lambda one: one[1] - one[0])]
    said = ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)
    return [*own, f"Notes at the end: {said}."] if said else own


def shared_notes(tables: Iterable[Table]) -> list[str]:
    """Return the notes that two tables or more have, in order of appearance."""
    counts = Counter(note for table in tables for note in dict.fromkeys(notes_of(table)))
    return [note for note, n in counts.items() if n > 1]


class Footnotes:
    """The notes of cells: equal ones share a number, in order of appearance."""

    def __init__(self, cells: Iterable[Cell]) -> None:
        notes = dict.fromkeys(one_line(cell.note) for cell in cells if cell.note)
        self.texts = tuple(note if note.endswith((".", "!", "?")) else f"{note}." for note in notes)
        self._numbers = {note: i for i, note in enumerate(notes, 1)}

    def number(self, cell: Cell) -> int:
        """Return the number of a cell's note, 0 where it has none."""
        return self._numbers[one_line(cell.note)] if cell.note else 0


def footnotes(table: Table) -> Footnotes:
    """Return the footnotes of a table."""
    return Footnotes(_cells(table))


def size_words(cell: Cell) -> str:
    """Return a number's interval and on what it rests: "95 % interval [84.0, 85.4]; n = 1,200 images; seed 0"."""
    parts = []
    if interval := interval_text(cell):
        parts.append(f"95 % interval {interval}")
    if (spread := finite(cell.spread)) is not None:
        parts.append(f"standard deviation over splits {spread:,.{cell.decimals}f}")
    if (images := finite(cell.n_images)) is not None:
        parts.append(f"n = {_count(images)} images")
    clusters = finite(cell.n_clusters)
    if clusters is not None and clusters != images:
        parts.append(f"{_count(clusters)} groups")
    if cell.seeds:
        parts.append(f"{'seeds' if len(cell.seeds) > 1 else 'seed'} {', '.join(map(str, cell.seeds))}")
    if cell.folds:
        parts.append(f"{cell.folds} folds")
    return "; ".join(parts)


def _count(value: float) -> str:
    return f"{value:,.1f}".removesuffix(".0")


def _cells(table: Table) -> Iterable[Cell]:
    return (cell for _, line in table.lines() for cell in line.cells)
