"""Parts that fail, each in its own way, and one that is slow."""

import os
import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from benchmark.method.arrays import Array, Labels
from benchmark.method.interventions import Intervention
from benchmark.method.predictors.base import Predictor, Problem
from benchmark.method.predictors.zero_shot import ZeroShot
from benchmark.method.subspace.basis import Basis, Projection
from benchmark.method.subspace.moments import SourceMoments


class RaisesAView(Intervention):
    """Raises where it is to make a view."""

    def apply(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """See `Intervention.apply`."""
        raise KeyError("this intervention is broken")


class Raises(Predictor):
    """Raises, as a bug does."""

    def scores(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:  # noqa: ARG002
        """See `Predictor.scores`."""
        raise RuntimeError("this predictor is broken")


class RaisesInNumpy(Predictor):
    """Calls what raises."""

    def scores(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:  # noqa: ARG002
        """See `Predictor.scores`."""
        return np.linalg.inv(np.zeros((2, 2)))  # type: ignore[return-value]


class OutOfMemory(Predictor):
    """Ends its process as the kernel ends one that takes too much memory: at once, without a word."""

    def scores(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:  # noqa: ARG002
        """See `Predictor.scores`."""
        os.kill(os.getpid(), 9)
        raise AssertionError


class Hangs(Predictor):
    """Never returns."""

    def scores(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:  # noqa: ARG002
        """See `Predictor.scores`."""
        time.sleep(10_000)
        raise AssertionError


class Slow(ZeroShot):
    """Zero-shot prediction that takes its time, so that there is a moment to kill it in."""

    def predict(self, problem: Problem, ranks: Sequence[int]) -> list[Labels]:
        """See `Predictor.predict`."""
        time.sleep(0.05)
        return super().predict(problem, ranks)


class OneColumn(Predictor):
    """Answers in a wrong shape."""

    def scores(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:
        """See `Predictor.scores`."""
        for _ in ranks:
            yield [z[:, :1] for z in problem.tests]


class Nothing(Predictor):
    """Answers nothing where arrays are due."""

    def scores(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:  # noqa: ARG002
        """See `Predictor.scores`."""
        for _ in ranks:
            yield None  # type: ignore[misc]


class NoBasis(Projection):
    """Answers something else than a basis."""

    def fit(self, sources: SourceMoments) -> Basis:  # noqa: ARG002
        """See `Projection.fit`."""
        return 3  # type: ignore[return-value]


class CutView(Intervention):
    """Gives views of another size than the images'."""

    def apply(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """See `Intervention.apply`."""
        return images[..., :4]
