"""A stand-in for the encoder actor, for tests and measurements of the pipeline around it: no weights, no meaning.

Its embeddings are grey levels of sixteen places of the image, so they tell images apart and are the same in each run.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from benchmark.backbones.facts import BackboneFacts
from benchmark.datasets.manifest import Manifest
from benchmark.embedding.batching import Part
from benchmark.embedding.chunks import DecodedChunk, EncoderFigures
from benchmark.store import embeddings as store
from benchmark.store.embeddings import View, view_of

SIZE, DIM = 32, 16

FACTS = BackboneFacts(
    label="STAND-IN, NO MODEL",
    fingerprint="0" * 64,
    architecture="0" * 64,
    dim=DIM,
    preprocess={
        "size": [SIZE, SIZE], "mode": "RGB", "mean": [0.5] * 3, "std": [0.5] * 3,
        "interpolation": "bilinear", "resize_mode": "shortest", "fill_color": 0,
    },
    logit_scale=1.0,
    random_weights=True,
    precision="float32",
)  # fmt: skip


def grey_levels(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the stand-in's embeddings of images, shape (images, DIM)."""
    return pixels.reshape(len(pixels), -1)[:, :: pixels[0].size // DIM][:, :DIM].astype(np.float32)


def stand_in(seconds: float, log: Path | None = None, until: Path | None = None) -> type:
    """Return an encoder class that sleeps for each chunk, and then adds a line to a log.

    Args:
        seconds: that it sleeps.
        log: gets the id of the chunk's first image and the node, which `encoded` reads; None for no log.
        until: a file; once it is there, the encoder sleeps no longer. None for an encoder that always sleeps.
    """

    class StandIn:
        batch_size, min_images, depth, dim = 1, 256, 1, DIM  # whole chunks, one at a time

        def __init__(self, *_: Any) -> None:
            self._ready = time.time()

        def stage(self, chunk: DecodedChunk) -> NDArray[np.float32]:
            return grey_levels(chunk.pixels[chunk.readable])

        def launch(self, parts: list[Part]) -> NDArray[np.float32]:
            [part] = parts
            if until is None:
                time.sleep(seconds)
            else:
                wait_for(until.exists, seconds)
            self.ended(part)
            return np.concatenate([part.waiting.staged] * len(part.waiting.views))

        def ended(self, part: Part) -> None:
            if log:
                with log.open("a") as file:
                    node = ray.get_runtime_context().get_node_id()
                    file.write(f"{part.waiting.chunk.images['image_id'][0]} {node}\n")

        def has_ended(self, _: NDArray[np.float32]) -> bool:
            return True

        def collect(self, handle: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
            return handle, 0.0

        def figures(self) -> EncoderFigures:
            return EncoderFigures(0.0, 0.0, 64 / seconds, self._ready, time.time(), batch_size=1)

    return StandIn


def encoded(log: Path) -> list[tuple[str, str]]:
    """Return (id of the first image, node) of each chunk that encoders of a log have encoded, in their order."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [(image, node) for image, node in map(str.split, lines)]


def wait_for(what: Callable[[], bool], seconds: float, each: float = 0.2) -> bool:
    """Return whether something comes true within so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if what():
            return True
        time.sleep(each)
    return False


def views(manifest: Manifest, count: int) -> tuple[View, ...]:
    """Return the original and `count - 1` further places in the store."""
    images = len(store.distinct(manifest.table["image_id"]))
    return tuple(view_of(manifest.fingerprint, images, FACTS.identity() | {"copy": i}, None, 0) for i in range(count))
