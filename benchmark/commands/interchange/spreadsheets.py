"""Text that a spreadsheet would run, in CSV that is read again: marked when it is written, unmarked when read."""

import re

import pyarrow as pa
import pyarrow.compute as pc

from benchmark.common.terminal.escaping import FORMULA_SIGNS

_BEGINS = rf"\s*[{re.escape(FORMULA_SIGNS)}]|[\t\r]"  # of a formula
_MARKED = re.compile(rf"'(?:{_BEGINS})")


def marked(table: pa.Table) -> pa.Table:
    """Return a table with an apostrophe before text that a spreadsheet would run."""
    for i, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            column = pc.replace_substring_regex(table[field.name], rf"^({_BEGINS})", r"'\1")
            table = table.set_column(i, field, column)
    return table


def unmarked(text: str) -> str:
    """Return text without the apostrophe of `marked`."""
    return text[1:] if _MARKED.match(text) else text
