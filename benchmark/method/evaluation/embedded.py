"""The embeddings of one data set under one backbone, ready for linear algebra."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from benchmark.method.arrays import Floats, Ints, Mask, Single, unit
from benchmark.method.evaluation.cells import Layout
from benchmark.method.evaluation.splits import Split, base_classes, sides
from benchmark.method.predictors.base import TextTower

STARTS = 10  # runs of k-means, of which the best is used


@dataclass(frozen=True)
class Embedded:
    """Arrays over the n readable images of a data set, in manifest order.

    Attributes:
        z: embeddings of the original images, shape (n, D), as the backbone returns them; or a `Stacked`.
        environment: environment index, shape (n,).
        label: class index, shape (n,).
        side: split -> the side of each image, see `splits.sides`, shape (n,).
        text: unit-length text embeddings of the classes, shape (classes, D).
        environments, classes: their names, sorted.
        logit_scale: the backbone's factor on cosine similarities.
        candidates: environment index -> possible classes of its images, if these are not all classes.
        group: number of each image's group, shape (n,), if the split is by group; a group may be in several
            environments. None if the split is by image.
        position: position of each image in the manifest, which also lists unreadable images, shape (n,).
        tower: the backbone's text encoder, if a predictor learns prompts.
        views: for each kind of the intervention set, embeddings of the same images after it, shape (n, D), if a
            predictor uses them (`uses_views`); empty (default) otherwise. For a shift, only of the training images,
            which come first.
    """

    z: Single
    environment: Ints
    label: Ints
    side: Mapping[Split, Ints]
    text: Single
    environments: list[str]
    classes: list[str]
    logit_scale: float = 100.0
    candidates: Mapping[int, Ints] = field(default_factory=dict)
    group: Ints | None = None
    position: Ints | None = None
    tower: TextTower | None = None
    views: tuple[Single, ...] = ()

    def layout(self, split: Split) -> Layout:
        """Return the cell of each image."""
        base = base_classes(len(self.classes), split.rounding)
        return Layout(self.environment, self.label, self.side[split], len(self.classes), base)


@dataclass(frozen=True)
class Stacked:
    """Arrays of shape (n_i, D), read like their concatenation without copying."""

    parts: tuple[Single, ...]  # the arrays

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the whole."""
        return sum(map(len, self.parts)), self.parts[0].shape[1]

    def __getitem__(self, rows: Ints | Mask) -> Single:
        """Return rows by position (ascending) or by mask, shape (m, D)."""
        positions = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        ends = np.cumsum([len(part) for part in self.parts])
        cut = np.split(positions, np.searchsorted(positions, ends[:-1]))
        firsts = (0, *ends[:-1])
        return np.concatenate([p[rows - first] for p, rows, first in zip(self.parts, cut, firsts, strict=True)])


def shifted(train: Embedded, tests: Mapping[str, Embedded], names: tuple[str, ...]) -> Embedded:
    """Return one data set with `train` as its first environment and each shifted variant as another one.

    Classes, texts and splits are those of `train`, whose name comes first in `names`; a variant has a subset of its
    classes. ValueError: a variant has a class that the training set lacks.
    """
    position = {name: i for i, name in enumerate(train.classes)}
    candidates: dict[int, Ints] = {}
    labels = [train.label]
    for index, name in enumerate(names[1:], start=1):
        if unknown := [c for c in tests[name].classes if c not in position]:
            raise ValueError(f"{name} has the class '{unknown[0]}', which {names[0]} lacks.")
        candidates[index] = np.array([position[c] for c in tests[name].classes], dtype=np.int64)
        labels.append(candidates[index][tests[name].label])
    sizes = [len(of_set) for of_set in labels]
    environment, label = np.repeat(np.arange(len(names)), sizes), np.concatenate(labels)

    def drawn(split: Split) -> Ints:
        return sides(environment[sizes[0] :], None, split, np.zeros(sum(sizes[1:]), dtype=bool))

    return Embedded(
        z=cast("Single", Stacked((train.z, *(tests[name].z for name in names[1:])))),
        environment=environment,
        label=label,
        side={split: np.concatenate([side, drawn(split)]) for split, side in train.side.items()},
        text=train.text,
        environments=list(names),
        classes=train.classes,
        logit_scale=train.logit_scale,
        candidates=candidates,
    )


def k_means(z: Floats, count: int, seed: int) -> Ints:
    """Return the cluster of each image by k-means on unit-length embeddings, shape (n,), the largest cluster first.

    The simplest inference of unlabelled environments (compare EIIL, Creager et al. 2021). Clusters follow the largest
    variation of embeddings, which may be the object and not its surroundings. ValueError: fewer different embeddings
    than clusters.
    """
    from sklearn.cluster import KMeans

    if len(np.unique(z, axis=0)) < count:
        raise ValueError(f"{len(z)} images have fewer than {count} different embeddings.")
    labels = KMeans(count, n_init=STARTS, random_state=seed).fit(unit(np.asarray(z, dtype=np.float64))).labels_
    by_size = np.argsort(-np.bincount(labels, minlength=count), kind="stable")
    return np.asarray(np.argsort(by_size)[labels], dtype=np.int64)
