"""Moments by environment, side of the split and half of the classes: what every fit of a projection is made of.

A cell is a set of images that no protocol ever splits further, so a fit is a choice of cells: a held-out environment
and a leave-one-domain-out fold leave some out, `open_class` leaves out the new classes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmark.method.arrays import Array
from benchmark.method.evaluation.splits import base_classes
from benchmark.method.interventions import view_rng
from benchmark.method.subspace.moments import Differences, Moments, SourceMoments, cross_kind

Side = Literal["in", "out"]
Half = Literal["base", "new"]
HALVES: tuple[Half, ...] = ("base", "new")
Cell = tuple[int, Side, Half]


@dataclass(frozen=True)
class Layout:
    """Which cell each image of a data set lies in.

    Attributes:
        environment: index of each image's environment, shape (n,).
        label: class index, shape (n,).
        out: whether the image is on the out-side of the split, shape (n,).
        classes: number of classes; the first half of the (alphabetical) classes, rounded up, is `base`.
    """

    environment: NDArray[np.int64]
    label: NDArray[np.int64]
    out: NDArray[np.bool_]
    classes: int

    def cells(self) -> list[Cell]:
        """Return the cells that hold images, in order."""
        code = (self.environment * 2 + self.out) * 2 + (self.label >= base_classes(self.classes))
        sides: tuple[Side, Side] = ("in", "out")
        return [(int(c) // 4, sides[int(c) // 2 % 2], HALVES[int(c) % 2]) for c in np.unique(code)]

    def members(self, cell: Cell) -> NDArray[np.int64]:
        """Return the positions of the images of a cell."""
        environment, side, half = cell
        new = self.label >= base_classes(self.classes)
        inside = (self.environment == environment) & (self.out == (side == "out")) & (new == (half == "new"))
        return np.flatnonzero(inside)

    def take(self, rows: NDArray[np.int64]) -> "Layout":
        """Return the layout of some of the images."""
        return Layout(self.environment[rows], self.label[rows], self.out[rows], self.classes)


@dataclass(frozen=True)
class Cells:
    """The moments of a data set, cell by cell.

    Attributes:
        moments: cell -> moments of its images, for the kinds of intervention that were asked for.
        shared: kind -> differences that belong to no environment (text pairs), by half of the classes.
    """

    moments: Mapping[Cell, Moments]
    shared: Mapping[str, Mapping[Half, Differences]] = field(default_factory=dict)
    _in_sides: dict[tuple[int, tuple[Half, ...]], Moments] = field(default_factory=dict, repr=False, compare=False)

    def __add__(self, other: "Cells") -> "Cells":
        moments = dict(self.moments)
        for cell, theirs in other.moments.items():
            moments[cell] = moments[cell] + theirs if cell in moments else theirs
        return Cells(moments, {**self.shared, **other.shared})

    def sources(
        self, environments: Mapping[int, str], weights: Mapping[str, float] | None, halves: Iterable[Half] = HALVES
    ) -> SourceMoments:
        """Return the moments of the in-sides of some environments.

        Args:
            environments: index of an environment -> its name.
            weights: kind of intervention -> weight in C_d; None weighs all kinds alike.
            halves: halves of the classes that take part; by default both.

        Raises:
            ValueError: an environment has no image there.
        """
        halves = tuple(halves)
        moments = {name: self._in_side(index, name, halves) for index, name in environments.items()}
        parts = {kind: [of_half[half] for half in halves if half in of_half] for kind, of_half in self.shared.items()}
        shared = {kind: sum(differences[1:], differences[0]) for kind, differences in parts.items() if differences}
        return SourceMoments(moments, weights, shared)

    def _in_side(self, environment: int, name: str, halves: tuple[Half, ...]) -> Moments:
        """Return the moments of an environment's in-side, added once for all the fits that it takes part in."""
        key = (environment, halves)
        if key not in self._in_sides:
            cells: list[Cell] = [(environment, "in", half) for half in halves]
            parts = [self.moments[cell] for cell in cells if cell in self.moments]
            if not sum(part.n for part in parts):
                raise ValueError(f"The environment '{name}' has no training image.")
            self._in_sides[key] = sum(parts[1:], parts[0])
        return self._in_sides[key]


def cells_of(layout: Layout, z: NDArray[np.floating], views: Mapping[str, NDArray[np.floating]]) -> Cells:
    """Return the moments of the images of `layout`.

    Args:
        layout: which cell each of the n images lies in.
        z: embeddings, shape (n, D), scaled as the projection is to see them.
        views: kind -> embeddings of the same images after the intervention, shape (n, D), scaled likewise.
    """
    return Cells(
        {
            cell: Moments.of(
                z[rows], {kind: view[rows] for kind, view in views.items()}, layout.label[rows], layout.classes
            )
            for cell in layout.cells()
            for rows in [layout.members(cell)]
        }
    )


def class_means(cells: Cells) -> dict[int, tuple[NDArray[np.int64], Array]]:
    """Return environment -> images of each class on the in-side, and their mean embeddings, shape (classes, D)."""
    in_sides: dict[int, Moments] = {}
    for (environment, side, _), moments in cells.moments.items():
        if side == "in":
            plain = Moments(moments.counts, moments.sums, moments.outer)
            in_sides[environment] = in_sides[environment] + plain if environment in in_sides else plain
    return {e: (m.counts, m.sums / np.maximum(m.counts, 1)[:, None]) for e, m in in_sides.items()}


def cross_cells(
    layout: Layout, z: NDArray[np.floating], means: dict[int, tuple[NDArray[np.int64], Array]], names: Sequence[str]
) -> Cells:
    """Return the differences of images to all images of the same class in another environment, as a further kind.

    For an image i of environment e and every other environment e', d runs over z_i - z_j, j of the same class in e',
    each j with the weight 1/n_j, so that an image counts once. Summed over i this needs no pair:

        sum_i z_i z_i' + (n_e,c / n_e',c) sum_j z_j z_j' - s_e,c m_e',c' - m_e',c s_e,c'      (for each class c)

    where s and m are the sums and means of the classes. Only the in-side takes part, and both images lie in the same
    half of the classes, so nothing of a held-out environment or a new class is seen unless its cells are chosen.

    Args:
        layout: which cell each of the n images lies in; they may be a part of the data set, since the parts add up.
        z: embeddings, shape (n, D), scaled as the projection is to see them.
        means: what `class_means` returns for the whole data set.
        names: names of the environments, in the order of their indices.
    """
    cells = Cells({})
    for cell in layout.cells():
        environment, side, half = cell
        if side == "out":
            continue
        rows = layout.members(cell)
        z_, label = np.asarray(z[rows], dtype=np.float64), layout.label[rows]
        counts, _ = means[environment]
        for other, (their_counts, their_means) in means.items():
            if other == environment:
                continue
            shared = (counts[label] > 0) & (their_counts[label] > 0)
            here, m = z_[shared], their_means[label[shared]]
            cross = here.T @ m
            mine = Differences(int(shared.sum()), here.sum(axis=0) - m.sum(axis=0), here.T @ here - cross - cross.T)
            # This image's own second moment is also the z_j part of the other environment's differences to here.
            weight = (their_counts[label] / np.maximum(counts[label], 1))[shared, None]
            theirs = Differences(0, np.zeros(len(mine.total)), (here * weight).T @ here)
            for at, to, part in ((environment, other, mine), (other, environment, theirs)):
                kinds = {cross_kind(names[to]): part}
                cells = cells + Cells({(at, "in", half): Moments.nothing(layout.classes, z_.shape[1], kinds)})
    return cells


def one_of(views: Mapping[str, NDArray[np.floating]], image_ids: Sequence[str], seed: int) -> NDArray[np.floating]:
    """Return the view of one kind for every image, drawn by `seed` and image id alone, shape (n, D).

    Args:
        views: kind -> embeddings of the n images after the intervention, shape (n, D).
        image_ids: ids of the n images.
        seed: seed of the draws.
    """
    stacked = list(views.values())
    draws = [int(view_rng(seed, image_id, "random_one").integers(len(stacked))) for image_id in image_ids]
    return np.stack([stacked[draw][i] for i, draw in enumerate(draws)]) if draws else stacked[0]
