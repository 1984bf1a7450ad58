"""What a predictor is: class predictions for every rank of a projection."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmark.registry import Component

Array = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Rotated:
    """A classification problem in the coordinates of a basis: rank k is the first k columns of every array.

    Attributes:
        train: embeddings of the training images, shape (n, D).
        labels: their classes, shape (n,), 0 <= label < n_classes.
        text: text embeddings of the classes, shape (n_classes, D).
        tests: embeddings to be classified, each of shape (m, D).
        renormalize: scale every projected embedding to unit length again.
    """

    train: Array
    labels: Labels
    text: Array
    tests: Sequence[Array]
    renormalize: bool = False

    def project(self, z: Array, rank: int) -> Array:
        """Return the first `rank` coordinates of `z`, shape (n, rank), at unit length if asked for."""
        z = z[:, :rank]
        if not self.renormalize:
            return z
        norms = np.linalg.norm(z, axis=1, keepdims=True)
        return z / np.where(norms > 0, norms, 1.0)


class Predictor(Component):
    """A way to predict classes inside a subspace.

    To add one, derive from this class in a file of its own, write `predict`, and give the class a name in
    `PREDICTORS` (or name it `module:Class` in the recipe).
    """

    uses_training_images: ClassVar[bool] = True

    @abstractmethod
    def predict(self, problem: Rotated, ranks: Sequence[int]) -> list[Labels]:
        """Return, for every array of `problem.tests`, the predicted classes: shape (len(ranks), m).

        Args:
            problem: the problem in the coordinates of a basis.
            ranks: numbers of coordinates kept, ascending.
        """
