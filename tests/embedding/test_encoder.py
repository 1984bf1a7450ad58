"""The encoder actor without Ray: what it does when memory runs out, and that batching does not show."""

import resource
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray

from benchmark.backbones.loading import Backbone
from benchmark.backbones.spec import BackboneSpec
from benchmark.common.errors import IcmBenchError
from benchmark.embedding.batching import Batcher, Limits
from benchmark.embedding.chunks import DecodedChunk, EncoderFigures
from benchmark.embedding.encoder import GPU_BATCH, Encoder, batch_that_fits
from benchmark.method.interventions import INTERVENTIONS
from benchmark.store.embeddings import View, view_of

N = 21


@pytest.fixture
def spec(tiny_random: dict[str, Any]) -> BackboneSpec:
    return BackboneSpec(**tiny_random)


@pytest.fixture
def views() -> list[View]:
    kinds = [None, *(INTERVENTIONS.create(name) for name in ("color_jitter", "gaussian_blur", "invert"))]
    return [view_of("data", N, {}, kind, seed=3) for kind in kinds]


def chunk(lacking: int, views: list[View]) -> DecodedChunk:
    """A decoded chunk of random pixels in which two images cannot be read."""
    rng = np.random.default_rng(0)
    reasons = ["damaged" if i in (4, 20) else "" for i in range(N)]
    pixels = rng.integers(0, 256, (N, 32, 32, 3), dtype=np.uint8)
    pixels.flags.writeable = False  # as Ray hands it over
    names = [f"image {i}" for i in range(N)]
    images = pa.record_batch({"image_id": names, "path": names})
    kinds = [view.intervention for i, view in enumerate(views) if lacking >> i & 1]
    draws = [kind.draws(names, 3) if kind else np.empty((N, 0)) for kind in kinds]
    return DecodedChunk(0, lacking, images, lacking, reasons, pixels, decode_s=0.0, draws=draws)


def encoder(spec: BackboneSpec, views: list[View], batch_size: int, compile_model: bool = False) -> Encoder:
    return Encoder(spec, Backbone(spec).facts, views, batch_size, threads=None, compile_model=compile_model)


def embedded(one: Encoder, *chunks: DecodedChunk) -> list[tuple[NDArray[np.float32], EncoderFigures]]:
    """Return what the device's thread makes of chunks that wait together."""
    batcher = Batcher(lambda: one, Limits(calls=8, staged=8, begun=8, writes=1))
    with ThreadPoolExecutor(8) as calls:
        done = list(calls.map(batcher.encode, chunks))
    for given in chunks:
        batcher.release(given)
    return done


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_each_view_is_encoded_as_if_alone(spec: BackboneSpec, views: list[View], batch_size: int) -> None:
    [(embeddings, figures)] = [*embedded(encoder(spec, views, batch_size), chunk(0b1011, views))]  # all but the blur
    assert embeddings.shape == (N, 3, 16)
    assert not embeddings[[4, 20]].any()
    assert figures.batch_size == batch_size
    backbone, given = Backbone(spec), chunk(0, views)
    for position, view in enumerate(v for i, v in enumerate(views) if i != 2):
        for i in (0, 5, 19):
            image = torch.from_numpy(given.pixels[i : i + 1].copy()).permute(0, 3, 1, 2)
            if view.intervention:
                image = view.intervention.views(image, [f"image {i}"], 3)
            np.testing.assert_allclose(embeddings[i, position], backbone.encode_images(image)[0], atol=1e-5)


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory: you tried"), MemoryError()],
)
def test_out_of_memory_halves_the_batch_and_loses_nothing(
    spec: BackboneSpec, views: list[View], error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    [(expected, _)] = embedded(encoder(spec, views, 64), chunk(0b1111, views))
    tight = encoder(spec, views, 64)
    embed = tight._backbone.embed

    def small_memory(images: torch.Tensor) -> torch.Tensor:
        if len(images) > 10:
            raise error
        return embed(images)

    monkeypatch.setattr(tight._backbone, "embed", small_memory)
    [(embeddings, figures)] = embedded(tight, chunk(0b1111, views))
    assert figures.batch_size == 8
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)
    monkeypatch.setattr(tight._backbone, "embed", Mock(side_effect=error))
    with pytest.raises(IcmBenchError, match=r"Not even one image of 'tiny .*' fits into the memory"):
        embedded(tight, chunk(0b1111, views))


def test_other_errors_are_not_taken_for_memory(
    spec: BackboneSpec, views: list[View], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = encoder(spec, views, 4)
    monkeypatch.setattr(broken._backbone, "embed", Mock(side_effect=RuntimeError("no kernel")))
    with pytest.raises(RuntimeError, match="no kernel"):
        embedded(broken, chunk(1, views))


def test_other_weights_than_planned_are_refused(spec: BackboneSpec, views: list[View]) -> None:
    facts = replace(Backbone(spec).facts, fingerprint="0" * 64)
    with pytest.raises(IcmBenchError, match="are not those the run was planned with"):
        Encoder(spec, facts, views, 4, threads=None, compile_model=False)


def test_the_batch_follows_the_memory() -> None:
    assert batch_that_fits(80e9, 20e6) == GPU_BATCH
    assert batch_that_fits(1e9, 20e6) == 32  # 0.7 * 1000 / 20 = 35
    assert batch_that_fits(1e6, 20e6) == 1


@pytest.mark.long("a compiled tower gives other embeddings")
def test_a_compiled_tower_gives_the_same_embeddings(spec: BackboneSpec, views: list[View]) -> None:
    [(expected, _)] = embedded(encoder(spec, views, 8), chunk(0b1111, views))
    try:
        compiled = encoder(spec, views, 8, compile_model=True)
    except Exception as error:
        if "compiler" not in str(error).lower():
            raise
        pytest.skip("no C++ compiler on this machine")
    [(embeddings, _)] = embedded(compiled, chunk(0b1111, views))
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)


def test_figures_tell_the_speed_of_full_batches_and_memory_in_bytes(spec: BackboneSpec, views: list[View]) -> None:
    [(_, figures)] = embedded(encoder(spec, views, 4), chunk(0b1111, views))
    assert figures.ceiling > 0
    assert figures.encode_s > figures.views_s > 0
    assert 2**24 < figures.memory <= 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # Linux counts KiB


def test_views_are_made_on_the_cpu_for_a_device_without_float64(
    spec: BackboneSpec, views: list[View], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`meta` stands in for `mps`; its values could not be read back."""
    one = encoder(spec, views, 64)
    [(expected, _)] = embedded(one, chunk(0b1111, views))
    embed = one._backbone.embed
    monkeypatch.setattr(one._backbone, "device", torch.device("meta"))

    def on_host(images: torch.Tensor) -> torch.Tensor:
        assert images.device.type == "cpu"
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(one._backbone, "device", torch.device("cpu"))
            return embed(images)

    monkeypatch.setattr(one._backbone, "embed", on_host)
    [(given, _)] = embedded(one, chunk(0b1111, views))
    np.testing.assert_array_equal(given, expected)
