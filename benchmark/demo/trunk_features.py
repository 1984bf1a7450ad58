"""Features of drawings by a pretrained image tower, made by processes of one core each: MiniLiT learns from them."""

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

# Images in a forward pass: a pass is the work of one process, so that features do not depend on how many there are.
BATCH = 16
# Processes at most: each holds PyTorch and a tower, and more would start longer than they work.
MOST = 8


def image_features(
    workers: Workers, images: Sequence[PretrainingImage], trunk: str, size: int, kind: str | None, said: str
) -> Tensor:
    """Return (n, 1280) pooled features of the drawings, or of the view that a kind of intervention makes of each."""
    progress = Progress(said, len(images), "images")
    batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
    found: list[Tensor] = [torch.empty(0)] * len(batches)
    for number, features in workers.call_all(_of_batch, ((batch, trunk, size, kind) for batch in batches)):
        found[number] = torch.from_numpy(features)
        progress.update(len(features))
    progress.close()
    return torch.cat(found)


def feature_workers() -> Workers:
    """Return processes that make features, for each core one where there are several, which import what they need."""
    return Workers(min(cores(), MOST) if cores() > 1 else 0, __name__)


def pixels_of(image: Image.Image) -> Tensor:
    """Return an image's pixels, uint8, (3, h, w)."""
    return torch.from_numpy(np.asarray(image.convert("RGB"), dtype=np.uint8).copy()).permute(2, 0, 1)


def scaled(pixels: Tensor) -> Tensor:
    """Return values between -1 and 1, as the image tower was trained: mean and std 0.5."""
    return pixels.to(torch.float32) / 127.5 - 1


@torch.inference_mode()
def _of_batch(
    images: Sequence[PretrainingImage], trunk: str, size: int, kind: str | None
) -> Iterator[NDArray[np.float32]]:
    """Yield the features of a batch."""
    pixels = torch.stack([pixels_of(Image.open(io.BytesIO(image.png(size)))) for image in images])
    if kind:
        names = [f"{image.pack} {image.concept.slug}" for image in images]
        pixels = INTERVENTIONS.create(kind).views(pixels, names, seed=0)
    yield _pooled(trunk, size)(pixels).numpy()


class _Pooled(nn.Module):
    """A tower up to its pooled features, of pixels: uint8, shape (batch, 3, height, width)."""

    def __init__(self, trunk: str) -> None:
        super().__init__()
        tower: Any = TRUNKS[trunk].classifier()
        tower.classifier = nn.Identity()
        self._tower: nn.Module = tower.to(memory_format=torch.channels_last)  # twice as fast on a CPU

    def forward(self, pixels: Tensor) -> Tensor:
        return self._tower(scaled(pixels).contiguous(memory_format=torch.channels_last))


@functools.cache
def _pooled(trunk: str, size: int) -> Engine:
    """Return what makes features of images of this size: OpenVINO, at twice the speed, where it is installed."""
    tower = _Pooled(trunk)
    with suppress(Exception):  # not installed, or whatever a converter raises: PyTorch does it too
        return runner(converted(tower, (size, size)), "float32")
    return tower
