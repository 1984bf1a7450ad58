"""DomainBed's 80/20 splits, key for key, and their counterpart for data whose images come in groups."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HOLDOUT_FRACTION = 0.2  # DomainBed's


@dataclass(frozen=True, order=True)
class Split:
    """Which 80/20 split of a data set.

    Attributes:
        seed: DomainBed's trial seed.
        halves_apart: base and new classes are split apart, as the released code does for open classes in a held-out
            environment; otherwise the split knows nothing of classes.
    """

    seed: int
    halves_apart: bool = False


def split_seed(*parts: object) -> int:
    """Return DomainBed's seed_hash: the MD5 of the tuple's text as a number, modulo 2^31.

    `split_seed(trial_seed, environment_index)` is the seed of an environment's split; (0, 0) gives 894182419.
    """
    digest = hashlib.md5(str(parts).encode("utf-8"), usedforsecurity=False).hexdigest()
    return int(digest, 16) % 2**31


def out_split(n: int, seed: int) -> list[int]:
    """Return the positions of DomainBed's 20 % out-split among `n` images, in the order in which it draws them."""
    order = list(range(n))
    # The legacy generator is what fixes the split that everyone else uses.
    np.random.RandomState(seed).shuffle(order)
    return order[: int(n * HOLDOUT_FRACTION)]


def base_classes(classes: int) -> int:
    """Return how many classes are base classes: the first half of the alphabetical ones, rounded up."""
    return (classes + 1) // 2


def out_mask(
    environment: NDArray[np.int64], group: Sequence[str] | None, split: Split, new: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return which images are in the 20 % out-split of their environment.

    Args:
        environment: index of each image's environment, shape (n,); images of an environment in ImageFolder order.
        group: name of each image's group, or None. With groups a whole group falls on one side, the same in every
            environment: the sorted names of the groups take the place of the images, and the seed is that of
            the text `(trial_seed, 'group')`.
        split: which split. With `halves_apart` the seeds are those of the texts `(trial_seed, environment_index,
            'base')` and `(trial_seed, environment_index, 'open')`.
        new: which images are of new classes, shape (n,); only `halves_apart` looks at it.

    Returns:
        Boolean array of shape (n,).
    """
    mask = np.zeros(len(environment), dtype=bool)
    if group is not None:
        names = sorted(set(group))
        out = {names[i] for i in out_split(len(names), split_seed(split.seed, "group"))}
        mask[:] = [name in out for name in group]
        return mask
    halves = ((~new, ("base",)), (new, ("open",))) if split.halves_apart else ((np.ones_like(mask), ()),)
    for index in np.unique(environment):
        for half, word in halves:
            positions = np.flatnonzero((environment == index) & half)
            mask[positions[out_split(len(positions), split_seed(split.seed, int(index), *word))]] = True
    return mask
