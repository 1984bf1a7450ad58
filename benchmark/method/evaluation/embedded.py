"""The embeddings of one data set under one backbone as arrays, and k-means clusters of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from benchmark.method.arrays import Floats, Ints, Mask, Single, unit
from benchmark.method.evaluation.cells import Layout
from benchmark.method.evaluation.splits import Split, base_classes, sides
from benchmark.method.predictors.base import TextTower

STARTS = 10  # number of k-means runs, of which the best one is used


@dataclass(frozen=True)
class Embedded:
    """Arrays over the n readable images of a data set, in the order of the manifest.

    Attributes:
        z: embeddings of the original images as the backbone returns them, shape (n, D); an array or a `Stacked`.
        environment: environment index of each image, shape (n,).
        label: class index of each image, shape (n,).
        side: split -> side of each image, see `splits.sides`, shape (n,).
        text: unit-length text embeddings of the classes, shape (classes, D).
        environments, classes: names of the environments and classes, sorted.
        logit_scale: factor by which the backbone multiplies cosine similarities.
        candidates: environment index -> possible classes of its images, if not all classes are possible.
        group: group number of each image, shape (n,), if the split is by group. A group may be in several environments.
            None (default) if the split is by image.
        position: position of each image in the manifest, which also has unreadable images, shape (n,).
        tower: the backbone's text encoder, if a predictor learns prompts; otherwise None (default).
        views: for each kind in the intervention set, embeddings of the intervened images, shape (n, D), if the
            predictor has `uses_views`; otherwise empty (default). In `shifted` data only the training images, which
            come first, have views.
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
    """Several arrays of shape (n_i, D) that are read as if concatenated, without copying."""

    parts: tuple[Single, ...]  # the arrays

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the concatenation."""
        return sum(map(len, self.parts)), self.parts[0].shape[1]

    def __getitem__(self, rows: Ints | Mask) -> Single:
        """Return rows by ascending positions or by a mask, shape (m, D)."""
        positions = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        ends = np.cumsum([len(part) for part in self.parts])
        cut = np.split(positions, np.searchsorted(positions, ends[:-1]))
        firsts = (0, *ends[:-1])
        return np.concatenate([p[rows - first] for p, rows, first in zip(self.parts, cut, firsts, strict=True)])


def shifted(train: Embedded, tests: Mapping[str, Embedded], names: tuple[str, ...]) -> Embedded:
    """Return one data set with `train` as first environment and each shifted variant as a further environment.

    Classes, texts and splits come from `train`, whose name is the first in `names`. ValueError: a variant has a class
    that `train` lacks.
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

    This is the simplest inference of unknown environments (compare EIIL, Creager et al. 2021). Clusters follow the
    largest variation of embeddings, which may be the object and not its surroundings. After a change, increase
    `CLUSTERS_VERSION` in `benchmark/store/moments.py`. ValueError: there are fewer distinct embeddings than clusters.
    """
    from sklearn.cluster import KMeans

    if len(np.unique(z, axis=0)) < count:
        raise ValueError(f"{len(z)} images have fewer than {count} different embeddings.")
    labels = KMeans(count, n_init=STARTS, random_state=seed).fit(unit(np.asarray(z, dtype=np.float64))).labels_
    by_size = np.argsort(-np.bincount(labels, minlength=count), kind="stable")
    return np.asarray(np.argsort(by_size)[labels], dtype=np.int64)
