"""The group-DRO probe: a linear probe for the worst source environment (Sagawa et al., 2020, arXiv 1911.08731)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import Field

from benchmark.method.arrays import Array, Labels
from benchmark.method.predictors.base import Problem
from benchmark.method.predictors.linear_probe import LinearProbe
from benchmark.method.predictors.logistic import Head, SoftmaxRegression

GAP = 1e-3  # how far above its minimum, relative to it, the objective may be when the rounds end by themselves
TINY = 1e-12  # what is not above it counts as zero where it would be divided by
MIN_WEIGHT = 1e-6  # smallest weight of a group, so that no long step loses one for good


class GroupDROProbe(LinearProbe):
    """The linear probe that minimises the loss of the source environment for which it is largest.

        minimise over W, b :   n max_g l_g(W, b)  +  ||W||^2 / (2 C)

    with l_g the mean cross-entropy of the n_g training images of environment g, and n = sum n_g: where all
    environments have the same loss, the objective is the linear probe's with the same `C`.

    The problem is convex, and max over weights q of min over W, b of n sum_g q_g l_g + ||W||^2 / (2 C) has the same
    value and the same solution. Its inner minimum is a linear probe with sample weights n q_g / n_g; in q it is
    concave with slopes n l_g. Every round of up to `rounds` solves the probe and takes an exponentiated-gradient step,
    q_g times exp(eta l_g), starting with q_g = n_g / n, which is the plain probe, and eta = `step` / the mean loss.
    This is Sagawa's algorithm 1 with the inner problem solved where they take one stochastic step. The last step tells
    how long the next should be: eta is the ratio of the curvatures of entropy and inner minimum along it; one that
    lowers the inner minimum is taken back. Rounds end when the best objective is within 0.1 % of a lower bound, the
    largest inner minimum: after 6 as a rule. The best head of all rounds is kept, so that the objective is never above
    the plain probe's.

    Environments are `problem.environments`; with only one, this is the linear probe.

    Fields:
        rounds: largest number of rounds.
        step: length of the first exponentiated-gradient step, in units of 1 / the mean loss.
        C: inverse weight of the L2 penalty, as for `linear_probe`.
        max_iter: largest number of steps of the solver in a round.
    """

    registered_name: ClassVar[str] = "group_dro"
    rounds: int = Field(default=20, ge=1)
    step: float = Field(default=1.0, gt=0, allow_inf_nan=False)

    def heads(self, problem: Problem, ranks: Sequence[int]) -> Iterator[Head]:
        """Yield the classifier of every rank; each starts from the one before."""
        groups = _groups(problem)
        head: Head | None = None
        for rank in ranks:
            x = problem.project(problem.train, rank)
            head = self._worst_group(x, problem.labels, problem.n_classes, groups, head)
            yield head

    def _worst_group(self, x: Array, labels: Labels, classes: int, groups: Labels, start: Head | None) -> Head:
        """Return the head with the lowest worst-group objective of all rounds."""
        n, n_g = len(labels), np.bincount(groups)

        def solve(q: Array, start: Head | None) -> _Round:
            head = SoftmaxRegression(x, labels, classes, (n * q / n_g)[groups]).fit(rank, self.C, start, self.max_iter)
            losses = np.bincount(groups, _cross_entropy(head.logits(x), labels)) / n_g
            return _Round(q, head, losses, worst=head.objective + n * float(np.max(losses) - q @ losses))

        rank = x.shape[1]
        best = current = solve(n_g / max(n, 1), start)
        eta = self.step / max(float(current.q @ current.losses), TINY)
        for _ in range(self.rounds - 1):
            if best.worst - current.head.objective <= GAP * best.worst:
                break
            following = solve(current.ascended(eta), current.head)
            best = min(best, following, key=lambda r: r.worst)
            forward = following.head.objective > current.head.objective
            eta = min(_secant(current, following, eta), np.inf if forward else eta / 2)
            current = following if forward else current
        return best.head


@dataclass(frozen=True)
class _Round:
    """One solution of the inner problem.

    Attributes:
        q: weight of every environment, shape (E,), with sum 1.
        head: the classifier; its objective is a lower bound of the minimum of the worst-group objective.
        losses: mean loss of every environment, shape (E,).
        worst: value of the worst-group objective at the head.
    """

    q: Array
    head: Head
    losses: Array
    worst: float

    def ascended(self, eta: float) -> Array:
        """Return q after a step of exponentiated gradient."""
        q = self.q * np.exp(eta * (self.losses - np.max(self.losses)))
        q = np.maximum(q / q.sum(), MIN_WEIGHT)
        return np.asarray(q / q.sum())


def _secant(a: _Round, b: _Round, eta: float) -> float:
    """Return the step that would end at the maximum if curvatures stayed what they were between two rounds.

    Both differences are along q: of log q, the gradient of the negative entropy, and of the losses, the gradient of
    the inner minimum. Where the losses do not react to q, the step is four times the last one.
    """
    moved = b.q - a.q
    entropy, reaction = float(moved @ np.log(b.q / a.q)), float(moved @ (a.losses - b.losses))
    return entropy / reaction if reaction > TINY else 4 * eta


def _groups(problem: Problem) -> Labels:
    """Return the number of the environment of every training image, counted from 0 without gaps, shape (n,)."""
    if not len(problem.environments):
        return np.zeros(len(problem.labels), dtype=np.int64)
    return np.unique(problem.environments, return_inverse=True)[1].astype(np.int64)


def _cross_entropy(logits: Array, labels: Labels) -> Array:
    """Return -log softmax(logits) at the label of every row, shape (n,)."""
    at_label = logits[np.arange(len(labels)), labels]
    top = logits.max(axis=1)
    return np.asarray(top + np.log(np.exp(logits - top[:, None]).sum(axis=1)) - at_label)
