"""Reader of Parquet files with images, as written by Hugging Face `datasets`, or with a plain column of bytes.

Files are read page by page. Images of earlier row groups stay in memory only while the batch still needs them.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmark.common.errors import IcmBenchError, some
from benchmark.common.storage.files import FileInfo
from benchmark.common.storage.parquet_check import check_tried
from benchmark.datasets.readers import base
from benchmark.datasets.readers.base import Batch, Entry, ImageReader

ROWS_AT_ONCE = 32
# A file may declare MAX_EMPTY_ROWS rows, and a further one per MIN_ROW_BYTES bytes of its size.
MIN_ROW_BYTES, MAX_EMPTY_ROWS = 16, 4096
# A column may expand to MAX_PACKING times its compressed size plus MAX_PACKED_BYTES.
MAX_PACKING, MAX_PACKED_BYTES = 1_000, 64 * 2**20
NO_BYTES = "no bytes are stored for it"


@dataclass(frozen=True)
class _Columns:
    """Names of the columns of a file. `leaf` has the encoded images, and `stored` has the paths of the images.

    `names` maps a column of numbers to the names in order of the numbers, or to None if the numbers are kept.
    """

    image: str
    leaf: str
    stored: str | None
    environment: str | None
    class_name: str
    group: str | None
    names: dict[str, Sequence[str] | None]


@dataclass(frozen=True)
class ParquetReader(ImageReader):
    """Reader of all Parquet files below `uri`, in order of their names."""

    arrangement: ClassVar[str] = "a column has the class, and a column or the folder of the file has the environment"
    files_at_once: ClassVar[int] = 2  # a page may be a whole row group, held compressed and decompressed

    @classmethod
    def claims(cls, names: Sequence[str]) -> bool:
        """Claim folders with Parquet files."""
        return any(name.endswith(".parquet") for name in names)

    def entries(self) -> Iterator[Entry]:
        """Yield the rows without reading their bytes; see `ImageReader.entries`."""
        for info in self.listed(recursive=True):
            if not info.is_folder and info.name.endswith(".parquet"):
                base.must_be_file(info, self.storage)
                yield from self._rows(info)

    def read(self, batch: Batch) -> Iterator[bytes | str]:
        """Yield the images, reading each row group once; see `ImageReader.read`.

        Images that are read before their turn in the batch stay in memory until then.
        """
        places: list[tuple[str, int]] = list(zip(batch["file"], (int(p) for p in batch["position"]), strict=True))
        groups = {file: self._row_groups(file) for file in dict.fromkeys(file for file, _ in places)}
        if lost := next((file for file, row in places if row >= len(groups[file])), None):
            raise base.changed(self.storage.path(lost))
        wanted: dict[tuple[str, int], dict[int, int]] = {}  # (file, row group) -> row -> size
        for (file, row), size in zip(places, batch["bytes"], strict=True):
            wanted.setdefault((file, groups[file][row]), {})[row] = int(size)
        ready: dict[tuple[str, int], bytes | str] = {}
        left = Counter(places)
        for file, row in places:
            if (group := (file, groups[file][row])) in wanted:
                ready |= {(file, r): content for r, content in self._read(*group, wanted.pop(group))}
            left[file, row] -= 1
            yield ready[file, row] if left[file, row] else ready.pop((file, row))

    def pieces(self, batch: Batch) -> Iterator[Iterable[bytes]]:
        """Yield each image in one piece; see `ImageReader.pieces`."""
        wanted = [int(position) for position in batch["position"]]
        if not wanted:
            return
        file = batch["file"][0]
        groups = self._row_groups(file)
        for group in dict.fromkeys(groups[row] for row in wanted):
            rows = {row for row in wanted if groups[row] == group}
            for row, cell in self._cells(file, group, max(rows)):
                if row in rows:
                    yield [cell.as_buffer()] if cell.is_valid else []

    def _read(self, file: str, group: int, rows: dict[int, int]) -> Iterator[tuple[int, bytes | str]]:
        """Yield (row, image or reason for its rejection) of a row group; `rows` maps the wanted rows to sizes."""
        for row, cell in self._cells(file, group, max(rows)):
            if row not in rows:
                continue
            size = cell.as_buffer().size if cell.is_valid else 0
            if size != rows[row]:
                raise base.changed(self.storage.path(file))
            if size > base.MAX_IMAGE_BYTES:
                yield row, base.oversized(size)
            else:
                yield row, cell.as_py() if size else NO_BYTES

    def _cells(self, file: str, group: int, last: int) -> Iterator[tuple[int, Any]]:
        """Yield (row, encoded image as an Arrow scalar) of a row group in order, up to the row `last`."""
        with self._opened(file) as parquet:
            leaf = self._columns(file, parquet.schema_arrow).leaf
            row = sum(parquet.metadata.row_group(i).num_rows for i in range(group))
            for batch in parquet.iter_batches(
                _rows_at_once(parquet.metadata.row_group(group), leaf), row_groups=[group], columns=[leaf]
            ):
                column = batch.column(0)
                cells = pa.compute.struct_field(column, 0) if pa.types.is_struct(column.type) else column
                for cell in cells:
                    yield row, cell
                    row += 1
                if row > last:
                    return

    def _row_groups(self, file: str) -> list[int]:
        """Return the row group of each row of a file."""
        with self._opened(file) as parquet:
            meta = parquet.metadata
            counts = [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
            return np.repeat(np.arange(len(counts)), counts).tolist()

    @contextmanager
    def _opened(self, file: str) -> Iterator[pq.ParquetFile]:
        # With a buffer Arrow reads page by page; without it, whole columns of a row group.
        with self.storage.open(file) as stream, base.reading(self.storage.path(file)):
            yield pq.ParquetFile(stream, buffer_size=2**20, pre_buffer=False)

    def _rows(self, info: FileInfo) -> Iterator[Entry]:
        place = self.storage.path(info.name)
        check_tried(self.storage, info.name)
        with self._opened(info.name) as parquet:
            _check_declared(parquet.metadata, info.bytes, place)
            columns = self._columns(info.name, parquet.schema_arrow)
            said, row = (columns.environment, columns.class_name, columns.group), 0
            for batch in parquet.iter_batches(4096, columns=[name for name in (columns.stored, *said) if name]):
                paths = none = [None] * len(batch)
                if columns.stored:
                    paths = pa.compute.struct_field(batch.column(columns.image), "path").to_pylist()
                cells = [batch.column(name).to_pylist() if name else none for name in said]
                for path, *of_row in zip(paths, *cells, strict=True):
                    where = f"in row {row} of {place}"
                    environment, class_name, group = (
                        base.text_of(cell, columns.names.get(name), f"The column '{name}' {where}") if name else None
                        for name, cell in zip(said, of_row, strict=True)
                    )
                    names = self.environment or environment or info.name.split("/", 1)[0], str(class_name)
                    path = self.named(path, *names, info.name, row)
                    yield Entry(path, *names, group, info.name, row, -1, info.modified_ns, info.bytes)
                    row += 1

    def _columns(self, file: str, schema: pa.Schema) -> _Columns:
        """Return the names of the columns of a file."""
        place, wanted = self.storage.path(file), self.columns
        if twice := next((name for name in schema.names if schema.names.count(name) > 1), None):
            raise IcmBenchError(f"{place} has the column '{twice:.60}' twice; rename or delete one of the two.")
        features = _features(schema)
        image = _image_column(schema, wanted.image, features, place)
        kind = schema.field(image).type
        others = [name for name in schema.names if name != image]
        environment = base.column_of(others, wanted.environment, "environment", place)
        class_name = base.column_of(others, wanted.class_name, "class_name", place)
        if class_name is None:
            raise IcmBenchError(
                f"{place} has none of the columns {', '.join(base.USUAL_COLUMNS['class_name'])}; name that of the "
                f"class in columns.class_name: {some(others) or 'there is no other than the image'}."
            )
        if environment is None and not self.environment and "/" not in file:
            raise IcmBenchError(
                f"{place} has none of the columns {', '.join(base.USUAL_COLUMNS['environment'])} and lies in no folder "
                f"below {self.storage.path('').rstrip('/')}; name the column in columns.environment, or put the file "
                f"in a folder named after its environment."
            )
        of_path, types = _inner(kind, "path"), pa.types
        has_paths = of_path and (types.is_string(of_path) or types.is_large_string(of_path) or types.is_null(of_path))
        return _Columns(
            image=image,
            leaf=f"{image}.bytes" if types.is_struct(kind) else image,
            stored=f"{image}.path" if has_paths else None,
            environment=None if self.environment else environment,
            class_name=class_name,
            group=base.column_of(others, wanted.group, "group", place),
            names={
                column: self.known_names(of, f"The feature '{column}' of {place}")
                for column, feature in features.items()
                if isinstance(of := feature.get("names"), list) and all(isinstance(name, str) for name in of)
            },
        )


def _features(schema: pa.Schema) -> dict[str, Any]:
    """Return column -> Hugging Face's description from the file's metadata; empty without descriptions."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _check_declared(meta: pq.FileMetaData, size: int, place: str) -> None:
    """Raise IcmBenchError if the metadata declare more rows or bytes than the file can contain."""
    groups = [meta.row_group(i) for i in range(meta.num_row_groups)]
    counts = [group.num_rows for group in groups]
    if any(count < 0 for count in counts) or not sum(counts) == meta.num_rows <= size // MIN_ROW_BYTES + MAX_EMPTY_ROWS:
        raise IcmBenchError(f"{place} says that it has {meta.num_rows} rows in {size} bytes; get it again.")
    for column in (group.column(i) for group in groups for i in range(group.num_columns)):
        packed, unpacked = column.total_compressed_size, column.total_uncompressed_size
        if unpacked > MAX_PACKING * packed + MAX_PACKED_BYTES:
            raise IcmBenchError(
                f"{place} says that {unpacked >> 20} MiB of '{column.path_in_schema:.60}' are packed in {packed} bytes,"
                f" which no images are; get it again, or pack it anew."
            )


def _rows_at_once(group: pq.RowGroupMetaData, leaf: str) -> int:
    """Return the number of rows per read.

    It is small if the column has a large dictionary, since every row may repeat the same large entry.
    """
    columns = [group.column(i) for i in range(group.num_columns)]
    longest = max(
        (c.total_uncompressed_size for c in columns if c.path_in_schema == leaf and c.has_dictionary_page), default=0
    )
    return max(1, min(ROWS_AT_ONCE, base.MAX_IMAGE_BYTES // max(1, longest)))


def _image_column(schema: pa.Schema, wanted: str | None, features: dict[str, Any], place: str) -> str:
    kinds = {field.name: _inner(field.type, "bytes") or field.type for field in schema}
    fits = [name for name, kind in kinds.items() if pa.types.is_binary(kind) or pa.types.is_large_binary(kind)]
    named = [name for name in fits if features.get(name, {}).get("_type") == "Image" or name == "image"]
    usual = next(iter(named or (fits if len(fits) == 1 else ())), None)
    column = usual if wanted is None else base.column_of(schema.names, wanted, "image", place)
    if column is None or column not in fits:
        raise IcmBenchError(
            f"{place} has no column '{wanted or 'image'}' of encoded images (bytes, or a struct of bytes and path); "
            f"name one in columns.image: {some(fits) or 'there is none'}."
        )
    return column


def _inner(kind: pa.DataType, name: str) -> pa.DataType | None:
    """Return the type of the field `name` of a struct; None for other types, or if the name is missing or ambiguous."""
    return kind.field(name).type if pa.types.is_struct(kind) and kind.get_field_index(name) >= 0 else None
