"""A protocol of a user's own, as a recipe names it."""

from collections.abc import Sequence
from typing import ClassVar

from benchmark.method.evaluation.protocols import Fold, Protocol, Test, TestSplit


class Chronological(Protocol):
    """Each environment but the first two is tested by what was fitted on those before it."""

    meaning: ClassVar[str] = "fitted on earlier environments, tested on the next"
    tested: ClassVar[str] = "next environment"
    folds_in_words: ClassVar[str] = "later environments"
    accuracy_on: ClassVar[str] = "the future of "
    interval_note: ClassVar[str] = "Later environments have seen more."
    min_environments: ClassVar[int] = 3

    def folds(self, environments: Sequence[str], test_splits: Sequence[TestSplit]) -> list[Fold]:
        """See `Protocol.folds`."""
        return [
            Fold(name, tuple(range(position)), tuple(Test((position,), split) for split in test_splits))
            for position, name in enumerate(environments)
            if position >= 2
        ]
