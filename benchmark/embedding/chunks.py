"""A chunk of images on its way through Ray: what the stages hand each other, to and from typed Arrow rows.

A row of Ray's is a whole chunk of the store, so that no batching of Ray's can mix chunks.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_TYPES = {int: pa.int64(), float: pa.float64(), str: pa.string()}
_OF_IMAGES = {"image_id": str, "environment": str, "class_name": str, "label": int, "path": str, "file": str}
_OF_IMAGES |= {"position": int, "bytes": int}
IMAGE_COLUMNS = [*_OF_IMAGES]  # of the manifest, that travel with a chunk
_PLAIN = {"decode_s": float, "looked": float, "retries": int, "waited_s": float}  # columns of single numbers
_LACKING = pa.schema([("number", pa.int64()), ("todo", pa.int64())])
DECODED = pa.schema(
    [
        *_LACKING,
        ("images", pa.list_(pa.struct([(name, _TYPES[kind]) for name, kind in _OF_IMAGES.items()]))),
        ("lacking", pa.int64()),
        ("reasons", pa.list_(pa.string())),
        ("shape", pa.list_(pa.int64())),
        ("pixels", pa.large_binary()),
        *((name, _TYPES[kind]) for name, kind in _PLAIN.items()),
    ]
)


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

    @classmethod
    def cut(cls, row: pa.Table, images: pa.Table, size: int) -> "Chunk":
        """Return the chunk that a row of `Chunks.rows` stands for."""
        number = row["number"][0].as_py()
        (rows,) = images.slice(number * size, size).combine_chunks().to_batches()
        return cls(number, row["todo"][0].as_py(), rows)


@dataclass(frozen=True)
class Chunks:
    """The chunks of a data set that lack embeddings; the images of each are cut out where they are decoded.

    Attributes:
        images: the images of the data set that are embedded, one row for each, with the columns `IMAGE_COLUMNS`.
        size: number of images in a chunk; the last of the data set may have fewer.
        numbers: positions of the chunks among all of the data set, shape (m,).
        todo: the views that each lacks, as bits, shape (m,); bit i is view i of the job.
    """

    images: pa.Table
    size: int
    numbers: NDArray[np.int64]
    todo: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def pairs(self) -> int:
        """Number of (image, view) pairs that are to be embedded."""
        images = np.minimum(self.size, len(self.images) - self.numbers * self.size)
        return int((images * np.bitwise_count(self.todo)).sum())

    def rows(self, first: int = 0, together: int = 1, alone: int = 0) -> list[pa.Table]:
        """Return tables of a row for each chunk, which `Chunk.cut` takes."""
        columns = [np.roll(column, -first) for column in (self.numbers, self.todo)]
        every = pa.table(columns, schema=_LACKING)
        grouped = max(0, len(every) - alone) // together * together
        cuts = [*range(0, grouped, together), *range(grouped, len(every) + 1)]
        return [every.slice(start, end - start).combine_chunks() for start, end in pairwise(cuts)]


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
            "images": pa.ListArray.from_arrays([0, len(self.images)], self.images.to_struct_array()),
            "reasons": pa.array([self.reasons], pa.list_(pa.string())),
            "shape": pa.array([list(self.pixels.shape)]),
            "pixels": pixels,
            **{name: pa.array([getattr(self, name)]) for name in ("number", "todo", "lacking", *_PLAIN)},
        }
        return pa.table(columns, schema=DECODED)

    @classmethod
    def from_row(cls, table: pa.Table) -> "DecodedChunk":
        """Return the chunk that a table of one row holds; its pixels are a view into the table."""
        shape = table["shape"][0].as_py()
        pixels = np.frombuffer(table["pixels"][0].as_buffer(), dtype=np.uint8).reshape(shape)
        plain = {name: table[name][0].as_py() for name in ("number", "todo", "lacking", "reasons", *_PLAIN)}
        images = pa.RecordBatch.from_struct_array(table["images"][0].values)
        return cls(images=images, pixels=pixels, **plain)

    @cached_property
    def readable(self) -> NDArray[np.int64]:
        """Positions of the images that can be read."""
        return np.array([i for i, reason in enumerate(self.reasons) if not reason], dtype=np.int64)


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
    """What came of a chunk, for progress, speed and the record.

    Attributes:
        number: of the chunk.
        encoder: number of the encoder that had it last.
        host: name of the encoder's node.
        device: kind of its GPU, `gpu` or `cpu`.
        tries: how often encoders began it, this time included; 0 where no encoder of this run did.
        images: number of its images, unreadable ones included.
        decoded: number of images that were decoded now; 0 where another process had made all its views.
        views: number of pairs encoded now.
        before: number of pairs that an encoder of this run wrote which was lost before it could say so.
        others: number of pairs that another process wrote meanwhile.
        unreadable: number of pairs that are settled, since their images cannot be read.
        finished: number of pairs of the job that are settled with it, whoever made them: the sum of these four.
        decode_s: seconds that it took to read and decode.
        retries: number of calls to storage that were made again for it. Default 0.
        waited_s: seconds that these waited. Default 0.
    """

    number: int
    encoder: int
    host: str
    device: str
    tries: int
    images: int
    decoded: int
    views: int
    before: int
    others: int
    unreadable: int
    finished: int
    decode_s: float
    retries: int = field(default=0, kw_only=True)
    waited_s: float = field(default=0.0, kw_only=True)

    @property
    def again(self) -> bool:
        """Whether some of it was computed a second time: an encoder was lost that had begun it."""
        return self.tries > 1

    def to_row(self) -> pa.Table:
        """Return the counts as a table of one row."""
        return pa.Table.from_pylist([asdict(self)], schema=COUNTS)

    @classmethod
    def from_rows(cls, table: pa.Table) -> Iterator["ChunkCounts"]:
        """Yield the counts that a table holds, row by row."""
        return (cls(**row) for row in table.to_pylist())


COUNTS = pa.schema([(f.name, _TYPES[f.type]) for f in fields(ChunkCounts)])  # type: ignore[index]
