"""Protocols: what is fitted on which environments and classes, and which images are tested. Plain data, no arrays.

A protocol is a list of folds. A fold fits on the in-splits of some source environments and is tested on images that the
fit has not seen; the scores of the selection rules come from its sources alone.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar, Literal

from benchmark.common.registry import Component, Registry
from benchmark.method.evaluation.cells import HALVES, Half

TestSplit = Literal["out_20", "in_80", "full"]
ClassHalf = Literal["all", "base", "new", "harmonic"]


@dataclass(frozen=True)
class Test:
    """Images that are tested together.

    Attributes:
        environments: positions of the environments they come from.
        split: which of their images.
        half: `base` or `new` classes only, or `all`.
    """

    environments: tuple[int, ...]
    split: TestSplit
    half: Literal["all", "base", "new"] = "all"


@dataclass(frozen=True)
class Fold:
    """One fit and what is tested with it.

    Attributes:
        name: name of what is held out, as rows call it.
        sources: positions of the environments that are fitted on.
        tests: images that no rule but the oracle may look at.
        halves: halves of the classes that take part in fit and selection.
    """

    name: str
    sources: tuple[int, ...]
    tests: tuple[Test, ...]
    halves: tuple[Half, ...] = HALVES

    @property
    def judges(self) -> tuple[int, ...]:
        """The sources by which rules and temperatures are chosen: none that is tested, as in `open_class` one is."""
        tested = {e for test in self.tests for e in test.environments}
        return tuple(s for s in self.sources if s not in tested)

    def images_of(self, source: int, split: TestSplit) -> Test:
        """Return the images of a source environment: of the fitted classes alone."""
        return Test((source,), split, "all" if self.halves == HALVES else self.halves[0])

    def without(self, source: int) -> tuple[int, ...]:
        """Return the sources of the leave-one-domain-out fit."""
        return tuple(s for s in self.sources if s != source)


class Protocol(Component):
    """A list of folds, and the words in which reports speak of them.

    To add one, derive from this class in a file of its own, write `folds`, and give the class a name in `PROTOCOLS`
    (or name it `module:Class` in the recipe). A protocol has no parameters: derive a class for each variant.

    Attributes:
        meaning: what is fitted and tested, for captions.
        tested: what the images of a fold's tests come from, for captions.
        folds_in_words: what the folds go through, in the plural, for captions.
        accuracy_on: what stands before the data set's name in captions, with a space at its end.
        interval_note: sentence that findings add to what they say of intervals.
        open_class: whether fits take the base classes alone, so that tests on new classes are possible.
        halves_apart: whether the 80/20 split is made in each half of the classes separately.
        min_environments: number of environments that it takes at least.
        fits_apart: whether every fold is fitted on images of its own; otherwise all folds share one fit.
        across_sets: whether its environments are whole data sets, of which the first is fitted on.
    """

    meaning: ClassVar[str] = ""
    tested: ClassVar[str] = "held-out environment"
    folds_in_words: ClassVar[str] = "held-out environments"
    accuracy_on: ClassVar[str] = ""
    interval_note: ClassVar[str] = ""
    open_class: ClassVar[bool] = False
    halves_apart: ClassVar[bool] = False
    min_environments: ClassVar[int] = 2
    fits_apart: ClassVar[bool] = True
    across_sets: ClassVar[bool] = False

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if cls.model_fields:
            raise TypeError(f"a protocol has no parameters, and {cls.__name__} has '{next(iter(cls.model_fields))}'")

    @abstractmethod
    def folds(self, environments: Sequence[str], test_splits: Sequence[TestSplit]) -> list[Fold]:
        """Return the folds, in the order of the environments.

        Args:
            environments: names of the environments.
            test_splits: the splits that the recipe asks for; see `test_splits`.
        """

    def test_splits(self, asked: Sequence[TestSplit]) -> tuple[TestSplit, ...]:
        """Return the splits of the tested environments: those that are asked for, unless the protocol fixes them."""
        return tuple(asked)

    @property
    def class_halves(self) -> tuple[ClassHalf, ...]:
        """What rows tell apart: all classes, or base and new ones and what stands for both."""
        return ("base", "new", "harmonic") if self.open_class else ("all",)

    def takes(self, variant: bool) -> bool:
        """Return whether a data set takes part; `variant`: it is ImageNet or one of its shifted variants."""
        return variant == self.across_sets

    def fold_count(self, environments: int) -> int:
        """Return the number of folds with so many environments."""
        return len(self.folds([""] * environments, ("full",)))


class HeldOut(Protocol):
    """Each environment is held out in turn."""

    registered_name: ClassVar[str] = "held_out"
    meaning: ClassVar[str] = "each environment is held out in turn, fitted on the 80 % in-splits of the others"

    def folds(self, environments: Sequence[str], test_splits: Sequence[TestSplit]) -> list[Fold]:
        """See `Protocol.folds`."""
        splits = self.test_splits(test_splits)
        return [
            Fold(name, _others(environments, h), tuple(Test((h,), split) for split in splits))
            for h, name in enumerate(environments)
        ]


class HeldOutPairs(Protocol):
    """Each pair of environments is held out together, and their images are tested as one set."""

    registered_name: ClassVar[str] = "held_out_pairs"
    meaning: ClassVar[str] = (
        "each pair of environments is held out together, fitted on the 80 % in-splits of the others"
    )
    tested: ClassVar[str] = "held-out environments"
    folds_in_words: ClassVar[str] = "pairs of held-out environments"
    interval_note: ClassVar[str] = (
        "An image is tested in the pairs of its environment with each other one: n counts it once, and a replicate "
        "takes or leaves it in all of them together."
    )
    min_environments: ClassVar[int] = 3

    def folds(self, environments: Sequence[str], test_splits: Sequence[TestSplit]) -> list[Fold]:
        """See `Protocol.folds`."""
        splits = self.test_splits(test_splits)
        return [
            Fold(
                f"{environments[a]} + {environments[b]}",
                _others(environments, a, b),
                tuple(Test((a, b), split) for split in splits),
            )
            for a, b in combinations(range(len(environments)), 2)
        ]


class OpenClass(Protocol):
    """Fitted on the base classes (the first half of the alphabetical ones, rounded up) of all environments.

    Tested on base and on new classes of each environment's out-split, over all class names: the rest of the base
    classes is fitted on. Rules judge by the out-splits of the other environments.
    """

    registered_name: ClassVar[str] = "open_class"
    meaning: ClassVar[str] = "fitted on the base classes, tested on base and new classes of the same environments"
    tested: ClassVar[str] = "tested environment"
    open_class: ClassVar[bool] = True

    def folds(self, environments: Sequence[str], test_splits: Sequence[TestSplit]) -> list[Fold]:
        """See `Protocol.folds`."""
        tests = [_of_both_halves(e, self.test_splits(test_splits)) for e in range(len(environments))]
        sources = tuple(range(len(environments)))
        return [Fold(name, sources, of_fold, ("base",)) for name, of_fold in zip(environments, tests, strict=True)]

    def test_splits(self, asked: Sequence[TestSplit]) -> tuple[TestSplit, ...]:  # noqa: ARG002
        """See `Protocol.test_splits`."""
        return ("out_20",)


class HeldOutOpenClass(Protocol):
    """Fitted on the base classes of the sources, tested on base and new classes of the whole held-out environment."""

    registered_name: ClassVar[str] = "held_out_open_class"
    meaning: ClassVar[str] = "fitted on the base classes of the sources, tested on the held-out environment"
    open_class: ClassVar[bool] = True
    halves_apart: ClassVar[bool] = True

    def folds(self, environments: Sequence[str], test_splits: Sequence[TestSplit]) -> list[Fold]:
        """See `Protocol.folds`."""
        splits = self.test_splits(test_splits)
        return [
            Fold(name, _others(environments, h), _of_both_halves(h, splits), ("base",))
            for h, name in enumerate(environments)
        ]

    def test_splits(self, asked: Sequence[TestSplit]) -> tuple[TestSplit, ...]:  # noqa: ARG002
        """See `Protocol.test_splits`."""
        return ("full",)


class ImageNetShift(Protocol):
    """Fitted on the first environment, tested on all images of each other one."""

    registered_name: ClassVar[str] = "imagenet_shift"
    meaning: ClassVar[str] = "fitted on ImageNet, tested on its shifted variants"
    tested: ClassVar[str] = "variant"
    folds_in_words: ClassVar[str] = "variants"
    accuracy_on: ClassVar[str] = "shifted variants of "
    fits_apart: ClassVar[bool] = False
    across_sets: ClassVar[bool] = True

    def folds(self, environments: Sequence[str], test_splits: Sequence[TestSplit]) -> list[Fold]:
        """See `Protocol.folds`."""
        splits = self.test_splits(test_splits)
        return [
            Fold(environments[t], (0,), tuple(Test((t,), split) for split in splits))
            for t in range(1, len(environments))
        ]

    def test_splits(self, asked: Sequence[TestSplit]) -> tuple[TestSplit, ...]:  # noqa: ARG002
        """See `Protocol.test_splits`."""
        return ("full",)


def _others(environments: Sequence[str], *held_out: int) -> tuple[int, ...]:
    """Return the positions of the environments that are not held out."""
    return tuple(e for e in range(len(environments)) if e not in held_out)


def _of_both_halves(environment: int, splits: Sequence[TestSplit]) -> tuple[Test, ...]:
    """Return the tests of an environment on base and on new classes, split by split."""
    return tuple(Test((environment,), split, half) for split in splits for half in HALVES)


PROTOCOLS: Registry[Protocol] = Registry(
    "protocol",
    Protocol,  # type: ignore[type-abstract]
    {
        "held_out": "benchmark.method.evaluation.protocols:HeldOut",
        "held_out_pairs": "benchmark.method.evaluation.protocols:HeldOutPairs",
        "open_class": "benchmark.method.evaluation.protocols:OpenClass",
        "held_out_open_class": "benchmark.method.evaluation.protocols:HeldOutOpenClass",
        "imagenet_shift": "benchmark.method.evaluation.protocols:ImageNetShift",
    },
)
