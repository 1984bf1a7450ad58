"""The embeddings of one data set under one backbone, ready for linear algebra."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmark.evaluation.cells import Layout
from benchmark.predictors.base import unit
from benchmark.recipe import Normalize


@dataclass(frozen=True)
class Embedded:
    """Arrays over the n readable images of a data set, in manifest order.

    Attributes:
        z: embeddings of the originals, shape (n, D), as the backbone gives them.
        environment: environment index, shape (n,).
        label: class index, shape (n,).
        out: trial seed -> which images are in the 20 % out-split of their environment, shape (n,).
        text: unit-length text embeddings of the classes, shape (classes, D).
        environments, classes: their names, sorted.
        grouped: whether the split is by group.
        logit_scale: the backbone's factor on cosine similarities.
    """

    z: NDArray[np.float32]
    environment: NDArray[np.int64]
    label: NDArray[np.int64]
    out: dict[int, NDArray[np.bool_]]
    text: NDArray[np.float32]
    environments: list[str]
    classes: list[str]
    grouped: bool
    logit_scale: float = 100.0

    def layout(self, seed: int) -> Layout:
        """Return which cell each image lies in, with the split of a trial seed."""
        return Layout(self.environment, self.label, self.out[seed], len(self.classes))


def scaled(z: NDArray[np.floating], normalize: Normalize) -> NDArray[np.float64]:
    """Return embeddings as a projection is to see them, in float64: at unit length for `before` and `both`."""
    double: NDArray[np.float64] = np.asarray(z, dtype=np.float64)
    return unit(double) if normalize in ("before", "both") else double
