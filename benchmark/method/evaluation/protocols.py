"""Protocols: environments and classes of every fit, and its test images. Plain data, no arrays.

A protocol is a list of holdouts. A holdout is fitted on some source environments and tested on unseen images. Selection
rules use only its sources. `splits.Turn` defines which images are for training, validation and test. Explain a new
protocol in docs/comparisons.md and run `make docs`; tests/docs compares both.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar, Literal

from benchmark.common.registry import Component, Registry
from benchmark.method.evaluation.cells import HALVES, Half
from benchmark.method.evaluation.splits import Rounding, TestSplit, Turn

TestHalf = Literal["all", "base", "new"]
ClassHalf = Literal[TestHalf, "harmonic"]


@dataclass(frozen=True)
class Test:
    """Images that are tested together."""

    environments: tuple[int, ...]  # indices of the environments of these images
    split: TestSplit  # the part of these environments that is tested
    half: TestHalf = "all"  # `base` or `new`: only these classes; `all` (default)


@dataclass(frozen=True)
class Holdout:
    """One fit and its tests."""

    name: str  # name of the held-out environment in result rows
    sources: tuple[int, ...]  # indices of the source environments
    tests: tuple[Test, ...]  # sets of test images, which only rules that use the target may see
    halves: tuple[Half, ...] = HALVES  # halves of the classes used in fits and selection

    def validation_sources(self, turn: Turn) -> tuple[int, ...]:
        """Return the indices of sources with validation images, for selection rules and temperatures.

        Tested sources (as in `open_class`) are excluded. There is one exception: a tested environment that is the only
        source is kept if the turn leaves images of it that are neither for training nor for test.
        """
        tested = {e for test in self.tests for e in test.environments}
        validation = frozenset().union(*(one.sides for one in turn.validations))
        apart = not any(validation & turn.tested[test.split] for test in self.tests)
        within = self.sources if apart and set(self.sources) == tested else ()
        return tuple(s for s in self.sources if s not in tested) or within

    def without(self, source: int) -> tuple[int, ...]:
        """Return the sources of the leave-one-domain-out fit without `source`."""
        return tuple(s for s in self.sources if s != source)


class Protocol(Component):
    """Base class of protocols: a list of holdouts, and words with which reports describe them.

    To add one, derive from this class in a separate file, write `holdouts`, and give the class a name in `PROTOCOLS`
    (or name it `module:Class` in the recipe). A protocol has no parameters: derive a class for each variant. A new
    attribute must also be named in docs/adding.md; tests/docs/test_adding.py checks this.

    Attributes:
        meaning: description of training and test images, for captions.
        tested: noun for the tested environment, for captions.
        holdouts_in_words: plural noun for all holdouts, for captions.
        accuracy_on: text before the data set's name in captions, with a trailing space.
        interval_note: sentence about intervals that findings add.
        open_class: whether fits use only base classes, so that new classes can be tested.
        halves_apart: whether the two halves of the classes are split separately.
        rounding: how half the number of classes is rounded, which gives the number of base classes; a recipe may
            override it.
        fixed_split: the tested split in recipes without folds; None: the recipe's test splits.
        looks_at_target: whether labels of the target enter the fit. Then the numbers are a bound (†), never a result.
        min_environments: minimum number of environments.
        fits_apart: whether every holdout has its own training images. Otherwise all holdouts share one fit.
        across_sets: whether environments are whole data sets. The first of them is then the source.
    """

    meaning: ClassVar[str] = ""
    tested: ClassVar[str] = "held-out environment"
    holdouts_in_words: ClassVar[str] = "held-out environments"
    accuracy_on: ClassVar[str] = ""
    interval_note: ClassVar[str] = ""
    open_class: ClassVar[bool] = False
    halves_apart: ClassVar[bool] = False
    rounding: ClassVar[Rounding] = "ceil"
    fixed_split: ClassVar[TestSplit | None] = None
    looks_at_target: ClassVar[bool] = False
    min_environments: ClassVar[int] = 2
    fits_apart: ClassVar[bool] = True
    across_sets: ClassVar[bool] = False

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if cls.model_fields:
            raise TypeError(f"a protocol has no parameters, and {cls.__name__} has '{next(iter(cls.model_fields))}'")

    @abstractmethod
    def holdouts(self, environments: Sequence[str], test_splits: Sequence[TestSplit]) -> list[Holdout]:
        """Return the holdouts, in the order of the environments.

        Args:
            environments: names of the environments.
            test_splits: the requested splits of the recipe; see `test_splits`.
        """

    def test_splits(self, asked: Sequence[TestSplit]) -> tuple[TestSplit, ...]:
        """Return the tested splits: the requested ones, unless the protocol has a `fixed_split`."""
        return tuple(asked) if self.fixed_split is None or tuple(asked) == ("out_fold",) else (self.fixed_split,)

    def tests(self, asked: Sequence[TestSplit], *environments: int) -> tuple[Test, ...]:
        """Return one test of some environments for each split; for open classes two, on base and on new classes.

        Args:
            asked: the requested splits of the recipe; see `test_splits`.
            environments: indices of the environments.
        """
        halves: tuple[TestHalf, ...] = HALVES if self.open_class else ("all",)
        return tuple(Test(environments, split, half) for split in self.test_splits(asked) for half in halves)

    @property
    def class_halves(self) -> tuple[ClassHalf, ...]:
        """Values of `class_half` in rows: all classes, or base, new and their harmonic mean."""
        return ("base", "new", "harmonic") if self.open_class else ("all",)

    def takes(self, variant: bool) -> bool:
        """Return whether the protocol suits a data set; `variant`: whether it is ImageNet or a variant of ImageNet."""
        return variant == self.across_sets


class HeldOut(Protocol):
    """Each environment is held out in turn."""

    meaning: ClassVar[str] = "each environment is held out in turn, fitted on the others"

    def holdouts(self, environments: Sequence[str], test_splits: Sequence[TestSplit]) -> list[Holdout]:
        """See `Protocol.holdouts`."""
        named = enumerate(environments)
        return [Holdout(name, _others(environments, h), self.tests(test_splits, h)) for h, name in named]


class HeldOutPairs(Protocol):
    """Each pair of environments is held out together, and their images are tested as one set."""

    meaning: ClassVar[str] = "each pair of environments is held out together, fitted on the others"
    tested: ClassVar[str] = "held-out environments"
    holdouts_in_words: ClassVar[str] = "pairs of held-out environments"
    interval_note: ClassVar[str] = (
        "An image is tested in the pairs of its environment with each other one: n counts it once, and its answers "
        "in all of them count together."
    )
    min_environments: ClassVar[int] = 3

    def holdouts(self, environments: Sequence[str], test_splits: Sequence[TestSplit]) -> list[Holdout]:
        """See `Protocol.holdouts`."""
        return [
            Holdout(f"{first} + {second}", _others(environments, a, b), self.tests(test_splits, a, b))
            for (a, first), (b, second) in combinations(enumerate(environments), 2)
        ]


class OpenClass(Protocol):
    """Fitted on the base classes (the first half in alphabetical order) of all environments.

    Each environment's out-split or fold is tested, separately on base and on new classes; predictions may be any class.
    Other images of base classes are for training. Rules select by validation images of the other environments.
    """

    meaning: ClassVar[str] = "fitted on the base classes, tested on base and new classes of the same environments"
    tested: ClassVar[str] = "tested environment"
    open_class: ClassVar[bool] = True
    fixed_split: ClassVar[TestSplit | None] = "out_20"

    def holdouts(self, environments: Sequence[str], test_splits: Sequence[TestSplit]) -> list[Holdout]:
        """See `Protocol.holdouts`."""
        named, sources = enumerate(environments), tuple(range(len(environments)))
        return [Holdout(name, sources, self.tests(test_splits, e), ("base",)) for e, name in named]


class HeldOutOpenClass(Protocol):
    """Fitted on the base classes of the sources, tested on base and new classes of the whole held-out environment."""

    meaning: ClassVar[str] = "fitted on the base classes of the sources, tested on the held-out environment"
    open_class: ClassVar[bool] = True
    halves_apart: ClassVar[bool] = True
    rounding: ClassVar[Rounding] = "floor"  # as in the released code
    fixed_split: ClassVar[TestSplit | None] = "full"

    def holdouts(self, environments: Sequence[str], test_splits: Sequence[TestSplit]) -> list[Holdout]:
        """See `Protocol.holdouts`."""
        named = enumerate(environments)
        return [Holdout(name, _others(environments, h), self.tests(test_splits, h), ("base",)) for h, name in named]


class InDomain(Protocol):
    """Fitted on 80 % of an environment, tested on the rest: a bound. The gap to this bound is the cost of a shift.

    With folds, validation images are the next fold of the environment. With groups, they are the half of the out-groups
    that is not tested. An 80/20 split without groups has no validation images, so only the cross-fitted rule `oracle`
    can select.
    """

    meaning: ClassVar[str] = "fitted on the tested environment itself, on other images of it"
    tested: ClassVar[str] = "tested environment"
    holdouts_in_words: ClassVar[str] = "environments"
    fixed_split: ClassVar[TestSplit | None] = "out_20"
    looks_at_target: ClassVar[bool] = True
    min_environments: ClassVar[int] = 1

    def holdouts(self, environments: Sequence[str], test_splits: Sequence[TestSplit]) -> list[Holdout]:
        """See `Protocol.holdouts`."""
        return [Holdout(name, (h,), self.tests(test_splits, h)) for h, name in enumerate(environments)]


class ImageNetShift(Protocol):
    """Fitted on the first environment, tested on all images of each other environment."""

    meaning: ClassVar[str] = "fitted on ImageNet, tested on its shifted variants"
    tested: ClassVar[str] = "variant"
    holdouts_in_words: ClassVar[str] = "variants"
    accuracy_on: ClassVar[str] = "shifted variants of "
    fixed_split: ClassVar[TestSplit | None] = "full"
    fits_apart: ClassVar[bool] = False
    across_sets: ClassVar[bool] = True

    def holdouts(self, environments: Sequence[str], test_splits: Sequence[TestSplit]) -> list[Holdout]:
        """See `Protocol.holdouts`."""
        return [Holdout(environments[t], (0,), self.tests(test_splits, t)) for t in range(1, len(environments))]


def _others(environments: Sequence[str], *held_out: int) -> tuple[int, ...]:
    """Return the indices of the environments that are not held out."""
    return tuple(e for e in range(len(environments)) if e not in held_out)


PROTOCOLS: Registry[Protocol] = Registry(
    "protocol",
    Protocol,  # type: ignore[type-abstract]
    {
        "held_out": f"{__name__}:HeldOut",
        "held_out_pairs": f"{__name__}:HeldOutPairs",
        "open_class": f"{__name__}:OpenClass",
        "held_out_open_class": f"{__name__}:HeldOutOpenClass",
        "in_domain": f"{__name__}:InDomain",
        "imagenet_shift": f"{__name__}:ImageNetShift",
    },
)
