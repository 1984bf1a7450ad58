"""Chunks of images that the stages of the pipeline exchange through Ray, as typed Arrow rows.

One row of a Ray data set is one whole chunk of the store, so batching in Ray cannot mix chunks.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_TYPES = {int: pa.int64(), float: pa.float64(), str: pa.string()}
_IMAGE_TYPES = {"image_id": str, "environment": str, "class_name": str, "label": int, "path": str, "file": str}
_IMAGE_TYPES |= {"position": int, "bytes": int}
IMAGE_COLUMNS = [*_IMAGE_TYPES]  # columns of the manifest (`SCHEMA` in datasets/manifest.py) that a chunk has
_TASK_SCHEMA = pa.schema([("number", pa.int64()), ("requested_views", pa.int64())])
_MEASURED = {"decode_s": float, "checked_at": float, "retries": int, "waited_s": float}
_SCALARS = (*_TASK_SCHEMA.names, "missing_views", *_MEASURED)
DECODED = pa.schema(
    [
        *_TASK_SCHEMA,
        ("images", pa.list_(pa.struct([(name, _TYPES[kind]) for name, kind in _IMAGE_TYPES.items()]))),
        ("missing_views", pa.int64()),
        ("reasons", pa.list_(pa.string())),
        ("shape", pa.list_(pa.int64())),
        ("pixels", pa.large_binary()),
        ("draws", pa.list_(pa.list_(pa.float64()))),
        *((name, _TYPES[kind]) for name, kind in _MEASURED.items()),
    ]
)


@dataclass(frozen=True)
class Chunk:
    """A chunk with missing embeddings.

    Attributes:
        number: position among the chunks of the data set.
        requested_views: bit mask of the views that were missing when the job began; bit i is view i of the job.
        images: one row per image, with the columns `IMAGE_COLUMNS`.
    """

    number: int
    requested_views: int
    images: pa.RecordBatch

    @classmethod
    def cut(cls, row: pa.Table, images: pa.Table, size: int) -> "Chunk":
        """Return the chunk for a row of `Chunks.rows`; `images` and `size` are fields of `Chunks`."""
        number = row["number"][0].as_py()
        (rows,) = images.slice(number * size, size).combine_chunks().to_batches()
        return cls(number, row["requested_views"][0].as_py(), rows)


@dataclass(frozen=True)
class Chunks:
    """The chunks of a data set that have missing embeddings. Workers select a chunk's images by `Chunk.cut`.

    Attributes:
        images: the distinct images of the data set, one row per image, with the columns `IMAGE_COLUMNS`.
        size: number of images per chunk; the last chunk of the data set may have fewer.
        numbers: positions of the chunks among all chunks of the data set, shape (m,).
        requested_views: bit mask of the missing views of each chunk, shape (m,); bit i is view i of the job.
    """

    images: pa.Table
    size: int
    numbers: NDArray[np.int64]
    requested_views: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def pairs(self) -> int:
        """Number of (image, view) pairs to embed."""
        images = np.minimum(self.size, len(self.images) - self.numbers * self.size)
        return int((images * np.bitwise_count(self.requested_views)).sum())

    def rows(self, first: int = 0, per_task: int = 1, single_tasks: int = 0) -> list[pa.Table]:
        """Return tables with one row per chunk.

        The first tables have `per_task` rows. At least the last `single_tasks` chunks have a table each.

        The order of the chunks begins at position `first`; after the last chunk it continues with chunk 0.
        """
        columns = [np.roll(column, -first) for column in (self.numbers, self.requested_views)]
        every = pa.table(columns, schema=_TASK_SCHEMA)
        grouped = max(0, len(every) - single_tasks) // per_task * per_task
        cuts = [*range(0, grouped, per_task), *range(grouped, len(every) + 1)]
        return [every.slice(start, end - start).combine_chunks() for start, end in pairwise(cuts)]


@dataclass(frozen=True)
class DecodedChunk(Chunk):
    """A chunk with decoded images.

    Attributes:
        missing_views: bit mask of the views that are still missing. Another process may have written some of
            `requested_views`.
        reasons: for each image the reason why it cannot be read; empty for a readable image.
        pixels: uint8, shape (images, height, width, 3). If the decoding stage has made the views in `missing_views`,
            shape (images, views, height, width, 3). Zeros for unreadable images. Read-only, since processes may share
            the memory.
        draws: for each view in `missing_views`, the random parameters of its intervention, float64, shape (images, P).
            Empty if the decoding stage has made the views.
        decode_s: seconds to read and decode the images.
        checked_at: Unix time at which `missing_views` was determined. Default 0.
        retries: number of retried storage calls. Default 0.
        waited_s: seconds of waiting before these retries. Default 0.
    """

    missing_views: int
    reasons: list[str]
    pixels: NDArray[np.uint8]
    decode_s: float
    draws: list[NDArray[np.float64]] = field(default_factory=list, kw_only=True)
    checked_at: float = field(default=0.0, kw_only=True)
    retries: int = field(default=0, kw_only=True)
    waited_s: float = field(default=0.0, kw_only=True)

    def to_row(self) -> pa.Table:
        """Return the chunk as a table of one row; the pixels are not copied."""
        size = np.array([0, self.pixels.nbytes], dtype=np.int64)
        pixels = pa.LargeBinaryArray.from_buffers(
            pa.large_binary(), 1, [None, pa.py_buffer(size), pa.py_buffer(np.ascontiguousarray(self.pixels))]
        )
        columns = {
            "images": pa.ListArray.from_arrays([0, len(self.images)], self.images.to_struct_array()),
            "reasons": pa.array([self.reasons], pa.list_(pa.string())),
            "shape": pa.array([list(self.pixels.shape)]),
            "pixels": pixels,
            "draws": pa.array([[drawn.ravel() for drawn in self.draws]], DECODED.field("draws").type),
            **{name: pa.array([getattr(self, name)]) for name in _SCALARS},
        }
        return pa.table(columns, schema=DECODED)

    @classmethod
    def from_row(cls, table: pa.Table) -> "DecodedChunk":
        """Return the chunk in a table of one row; its pixels share the memory of the table."""
        shape = table["shape"][0].as_py()
        column = table["pixels"].chunk(0)  # `column[0]` would copy the pixels
        _, offsets, content = column.buffers()
        begin, end = np.frombuffer(offsets, dtype=np.int64)[column.offset :][:2]
        pixels = np.frombuffer(content, dtype=np.uint8)[begin:end].reshape(shape)
        plain = {name: table[name][0].as_py() for name in ("reasons", *_SCALARS)}
        images = pa.RecordBatch.from_struct_array(table["images"][0].values)
        draws = [drawn.values.to_numpy().reshape(len(images), -1) for drawn in table["draws"][0]]
        return cls(images=images, pixels=pixels, draws=draws, **plain)

    @cached_property
    def positions(self) -> list[int]:
        """Positions of `missing_views` among the views of the job."""
        return [bit for bit in range(self.missing_views.bit_length()) if self.missing_views >> bit & 1]

    @cached_property
    def readable(self) -> NDArray[np.int64]:
        """Positions of the readable images."""
        return np.array([i for i, reason in enumerate(self.reasons) if not reason], dtype=np.int64)


@dataclass(frozen=True)
class EncoderFigures:
    """Time, speed and memory of an encoder for one chunk.

    Attributes:
        encode_s: seconds of the device to make the views and to encode them.
        views_s: seconds of `encode_s` spent on making the views.
        ceiling: views/s of the bare model on full batches, median over batches so far; 0 before the first full batch.
        ready: Unix time at which the encoder was ready.
        first: Unix time of the encoder's first embeddings.
        batch_size: number of views per forward pass; halved if memory runs out.
        stalled_s: seconds so far in which the device waited only for the writing of earlier chunks. Default 0.
        memory: peak bytes of the encoder so far, see `machine.peak_memory`. Default 0: not measured.
    """

    encode_s: float
    views_s: float
    ceiling: float
    ready: float
    first: float
    batch_size: int
    stalled_s: float = field(default=0.0, kw_only=True)
    memory: int = field(default=0, kw_only=True)


# A new field is filled by `_EncodeAndWrite` (pipeline.py); its type must be in `_TYPES`.
@dataclass(frozen=True)
class ChunkCounts(EncoderFigures):
    """Counts of a finished chunk, for progress, speed and the record. Pairs are (image, view) pairs.

    Attributes:
        number: position of the chunk.
        encoder: number of the encoder that finished the chunk.
        host: name of the encoder's node.
        device: model of the encoder's GPU, `gpu` or `cpu`.
        tries: number of times that encoders of this run began the chunk; 0 if none did.
        images: number of images, unreadable ones included.
        decoded: number of images that were decoded; 0 if no view was missing any more.
        views: number of pairs that were encoded.
        written_by_lost: number of pairs that were written by an encoder of this run that was lost before it reported
            them.
        written_by_others: number of pairs that another process wrote in the meantime.
        unreadable: number of pairs of unreadable images.
        finished: number of finished pairs: the sum of the last four counts.
        decode_s: seconds to read and decode the images.
        retries: number of retried storage calls. Default 0.
        waited_s: seconds of waiting before these retries. Default 0.
    """

    number: int
    encoder: int
    host: str
    device: str
    tries: int
    images: int
    decoded: int
    views: int
    written_by_lost: int
    written_by_others: int
    unreadable: int
    finished: int
    decode_s: float
    retries: int = field(default=0, kw_only=True)
    waited_s: float = field(default=0.0, kw_only=True)

    @property
    def recomputed(self) -> bool:
        """Whether the chunk was computed again because the encoder that began it was lost."""
        return self.tries > 1

    def to_row(self) -> pa.Table:
        """Return the counts as a table of one row."""
        return pa.Table.from_pylist([asdict(self)], schema=COUNTS)

    @classmethod
    def from_rows(cls, table: pa.Table) -> Iterator["ChunkCounts"]:
        """Yield the counts of a table, row by row."""
        return (cls(**row) for row in table.to_pylist())


COUNTS = pa.schema([(f.name, _TYPES[f.type]) for f in fields(ChunkCounts)])  # type: ignore[index]
