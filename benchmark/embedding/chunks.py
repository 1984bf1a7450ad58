"""A chunk of images on its way through Ray: what the stages hand each other, to and from typed Arrow rows.

A row of Ray's is a whole chunk of the store, so that no batching of Ray's can mix chunks.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_IMAGE = pa.struct(
    [
        ("image_id", pa.string()),
        ("environment", pa.string()),
        ("class_name", pa.string()),
        ("label", pa.int64()),
        ("path", pa.string()),
        ("file", pa.string()),
        ("position", pa.int64()),
        ("bytes", pa.int64()),
    ]
)
IMAGE_COLUMNS = [column.name for column in _IMAGE]  # of the manifest, that travel with a chunk
_CHUNK = pa.schema([("number", pa.int64()), ("todo", pa.int64()), ("images", pa.list_(_IMAGE))])
DECODED = pa.schema(
    [
        *_CHUNK,
        ("lacking", pa.int64()),
        ("reasons", pa.list_(pa.string())),
        ("shape", pa.list_(pa.int64())),
        ("pixels", pa.large_binary()),
        ("decode_s", pa.float64()),
        ("looked", pa.float64()),
        ("retries", pa.int64()),
        ("waited_s", pa.float64()),
    ]
)
_PLAIN = ("decode_s", "looked", "retries", "waited_s")  # columns of single numbers


@dataclass(frozen=True)
class Chunk:
    """A chunk that lacks embeddings.

    Attributes:
        number: its position among the chunks of the data set.
        todo: the views that it lacked when the job began, as bits: bit i is view i of the job.
        images: one row for each image, with columns of the manifest.
    """

    number: int
    todo: int
    images: pa.RecordBatch

    def to_row(self) -> pa.Table:
        """Return the chunk as a table of one row."""
        return pa.table(self._columns(), schema=_CHUNK)

    @classmethod
    def from_row(cls, table: pa.Table) -> "Chunk":
        """Return the chunk that a table of one row holds."""
        return cls(table["number"][0].as_py(), table["todo"][0].as_py(), _images(table))

    def _columns(self) -> dict[str, pa.Array]:
        images = pa.ListArray.from_arrays([0, len(self.images)], self.images.to_struct_array())
        return {"number": pa.array([self.number]), "todo": pa.array([self.todo]), "images": images}


@dataclass(frozen=True)
class DecodedChunk(Chunk):
    """A chunk whose images are decoded.

    Attributes:
        lacking: the views still to be made, as bits: another process may have made some of `todo` by now.
        reasons: for each image why it cannot be read; empty for one that can be.
        pixels: uint8, shape (images, height, width, 3), or (images, views, height, width, 3) with the views in
            `lacking` where they are made at full resolution; zeros where an image cannot be read. Not to be
            written to: they may lie in memory that processes share.
        decode_s: seconds that it took to read and decode.
        looked: time of day, in seconds since 1970, at which `lacking` was so. Default 0: long ago.
        retries: number of calls to storage that were made again for it. Default 0.
        waited_s: seconds that these waited. Default 0.
    """

    lacking: int
    reasons: list[str]
    pixels: NDArray[np.uint8]
    decode_s: float
    looked: float = field(default=0.0, kw_only=True)
    retries: int = field(default=0, kw_only=True)
    waited_s: float = field(default=0.0, kw_only=True)

    def to_row(self) -> pa.Table:
        """Return the chunk as a table of one row; the pixels are not copied."""
        size = np.array([0, self.pixels.nbytes], dtype=np.int64)
        pixels = pa.LargeBinaryArray.from_buffers(
            pa.large_binary(), 1, [None, pa.py_buffer(size), pa.py_buffer(np.ascontiguousarray(self.pixels))]
        )
        columns = {
            "lacking": pa.array([self.lacking]),
            "reasons": pa.array([self.reasons], pa.list_(pa.string())),
            "shape": pa.array([list(self.pixels.shape)]),
            "pixels": pixels,
            **{name: pa.array([getattr(self, name)]) for name in _PLAIN},
        }
        return pa.table({**self._columns(), **columns}, schema=DECODED)

    @classmethod
    def from_row(cls, table: pa.Table) -> "DecodedChunk":
        """Return the chunk that a table of one row holds; its pixels are a view into the table."""
        shape = table["shape"][0].as_py()
        pixels = np.frombuffer(table["pixels"][0].as_buffer(), dtype=np.uint8).reshape(shape)
        plain = {name: table[name][0].as_py() for name in ("number", "todo", "lacking", "reasons", *_PLAIN)}
        return cls(images=_images(table), pixels=pixels, **plain)

    @cached_property
    def readable(self) -> NDArray[np.int64]:
        """Positions of the images that can be read."""
        return np.array([i for i, reason in enumerate(self.reasons) if not reason], dtype=np.int64)


def _images(table: pa.Table) -> pa.RecordBatch:
    return pa.RecordBatch.from_struct_array(table["images"][0].values)


@dataclass(frozen=True)
class EncoderFigures:
    """How an encoder fared with a chunk.

    Attributes:
        encode_s: seconds that it took to make the views and to encode them.
        views_s: seconds of these that the views took.
        ceiling: views/s of full batches through the bare model, their median so far; 0 where none was full yet.
        ready: time of day, in seconds since 1970, at which the encoder was ready to work.
        first: time of day at which its first embeddings were there.
        batch_size: number of views in a forward pass: it is halved when memory runs out.
        of_gemm: the ceiling's FLOP/s as a share of those of a large matrix product. Default 0: not measured.
        memory: bytes that it took at most so far: on a GPU what PyTorch allocated there, else all of its process.
            Default 0: not measured.
    """

    encode_s: float
    views_s: float
    ceiling: float
    ready: float
    first: float
    batch_size: int
    of_gemm: float = field(default=0.0, kw_only=True)
    memory: int = field(default=0, kw_only=True)


@dataclass(frozen=True)
class ChunkCounts(EncoderFigures):
    """What came of a chunk, for progress and speed.

    Attributes:
        images: number of its images, unreadable ones included.
        decoded: number of images that were decoded now; 0 where another process had made all its views.
        views: number of (image, view) pairs encoded now.
        finished: number of (image, view) pairs of the job that are settled with it, whoever made them.
        decode_s: seconds that it took to read and decode.
        retries: number of calls to storage that were made again for it. Default 0.
        waited_s: seconds that these waited. Default 0.
    """

    images: int
    decoded: int
    views: int
    finished: int
    decode_s: float
    retries: int = field(default=0, kw_only=True)
    waited_s: float = field(default=0.0, kw_only=True)

    def to_row(self) -> pa.Table:
        """Return the counts as a table of one row."""
        return pa.Table.from_pylist([asdict(self)], schema=COUNTS)

    @classmethod
    def from_rows(cls, table: pa.Table) -> Iterator["ChunkCounts"]:
        """Yield the counts that a table holds, row by row."""
        return (cls(**row) for row in table.to_pylist())


COUNTS = pa.schema([(f.name, pa.int64() if f.type is int else pa.float64()) for f in fields(ChunkCounts)])
