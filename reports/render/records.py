"""Tidy files: records as CSV, numbers as they are and text that no spreadsheet runs."""

import csv
import io
from collections.abc import Iterable, Sequence

from benchmark.common.visible import FORMULA_SIGNS, one_line

_FORMULA = (*FORMULA_SIGNS, "\t", "\r")


def csv_lines(columns: Iterable[str], body: Iterable[Iterable[object]]) -> str:
    """Return lines of cells as CSV with a head; text that a spreadsheet would take for a formula is kept from it."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(map(_safe_text, columns))
    known = _Known()
    # Most cells are numbers, which stay as they are.
    writer.writerows([known[v] if isinstance(v, str) else "" if v is None else v for v in line] for line in body)
    return sink.getvalue()


def records_csv(records: Sequence[dict[str, object]]) -> str:
    """Return records as CSV: a column for each key in order of appearance, empty where a record lacks it."""
    columns = list(dict.fromkeys(name for record in records for name in record))
    return csv_lines(columns, ([record.get(name, "") for name in columns] for record in records))


class _Known(dict[str, str]):
    """Text -> what stands for it: most text stands in very many lines."""

    def __missing__(self, text: str) -> str:
        return self.setdefault(text, text if _is_number(text) else _safe_text(text))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _safe_text(text: str) -> str:
    """Return text on one line that no spreadsheet runs."""
    return "'" + one_line(text) if text.lstrip(" \n").startswith(_FORMULA) else one_line(text)
