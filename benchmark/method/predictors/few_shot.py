"""The few-shot probe: the linear probe on a few training images per class."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from pydantic import Field

from benchmark.method.arrays import Labels
from benchmark.method.predictors.base import Head, Problem
from benchmark.method.predictors.linear_probe import LinearProbe


class FewShotProbe(LinearProbe, label="few-shot probe"):
    """The linear probe on a few training images of every class, drawn over all source environments.

    The images depend on the trial's seed and are the same at every rank. If a class has fewer images, all are used. The
    scaled penalty uses the mean squared length of the drawn images only.

    Fields:
        shots: number of training images of every class.
        C: inverse weights of the L2 penalty, as for `linear_probe`.
        penalty: `scaled` or `absolute`, as for `linear_probe`.
        max_iter: maximum number of solver steps at each rank and C.
    """

    samples: ClassVar[bool] = False
    shots: int = Field(default=16, ge=1)

    @property
    def variant(self) -> str:
        """The number of shots and the penalty, as text. Few-shot tables have one line for each number of shots."""
        return ", ".join(filter(None, (f"{self.shots} shot{'s' if self.shots > 1 else ''}", super().variant)))

    def labels_used(self, labels: Labels) -> int:
        """See `Predictor.labels_used`: the number of drawn images."""
        return count_shots(labels, self.shots)

    def heads(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Head]]:
        """Yield the classifiers of every rank, one for each C."""
        rows = draw_shots(problem.labels, self.shots, problem.seed)
        few = {name: getattr(problem, name)[rows] for name in ("train", "labels")}
        environments = problem.environments[rows] if len(problem.environments) else problem.environments
        yield from super().heads(replace(problem, **few, environments=environments), ranks)


def draw_shots(labels: Labels, shots: int, seed: int) -> Labels:
    """Return the row numbers of up to `shots` images of every class, drawn without replacement, class by class.

    All classes draw from one generator, in the order of their labels.
    """
    rng = np.random.default_rng(seed)
    drawn = [np.zeros(0, dtype=np.int64)]
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        drawn.append(np.sort(rng.choice(members, size=min(shots, len(members)), replace=False)))
    return np.concatenate(drawn)


def count_shots(labels: Labels, shots: int) -> int:
    """Return the number of images that `draw_shots` draws."""
    return int(np.minimum(np.bincount(labels), shots).sum())
