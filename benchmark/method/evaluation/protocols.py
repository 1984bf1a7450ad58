"""Protocols: what is fitted on which environments and classes, and which images are tested. Plain data, no arrays.

A protocol is a list of folds. A fold fits on the in-splits of some source environments and is tested on images that the
fit has not seen; the scores of the selection rules come from its sources alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

from benchmark.method.evaluation.cells import GROUPS, Group

TestSplit = Literal["out_20", "in_80", "full"]
Protocol = Literal["held_out", "held_out_pairs", "open_class", "held_out_open_class", "imagenet_shift"]
ClassGroup = Literal["all", "base", "new", "harmonic"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)

SHIFT: Protocol = "imagenet_shift"
OPEN_CLASS: tuple[Protocol, ...] = ("open_class", "held_out_open_class")  # fitted on the base classes alone
HALVES_APART: tuple[Protocol, ...] = ("held_out_open_class",)  # base and new classes are split apart


@dataclass(frozen=True)
class Test:
    """Images that are tested together.

    Attributes:
        environments: positions of the environments they come from.
        split: which of their images.
        group: `base` or `new` classes only, or `all`.
    """

    environments: tuple[int, ...]
    split: TestSplit
    group: Literal["all", "base", "new"] = "all"


@dataclass(frozen=True)
class Fold:
    """One fit and what is tested with it.

    Attributes:
        name: of what is held out, as rows call it.
        sources: positions of the environments that are fitted on.
        tests: images that no rule but the oracle may look at.
        groups: halves of the classes that take part in fit and selection.
    """

    name: str
    sources: tuple[int, ...]
    tests: tuple[Test, ...]
    groups: tuple[Group, ...] = GROUPS

    @property
    def judges(self) -> tuple[int, ...]:
        """The sources by which rules and temperatures are chosen: none that is tested, as in `open_class` one is."""
        tested = {e for test in self.tests for e in test.environments}
        return tuple(s for s in self.sources if s not in tested)

    def images_of(self, source: int, split: TestSplit) -> Test:
        """Return the images of a source environment: of the fitted classes alone."""
        return Test((source,), split, "all" if self.groups == GROUPS else self.groups[0])

    def without(self, source: int) -> tuple[int, ...]:
        """Return the sources of the leave-one-domain-out fit."""
        return tuple(s for s in self.sources if s != source)


def folds_of(protocol: Protocol, environments: Sequence[str], test_splits: Sequence[TestSplit]) -> list[Fold]:
    """Return the folds of a protocol in the order of its environments.

    - `held_out`: each environment is held out in turn.
    - `held_out_pairs`: each pair of environments is held out together, and their images are tested as one set.
    - `open_class`: fitted on the base classes (the first half of the alphabetical classes, rounded up) of all
      environments; tested on base and on new classes of each environment's out-split, over all class names. Rules
      judge by the out-splits of the other environments.
    - `held_out_open_class`: fitted on the base classes of the sources; tested on base and on new classes of the whole
      held-out environment, over all class names.
    - `imagenet_shift`: fitted on the first environment, tested on all images of each other one.

    Args:
        protocol: one of `PROTOCOLS`.
        environments: names.
        test_splits: of the held-out environment; only the first two protocols leave a choice (see `splits_of`).
    """
    everything = tuple(range(len(environments)))
    splits = splits_of(protocol, test_splits)

    def left(*held_out: int) -> tuple[int, ...]:
        return tuple(e for e in everything if e not in held_out)

    if protocol == "held_out":
        return [Fold(environments[h], left(h), tuple(Test((h,), s) for s in splits)) for h in everything]
    if protocol == "held_out_pairs":
        return [
            Fold(f"{environments[a]} + {environments[b]}", left(a, b), tuple(Test((a, b), s) for s in splits))
            for a, b in combinations(everything, 2)
        ]
    if protocol == SHIFT:
        return [Fold(environments[t], (0,), tuple(Test((t,), s) for s in splits)) for t in everything[1:]]
    return [
        Fold(
            environments[h],
            everything if protocol == "open_class" else left(h),
            tuple(Test((h,), s, group) for s in splits for group in GROUPS),
            ("base",),
        )
        for h in everything
    ]


def splits_of(protocol: Protocol, test_splits: Sequence[TestSplit]) -> tuple[TestSplit, ...]:
    """Return the test splits of a protocol: those that are asked for, where it leaves a choice."""
    fixed: dict[str, tuple[TestSplit, ...]] = {
        "open_class": ("out_20",),  # the rest of the base classes is fitted on
        "held_out_open_class": ("full",),
        SHIFT: ("full",),
    }
    return fixed.get(protocol, tuple(test_splits))


def class_groups(protocol: Protocol) -> tuple[ClassGroup, ...]:
    """Return what rows tell apart: all classes, or base and new ones and the harmonic mean of both accuracies."""
    return ("base", "new", "harmonic") if protocol in OPEN_CLASS else ("all",)


def fold_count(protocol: Protocol, environments: int) -> int:
    """Return how many folds a protocol has with so many environments."""
    return len(folds_of(protocol, [""] * environments, ("full",)))


def min_environments(protocol: Protocol) -> int:
    """Return how many environments a protocol takes at least."""
    return 3 if protocol == "held_out_pairs" else 2
