"""Prediction of the class with the nearest mean embedding, the simplest use of labels."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from scipy.sparse import csr_array

from benchmark.method.arrays import Array, Mask
from benchmark.method.predictors.base import Predictor, Problem
from benchmark.method.predictors.zero_shot import ZeroShot


class ClassMeans(Predictor, label="class means"):
    """Predict the class c whose mean training embedding m_c is most similar to the embedding z.

    A class without training images is never predicted.

    Fields:
        metric: `cosine` (default): the score is the cosine of z and m_c times the logit scale, as in zero-shot
            prediction with means instead of text embeddings. `euclidean`: the score is -1/2 ||z - m_c||^2. Up to a
            constant this is the log-likelihood of a Gaussian with unit covariance (the nearest class mean classifier of
            Mensink et al., 2013, without their metric).

    Raises:
        ValueError: there is no training image at all.
    """

    learns_classes: ClassVar[bool] = True
    metric: Literal["cosine", "euclidean"] = "cosine"

    def scores(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:
        """See `Predictor.scores`. Without `renormalize`, all ranks together cost as much as rank D alone."""
        absent = absent_classes(problem)
        for of_rank in self._curve(problem, ranks):
            yield [np.where(absent, -np.inf, scores) for scores in of_rank]

    def _curve(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:
        if problem.renormalize:
            # After scaling to unit length, the coordinates at one rank are no prefix of the coordinates at the next.
            for rank in ranks:
                train, tests = problem.project(problem.train, rank), [problem.project(z, rank) for z in problem.tests]
                text = problem.text[:, :rank]
                of_rank = replace(problem, train=train, tests=tests, text=text, renormalize=False)
                yield from self._curve(of_rank, [rank])
            return
        n, counts = len(problem.labels), np.maximum(np.bincount(problem.labels, minlength=problem.n_classes), 1)
        member = csr_array((np.ones(n), (problem.labels, np.arange(n))), shape=(problem.n_classes, n))
        means = np.asarray(member @ problem.train / counts[:, None])  # zeros for a class that has no image
        if self.metric == "cosine":
            yield from ZeroShot().scores(replace(problem, text=means), ranks)
            return
        sums = [np.zeros((len(z), len(means))) for z in problem.tests]  # -1/2 ||z - m||^2 over the coordinates so far
        start = 0
        for rank in ranks:
            m = means[:, start:rank]
            for total, z in zip(sums, (z[:, start:rank] for z in problem.tests), strict=True):
                total += z @ m.T - (m**2).sum(axis=1) / 2 - (z**2).sum(axis=1, keepdims=True) / 2
            yield [total.copy() for total in sums]
            start = rank


def absent_classes(problem: Problem) -> Mask:
    """Return a mask of classes without training images, shape (n_classes,). ValueError: there is no training image."""
    if not len(problem.labels):
        raise ValueError("A predictor that learns from training images needs some, and there are none.")
    return np.bincount(problem.labels, minlength=problem.n_classes) == 0
