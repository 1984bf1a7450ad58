"""Moments by environment, side of the split and half of the classes, from which every projection is fitted.

A cell is a set of images that no protocol splits further. So the training set of every fit is a union of cells. It
leaves out, for example, the cells of the held-out environment, of a tested fold or of the new classes.
`benchmark/store/moments.py` stores these moments: if they change, increase its `VERSION`.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from benchmark.method.arrays import Array, Floats, Ints, Mask
from benchmark.method.evaluation.splits import IN
from benchmark.method.interventions import view_rng
from benchmark.method.prompts import PromptEmbeddings
from benchmark.method.subspace.moments import (
    Budget,
    CacheId,
    Differences,
    Moments,
    SourceMoments,
    cross_kind,
    size_of,
)

BIN = 4096  # number of images in a bin of a cell, within which partners are drawn
Half = Literal["base", "new"]
HALVES: tuple[Half, ...] = ("base", "new")
Cell = tuple[int, int, Half]  # environment, side of the split, half of the classes


@dataclass(frozen=True)
class Layout:
    """The cell of each image of a data set."""

    environment: Ints  # environment index of each image, shape (n,)
    label: Ints  # class index of each image, shape (n,)
    side: Ints  # side of the split of each image, shape (n,)
    classes: int  # number of classes
    base: int  # number of base classes; they have the first class indices

    def parts(self) -> list[tuple[Cell, Ints]]:
        """Return the non-empty cells in ascending order, each with the positions of its images."""
        codes = np.stack([self.environment, self.side, self.label >= self.base])
        cells, number = np.unique(codes, axis=1, return_inverse=True)
        rows = (np.flatnonzero(number.reshape(-1) == i) for i in range(cells.shape[1]))
        return [((e, side, HALVES[new]), own) for (e, side, new), own in zip(cells.T.tolist(), rows, strict=True)]

    def take(self, rows: Ints) -> "Layout":
        """Return the layout of some of the images."""
        return Layout(self.environment[rows], self.label[rows], self.side[rows], self.classes, self.base)


@dataclass(frozen=True)
class Cells:
    """The moments of a data set, cell by cell."""

    moments: Mapping[Cell, Moments]  # cell -> moments of its images, for the requested kinds of intervention
    # kind -> half of the classes -> differences that belong to no environment (text pairs)
    shared: Mapping[str, Mapping[Half, Differences]] = field(default_factory=dict)
    prompts: PromptEmbeddings | None = None  # prompts of the projection; None (default): none
    # kind -> its weight in the kind `TOGETHER`, in which several kinds were summed. Empty by default
    together: Mapping[str, float] = field(default_factory=dict)
    _sums: dict[tuple[int, frozenset[int], tuple[Half, ...]], Moments] = field(
        default_factory=dict, repr=False, compare=False
    )
    _sources: dict[Hashable, SourceMoments] = field(default_factory=dict, repr=False, compare=False)
    _known: Mapping[Hashable, Mapping[CacheId, Any]] = field(default_factory=dict, repr=False, compare=False)
    _budget: Budget = field(default_factory=Budget, repr=False, compare=False)

    def __add__(self, other: "Cells") -> "Cells":
        moments = dict(self.moments)
        for cell, theirs in other.moments.items():
            moments[cell] = (moments[cell] + theirs).compact() if cell in moments else theirs
        return Cells(moments, {**self.shared, **other.shared}, self.prompts or other.prompts)

    def joined(self, parts: Iterable[frozenset[int]]) -> "Cells":
        """Return cells in which all sides of a part are summed into one side; sides in no part are left out.

        Every fit must use all sides of a part or none of them.
        """
        home = {side: min(part) for part in parts for side in part}
        moments: dict[Cell, Moments] = {}
        for (environment, side, half), theirs in self.moments.items():
            if side in home:
                cell = (environment, home[side], half)
                moments[cell] = (moments[cell] + theirs).compact() if cell in moments else theirs
        return Cells(moments, self.shared, self.prompts)

    def sources(
        self,
        environments: Mapping[int, str],
        weights: Mapping[str, float] | None,
        sides: frozenset[int] = frozenset([IN]),
        halves: Iterable[Half] = HALVES,
    ) -> SourceMoments:
        """Return the moments of some environments (index -> name), over some sides and halves of the classes.

        They are cached within the budget; beyond it each fit computes them again. ValueError: an environment has no
        image on these sides.
        """
        halves = tuple(halves)
        key = (tuple(environments.items()), sides, halves)
        if (made := self._sources.get(key)) is None:
            moments = {}
            for index, name in environments.items():
                if (of_one := self.sum_of(index, sides, halves)) is None:
                    raise ValueError(f"The environment '{name}' has no training image.")
                moments[name] = of_one
            parts = {kind: [of[half] for half in halves if half in of] for kind, of in self.shared.items()}
            shared = {kind: sum(differences[1:], differences[0]) for kind, differences in parts.items() if differences}
            prompts = self.prompts.visible(environments, halves) if self.prompts else None
            known = self._known.get(key, {})
            made = SourceMoments(moments, None, shared, prompts, self._budget, self.together, known)
            if self._budget.reserve(made.nbytes):
                self._sources[key] = made
        return made.reweighted(weights)

    def after(self, others: "Cells") -> "Cells":
        """Return these moments, with cached decompositions of C_z from `others`, which must have the same images."""
        reserve = self._budget.reserve
        known = {key: sources.image_cache() for key, sources in others._sources.items()}
        kept = {key: {name: made for name, made in of.items() if reserve(size_of(made))} for key, of in known.items()}
        return replace(self, _known=kept)

    def sum_of(self, environment: int, sides: frozenset[int], halves: Iterable[Half]) -> Moments | None:
        """Return the moments of an environment, summed over sides and halves. None if it has no image there.

        Within the budget matrices are added once; beyond it, each use adds them again.
        """
        key = (environment, sides, tuple(halves))
        if key not in self._sums:
            cells: list[Cell] = [(environment, side, half) for side in sorted(sides) for half in key[2]]
            parts = [self.moments[cell] for cell in cells if cell in self.moments]
            if not sum(part.n for part in parts):
                return None
            total = sum(parts[1:], parts[0])
            added = total.added()
            if not self._budget.reserve(added.nbytes):
                return total
            self._sums[key] = added
        return self._sums[key]


def cells_of(layout: Layout, z: Floats, views: Mapping[str, Floats]) -> Cells:
    """Return the moments of the images of `layout`.

    `z` and `views` (kind -> embeddings of the intervened images) have shape (n, D) and the scale that the projection
    uses.
    """
    cells = {}
    for cell, rows in layout.parts():
        shown = {kind: view[rows] for kind, view in views.items()}
        cells[cell] = Moments.of(z[rows], shown, layout.label[rows], layout.classes)
    return Cells(cells)


Place = tuple[int, int]  # environment, side of the split
PlaceMeans = Mapping[Place, tuple[Ints, Array]]


def class_means(cells: Cells) -> PlaceMeans:
    """Return (environment, side) -> (image counts by class, mean embeddings by class of shape (classes, D))."""
    places: dict[Place, Moments] = {}
    for (environment, side, _), moments in cells.moments.items():
        plain, place = Moments(moments.counts, moments.sums, moments.outer), (environment, side)
        places[place] = places[place] + plain if place in places else plain
    return {place: (m.counts, m.sums / np.maximum(m.counts, 1)[:, None]) for place, m in places.items()}


def cross_cells(layout: Layout, z: Floats, means: PlaceMeans, names: Sequence[str]) -> Cells:
    """Return cells with moments of pairs across environments, as further kinds.

    Let i be an image of class c in environment e. For every other environment e', the differences d are z_i - z_j for
    all images j of class c on the same side in e'. Each has the weight 1/n_e',c, so that image i counts once. The sum
    of d d^T over all pairs is computed without forming the pairs:

        sum_i z_i z_i^T + (n_e,c / n_e',c) sum_j z_j z_j^T - s_e,c m_e',c^T - m_e',c s_e,c^T    (for each class c)

    where s and m are sums and means of embeddings, and n the numbers of images. Both images lie on the same side and in
    the same half of the classes. So a fit sees a held-out environment, a tested fold or a new class only if it uses
    their cells.
    """
    cells = Cells({})
    for (environment, side, half), rows in layout.parts():
        z_, label = np.asarray(z[rows], dtype=np.float64), layout.label[rows]
        counts, _ = means[environment, side]
        for (other, their_side), (their_counts, their_means) in means.items():
            if other == environment or their_side != side:
                continue
            shared = (counts[label] > 0) & (their_counts[label] > 0)
            here, m = z_[shared], their_means[label[shared]]
            cross = here.T @ m
            mine = Differences(int(shared.sum()), here.sum(axis=0) - m.sum(axis=0), here.T @ here - cross - cross.T)
            # The second moment of these images also enters the differences of the other environment to this one.
            weight = (their_counts[label] / np.maximum(counts[label], 1))[shared, None]
            theirs = Differences(0, np.zeros(len(mine.total)), (here * weight).T @ here)
            for at, to, part in ((environment, other, mine), (other, environment, theirs)):
                kinds = {cross_kind(names[to]): part}
                cells = cells + Cells({(at, side, half): Moments.nothing(layout.classes, z_.shape[1], kinds)})
    return cells


def drawn_pairs(layout: Layout, share: float, seed: int) -> Mask:
    """Return a mask of images whose views are used if only a share of all pairs is used, shape (n,).

    Within each class of an environment images are in random order. An image is drawn if its position is below the
    share. The i-th of n images has the position (i + offset) / n, 0 <= offset < 1. So smaller shares are subsets of
    larger ones, and each class of an environment has its share up to one pair. Offsets are multiples of the golden
    ratio modulo 1, which are evenly spread. So the total of all images has its share too, even if the share is small.
    """
    rng, n = np.random.default_rng(seed), len(layout.label)
    of_class = layout.environment * layout.classes + layout.label
    order = np.lexsort((rng.random(n), of_class))
    _, first, counts = np.unique(of_class[order], return_index=True, return_counts=True)
    number = np.repeat(np.arange(len(first)), counts)
    offset = (rng.random() + np.arange(len(first)) * (np.sqrt(5) - 1) / 2) % 1
    place = np.empty(n)
    place[order] = (np.arange(n) - first[number] + offset[number]) / counts[number]
    return np.asarray(place < share)


def one_of(views: Mapping[str, Floats], image_ids: Sequence[str], seed: int) -> Floats:
    """Return each image's view of one kind, shape (n, D). `seed` and image id determine the kind."""
    stacked = list(views.values())
    draws = [int(view_rng(seed, image_id, "random_one").integers(len(stacked))) for image_id in image_ids]
    return np.stack([stacked[draw][i] for i, draw in enumerate(draws)]) if draws else stacked[0]


def partners(layout: Layout, seed: int, draw: int) -> Ints:
    """Return for each image the position of a random other image of its cell (itself if it is alone), shape (n,).

    In a cell of up to `BIN` images, every image is the partner of exactly one image. A larger cell is cut into bins of
    consecutive images. Each bin is matched with another bin at random, from which its partners are drawn. If the other
    bin is smaller, some partners repeat. So the partners of consecutive images lie close to each other, and few blocks
    must be read. The result depends only on cells, `seed` and `draw`.
    """
    rng, partner = np.random.default_rng([seed, draw]), np.arange(len(layout.label))
    for _, members in layout.parts():
        bins = np.array_split(members, -(-len(members) // BIN))
        if len(bins) == 1:
            in_turn = rng.permutation(members)
            partner[in_turn] = np.roll(in_turn, 1)
            continue
        order = rng.permutation(len(bins))
        for here, there in zip(order, np.roll(order, 1), strict=True):
            partner[bins[here]] = np.resize(rng.permutation(bins[there]), len(bins[here]))
    return partner


def paired_cells(
    layout: Layout,
    z: Floats,
    views: Sequence[Floats],
    weights: Sequence[float],
    kind: str,
    drawn: Mask | None = None,
    products: bool = False,
) -> Cells:
    """Return the differences between images and views, weighed to one kind before they are summed.

    `layout` may describe a part of the data set, since cells of several parts can be added.

    Args:
        layout: the cell of each image.
        z: embeddings of the images, shape (n, D).
        views: embeddings of the views of each image, or of its partner, scaled as z; one array for each kind.
        weights: weights of the views; empty for a single view.
        kind: name of the differences in the moments.
        drawn: mask of the images that are paired, shape (n,). Default: all.
        products: whether z z^do^T is summed too. Default false.
    """
    cells: dict[Cell, Moments] = {}
    for cell, rows in layout.parts():
        here = rows if drawn is None else rows[drawn[rows]]
        pairs = [(np.asarray(z[here], dtype=np.float64), view[here]) for view in views]
        parts = [Differences.of_pairs(*pair) if products else Differences.of(np.subtract(*pair)) for pair in pairs]
        one = Differences.mean(parts, weights or [1.0])
        cells[cell] = Moments.nothing(layout.classes, z.shape[1], {kind: one})
    return Cells(cells)
