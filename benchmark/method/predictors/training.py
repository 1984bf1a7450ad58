"""What predictors that are trained by gradient descent share."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from benchmark.method.arrays import Array

if TYPE_CHECKING:
    import torch


BATCH = 256  # number of images in a step, as in the authors' code


def minimise(
    loss: "Callable[[torch.Tensor], torch.Tensor]",
    optimizer: "torch.optim.Optimizer",
    n: int,
    epochs: int,
    generator: "torch.Generator",
    size: int | None = None,
) -> None:
    """Train on batches of images with a learning rate that falls to zero along a half cosine.

    Args:
        loss: from the row numbers of some training images, int64, shape (batch,), to their mean loss, a scalar.
        optimizer: holds the parameters to be trained, and the learning rate of the first step.
        n: number of training images.
        epochs: number of passes over the training images; 0 leaves everything as it was.
        generator: draws the order of the images in each pass.
        size: number of images in a batch; by default `BATCH`.
    """
    import torch

    size = size or BATCH
    steps = epochs * -(-n // size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    for _ in range(epochs):
        for batch in torch.randperm(n, generator=generator).split(size):
            optimizer.zero_grad()
            loss(batch).backward()
            optimizer.step()
            schedule.step()


def checked_weights(weights: "torch.Tensor", name: str) -> Array:
    """Return trained weights in float64.

    Args:
        weights: what an optimizer was given.
        name: what messages call the predictor.

    Raises:
        ValueError: the training has diverged: a weight is NaN or infinite.
    """
    found = np.asarray(weights.detach().numpy(), dtype=np.float64)
    if not np.isfinite(found).all():
        raise ValueError(f"{name}: the training has diverged: weights are not finite. Use a smaller learning_rate.")
    return found
