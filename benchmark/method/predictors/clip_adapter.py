"""CLIP-Adapter: a small network that moves image embeddings (Gao et al., 2021, arXiv 2110.04544)."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from benchmark.method.arrays import Array, Labels, unit
from benchmark.method.predictors.base import Predictor, Problem
from benchmark.method.predictors.class_means import absent_classes

if TYPE_CHECKING:
    import torch

BATCH = 256  # number of images in a step, as in the authors' code


class ClipAdapter(Predictor, label="CLIP-Adapter"):
    """CLIP-Adapter for images, on projected embeddings of unit length.

        f* = alpha ReLU(f W1) W2 + (1 - alpha) f        logits = logit_scale cos(f*, t_c)

    f is an image, t_c the text of class c. W1 has shape (rank, rank // reduction), W2 the transposed shape. They
    minimise the cross-entropy over all training images. (The authors' code has another ReLU after W2. The paper does
    not have it, and with it results would depend on the signs of basis vectors.)

    The optimiser is ours, since the paper's learning rate of 1e-5 is slow: AdamW in single precision with a cosine
    schedule, weight decay 0.01 and batches of 256. Entries of W1 and W2 start uniform in +-1 / sqrt(inputs). These
    entries and the order of images are drawn from the trial's seed. As the entries are drawn in the coordinates of the
    basis, results depend on the basis even at full rank.

    A class without training images is left out of training. It gets a logit from the adapted embedding like every other
    class, as published.

    Fields:
        alpha: share of the adapted embedding in f*. The default is the paper's.
        reduction: factor by which the hidden layer is narrower than the rank. The default is the paper's.
        epochs: number of passes over the training images.
        learning_rate: learning rate in the first step.

    Raises:
        ValueError: there is no training image at all.
    """

    samples: ClassVar[bool] = True
    alpha: float = Field(default=0.2, ge=0, le=1)
    reduction: int = Field(default=4, ge=1)
    epochs: int = Field(default=10, ge=0)
    learning_rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False)

    def scores(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:
        """See `Predictor.scores`. Every rank is trained from scratch, since the width of the network depends on it."""
        absent = absent_classes(problem)
        labels = np.searchsorted(np.flatnonzero(~absent), problem.labels)
        for rank in ranks:
            text = problem.logit_scale * unit(problem.text[:, :rank])
            w1, w2 = self._trained(unit(problem.train[:, :rank]), text[~absent], labels, problem.seed)
            images = (unit(z[:, :rank]) for z in problem.tests)
            yield [unit(self.alpha * np.maximum(f @ w1, 0) @ w2 + (1 - self.alpha) * f) @ text.T for f in images]

    def _trained(self, f: Array, text: Array, labels: Labels, seed: int) -> tuple[Array, Array]:
        """Return the trained W1 and W2. `text` and `labels` must contain only classes with training images."""
        import torch
        from torch.nn.functional import cross_entropy, normalize

        generator = torch.Generator().manual_seed(seed)
        rank, hidden = f.shape[1], max(1, f.shape[1] // self.reduction)

        def uniform(inputs: int, outputs: int) -> torch.Tensor:
            return ((2 * torch.rand(inputs, outputs, generator=generator) - 1) / inputs**0.5).requires_grad_()

        w1, w2 = uniform(rank, hidden), uniform(hidden, rank)
        images, names, targets = torch.from_numpy(f).float(), torch.from_numpy(text).float(), torch.from_numpy(labels)

        def loss(batch: torch.Tensor) -> torch.Tensor:
            f_batch = images[batch]
            adapted = self.alpha * torch.relu(f_batch @ w1) @ w2 + (1 - self.alpha) * f_batch
            return cross_entropy(normalize(adapted) @ names.T, targets[batch])

        optimizer = torch.optim.AdamW([w1, w2], lr=self.learning_rate)
        minimise(loss, optimizer, len(images), self.epochs, generator)
        return checked_weights(w1, self.name), checked_weights(w2, self.name)


def minimise(
    loss: "Callable[[torch.Tensor], torch.Tensor]",
    optimizer: "torch.optim.Optimizer",
    n: int,
    epochs: int,
    generator: "torch.Generator",
    size: int | None = None,
) -> None:
    """Minimise a loss on batches of images. The learning rate falls to zero along a half cosine.

    `loss` gets the row numbers of a batch. `optimizer` holds the parameters and the first learning rate. `generator`
    draws the order of images.
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
    """Return trained weights in float64. ValueError if training diverged: a weight is NaN or infinite."""
    found = np.asarray(weights.detach().numpy(), dtype=np.float64)
    if not np.isfinite(found).all():
        raise ValueError(f"{name}: the training has diverged: weights are not finite. Use a smaller learning_rate.")
    return found
