"""Tip-Adapter: zero-shot logits plus a cache of a few training images (Zhang et al., 2022, arXiv 2111.03930)."""

from collections.abc import Iterator, Sequence

import numpy as np
from pydantic import Field

from benchmark.method.arrays import Array, Labels, unit
from benchmark.method.predictors.base import Predictor, Problem
from benchmark.method.predictors.class_means import absent_classes
from benchmark.method.predictors.clip_adapter import checked_weights, minimise
from benchmark.method.predictors.few_shot import count_shots, draw_shots

BLOCK = 4096  # test images per block; a block's affinities to all keys are in memory at once
EPSILON = 1e-4  # AdamW's epsilon, as in the authors' code


class TipAdapter(Predictor, label="Tip-Adapter"):
    """Tip-Adapter, equations 5 and 6, on projected embeddings of unit length.

        A = exp(-beta (1 - f F'))        logits = logit_scale f W' + alpha A L

    f is the image, F (the keys) the `shots` training images of every class, L (the values) their one-hot labels, and W
    the text embeddings. The trial's seed draws the keys over all source environments; they are the same at every rank.

    `trained` is Tip-Adapter-F: the keys are fine-tuned by cross-entropy on the same images. As in the authors' code,
    this uses AdamW with a cosine schedule, weight decay 0.01 and batches of 256. Unlike theirs, it uses no
    augmentation, keeps the last epoch instead of the best on the test set, and does not search alpha and beta
    afterwards. It runs in single precision. AdamW updates each coordinate separately. So fine-tuned keys depend on the
    basis even at full rank, unlike most predictors here.

    A class without training images has no keys and keeps its zero-shot logit, as published. It is left out of
    fine-tuning.

    Fields:
        shots: number of training images of every class in the cache. The default is the paper's.
        alpha: weight of the cache logits relative to the zero-shot logits. The default is the paper's.
        beta: rate at which the affinity A falls with the distance between image and key. The default is the paper's.
        trained: whether the keys are fine-tuned.
        epochs: number of passes over the images of the cache, only used with `trained`.
        learning_rate: learning rate in the first step.

    Raises:
        ValueError: there is no training image at all.
    """

    shots: int = Field(default=16, ge=1)
    alpha: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    beta: float = Field(default=5.5, ge=0, allow_inf_nan=False)
    trained: bool = False
    epochs: int = Field(default=20, ge=0)
    learning_rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False)

    @property
    def variant(self) -> str:
        """The number of shots, and whether keys are fine-tuned."""
        shots = f"{self.shots} shot{'s' if self.shots > 1 else ''}"
        return f"{shots}, trained" if self.trained else shots

    def labels_used(self, labels: Labels) -> int:
        """See `Predictor.labels_used`: the number of images in the cache."""
        return count_shots(labels, self.shots)

    def scores(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:
        """See `Predictor.scores`."""
        absent = absent_classes(problem)
        rows = draw_shots(problem.labels, self.shots, problem.seed)
        labels = problem.labels[rows]
        values = np.eye(problem.n_classes)[labels]
        for rank in ranks:
            keys = unit(problem.train[rows, :rank])
            text = problem.logit_scale * unit(problem.text[:, :rank])
            if self.trained:
                keys = self._fine_tuned(keys, text[~absent], np.searchsorted(np.flatnonzero(~absent), labels), problem)
            of_rank = [np.empty((len(z), len(text))) for z in problem.tests]
            for logits, z in zip(of_rank, problem.tests, strict=True):
                for first in range(0, len(z), BLOCK):
                    block = slice(first, first + BLOCK)
                    f = unit(z[block, :rank])
                    logits[block] = f @ text.T + self.alpha * np.exp(-self.beta * (1 - f @ keys.T)) @ values
            yield of_rank

    def _fine_tuned(self, keys: Array, text: Array, labels: Labels, problem: Problem) -> Array:
        """Return the fine-tuned keys of Tip-Adapter-F, shape (n, rank).

        `text` and `labels` must contain only classes with training images.
        """
        import torch

        images, targets = torch.from_numpy(keys).float(), torch.from_numpy(labels)
        zero_shot = images @ torch.from_numpy(text).float().T
        values = torch.nn.functional.one_hot(targets, len(text)).float()
        weight = images.clone().requires_grad_()

        def loss(batch: torch.Tensor) -> torch.Tensor:
            affinities = torch.exp(-self.beta * (1 - images[batch] @ weight.T))
            logits = zero_shot[batch] + self.alpha * affinities @ values
            return torch.nn.functional.cross_entropy(logits, targets[batch])

        optimizer = torch.optim.AdamW([weight], lr=self.learning_rate, eps=EPSILON)
        minimise(loss, optimizer, len(images), self.epochs, torch.Generator().manual_seed(problem.seed))
        return checked_weights(weight, self.name)
