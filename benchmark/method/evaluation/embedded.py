"""The embeddings of one data set under one backbone, ready for linear algebra."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from numpy.typing import NDArray

from benchmark.method.evaluation.cells import Layout
from benchmark.method.evaluation.splits import Split, base_classes, sides
from benchmark.method.predictors.prompts import TextTower


@dataclass(frozen=True)
class Embedded:
    """Arrays over the n readable images of a data set, in manifest order.

    Attributes:
        z: embeddings of the originals, shape (n, D), as the backbone gives them; or a `Stacked`, which is read alike.
        environment: environment index, shape (n,).
        label: class index, shape (n,).
        side: split -> the side of each image, see `splits.sides`, shape (n,).
        text: unit-length text embeddings of the classes, shape (classes, D).
        environments, classes: their names, sorted.
        logit_scale: the backbone's factor on cosine similarities.
        candidates: environment index -> the classes that its images can have, where these are not all classes.
        group: number of each image's group, shape (n,), where the split is by group; a group may be in several
            environments. None where the split is by image.
        position: position of each image in the manifest, which also lists those that cannot be read, shape (n,).
        tower: the backbone's text side, where a predictor learns prompts through it.
        views: for each kind of the intervention set the embeddings of the same images after it, shape (n, D), where a
            predictor asks for them (`uses_views`); none (default) elsewhere. Of a shift, those of the images that are
            fitted on, which come first.
    """

    z: NDArray[np.float32]
    environment: NDArray[np.int64]
    label: NDArray[np.int64]
    side: Mapping[Split, NDArray[np.int64]]
    text: NDArray[np.float32]
    environments: list[str]
    classes: list[str]
    logit_scale: float = 100.0
    candidates: Mapping[int, NDArray[np.int64]] = field(default_factory=dict)
    group: NDArray[np.int64] | None = None
    position: NDArray[np.int64] | None = None
    tower: TextTower | None = None
    views: tuple[NDArray[np.float32], ...] = ()

    def layout(self, split: Split) -> Layout:
        """Return which cell each image lies in."""
        base = base_classes(len(self.classes), split.rounding)
        return Layout(self.environment, self.label, self.side[split], len(self.classes), base)


@dataclass(frozen=True)
class Stacked:
    """Arrays of shape (n_i, D), read as one of shape (sum n_i, D) that is never made.

    Attributes:
        parts: the arrays.
    """

    parts: tuple[NDArray[np.float32], ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the whole."""
        return sum(map(len, self.parts)), self.parts[0].shape[1]

    def __getitem__(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return some rows, by position (ascending) or by mask, shape (m, D)."""
        positions = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        ends = np.cumsum([len(part) for part in self.parts])
        cut = np.split(positions, np.searchsorted(positions, ends[:-1]))
        firsts = (0, *ends[:-1])
        return np.concatenate([p[rows - first] for p, rows, first in zip(self.parts, cut, firsts, strict=True)])


def shifted(train: Embedded, tests: Mapping[str, Embedded], names: tuple[str, ...]) -> Embedded:
    """Return one set in which the first environment is fitted on and each other one is a shifted variant of it.

    Args:
        train: the data set that is fitted on; its classes, texts and splits are those of the whole.
        tests: name of a variant -> its embeddings by the same backbone; its classes are among those of `train`.
        names: names of the environments, that of `train` first.

    Raises:
        ValueError: a variant has a class that the training set lacks.
    """
    position = {name: i for i, name in enumerate(train.classes)}
    candidates: dict[int, NDArray[np.int64]] = {}
    labels = [train.label]
    for index, name in enumerate(names[1:], start=1):
        if unknown := [c for c in tests[name].classes if c not in position]:
            raise ValueError(f"{name} has the class '{unknown[0]}', which {names[0]} lacks.")
        candidates[index] = np.array([position[c] for c in tests[name].classes], dtype=np.int64)
        labels.append(candidates[index][tests[name].label])
    sizes = [len(of_set) for of_set in labels]
    environment, label = np.repeat(np.arange(len(names)), sizes), np.concatenate(labels)
    return Embedded(
        z=cast("NDArray[np.float32]", Stacked((train.z, *(tests[name].z for name in names[1:])))),
        environment=environment,
        label=label,
        side={split: _with_variants(split, train.side[split], environment) for split in train.side},
        text=train.text,
        environments=list(names),
        classes=train.classes,
        logit_scale=train.logit_scale,
        candidates=candidates,
    )


def _with_variants(split: Split, side: NDArray[np.int64], environment: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the sides of the first environment's images as they are, with those of the variants drawn likewise."""
    of_variants = environment[len(side) :]
    return np.concatenate([side, sides(of_variants, None, split, np.zeros(len(of_variants), dtype=bool))])
