"""Which of several are not separated from the best, by all their paired differences."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from benchmark.method.evaluation.inference import Interval
from benchmark.method.evaluation.multiplicity import holm
from reports.analysis.comparisons import ALPHA

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True)
class Ties(Generic[T]):
    """What all paired differences of some items say.

    Attributes:
        best: the one with the highest mean, of equals the first.
        tied: those that are not separated from it, itself included, in their order; none where nothing can be compared.
        equal: whether all means are equal, so that none is better than another.
        adjusted: (one, other) -> p-value of no difference, adjusted by Holm over all pairs; NaN without an interval.
    """

    best: T
    tied: tuple[T, ...]
    equal: bool
    adjusted: Mapping[tuple[T, T], float]


def ties(items: Sequence[T], differences: Mapping[tuple[T, T], Interval]) -> Ties[T]:
    """Return which of some items are not separated from the one with the highest mean.

    Args:
        items: two or more.
        differences: (one, other) -> interval of one minus the other, of every pair, in one of its two orders.
    """
    adjusted = holm([interval.p for interval in differences.values()]).tolist()
    ahead = dict.fromkeys(items, 0.0)
    for (one, other), interval in differences.items():
        ahead[one] += interval.estimate
        ahead[other] -= interval.estimate
    best = max(items, key=lambda item: ahead[item])
    equal = bool(np.ptp(list(ahead.values())) <= 1e-12)
    behind = {
        next(item for item in pair if item != best)
        for pair, p in zip(differences, adjusted, strict=True)
        if best in pair and p <= ALPHA  # false for NaN
    }
    tied = () if np.isnan(adjusted).all() else tuple(item for item in items if item not in behind)
    return Ties(best, tied, equal, dict(zip(differences, adjusted, strict=True)))
