"""The group-DRO probe: a linear probe for the worst source environment (Sagawa et al., 2020, arXiv 1911.08731)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from pydantic import Field

from benchmark.method.arrays import Array, Labels
from benchmark.method.predictors.base import Head, Problem
from benchmark.method.predictors.linear_probe import Grid, LinearProbe
from benchmark.method.predictors.logistic import SoftmaxRegression

GAP = 1e-3  # rounds end if the objective is within this relative distance of its minimum
TINY = 1e-12  # denominators up to this value count as zero
MIN_WEIGHT = 1e-6  # minimum weight of a group, so that no long step drops a group permanently


class GroupDROProbe(LinearProbe, label="group-DRO probe"):
    """The linear probe that minimises the largest loss of a source environment.

        minimise over W, b :   n max_g l_g(W, b)  +  q / (2 C) ||W||^2

    with l_g the mean cross-entropy of the n_g training images of environment g, n = sum n_g, and q as for
    `linear_probe`. If all environments have the same loss, this is the objective of the linear probe with the same `C`.

    The problem is convex. So the same value and solution result from two steps: minimise n sum_g p_g l_g + q / (2 C)
    ||W||^2 over W, b for given environment weights p, and maximise this minimum over all p that are positive and sum to
    1. For given p, the solution is a linear probe with sample weights n p_g / n_g. The minimum is a concave function of
    p with slopes n l_g. Each round fits the probe for its p. Then it takes an exponentiated-gradient step: every p_g is
    multiplied by exp(eta l_g), and p is scaled to sum 1. In the first round p_g = n_g / n, which gives the plain probe,
    and eta = `step` / the mean loss.

    This is Sagawa's algorithm 1, except that a round computes the minimum where the algorithm takes one stochastic
    gradient step. The next eta is the ratio of two curvatures along the last step: that of the entropy of p to that of
    the minimum. A step that lowers the minimum is reverted. The largest minimum of all rounds is a lower bound of the
    objective. Rounds end when the best objective is within 0.1 % of this bound, usually after 6 rounds. The best
    classifier of all rounds is kept, so its objective is never above the plain probe's.

    Environments are `problem.environments`. With a single environment this is the linear probe.

    Fields:
        rounds: maximum number of rounds.
        step: length of the first exponentiated-gradient step, in units of 1 / the mean loss.
        C: inverse weights of the L2 penalty, as for `linear_probe`. The default grid is smaller, since the rounds take
            about ten times as long as a linear probe.
        penalty: `scaled` or `absolute`, as for `linear_probe`.
        max_iter: maximum number of solver steps in a round.
    """

    turns: ClassVar[bool] = False
    C: Grid = (0.316, 3.16, 31.6)
    rounds: int = Field(default=20, ge=1)
    step: float = Field(default=1.0, gt=0, allow_inf_nan=False)

    def heads(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Head]]:
        """Yield the classifiers of every rank, one for each C."""
        places = problem.environments if len(problem.environments) else np.zeros(len(problem.labels), dtype=np.int64)
        groups, strengths = np.unique(places, return_inverse=True)[1].astype(np.int64), self.strengths(problem)
        heads: list[Head] = []
        for rank in ranks:
            of_rank = replace(
                problem, train=problem.project(problem.train, rank), text=problem.text[:, :rank], tests=()
            )
            before, heads = heads, []
            for i, (setting, strength) in enumerate(zip(self.settings, strengths, strict=True)):
                head, gap = self._worst_group(of_rank, strength, groups, [*before[i : i + 1], *heads[-1:]])
                if gap > GAP:
                    what = f"after {self.rounds} rounds up to {100 * gap:.1f} % above the smallest objective."
                    setting.note(problem, rank, what)
                heads.append(setting.with_notes(head, problem, rank))
            yield heads

    def _worst_group(
        self, problem: Problem, strength: float, groups: Labels, starts: Sequence[Head]
    ) -> tuple[Head, float]:
        """Return the classifier with the lowest objective of all rounds, and its relative gap to the lower bound."""
        x, labels, n, n_g = problem.train, problem.labels, len(problem.labels), np.bincount(groups)

        def solve(p: Array, starts: Sequence[Head]) -> _Round:
            regression = SoftmaxRegression(x, labels, problem.n_classes, (n * p / n_g)[groups], problem.device)
            head = regression.fit(x.shape[1], strength, starts, self.max_iter)
            logits = head.logits(x)
            top = logits.max(axis=1)
            log_sums = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
            losses = np.bincount(groups, log_sums - logits[np.arange(n), labels]) / n_g  # cross-entropy
            return _Round(p, head, losses, worst=head.objective + n * float(np.max(losses) - p @ losses))

        best = current = solve(n_g / max(n, 1), starts)
        eta = self.step / max(float(current.p @ current.losses), TINY)
        for _ in range(self.rounds - 1):
            if best.worst - current.head.objective <= GAP * best.worst:
                break
            p = current.p * np.exp(eta * (current.losses - np.max(current.losses)))
            p = np.maximum(p / p.sum(), MIN_WEIGHT)
            following = solve(p / p.sum(), [current.head])
            best = min(best, following, key=lambda r: r.worst)
            forward = following.head.objective > current.head.objective
            eta = min(_secant(current, following, eta), np.inf if forward else eta / 2)
            current = following if forward else current
        return best.head, (best.worst - current.head.objective) / max(best.worst, TINY)


@dataclass(frozen=True)
class _Round:
    """The result of one round: the probe for one choice of environment weights."""

    p: Array  # weight of every environment, shape (E,), sum 1
    head: Head  # the classifier; its objective is a lower bound of the minimum of the worst-group objective
    losses: Array  # mean loss of every environment, shape (E,)
    worst: float  # value of the worst-group objective for this classifier


def _secant(a: _Round, b: _Round, eta: float) -> float:
    """Return the step length eta from the curvatures between two rounds (secant method).

    The gradient of the negative entropy is log p (up to a constant), and the gradient of the inner minimum is
    proportional to the losses. Their changes along the change of p give the two curvatures. If the losses do not
    change, the step is four times the last one.
    """
    moved = b.p - a.p
    entropy, reaction = float(moved @ np.log(b.p / a.p)), float(moved @ (a.losses - b.losses))
    return entropy / reaction if reaction > TINY else 4 * eta
