"""A user-defined protocol, as a recipe names it."""

from collections.abc import Sequence
from typing import ClassVar

from benchmark.method.evaluation.protocols import Holdout, Protocol, Test
from benchmark.method.evaluation.splits import TestSplit


class Chronological(Protocol):
    """Each environment but the first two is tested by what was fitted on those before it."""

    meaning: ClassVar[str] = "fitted on earlier environments, tested on the next"
    tested: ClassVar[str] = "next environment"
    holdouts_in_words: ClassVar[str] = "later environments"
    accuracy_on: ClassVar[str] = "the future of "
    interval_note: ClassVar[str] = "Later environments have seen more."
    min_environments: ClassVar[int] = 3

    def holdouts(self, environments: Sequence[str], test_splits: Sequence[TestSplit]) -> list[Holdout]:
        """See `Protocol.holdouts`."""
        return [
            Holdout(name, tuple(range(position)), tuple(Test((position,), split) for split in test_splits))
            for position, name in enumerate(environments)
            if position >= 2
        ]
