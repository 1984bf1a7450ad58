"""A stand-in for the encoder actor, for tests and measurements of the pipeline around it: no weights, no meaning.

Its embeddings are grey levels of sixteen places of the image, so they tell images apart and are the same in each run.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.backbones.facts import BackboneFacts
from benchmark.datasets.manifest import Manifest
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


def stand_in(seconds: float, log: Path | None = None) -> type:
    """Return an encoder class that sleeps so many seconds for each chunk and writes the id of its first image into `log`."""

    class StandIn:
        def __init__(self, *_: Any) -> None:
            self._ready = time.time()

        def __call__(self, chunk: DecodedChunk) -> tuple[NDArray[np.float32], EncoderFigures]:
            grey = grey_levels(chunk.pixels)
            time.sleep(seconds)
            if log:
                with log.open("a") as file:
                    file.write(f"{chunk.images['image_id'][0]}\n")
            images = len(chunk.images)
            figures = EncoderFigures(seconds, 0.0, images / seconds, self._ready, time.time(), batch_size=1)
            return np.repeat(grey[:, None], chunk.missing_views.bit_count(), axis=1), figures

    return StandIn


def views(manifest: Manifest, count: int) -> tuple[View, ...]:
    """Return the original and `count - 1` further places in the store."""
    images = len(store.distinct(manifest.table["image_id"]))
    return tuple(view_of(manifest.fingerprint, images, FACTS.identity() | {"copy": i}, None, 0) for i in range(count))
