"""What every image is for in one turn of a split: training, validation or test. Used by evaluations and `splits`.

So what `icm-bench splits` hands to methods that are trained elsewhere is what the methods of this package get, but
with folds only the next fold is used for validation.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from benchmark.method.arrays import Ints, Mask, Values
from benchmark.method.evaluation.cells import HALVES
from benchmark.method.evaluation.embedded import Embedded
from benchmark.method.evaluation.protocols import Holdout, Test
from benchmark.method.evaluation.splits import Split, TestSplit, Turn, base_classes, turn_of
from benchmark.method.evaluation.tested import Tested

TRAIN, VALIDATION, TEST, UNUSED = "train", "judge", "test", "unused"


class Roles:
    """What the images of one data set are for; `fold` is the tested one, None where nobody asks for `turn`."""

    def __init__(self, data: Embedded, split: Split, fold: int | None = None) -> None:
        self._split, self._fold = split, fold
        self._data, self._side = data, data.side[split]
        self._base = base_classes(len(data.classes), split.rounding)
        self._masks: dict[tuple[tuple[int, ...], frozenset[int], str], Mask] = {}

    @cached_property
    def turn(self) -> Turn:
        """What the sides are for; with folds, the next fold is the validation fold."""
        return turn_of(self._split, self._fold, self._data.group is not None)

    def of_sources(self, holdout: Holdout, sources: Sequence[int], sides: frozenset[int]) -> Mask:
        """Return which images lie on some sides of some sources, of the classes that a holdout fits on, shape (n,)."""
        return self.mask(sources, sides, "all" if holdout.halves == HALVES else holdout.halves[0])

    def of_test(self, test: Test, turn: Turn | None = None) -> Mask:
        """Return which images a test is on in a turn, by default this one, shape (n,)."""
        return self.mask(test.environments, (turn or self.turn).tested[test.split], test.half)

    def named(self, rows: Ints) -> tuple[Tested, Ints]:
        """Return images as result rows name them, environment by environment, and the order in which these come.

        Answers to the images `rows` are kept as `answers[order]`.
        """
        data = self._data
        # A manifest may list environments in turns; answers are kept environment by environment.
        order = np.argsort(data.environment[rows], kind="stable")
        rows = rows[order]
        tested = Tested(
            position=rows if data.position is None else data.position[rows],
            environment=data.environment[rows],
            label=data.label[rows],
            names=tuple(data.environments),
            group=None if data.group is None else data.group[rows],
        )
        return tested, order

    def roles_in_test(self, holdout: Holdout, split: TestSplit) -> Values:
        """Return what each image is for where a holdout is tested on a split: train, test or unused, shape (n,)."""
        roles = np.full(len(self._side), UNUSED)
        roles[self.of_sources(holdout, holdout.sources, self.turn.fitted)] = TRAIN
        for test in holdout.tests:
            if test.split == split:
                roles[self.of_test(test)] = TEST
        return roles

    def roles_in_selection(self, holdout: Holdout) -> Values:
        """Return the role of each image in model selection: `TRAIN`, `VALIDATION` or `UNUSED`, shape (n,).

        With folds, fits for selection leave out the validation fold, which the tested fit includes. A
        leave-one-domain-out fit leaves out the training images of one source, and is validated on that source.
        """
        roles = np.full(len(self._side), UNUSED)
        roles[self.of_sources(holdout, holdout.sources, self.turn.validation.learned)] = TRAIN
        roles[self.of_sources(holdout, holdout.validation_sources(self.turn), self.turn.validation.sides)] = VALIDATION
        return roles

    def mask(self, environments: Sequence[int], sides: frozenset[int], half: str) -> Mask:
        """Return which images lie in some environments, on some sides and in a half of the classes, shape (n,)."""
        key = (tuple(environments), sides, half)
        if key not in self._masks:  # asked for by every lambda, setting and placebo
            rows = np.isin(self._data.environment, list(environments)) & np.isin(self._side, list(sides))
            if half != "all":
                new = self._data.label >= self._base
                rows &= new if half == "new" else ~new
            self._masks[key] = np.asarray(rows)
        return self._masks[key]
