"""The embeddings of one data set under one backbone, ready for linear algebra."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmark.interventions import view_rng


@dataclass(frozen=True)
class Embedded:
    """Arrays over the n readable images of a data set, in manifest order.

    Attributes:
        z: embeddings of the originals, shape (n, D), as the backbone gives them.
        views: label of an intervention -> embeddings of that view, shape (n, D).
        image_ids: shape (n,).
        environment: environment index, shape (n,).
        label: class index, shape (n,).
        out: trial seed -> which images are in the 20 % out-split of their environment, shape (n,).
        text: unit-length text embeddings of the classes, shape (classes, D).
        environments, classes: their names, sorted.
        grouped: whether the split is by group.
    """

    z: NDArray[np.float32]
    views: dict[str, NDArray[np.float32]]
    image_ids: list[str]
    environment: NDArray[np.int64]
    label: NDArray[np.int64]
    out: dict[int, NDArray[np.bool_]]
    text: NDArray[np.float32]
    environments: list[str]
    classes: list[str]
    grouped: bool

    def pairs(
        self, kinds: tuple[str, ...], pairing: Literal["each", "random_one"], seed: int
    ) -> list[NDArray[np.float32]]:
        """Return the views that interventional pairs are formed with, each of shape (n, D).

        `each` gives one array per kind; `random_one` a single one, in which every image has the view of a kind
        drawn for it by `seed`. Empty `kinds` means all.
        """
        chosen = [self.views[label] for label in kinds or tuple(self.views)]
        if pairing == "each":
            return chosen
        draws = [int(view_rng(seed, image_id, "random_one").integers(len(chosen))) for image_id in self.image_ids]
        return [np.stack(chosen)[draws, np.arange(len(draws))]]


def unit_length(z: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the rows of `z`, shape (n, D), at unit length in float64; rows of zeros stay."""
    z = np.asarray(z, dtype=np.float64)
    norms = np.linalg.norm(z, axis=1, keepdims=True)
    return z / np.where(norms > 0, norms, 1.0)
