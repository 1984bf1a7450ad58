"""CoOp: prompts with context vectors learnt through the text encoder (Zhou et al., 2022, arXiv 2109.01134)."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from benchmark.method.arrays import Array, unit
from benchmark.method.predictors.base import Predictor, Problem
from benchmark.method.predictors.class_means import absent_classes
from benchmark.method.predictors.clip_adapter import checked_weights, minimise

if TYPE_CHECKING:
    from benchmark.method.predictors.base import Prompts

SPREAD = 0.02  # standard deviation of the initial vectors, as in the authors' code
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4  # parameters of SGD, as in the authors' code


class CoOp(Predictor, label="CoOp"):
    """CoOp, trained on stored image embeddings without augmentation.

        t_c = text tower([v_1 ... v_M, name of c, .])        logits = logit_scale cos(f, t_c)

    f is an image. All classes share the M context vectors v. They minimise the cross-entropy over all training images;
    its softmax is over the classes with images. Learnt text embeddings are projected like all others, and every rank is
    trained from scratch.

    The defaults are the authors' for 16 vectors before the name and 50 epochs: SGD with momentum 0.9, weight decay
    0.0005, batches of 32, and a learning rate of 0.002 that falls to zero along a half cosine. The trial's seed draws
    the initial vectors from N(0, 0.02^2). (The authors change the learning rate once per epoch, after a first epoch at
    1e-5. Here it changes at every step, without that first epoch.) A step runs the text encoder forward and backward on
    all classes, so use a GPU (`run.gpus_per_trial`).

    Fields:
        context: number M of vectors.
        epochs: number of passes over the training images.
        learning_rate: learning rate in the first step.
        batch: number of images in a step.

    Raises:
        ValueError: there is no training image at all, or no text tower.
    """

    uses_text_tower: ClassVar[bool] = True
    context: int = Field(default=16, ge=1, le=64)
    epochs: int = Field(default=50, ge=0)
    learning_rate: float = Field(default=0.002, gt=0, allow_inf_nan=False)
    batch: int = Field(default=32, ge=1)

    def scores(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:
        """See `Predictor.scores`."""
        if problem.tower is None:
            raise ValueError(f"{self.name}: the problem has no text tower, through which prompts are learnt.")
        prompts = problem.tower.prompts(self.context)
        for rank in ranks:
            text = problem.logit_scale * unit(self._learnt(problem, prompts, rank)[:, :rank])
            yield [unit(z[:, :rank]) @ text.T for z in problem.tests]

    def _learnt(self, problem: Problem, prompts: "Prompts", rank: int) -> Array:
        """Return the learnt text embeddings of all classes, shape (n_classes, D)."""
        import torch
        from torch.nn.functional import cross_entropy, normalize

        present = np.flatnonzero(~absent_classes(problem))
        device, generator = prompts.tokens.device, torch.Generator().manual_seed(problem.seed)
        first = SPREAD * torch.randn(prompts.context, prompts.width, generator=generator)
        vectors = first.to(device).requires_grad_()
        images = torch.from_numpy(unit(problem.train[:, :rank])).float().to(device)
        targets = torch.from_numpy(np.searchsorted(present, problem.labels)).to(device)
        classes = torch.from_numpy(present).to(device)

        def loss(batch: torch.Tensor) -> torch.Tensor:
            texts = normalize(prompts.texts(vectors, classes)[:, :rank])
            return cross_entropy(problem.logit_scale * images[batch] @ texts.T, targets[batch])

        optimizer = torch.optim.SGD([vectors], self.learning_rate, MOMENTUM, weight_decay=WEIGHT_DECAY)
        minimise(loss, optimizer, len(images), self.epochs, generator, self.batch)
        with torch.no_grad():
            return checked_weights(prompts.texts(vectors).cpu(), self.name)
