"""CLIP-Adapter: a small network that moves image embeddings (Gao et al., 2021, arXiv 2110.04544)."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from benchmark.method.arrays import Array, Labels, unit
from benchmark.method.predictors.base import Predictor, Problem
from benchmark.method.predictors.class_means import absent_classes
from benchmark.method.predictors.training import checked_weights, minimise

if TYPE_CHECKING:
    import torch


class ClipAdapter(Predictor, label="CLIP-Adapter"):
    """CLIP-Adapter for images, on projected embeddings of unit length.

        f* = alpha ReLU(f W1) W2 + (1 - alpha) f        logits = logit_scale cos(f*, t_c)

    W1 is of shape (rank, rank // reduction), W2 of the transposed one; cross-entropy over all training images. (The
    authors' code has another ReLU after W2, which the paper has not and which would depend on the signs of a basis.)

    The optimiser is ours, because the paper's 1e-5 steps would take long: AdamW with a cosine schedule, weight decay
    0.01 and batches of 256. Single precision. W1 and W2 start uniform in +-1 / sqrt(inputs), from the trial's seed,
    which also orders the images; so results depend on the basis even at full rank.

    A class without training images takes no part in the training; its logit is that of the adapted embedding, as
    published.

    Fields:
        alpha: share of the adapted embedding in f* (the default is the paper's).
        reduction: factor by which the hidden layer is narrower than the rank (the default is the paper's).
        epochs: number of passes over the training images.
        learning_rate: learning rate of the first step.

    Raises:
        ValueError: there is no training image at all.
    """

    registered_name: ClassVar[str] = "clip_adapter"
    samples: ClassVar[bool] = True
    alpha: float = Field(default=0.2, ge=0, le=1)
    reduction: int = Field(default=4, ge=1)
    epochs: int = Field(default=10, ge=0)
    learning_rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False)

    def scores(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:
        """See `Predictor.scores`. Every rank is trained from the start: the network's width depends on it."""
        absent = absent_classes(problem)
        labels = np.searchsorted(np.flatnonzero(~absent), problem.labels)
        for rank in ranks:
            text = problem.logit_scale * unit(problem.text[:, :rank])
            w1, w2 = self._trained(unit(problem.train[:, :rank]), text[~absent], labels, problem.seed)
            yield [unit(self._adapted(unit(z[:, :rank]), w1, w2)) @ text.T for z in problem.tests]

    def _adapted(self, f: Array, w1: Array, w2: Array) -> Array:
        """Return f* for image embeddings f, shape (n, rank)."""
        return self.alpha * np.maximum(f @ w1, 0) @ w2 + (1 - self.alpha) * f

    def _trained(self, f: Array, text: Array, labels: Labels, seed: int) -> tuple[Array, Array]:
        """Return W1 and W2; `text` and `labels` are of the classes present."""
        import torch
        from torch.nn.functional import cross_entropy, normalize

        generator = torch.Generator().manual_seed(seed)
        rank, hidden = f.shape[1], max(1, f.shape[1] // self.reduction)
        w1 = _uniform(rank, hidden, generator)
        w2 = _uniform(hidden, rank, generator)
        images, names, targets = torch.from_numpy(f).float(), torch.from_numpy(text).float(), torch.from_numpy(labels)

        def loss(batch: torch.Tensor) -> torch.Tensor:
            f_batch = images[batch]
            adapted = self.alpha * torch.relu(f_batch @ w1) @ w2 + (1 - self.alpha) * f_batch
            return cross_entropy(normalize(adapted) @ names.T, targets[batch])

        optimizer = torch.optim.AdamW([w1, w2], lr=self.learning_rate)
        minimise(loss, optimizer, len(images), self.epochs, generator)
        return checked_weights(w1, self.name), checked_weights(w2, self.name)


def _uniform(inputs: int, outputs: int, generator: "torch.Generator") -> "torch.Tensor":
    """Return trainable weights, shape (inputs, outputs), uniform in +-1 / sqrt(inputs)."""
    import torch

    return ((2 * torch.rand(inputs, outputs, generator=generator) - 1) / inputs**0.5).requires_grad_()
