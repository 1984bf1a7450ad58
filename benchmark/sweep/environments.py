"""How well a linear classifier reads the environment from embeddings, before a projection and after it."""

from dataclasses import dataclass, field

import numpy as np

from benchmark.method.arrays import Labels, Normalize, scaled
from benchmark.method.evaluation.embedded import Embedded
from benchmark.method.subspace import Basis
from benchmark.method.subspace.diagnostics import Decodability, decodability

MAX_IMAGES = 5_000
FOLDS = 2  # of the cross-validation: with five, as `diagnose` has, it takes longer than the trials that it is about


@dataclass
class Readable:
    """Images of one data set, from which the environment is read.

    Attributes:
        data: the embeddings.
        normalize: how they are scaled before the projection.
    """

    data: Embedded
    normalize: Normalize
    _before: Decodability | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        environment = self.data.environment
        enough = np.flatnonzero(np.bincount(environment)[environment] >= FOLDS)
        self._rows = enough[sample(environment[enough])]
        self._environment = environment[self._rows]
        self._group = None if self.data.group is None else self.data.group[self._rows]

    @property
    def has_several(self) -> bool:
        """Whether there are two environments with images enough, and groups where images come in groups."""
        own = self._rows if self._group is None else self._group
        counts = [len(np.unique(own[self._environment == e])) for e in np.unique(self._environment)]
        return len(counts) > 1 and min(counts) >= FOLDS

    def before(self) -> Decodability:
        """Return how well it is read from the embeddings as the projection sees them."""
        if self._before is None:
            self._before = decodability(self._z, self._environment, self._group, folds=FOLDS)
        return self._before

    def after(self, basis: Basis, rank: int) -> Decodability:
        """Return how well it is read from what a projection leaves at a rank."""
        if rank == self.data.z.shape[1] and basis.is_rotation:
            return self.before()
        return decodability(basis.of_images(self._z)[:, :rank], self._environment, self._group, folds=FOLDS)

    @property
    def _z(self) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
        return scaled(self.data.z[self._rows], self.normalize)


def sample(environment: Labels) -> Labels:
    """Return up to `MAX_IMAGES` positions, ascending: of environments alike where there are more, drawn by a seed."""
    members = [np.flatnonzero(environment == e) for e in np.unique(environment)]
    rng, left, drawn = np.random.default_rng(0), MAX_IMAGES, []
    for number, rows in enumerate(sorted(members, key=len)):  # what small ones leave goes to the others
        drawn.append(rng.choice(rows, min(len(rows), left // (len(members) - number)), replace=False))
        left -= len(drawn[-1])
    return np.sort(np.concatenate(drawn)) if drawn else np.zeros(0, dtype=np.int64)
