"""Interpolation between the weights of zero-shot head and linear probe (Wortsman et al., 2022, arXiv 2109.01903)."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from pydantic import Field

from benchmark.method.arrays import Array, unit
from benchmark.method.predictors.base import Problem, fitted_temperature
from benchmark.method.predictors.class_means import absent_classes
from benchmark.method.predictors.linear_probe import Probe

MAX_CALIBRATED = 5_000  # training images, evenly spaced, from which a temperature is fitted


class Interpolation(Probe, label="zero-shot/probe interpolation"):
    """WiSE-FT in the last layer: (1 - alpha) x the zero-shot head + alpha x the linear probe, weights and intercepts.

    Both act on projected image embeddings of unit length, for any `problem.renormalize`, and both give logits of one
    scale, those of calibrated probabilities: the zero-shot head has the projected text embeddings at unit length
    times logit scale / T as weights and no intercept, where T is the maximum-likelihood temperature on the training
    images (among classes with images; at every rank); the probe is fitted to the same images. With T = 1, a logit scale
    of 100, made to rank image-text pairs, would dominate the probe at any alpha below 1.

    A class without training images has the zero-shot head's weights in both. The probe's weights are determined up to a
    vector common to all classes, which does not change their softmax, but would change the score of absent classes
    relative to them. So the mean of the probe's weights over the present classes is set to that of the zero-shot
    head's, and the mean of its intercepts to zero: on every image both heads give the present classes the same mean
    logit.

    The paper fine-tunes from the zero-shot weights; here the probe is the minimum of a convex objective, independent of
    the start.

    Fields:
        alpha: share of the linear probe: 0 predicts as zero-shot prediction with the cosine does, 1 among the classes
            with training images as the linear probe on unit-length embeddings. Default 0.5, which the paper recommends.
        C: inverse weights of the probe's L2 penalty, as for `linear_probe`.
        max_iter: largest number of steps of the probe's solver at each rank and C.

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
    """Return the zero-shot head's weights in units of calibrated logits on unit-length embeddings, (rank, K)."""
    weights = problem.logit_scale * unit(problem.text[:, :rank]).T
    present, labels = np.unique(problem.labels, return_inverse=True)
    if len(present) == 1:
        return weights  # any temperature gives probability 1
    rows = slice(None, None, -(-len(labels) // MAX_CALIBRATED))
    logits = unit(problem.train[rows, :rank]) @ weights[:, present]
    return weights / fitted_temperature(logits, labels[rows])
