"""Some images of each environment, for fits and scores that only serve a choice."""

import numpy as np
from numpy.typing import NDArray

IN_FOLDS = 4  # the in-split of an 80/20 split has as many images as so many folds of five


def sampled(
    which: NDArray[np.bool_], environment: NDArray[np.int64], label: NDArray[np.int64], most: int, seed: int
) -> NDArray[np.bool_]:
    """Return up to `most` images of each environment, drawn at random with classes kept in proportion, shape (n,).

    Images of an environment stand class by class, in random order within each, and are taken at even distances. So a
    class has its share to within one image, and a rare one may have none.

    Args:
        which: from which images, shape (n,).
        environment: index of each image's environment, shape (n,).
        label: its class, shape (n,).
        most: number of images of an environment, at least 1; one with fewer gives all it has.
        seed: seed of the draw, >= 0.
    """
    drawn = np.zeros(len(which), dtype=bool)
    for index in np.unique(environment[which]):
        rows, rng = np.flatnonzero(which & (environment == index)), np.random.default_rng([seed, int(index)])
        if len(rows) > most:
            in_turn = rows[np.lexsort((rng.random(len(rows)), label[rows]))]
            rows = in_turn[((np.arange(most) + rng.random()) * len(rows) / most).astype(np.int64)]
        drawn[rows] = True
    return drawn
