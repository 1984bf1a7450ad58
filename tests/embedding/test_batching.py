"""The device's thread: full batches of several chunks, limits of what a kill loses, errors, and no waiting for a GPU."""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from torch.utils._python_dispatch import TorchDispatchMode

from benchmark.backbones.loading import Backbone
from benchmark.backbones.spec import BackboneSpec
from benchmark.embedding.batching import Batcher, Limits, OutOfDeviceMemory, Part, WaitingChunk, by_view
from benchmark.embedding.chunks import DecodedChunk, EncoderFigures
from benchmark.embedding.encoder import Encoder
from benchmark.embedding.pool import CPU_LIMITS, limits_on_gpus
from benchmark.method.interventions import INTERVENTIONS
from benchmark.store.embeddings import view_of

ALL = Limits(calls=99, staged=99, begun=99, writes=1)
BATCH = 512


def chunk(number: int, missing: int, images: int = 64, unreadable: Sequence[int] = ()) -> DecodedChunk:
    """A chunk whose image i has the value 100 * number + i in its first pixel, as two bytes."""
    values = 100 * number + np.arange(images)
    pixels = np.zeros((images, 2, 2, 3), np.uint8)
    pixels[:, 0, 0, 0], pixels[:, 0, 0, 1] = values // 256, values % 256
    names = [f"{number}/{i}" for i in range(images)]
    reasons = ["damaged" if i in unreadable else "" for i in range(images)]
    draws = [np.empty((images, 0))] * missing.bit_count()
    given = pa.record_batch({"image_id": names, "path": names})
    return DecodedChunk(number, missing, given, missing, reasons, pixels, 0.0, draws=draws)


class Device:
    """Embeds the image of value v in view j as (v, j); `log` has the views of each batch, `gate` holds results back."""

    min_images, dim = 1, 2

    def __init__(self, batch_size: int = BATCH, depth: int = 2, is_open: bool = True, memory: int = 10**9) -> None:
        self.batch_size, self.depth, self.memory = batch_size, depth, memory
        self.log: list[int] = []
        self.begun: list[int] = []
        self.most = self._running = 0
        self.gate = threading.Event()
        if is_open:
            self.gate.set()

    def stage(self, given: DecodedChunk) -> NDArray[np.uint8]:
        return given.pixels[given.readable]

    def launch(self, parts: list[Part]) -> NDArray[np.float32]:
        made = []
        for view, lacking in by_view(parts).items():
            for part in lacking:
                first = part.waiting.staged[part.first : part.stop, 0, 0].astype(np.float32)
                made += [(256 * high + low, view) for high, low, _ in first]
        if len(made) > self.memory:
            raise OutOfDeviceMemory
        self.log.append(len(made))
        self._running += 1
        self.most = max(self.most, self._running)
        return np.array(made, np.float32)

    def has_ended(self, _: NDArray[np.float32]) -> bool:
        return self.gate.is_set()

    def collect(self, handle: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
        assert self.gate.wait(30)
        self._running -= 1
        return handle, 0.0

    def shrink(self) -> None:
        if self.batch_size == 1:
            raise ValueError("not even one")
        self.batch_size //= 2

    def figures(self) -> EncoderFigures:
        return EncoderFigures(0.0, 0.0, 0.0, 1.0, 1.0, self.batch_size)


@contextmanager
def calls(device: Device, chunks: Sequence[DecodedChunk], limits: Limits = ALL) -> Iterator[list[Future[Any]]]:
    """Hand chunks to the device from a thread each, as Ray does; a gate that is closed is opened at the end."""
    batcher = Batcher(lambda: device, limits, begin=lambda given: device.begun.append(given.number))
    with ThreadPoolExecutor(len(chunks)) as threads:

        def call(given: DecodedChunk) -> NDArray[np.float32]:
            z, _ = batcher.encode(given)
            batcher.release(given)
            return z

        yield [threads.submit(call, given) for given in chunks]
        device.gate.set()


def assert_right(given: DecodedChunk, z: NDArray[np.float32]) -> None:
    assert z.shape == (len(given.images), len(given.positions), 2)
    for position, view in enumerate(given.positions):
        for i, reason in enumerate(given.reasons):
            expected = (0, 0) if reason else (100 * given.number + i, view)
            assert tuple(z[i, position]) == expected


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("size", [1, 7, 100, BATCH])
def test_chunks_that_lack_different_views_get_their_own_embeddings(size: int, depth: int) -> None:
    lacking = [0b1, 0b1011, 0b111, 0b100, 0b1111, 0b0, 0b10]
    chunks = [chunk(n, bits, unreadable=(3, 63) if n % 2 else ()) for n, bits in enumerate(lacking)]
    chunks.append(chunk(8, 0b11, unreadable=range(64)))
    with calls(Device(size, depth), chunks) as done:
        for given, one in zip(chunks, done, strict=True):
            assert_right(given, one.result(30))


@pytest.mark.parametrize("views", [1, 2, 5, 8])
@pytest.mark.parametrize("images", [64, 256])
def test_nothing_is_computed_for_nothing_and_batches_are_full(views: int, images: int) -> None:
    """Work done over work asked is 1: batches are not padded. With all chunks at hand, all but two batches are full."""
    count = -(-11 * BATCH // (images * views))
    device = Device(is_open=False)
    with calls(device, [chunk(n, 2**views - 1, images) for n in range(count)]) as done:
        while sum(one.running() for one in done) < count:
            time.sleep(0.01)
        time.sleep(0.1)
        device.gate.set()
        for one in done:
            one.result(30)
    assert sum(device.log) == images * views * count
    assert len(device.log) <= -(-sum(device.log) // (BATCH - BATCH % views)) + 2
    assert device.most == 2


def test_a_kill_loses_no_more_than_the_limits_say() -> None:
    device = Device(64, depth=2, is_open=False)
    with calls(device, [chunk(n, 1) for n in range(9)], Limits(calls=9, staged=9, begun=3, writes=1)) as done:
        while len(device.begun) < 2:
            time.sleep(0.01)
        time.sleep(0.2)
        begun = list(device.begun)  # one is computed, one is queued
        device.gate.set()
        assert len([one.result(30) for one in done]) == 9
    assert len(begun) == 2
    held = Device(64, depth=1)
    batcher = Batcher(lambda: held, CPU_LIMITS, begin=lambda given: held.begun.append(given.number))
    with ThreadPoolExecutor(3) as threads:
        done = [threads.submit(batcher.encode, chunk(n, 1)) for n in range(3)]
        while len(held.log) < 2:
            time.sleep(0.01)
        time.sleep(0.2)
        assert len(held.begun) == 2, "two chunks are encoded and not written"
        batcher.release(chunk(0, 1))
        figures = [one.result(30)[1] for one in done]
    assert max(one.stalled_s for one in figures) > 0.1


def test_memory_that_runs_out_halves_the_batch_and_an_error_reaches_the_chunks_of_its_batch_alone() -> None:
    tight = Device(BATCH, memory=100)
    chunks = [chunk(n, 0b11) for n in range(5)]
    with calls(tight, chunks) as done:
        for given, one in zip(chunks, done, strict=True):
            assert_right(given, one.result(30))
    assert (tight.batch_size, max(tight.log)) == (64, 64)
    with calls(Device(8, memory=0), chunks[:1]) as done, pytest.raises(ValueError, match="not even one"):
        done[0].result(30)

    class Broken(Device):
        def launch(self, parts: list[Part]) -> NDArray[np.float32]:
            if any(part.waiting.chunk.number == 1 for part in parts):
                raise RuntimeError("no kernel")
            return super().launch(parts)

    with calls(Broken(64), [chunk(n, 1) for n in range(3)], replace(ALL, begun=2)) as done:
        with pytest.raises(RuntimeError, match="no kernel"):
            done[1].result(30)
        assert_right(chunk(2, 1), done[2].result(30))


@pytest.mark.parametrize(
    ("images", "views", "calls", "staged"), [(64, 1, 55, 25), (64, 8, 14, 4), (64, 5, 20, 6), (256, 8, 13, 3)]
)
def test_an_encoder_on_a_gpu_holds_three_batches_and_what_is_written(
    images: int, views: int, calls: int, staged: int
) -> None:
    block = images * 224 * 224 * 3
    limits = limits_on_gpus((images, views), BATCH, block, 4 * images * 512, share=1000)
    assert (limits.calls, limits.staged) == (calls, staged)
    assert limits.writes == 64
    assert limits.begun * images * views <= max(2 * images * views, 3 * BATCH) + 64 * images
    assert limits_on_gpus((images, views), BATCH, block, 4 * images * 512, share=4).calls == 4
    assert limits_on_gpus((images, views), BATCH, block, 2**24, share=1000).writes == max(4, views)


class NoReading(TorchDispatchMode):
    """Refuses what waits for a device: reading a number, a list or an array from it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert "_local_scalar_dense" not in str(func), func
        return func(*args, **(kwargs or {}))


@pytest.fixture
def real(tiny_random: dict[str, Any]) -> Encoder:
    """An encoder of a tiny model with all built-in interventions, and the original as view 0."""
    spec = BackboneSpec(**tiny_random)
    kinds = [None, *(INTERVENTIONS.create(name) for name in INTERVENTIONS.names() if name != "imported_view")]
    return Encoder(spec, Backbone(spec).facts, [view_of("x", 64, {}, k, 3) for k in kinds], 64, None, False)


@pytest.fixture
def on_meta(real: Encoder, monkeypatch: pytest.MonkeyPatch) -> Encoder:
    """The encoder on torch's device without data, on which reading a value raises."""
    real._backbone = Backbone(real._backbone.spec, device="meta")  # type: ignore[union-attr]
    monkeypatch.setattr(real._backbone, "_autocast", nullcontext)  # there is none on this device
    return real


def waiting(encoder: Encoder, number: int, missing: int, unreadable: Sequence[int] = ()) -> WaitingChunk:
    given = chunk(number, missing, unreadable=unreadable)
    ids = given.images["image_id"].to_pylist()
    views = [encoder._views[i] for i in given.positions]
    draws = [view.intervention.draws(ids, 3) if view.intervention else np.empty((64, 0)) for view in views]
    pixels = np.random.default_rng(number).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
    one = WaitingChunk(replace(given, draws=draws, pixels=pixels), np.zeros((64, len(views), encoder.dim), np.float32))
    one.staged = encoder.stage(one.chunk)
    return one


def test_parts_of_two_chunks_in_one_batch_have_the_views_of_each_image(real: Encoder) -> None:
    parts = [Part(waiting(real, 0, 0b10011), 10, 20), Part(waiting(real, 1, 0b110, unreadable=(0, 2)), 0, 9)]
    z, _ = real.collect(real.launch(parts))
    row = 0
    for view, lacking in by_view(parts).items():
        for part in lacking:
            for position in part.waiting.chunk.readable[part.first : part.stop]:
                image = torch.from_numpy(part.waiting.chunk.pixels[position : position + 1]).permute(0, 3, 1, 2)
                kind, name = real._views[view].intervention, f"{part.waiting.chunk.number}/{position}"
                image = kind.views(image, [name], 3) if kind else image
                np.testing.assert_allclose(z[row], real._backbone.embed(image)[0], atol=1e-5)
                row += 1
    assert row == len(z) == 10 * 3 + 9 * 2


def test_views_and_batches_never_wait_for_the_device(on_meta: Encoder) -> None:
    every = 2 ** len(on_meta._views) - 1
    parts = [Part(waiting(on_meta, 0, every), 10, 64), Part(waiting(on_meta, 1, 0b10011), 0, 20)]
    with NoReading():
        z, _ = on_meta._queued(parts)
    assert z.device.type == "meta"
    assert z.shape == (54 * len(on_meta._views) + 20 * 3, 16)
    with pytest.raises(Exception, match="meta"):  # reading does fail there
        z[0, 0].item()
