"""The few-shot probe: the linear probe on a handful of training images per class."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from pydantic import Field

from benchmark.method.arrays import Labels
from benchmark.method.predictors.base import Problem
from benchmark.method.predictors.linear_probe import LinearProbe
from benchmark.method.predictors.logistic import Head


class FewShotProbe(LinearProbe):
    """The linear probe on a few training images of every class, drawn over all source environments.

    The images depend on the trial's seed and are the same at every rank. A class that has fewer images gives all it
    has.

    Fields:
        shots: number of training images of every class.
        C: inverse weight of the L2 penalty, as for `linear_probe`.
        max_iter: largest number of steps of the solver at each rank.
    """

    registered_name: ClassVar[str] = "few_shot"
    shots: int = Field(default=16, ge=1)

    @property
    def variant(self) -> str:
        """The number of shots: few-shot tables have a line for each."""
        return f"{self.shots} shot{'s' if self.shots > 1 else ''}"

    def heads(self, problem: Problem, ranks: Sequence[int]) -> Iterator[Head]:
        """Yield the classifier of every rank; each starts from the one before."""
        rows = draw_shots(problem.labels, self.shots, problem.seed)
        few = {name: getattr(problem, name)[rows] for name in ("train", "labels")}
        environments = problem.environments[rows] if len(problem.environments) else problem.environments
        yield from super().heads(replace(problem, **few, environments=environments), ranks)


def draw_shots(labels: Labels, shots: int, seed: int) -> Labels:
    """Return the rows of up to `shots` images of every class, drawn without replacement.

    One generator, seeded with `seed`, serves the classes in the order of their labels.

    Args:
        labels: class of each training image, shape (n,).
        shots: number of images to draw from every class, >= 1.
        seed: seed of the draws, >= 0.

    Returns:
        Row numbers, class after class and ascending in each.
    """
    rng = np.random.default_rng(seed)
    drawn = [np.zeros(0, dtype=np.int64)]
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        drawn.append(np.sort(rng.choice(members, size=min(shots, len(members)), replace=False)))
    return np.concatenate(drawn)
