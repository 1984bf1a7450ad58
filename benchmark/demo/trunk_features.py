"""Pooled features of drawings by a pretrained image tower, for training MiniLiT; one process per core."""

import functools
import io
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from benchmark.common.conversion import Engine, converted, runner
from benchmark.common.terminal.progress import Progress
from benchmark.common.workers import Workers, cores
from benchmark.demo.emoji import PretrainingImage
from benchmark.demo.minilit import TRUNKS
from benchmark.method.interventions import INTERVENTIONS

# Images per forward pass. One process makes each pass, so that features do not depend on the number of processes.
BATCH = 16
# Each process loads PyTorch and a tower. More processes would take longer to start than to work.
MAX_PROCESSES = 8


def image_features(
    workers: Workers, images: Sequence[PretrainingImage], trunk: str, size: int, kind: str | None, description: str
) -> Tensor:
    """Return pooled features, shape (n, 1280), of the drawings or of their views under the intervention `kind`.

    The state of torch's random generator is left as it is: a tower that is built in this process draws initial weights.
    """
    progress = Progress(description, len(images), "images")
    batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
    found: list[Tensor] = [torch.empty(0)] * len(batches)
    with torch.random.fork_rng(devices=[]):
        for number, features in workers.call_all(_batch_features, ((batch, trunk, size, kind) for batch in batches)):
            found[number] = torch.from_numpy(features)
            progress.update(len(features))
    progress.close()
    return torch.cat(found)


def feature_workers() -> Workers:
    """Return worker processes for features, one per core, which import at their start; none on a single core."""
    return Workers(min(cores(), MAX_PROCESSES) if cores() > 1 else 0, __name__)


def pixels_of(image: Image.Image) -> Tensor:
    """Return the pixels of an image, uint8, shape (3, h, w)."""
    return torch.from_numpy(np.asarray(image.convert("RGB"), dtype=np.uint8).copy()).permute(2, 0, 1)


def scaled(pixels: Tensor) -> Tensor:
    """Return pixels scaled to [-1, 1], the normalisation of the image tower."""
    return pixels.to(torch.float32) / 127.5 - 1


@torch.inference_mode()
def _batch_features(
    images: Sequence[PretrainingImage], trunk: str, size: int, kind: str | None
) -> Iterator[NDArray[np.float32]]:
    """Yield the features of a batch."""
    pixels = torch.stack([pixels_of(Image.open(io.BytesIO(image.png(size)))) for image in images])
    if kind:
        names = [f"{image.pack} {image.concept.slug}" for image in images]
        pixels = INTERVENTIONS.create(kind).views(pixels, names, seed=0)
    yield _feature_engine(trunk, size)(pixels).numpy()


class _PooledTower(nn.Module):
    """The image tower without classifier: uint8 pixels, shape (batch, 3, height, width), to pooled features."""

    def __init__(self, trunk: str) -> None:
        super().__init__()
        tower: Any = TRUNKS[trunk].classifier()
        tower.classifier = nn.Identity()
        self._tower: nn.Module = tower.to(memory_format=torch.channels_last)  # twice as fast on a CPU

    def forward(self, pixels: Tensor) -> Tensor:
        return self._tower(scaled(pixels).contiguous(memory_format=torch.channels_last))


@functools.cache
def _feature_engine(trunk: str, size: int) -> Engine:
    """Return a function from pixels of this size to features; it uses OpenVINO (twice as fast) if that is installed."""
    tower = _PooledTower(trunk)
    with suppress(Exception):  # if OpenVINO is missing or its converter fails, use PyTorch
        return runner(converted(tower, (size, size)), "float32")
    return tower
