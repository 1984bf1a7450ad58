"""Roles of images in one turn of a split: training, validation or test, for evaluations and `icm-bench splits`.

Since both use this module, methods that are trained elsewhere get the same images as methods of this package. There is
one difference: with folds, `icm-bench splits` has only the next fold for validation.
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
    """Roles of the images of a data set; `fold`: the tested fold, None for an 80/20 split or if `turn` is not used."""

    def __init__(self, data: Embedded, split: Split, fold: int | None = None) -> None:
        self._split, self._fold = split, fold
        self._data, self._side = data, data.side[split]
        self._base = base_classes(len(data.classes), split.rounding)
        self._masks: dict[tuple[tuple[int, ...], frozenset[int], str], Mask] = {}

    @cached_property
    def turn(self) -> Turn:
        """Roles of the sides of the split. With folds, the next fold is the validation fold."""
        return turn_of(self._split, self._fold, self._data.group is not None)

    def of_sources(self, holdout: Holdout, sources: Sequence[int], sides: frozenset[int]) -> Mask:
        """Return a mask of images on some sides of some sources, without classes outside the fit, shape (n,)."""
        return self.mask(sources, sides, "all" if holdout.halves == HALVES else holdout.halves[0])

    def of_test(self, test: Test, turn: Turn | None = None) -> Mask:
        """Return a mask of the test images of a turn (default: the property `turn`), shape (n,)."""
        return self.mask(test.environments, (turn or self.turn).tested[test.split], test.half)

    def named(self, rows: Ints) -> tuple[Tested, Ints]:
        """Return the images `rows` sorted by environment, as in result rows, and the sorting permutation `order`.

        If `answers` belong to `rows`, result rows store `answers[order]`.
        """
        data = self._data
        # A manifest may mix environments, but result rows are ordered by environment.
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
        """Return the role of each image in one test of a holdout: `TRAIN`, `TEST` or `UNUSED`, shape (n,)."""
        roles = np.full(len(self._side), UNUSED)
        roles[self.of_sources(holdout, holdout.sources, self.turn.fitted)] = TRAIN
        for test in holdout.tests:
            if test.split == split:
                roles[self.of_test(test)] = TEST
        return roles

    def roles_in_selection(self, holdout: Holdout) -> Values:
        """Return the role of each image in model selection: `TRAIN`, `VALIDATION` or `UNUSED`, shape (n,).

        With folds, fits for selection leave out the validation fold, but the tested fit uses it. A leave-one-domain-out
        fit leaves out the training images of one source and is validated on this source.
        """
        roles = np.full(len(self._side), UNUSED)
        roles[self.of_sources(holdout, holdout.sources, self.turn.validation.learned)] = TRAIN
        roles[self.of_sources(holdout, holdout.validation_sources(self.turn), self.turn.validation.sides)] = VALIDATION
        return roles

    def mask(self, environments: Sequence[int], sides: frozenset[int], half: str) -> Mask:
        """Return a mask of images in some environments, sides and half of the classes, shape (n,)."""
        key = (tuple(environments), sides, half)
        if key not in self._masks:  # cached, since every lambda, setting and placebo uses it
            rows = np.isin(self._data.environment, list(environments)) & np.isin(self._side, list(sides))
            if half != "all":
                new = self._data.label >= self._base
                rows &= new if half == "new" else ~new
            self._masks[key] = np.asarray(rows)
        return self._masks[key]
