"""Which points a search tries next: at random, or by Optuna."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from benchmark.recipe.specs import SearchSpec

Point = Mapping[str, float]  # parameter (`lambda`, or `KIND.PARAMETER`) -> value
DIGITS = 3  # significant ones of a searched value: equal points are equal, and labels stay short


class Suggester(Protocol):
    """Says which points to try next."""

    def ask(self, n: int) -> list[Point]:
        """Return the next `n` points."""

    def tell(self, scores: Sequence[float | None]) -> None:
        """Take the scores of the points asked for last, None for one that failed; higher is better."""


class RandomSuggester:
    """Points at random, log-uniform where both bounds are above zero.

    Args:
        space: parameter -> (low, high).
        seed: seed of the generator.
    """

    def __init__(self, space: Mapping[str, tuple[float, float]], seed: int) -> None:
        self._space, self._rng = space, np.random.default_rng(seed)

    def ask(self, n: int) -> list[Point]:
        """See `Suggester.ask`."""
        return [{name: self._draw(*bounds) for name, bounds in self._space.items()} for _ in range(n)]

    def tell(self, scores: Sequence[float | None]) -> None:
        """See `Suggester.tell`; nothing is learnt."""

    def _draw(self, low: float, high: float) -> float:
        if low > 0:
            return _rounded(float(np.exp(self._rng.uniform(np.log(low), np.log(high)))))
        return _rounded(float(self._rng.uniform(low, high)))


class OptunaSuggester:
    """Points by Optuna's tree-structured Parzen estimator, after `startup` ones at random.

    Args:
        space: parameter -> (low, high); log-uniform where the lower bound is above zero.
        seed: seed of the sampler.
        startup: number of points before scores are looked at.
    """

    def __init__(self, space: Mapping[str, tuple[float, float]], seed: int, startup: int = 10) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._failed = optuna.trial.TrialState.FAIL
        self._space: dict[str, Any] = {
            name: optuna.distributions.FloatDistribution(low, high, log=low > 0) for name, (low, high) in space.items()
        }
        self._asked: list[Any] = []

    def ask(self, n: int) -> list[Point]:
        """See `Suggester.ask`."""
        self._asked = [self._study.ask(self._space) for _ in range(n)]
        return [{name: _rounded(value) for name, value in trial.params.items()} for trial in self._asked]

    def tell(self, scores: Sequence[float | None]) -> None:
        """See `Suggester.tell`."""
        for trial, score in zip(self._asked, scores, strict=True):
            if score is None:
                self._study.tell(trial, state=self._failed)
            else:
                self._study.tell(trial, score)


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def suggester(spec: SearchSpec, space: Mapping[str, tuple[float, float]]) -> Suggester:
    """Return what suggests the points of one study."""
    if spec.method == "optuna":
        return OptunaSuggester(space, spec.seed, min(10, spec.batch))  # 10 as Optuna has it; but learn from a round
    return RandomSuggester(space, spec.seed)
