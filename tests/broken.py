"""Predictors that fail, each in its own way, and one that is slow."""

import os
import time
from collections.abc import Iterator, Sequence

from benchmark.predictors.base import Array, Labels, Predictor, Rotated
from benchmark.predictors.zero_shot import ZeroShot


class Raises(Predictor):
    """Raises, as a bug does."""

    def scores(self, problem: Rotated, ranks: Sequence[int]) -> Iterator[list[Array]]:  # noqa: ARG002
        """See `Predictor.scores`."""
        raise RuntimeError("this predictor is broken")


class OutOfMemory(Predictor):
    """Ends its process as the kernel ends one that takes too much memory: at once, without a word."""

    def scores(self, problem: Rotated, ranks: Sequence[int]) -> Iterator[list[Array]]:  # noqa: ARG002
        """See `Predictor.scores`."""
        os.kill(os.getpid(), 9)
        raise AssertionError


class Hangs(Predictor):
    """Never returns."""

    def scores(self, problem: Rotated, ranks: Sequence[int]) -> Iterator[list[Array]]:  # noqa: ARG002
        """See `Predictor.scores`."""
        time.sleep(10_000)
        raise AssertionError


class Slow(ZeroShot):
    """Zero-shot prediction that takes its time, so that there is a moment to kill it in."""

    registered_name = ""

    def predict(self, problem: Rotated, ranks: Sequence[int]) -> list[Labels]:
        """See `Predictor.predict`."""
        time.sleep(0.05)
        return super().predict(problem, ranks)
