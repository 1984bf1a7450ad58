"""DomainBed's 80/20 splits, key for key; K folds drawn in the same way; and both for images in groups.

A split gives every image a side, and a `Turn` says what each side is for: which sides a fit learns from, which
have its validation images, and which one is tested. Validation images are never tested in the same turn.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from benchmark.method.arrays import Ints, Mask

HOLDOUT_FRACTION = 0.2  # DomainBed's
IN_FOLDS = 4  # the in-split of an 80/20 split is as large as four of five folds
IN, OUT, CHOICE = 0, 1, 2  # sides of an 80/20 split; CHOICE: the half of the out-groups for validation

Rounding = Literal["floor", "ceil"]
TestSplit = Literal["out_20", "in_80", "full", "out_fold"]


@dataclass(frozen=True, order=True)
class Split:
    """Specification of a split of a data set into sides.

    Attributes:
        seed: DomainBed's trial seed, or the seed of the cut into folds.
        halves_apart: base and new classes are split separately, as in the released code for open classes in a held-out
            environment; otherwise the split ignores classes.
        rounding: how half the number of classes is rounded to the number of base classes.
        folds: number of folds; 0 for an 80/20 split.
    """

    seed: int
    halves_apart: bool = False
    rounding: Rounding = "ceil"
    folds: int = 0


@dataclass(frozen=True)
class Validation:
    """Sides of the sources for fits used for model selection."""

    learned: frozenset[int]  # sides that the fits learn from
    sides: frozenset[int]  # sides with the validation images of fits on all sources
    left_out_sides: frozenset[int]  # sides of a left-out source with those of the leave-one-domain-out fit


@dataclass(frozen=True)
class Turn:
    """Roles of the sides of a split."""

    validations: tuple[Validation, ...]  # used by selection rules; one for an 80/20 split
    fitted: frozenset[int]  # sides of the sources that the tested fit learns from
    tested: dict[TestSplit, frozenset[int]]  # test split -> tested sides of the held-out environment

    @property
    def validation(self) -> Validation:
        """The only validation."""
        (only,) = self.validations
        return only

    @property
    def one_fit(self) -> bool:
        """Whether the tested fit also serves selection."""
        return all(one.learned == self.fitted for one in self.validations)


def turn_of(split: Split, fold: int | None, grouped: bool, crossed: bool = False) -> Turn:
    """Return the roles of the sides of a split.

    With folds, fold k is tested, and the tested fit learns from all others. Rules use fits without the folds k and j,
    validated on fold j of the sources: cross-fitted for every j, otherwise for j = k + 1 (mod K) alone. In an 80/20
    split, fits learn from the in-split and are validated on the out-split of the sources; a left-out source is
    validated on its in-split, as in DomainBed. If images come in groups, the out-groups are cut in two: one half is for
    validation, on sources, and the other is tested.

    Args:
        split: which split.
        fold: number of the tested fold, from 0; None for an 80/20 split.
        grouped: whether images come in groups.
        crossed: whether every other fold is a validation fold; default: the next one alone.

    Raises:
        ValueError: `fold` is None although the split has folds, or the reverse.
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
    """Return DomainBed's seed_hash: the MD5 of the tuple's text as a number, modulo 2^31.

    `split_seed(trial_seed, environment_index)` is the seed of an environment's split; (0, 0) gives 894182419.
    """
    digest = hashlib.md5(str(parts).encode("utf-8"), usedforsecurity=False).hexdigest()
    return int(digest, 16) % 2**31


def shuffled(n: int, seed: int) -> list[int]:
    """Return the positions of `n` images in the order in which DomainBed draws them."""
    order = list(range(n))
    # Others use the same split, which depends on this legacy generator.
    np.random.RandomState(seed).shuffle(order)
    return order


def out_split(n: int, seed: int) -> list[int]:
    """Return the positions of DomainBed's 20 % out-split among `n` images, in the order in which it draws them."""
    return shuffled(n, seed)[: int(n * HOLDOUT_FRACTION)]


def base_classes(classes: int, rounding: Rounding = "ceil") -> int:
    """Return the number of base classes: the first half in alphabetical order."""
    return (classes + (rounding == "ceil")) // 2


def sides(environment: Ints, group: Sequence[str] | None, split: Split, new: Mask) -> Ints:
    """Return the side of each image: IN, OUT or CHOICE of an 80/20 split, else the number of its fold.

    Args:
        environment: index of each image's environment, shape (n,); images of an environment in ImageFolder order.
        group: name of each image's group, or None. With groups, a whole group falls on one side, the same in every
            environment: the sorted names of the groups are split instead of the images, with the seed of the text
            `(trial_seed, 'group')`.
        split: which split. With `halves_apart` the seeds are those of the texts `(trial_seed, environment_index,
            'base')` and `(trial_seed, environment_index, 'open')`.
        new: which images are of new classes, shape (n,); only used with `halves_apart`.

    Returns:
        Array of shape (n,).
    """
    side = np.zeros(len(environment), dtype=np.int64)
    if group is not None:
        names, position = np.unique(np.asarray(group), return_inverse=True)
        of_group = _drawn(len(names), split_seed(split.seed, "group"), split.folds)
        if not split.folds:
            out = out_split(len(names), split_seed(split.seed, "group"))
            of_group[out[-(-len(out) // 2) :]] = CHOICE  # drawn in random order, so the last half is random
        return np.asarray(of_group[position])
    halves = ((~new, ("base",)), (new, ("open",))) if split.halves_apart else ((np.ones(len(side), dtype=bool), ()),)
    for index in np.unique(environment):
        for half, word in halves:
            positions = np.flatnonzero((environment == index) & half)
            side[positions] = _drawn(len(positions), split_seed(split.seed, int(index), *word), split.folds)
    return side


def _drawn(n: int, seed: int, folds: int) -> Ints:
    """Return the side of each of `n` images or groups: IN or OUT, or a fold; the first of five is the out-split."""
    side = np.zeros(n, dtype=np.int64)
    if not folds:
        side[out_split(n, seed)] = OUT
        return side
    order = shuffled(n, seed)
    for fold in range(folds):
        side[order[n * fold // folds : n * (fold + 1) // folds]] = fold
    return side


def sampled(which: Mask, environment: Ints, label: Ints, most: int, seed: int) -> Mask:
    """Return a mask of up to `most` images of each environment, drawn at random and stratified by class, shape (n,).

    Images of an environment are sorted by class, in random order within each, and taken at even distances. So a class
    has its share to within one image, and a rare class may have none.
    """
    drawn = np.zeros(len(which), dtype=bool)
    for index in np.unique(environment[which]):
        rows, rng = np.flatnonzero(which & (environment == index)), np.random.default_rng([seed, int(index)])
        if len(rows) > most:
            in_turn = rows[np.lexsort((rng.random(len(rows)), label[rows]))]
            rows = in_turn[((np.arange(most) + rng.random()) * len(rows) / most).astype(np.int64)]
        drawn[rows] = True
    return drawn
