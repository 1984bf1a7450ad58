"""Interpolation between zero-shot head and linear probe, WiSE-FT (Wortsman et al., 2022, arXiv 2109.01903)."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from pydantic import Field

from benchmark.method.arrays import Array, unit
from benchmark.method.predictors.base import Problem, fitted_temperature
from benchmark.method.predictors.class_means import absent_classes
from benchmark.method.predictors.linear_probe import Probe

MAX_CALIBRATED = 5_000  # number of training images, evenly spaced, that a temperature is fitted to


class Interpolation(Probe, label="zero-shot/probe interpolation"):
    """WiSE-FT in the last layer: (1 - alpha) x zero-shot head + alpha x linear probe, for weights and intercepts.

    Both heads act on projected image embeddings of unit length, whether or not `problem.renormalize` is set. Both give
    calibrated logits, so that their scales agree. The weights of the zero-shot head are the projected text embeddings
    at unit length times logit scale / T; it has no intercept. At each rank, T is the temperature with the highest
    likelihood on the training images; the softmax is over the classes with images. The probe is fitted to the same
    images. Without T, zero-shot logits at a logit scale of 100 would dominate the probe's logits at any alpha below 1.

    A class without training images (an absent class) has the zero-shot weights in both heads. Adding one vector to the
    probe's weights of all present classes does not change their softmax, but it changes their scores relative to absent
    classes. So this vector must be fixed. The mean of the probe's weights over present classes is set to the zero-shot
    head's mean, and the mean of its intercepts to zero. Then both heads give the present classes the same mean logit on
    every image.

    The paper fine-tunes from the zero-shot weights. Here the probe minimises a convex objective and does not depend on
    a start.

    Fields:
        alpha: share of the linear probe. At 0, predictions are those of `zero_shot` with `scoring: cosine`. At 1, they
            are those of the linear probe on unit-length embeddings, among classes with training images. Default 0.5, as
            the paper recommends.
        C: inverse weights of the L2 penalty of the probe, as for `linear_probe`.
        max_iter: maximum number of the probe's solver steps at each rank and C.

    Raises:
        ValueError: there is no training image at all.
    """

    alpha: float = Field(default=0.5, ge=0, le=1)

    def _scores(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:
        problem = replace(problem, renormalize=True)
        present = ~absent_classes(problem)
        for rank, heads in zip(ranks, self.heads(problem, ranks), strict=True):
            tests = [problem.project(z, rank) for z in problem.tests]
            zero_shot = calibrated_zero_shot(problem, rank)
            mean = zero_shot[:, present].mean(axis=1, keepdims=True)
            for head in heads:
                probe, bias = zero_shot.copy(), np.zeros(problem.n_classes)
                probe[:, present] = head.weights[:, present]
                probe[:, present] += mean - probe[:, present].mean(axis=1, keepdims=True)
                bias[present] = head.bias[present] - head.bias[present].mean()
                weights = (1 - self.alpha) * zero_shot + self.alpha * probe
                yield [z @ weights + self.alpha * bias for z in tests]


def calibrated_zero_shot(problem: Problem, rank: int) -> Array:
    """Return zero-shot weights, shape (rank, n_classes), that give calibrated logits for unit-length embeddings."""
    weights = problem.logit_scale * unit(problem.text[:, :rank]).T
    present, labels = np.unique(problem.labels, return_inverse=True)
    if len(present) == 1:
        return weights  # with one class, any temperature gives probability 1
    rows = slice(None, None, -(-len(labels) // MAX_CALIBRATED))
    logits = unit(problem.train[rows, :rank]) @ weights[:, present]
    return weights / fitted_temperature(logits, labels[rows])
