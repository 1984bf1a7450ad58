"""80/20 splits with the same images on each side as in DomainBed, and K folds drawn alike; both also by group.

A split puts every image on a side. A `Turn` says which sides are for training, validation and test. Validation images
are never tested in the same turn. A new `TestSplit` also needs entries in `_SPLIT_MEANING` (`reports/text/captions.py`)
and `SPLIT_ORDER` (`reports/analysis/settings.py`).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from benchmark.method.arrays import Ints, Mask

HOLDOUT_FRACTION = 0.2  # share of the out-split in DomainBed

IN_FOLDS = 4  # the in-split of an 80/20 split is as large as four of five folds
IN, OUT, CHOICE = 0, 1, 2  # sides of an 80/20 split; with groups, half of the out-groups is CHOICE, for validation

Rounding = Literal["floor", "ceil"]
TestSplit = Literal["out_20", "in_80", "full", "out_fold"]


@dataclass(frozen=True, order=True)
class Split:
    """Specification of a split of a data set into sides.

    Attributes:
        seed: DomainBed's trial seed, or the seed of the folds.
        halves_apart: whether base and new classes are split separately, as the authors' released code does for open
            classes in a held-out environment. Default false: the split ignores classes.
        rounding: how half the number of classes is rounded, which gives the number of base classes.
        folds: number of folds; 0 for an 80/20 split.
    """

    seed: int
    halves_apart: bool = False
    rounding: Rounding = "ceil"
    folds: int = 0


@dataclass(frozen=True)
class Validation:
    """Sides of the split that fits for model selection use, in source environments."""

    learned: frozenset[int]  # sides with the training images of these fits
    sides: frozenset[int]  # sides with the validation images of fits on all sources
    left_out_sides: frozenset[int]  # validation sides of leave-one-domain-out fits, in the left-out source


@dataclass(frozen=True)
class Turn:
    """Roles of the sides of a split."""

    validations: tuple[Validation, ...]  # sides for model selection; one entry for an 80/20 split
    fitted: frozenset[int]  # sides of the sources with the training images of the tested fit
    tested: dict[TestSplit, frozenset[int]]  # test split -> tested sides of the held-out environment

    @property
    def validation(self) -> Validation:
        """The validation sides, if there is one entry in `validations`."""
        (only,) = self.validations
        return only

    @property
    def one_fit(self) -> bool:
        """Whether the tested fit also serves for selection."""
        return all(one.learned == self.fitted for one in self.validations)


def turn_of(split: Split, fold: int | None, grouped: bool, crossed: bool = False) -> Turn:
    """Return which sides (parts) of a split are for training, validation and test.

    With K folds, fold k is tested, and the tested fit learns from all other folds. A fit for selection leaves out the
    folds k and j and is validated on fold j of the sources. If `crossed`, every other fold is j in turn; otherwise
    there is only j = k + 1 (mod K). In an 80/20 split, fits learn from the in-split and are validated on the out-split
    of the sources. A fit that leaves a source out is validated on the in-split of this source, as in DomainBed. If
    images come in groups, the groups of the out-split are divided into two halves: one is for validation on sources,
    the other for test.

    Args:
        split: the specification of the split.
        fold: number of the tested fold, from 0; None for an 80/20 split.
        grouped: whether images come in groups.
        crossed: whether every other fold is a validation fold. Default false: only the next one.

    Raises:
        ValueError: `fold` is None although the split has folds, or not None although it has none.
    """
    if fold not in (range(split.folds) if split.folds else (None,)):
        raise ValueError(
            f"a split of {split.folds} folds has no fold {fold}; give a number from 0, or None without folds"
        )
    if fold is not None:
        every, others = frozenset(range(split.folds)), [(fold + i) % split.folds for i in range(1, split.folds)]
        validation_folds = others if crossed else others[:1]
        validations = tuple(Validation(every - {fold, j}, frozenset([j]), frozenset([j])) for j in validation_folds)
        return Turn(validations, every - {fold}, {"out_fold": frozenset([fold])})
    inside, validation = frozenset([IN]), frozenset([CHOICE if grouped else OUT])
    tested: dict[TestSplit, frozenset[int]] = {
        "out_20": frozenset([OUT]),
        "in_80": inside,
        "full": frozenset([IN, OUT, CHOICE]),
    }
    return Turn((Validation(inside, validation, validation if grouped else inside),), inside, tested)


def split_seed(*parts: object) -> int:
    """Return DomainBed's seed_hash of a tuple: the MD5 of its text as a number, modulo 2^31.

    `split_seed(trial_seed, environment_index)` is the seed of an environment's split; (0, 0) gives 894182419.
    """
    digest = hashlib.md5(str(parts).encode("utf-8"), usedforsecurity=False).hexdigest()
    return int(digest, 16) % 2**31


def shuffled(n: int, seed: int) -> list[int]:
    """Return the positions of `n` images in the order in which DomainBed draws them."""
    order = list(range(n))
    # DomainBed's splits depend on this legacy generator.
    np.random.RandomState(seed).shuffle(order)
    return order


def out_split(n: int, seed: int) -> list[int]:
    """Return the positions of DomainBed's 20 % out-split among `n` images, in the order of drawing."""
    return shuffled(n, seed)[: int(n * HOLDOUT_FRACTION)]


def base_classes(classes: int, rounding: Rounding = "ceil") -> int:
    """Return the number of base classes, which are the first half of the classes in alphabetical order."""
    return (classes + (rounding == "ceil")) // 2


def sides(environment: Ints, group: Sequence[str] | None, split: Split, new: Mask) -> Ints:
    """Return the side of each image, shape (n,): IN, OUT or CHOICE in an 80/20 split, otherwise its fold number.

    Args:
        environment: environment index of each image, shape (n,). Images of an environment are in ImageFolder order.
        group: group name of each image, or None. With groups, their sorted names are split instead of the images, with
            the seed of the text `(trial_seed, 'group')`. So a whole group is on one side, the same in every
            environment.
        split: the specification of the split. With `halves_apart` the seeds come from the texts `(trial_seed,
            environment_index, 'base')` and `(trial_seed, environment_index, 'open')`.
        new: mask of images of new classes, shape (n,); only used with `halves_apart`.

    Returns:
        The side numbers, shape (n,).

    """
    side = np.zeros(len(environment), dtype=np.int64)
    if group is not None:
        names, position = np.unique(np.asarray(group), return_inverse=True)
        of_group = _drawn(len(names), split_seed(split.seed, "group"), split.folds)
        if not split.folds:
            out = out_split(len(names), split_seed(split.seed, "group"))
            of_group[out[-(-len(out) // 2) :]] = CHOICE  # the order of drawing is random, so the last half is too
        return np.asarray(of_group[position])
    halves = ((~new, ("base",)), (new, ("open",))) if split.halves_apart else ((np.ones(len(side), dtype=bool), ()),)
    for index in np.unique(environment):
        for half, word in halves:
            positions = np.flatnonzero((environment == index) & half)
            side[positions] = _drawn(len(positions), split_seed(split.seed, int(index), *word), split.folds)
    return side


def _drawn(n: int, seed: int, folds: int) -> Ints:
    """Return the side of each of `n` images or groups: IN or OUT, or its fold. Fold 0 of five has the same as OUT."""
    side = np.zeros(n, dtype=np.int64)
    if not folds:
        side[out_split(n, seed)] = OUT
        return side
    order = shuffled(n, seed)
    for fold in range(folds):
        side[order[n * fold // folds : n * (fold + 1) // folds]] = fold
    return side


def sampled(which: Mask, environment: Ints, label: Ints, most: int, seed: int) -> Mask:
    """Return a mask of up to `most` random images of each environment, stratified by class, shape (n,).

    Images of an environment are sorted by class, in random order within a class, and taken at even distances. So each
    class has its share to within one image, and a rare class may have no image.
    """
    drawn = np.zeros(len(which), dtype=bool)
    for index in np.unique(environment[which]):
        rows, rng = np.flatnonzero(which & (environment == index)), np.random.default_rng([seed, int(index)])
        if len(rows) > most:
            in_turn = rows[np.lexsort((rng.random(len(rows)), label[rows]))]
            rows = in_turn[((np.arange(most) + rng.random()) * len(rows) / most).astype(np.int64)]
        drawn[rows] = True
    return drawn
