"""Chunks and their counts are unchanged by a round trip through Arrow rows."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from benchmark.embedding.chunks import IMAGE_COLUMNS, Chunk, ChunkCounts, Chunks, DecodedChunk

COUNTS = ChunkCounts(
    encode_s=1.5, views_s=0.25, ceiling=80.0, ready=1e9, first=1e9 + 1, batch_size=32,
    number=7, encoder=1, host="a", device="L4", tries=2, images=3, decoded=3, views=4,
    written_by_lost=0, written_by_others=0, unreadable=2, finished=6, decode_s=0.5,
)  # fmt: skip


@pytest.fixture
def images() -> pa.RecordBatch:
    """Three rows of a manifest, cut out of its middle as the pipeline does."""
    numbers = {name: [i * 10 for i in range(5)] for name in ("label", "position", "bytes")}
    columns: dict[str, Any] = {name: numbers.get(name, [f"{name} {i}" for i in range(5)]) for name in IMAGE_COLUMNS}
    return pa.record_batch(columns).slice(1, 3)


def test_chunks_are_cut_out_of_the_images_by_their_rows() -> None:
    images = pa.table({name: [f"{name} {i}" for i in range(11)] for name in IMAGE_COLUMNS})
    chunks = Chunks(images, 4, np.array([0, 2]), np.array([0b1, 0b101]))
    assert len(chunks) == 2
    assert chunks.pairs == 4 * 1 + 3 * 2  # the last of the data set has three images
    for first, order in ((0, [0, 2]), (1, [2, 0])):
        rows = [pa.ipc.open_stream(_sent(row)).read_all() for row in chunks.rows(first)]
        assert [row.num_rows for row in rows] == [1, 1]
        cut = [Chunk.cut(row, images, 4) for row in rows]
        assert [chunk.number for chunk in cut] == order
        assert {chunk.number: chunk.requested_views for chunk in cut} == {0: 0b1, 2: 0b101}
        for chunk in cut:
            assert pa.Table.from_batches([chunk.images]).equals(images.slice(4 * chunk.number, 4))


@pytest.mark.parametrize(
    ("chunks", "together", "alone", "sizes"),
    [
        (11, 4, 2, [4, 4, 1, 1, 1]),
        (11, 4, 3, [4, 4, 1, 1, 1]),
        (11, 4, 4, [4] + 7 * [1]),
        (3, 4, 8, [1, 1, 1]),
        (4, 2, 0, [2, 2]),
    ],
)
def test_chunks_go_together_but_for_the_last_ones(chunks: int, together: int, alone: int, sizes: list[int]) -> None:
    images = pa.table({name: [f"{name} {i}" for i in range(chunks)] for name in IMAGE_COLUMNS})
    rows = Chunks(images, 1, np.arange(chunks), np.ones(chunks, dtype=np.int64)).rows(0, together, alone)
    assert [row.num_rows for row in rows] == sizes
    assert pa.concat_tables(rows)["number"].to_pylist() == list(range(chunks))


@pytest.mark.parametrize("shape", [(3, 4, 5, 3), (3, 2, 4, 5, 3), (3, 0, 4, 5, 3)])
def test_a_decoded_chunk(images: pa.RecordBatch, shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    row = DecodedChunk(7, 0b101, images, 0b100, ["", "cut off", ""], pixels, 0.5).to_row()
    chunk = DecodedChunk.from_row(pa.ipc.open_stream(_sent(row)).read_all())
    assert (chunk.number, chunk.requested_views, chunk.missing_views, chunk.decode_s) == (7, 0b101, 0b100, 0.5)
    assert chunk.images.equals(images)
    assert chunk.reasons == ["", "cut off", ""]
    assert chunk.readable.tolist() == [0, 2]
    np.testing.assert_array_equal(chunk.pixels, pixels)


def _sent(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def test_counts() -> None:
    rows = pa.concat_tables([COUNTS.to_row(), COUNTS.to_row()])
    assert list(ChunkCounts.from_rows(rows)) == [COUNTS, COUNTS]
