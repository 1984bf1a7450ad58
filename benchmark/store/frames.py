"""Fast conversion of Arrow tables of result rows to pandas frames with Python values, column by column."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    import pandas as pd


def frame(table: pa.Table, arrays: Collection[str] = ()) -> "pd.DataFrame":
    """Return a table as a frame. Missing lists and strings are None, missing numbers are NaN.

    List columns hold Python lists, or arrays if they are named in `arrays`. Many rows have the same ranks and classes,
    so equal lists of integers or strings in a chunk are the same object: do not modify them.
    """
    import pandas as pd

    made: dict[str, Any] = {}
    for name in table.column_names:
        column, kind = table[name], table[name].type
        if pa.types.is_list(kind):
            values_of = _arrays if name in arrays else _lists
            made[name] = pd.Series([values for chunk in column.chunks for values in values_of(chunk)], dtype=object)
        elif pa.types.is_floating(kind) or pa.types.is_integer(kind):
            made[name] = column.to_numpy()
        else:
            made[name] = _repeated(column) if pa.types.is_string(kind) else column.to_pylist()
    return pd.DataFrame(made)


def _arrays(chunk: pa.ListArray) -> list[Any]:
    """Return each list of numbers as an array; None for a missing list."""
    ends, values = chunk.offsets.to_numpy().tolist(), chunk.values.to_numpy(zero_copy_only=False)
    spans = zip(ends[:-1], ends[1:], chunk.is_valid().to_pylist(), strict=True)
    return [values[begin:end] if there else None for begin, end, there in spans]


def _repeated(column: pa.ChunkedArray) -> list[str | None]:
    """Return the strings of a column; equal strings are the same object."""
    words: list[str | None] = []
    for chunk in column.chunks:
        coded = chunk.dictionary_encode()
        names = np.array([*coded.dictionary.to_pylist(), None], dtype=object)
        words += names[coded.indices.fill_null(len(names) - 1).to_numpy()].tolist()
    return words


def _lists(chunk: pa.ListArray) -> list[list[Any] | None]:
    """Return each list as a Python list, None for a missing list; equal lists are the same object."""
    ends = chunk.offsets.to_numpy()
    spans = zip(ends[:-1].tolist(), ends[1:].tolist(), chunk.is_valid().to_pylist(), strict=True)
    if pa.types.is_floating(chunk.type.value_type) and not chunk.values.null_count:
        numbers = chunk.values.to_numpy().tolist()
        return [numbers[begin:end] if there else None for begin, end, there in spans]
    coded = chunk.values.dictionary_encode()
    values = np.array([*coded.dictionary.to_pylist(), None], dtype=object)
    codes = coded.indices.fill_null(len(values) - 1).to_numpy()
    known: dict[bytes, list[Any]] = {}
    lists: list[list[Any] | None] = []
    for begin, end, there in spans:
        code = codes[begin:end].tobytes()
        if there and code not in known:
            known[code] = values[codes[begin:end]].tolist()
        lists.append(known[code] if there else None)
    return lists
