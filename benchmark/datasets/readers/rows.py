"""The rows of a CSV or Parquet file, each with where it stands in words."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.common.storage.parquet_check import check_tried
from benchmark.datasets.readers.base import reading

SUFFIXES = (".csv", ".parquet")


def place_of(table: str, root: Storage) -> tuple[Storage, str]:
    """Return the storage of a table and its name there.

    Args:
        table: a path below the root, or a path or URI of its own.
        root: the folder of the data set.
    """
    if "://" in table:
        address, mark, query = table.partition("?")
        folder, _, name = address.rpartition("/")
        return Storage(f"{folder}{mark}{query}"), name
    file = Path(table).expanduser()
    return (Storage(str(file.parent)), file.name) if file.is_absolute() else (root, table)


def rows_of(storage: Storage, name: str) -> Iterator[tuple[str, list[Any]]]:
    """Yield the names of the columns and then the rows of a table, each with where it stands.

    Raises:
        IcmBenchError: the file cannot be read, or is damaged; names file and line.
    """
    place = storage.path(name)
    with reading(place):
        if name.endswith(".parquet"):
            check_tried(storage, name)
        content = storage.read_bytes(name)
        yield from _of_parquet(content, place) if name.endswith(".parquet") else _of_csv(content, place)


def _of_csv(content: bytes, place: str) -> Iterator[tuple[str, list[Any]]]:
    """Yield the head and the lines of a CSV file, each with where it stands.

    Raises:
        IcmBenchError: it is no CSV in UTF-8, or a line has another number of cells than the head.
    """
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        head = next(reader, [])
        yield place, head
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(head):
                raise IcmBenchError(
                    f"Line {reader.line_num} of {place} has {len(cells)} cells and the head {len(head)}; quote what "
                    f"holds a comma."
                )
            yield f"line {reader.line_num} of {place}", cells
    except (UnicodeDecodeError, csv.Error) as error:
        raise IcmBenchError(f"{place} is not CSV in UTF-8 ({error}); save it as that.") from error


def _of_parquet(content: bytes, place: str) -> Iterator[tuple[str, list[Any]]]:
    """Yield the names and the rows of a Parquet file, each with where it stands."""
    file = pq.ParquetFile(pa.BufferReader(content))
    plain = [f.name for f in file.schema_arrow if not pa.types.is_nested(f.type) and not pa.types.is_binary(f.type)]
    yield place, plain
    row = 0
    for batch in file.iter_batches(4096, columns=plain):
        for cells in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield f"row {row} of {place}", list(cells)
            row += 1
