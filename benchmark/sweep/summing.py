"""Sums embeddings to moments: in the worker of a trial, or once for the store where the sums are much smaller.

Images are summed in blocks, so memory does not grow with the data set. Ranges of blocks depend only on the number of
images, so sums are the same to the last digit on any number of cores, whether the store has them or not. If they
change, increase `VERSION` in `benchmark/store/moments.py`.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import accumulate
from operator import add

import numpy as np
from numpy.typing import NDArray

from benchmark.common.ray.remote import remote
from benchmark.common.storage.files import Storage
from benchmark.method.arrays import Floats, Normalize, Scale, scaled
from benchmark.method.evaluation import cells as sums_of
from benchmark.method.evaluation.cells import Cells, Layout, PlaceMeans
from benchmark.method.evaluation.splits import Split
from benchmark.method.subspace.moments import CROSS
from benchmark.store import embeddings as store
from benchmark.store import moments as sums
from benchmark.store.embeddings import View
from benchmark.store.sealed import DamagedError, problem_by

BLOCK = 4096  # images in a block
MAX_RANGES = 8  # ranges of images, each of which one worker sums for the store: their sums are in memory together
MAX_SHARE = 0.1  # maximum size of a subject's sums in the store, as a share of its embeddings

Rows = NDArray[np.int64]
Read = Callable[[View, Rows], NDArray[np.float32]]  # view, positions of images -> embeddings, shape (images, D)


@dataclass(frozen=True)
class Shuffle:
    """Specifies pairs of different images: an image with views of its partner, see `evaluation.cells.partners`.

    Attributes:
        seed: seed of all draws.
        draw: number of the draw.
    """

    seed: int
    draw: int


@dataclass(frozen=True)
class Some:
    """Specifies a random subset of images whose views are summed, see `evaluation.cells.drawn_pairs`.

    Attributes:
        share: share of the images, between 0 and 1.
        seed: seed of the draw.
    """

    share: float
    seed: int


@dataclass(frozen=True)
class Pairing:
    """Specifies one kind of pairs in the moments: what each image is paired with.

    Attributes:
        name: name of the kind in intervention sets.
        views: the view to pair images with, or several views. Empty (default) for `cross_environment`, which pairs
            images with images.
        weights: weights of the views, above 0, if each image is paired with all of them. Empty (default): of several
            views, one is drawn per image.
        shuffle: which other image's views an image is paired with. None (default): its own views.
        some: which subset of the images is paired; None (default): all images.
    """

    name: str
    views: tuple[View, ...] = ()
    weights: tuple[float, ...] = ()
    shuffle: Shuffle | None = None
    some: Some | None = None

    @property
    def one_of(self) -> bool:
        """Whether one of several views is drawn per image."""
        return len(self.views) > 1 and not self.weights


@dataclass(frozen=True)
class ImageIndex:
    """The readable images of a data set under one backbone, and where the store has their embeddings.

    Attributes:
        original: the view without intervention.
        ids: image ids in manifest order, shape (n,).
        chunks: number of the chunk in the store that has the image, shape (n,).
        layouts: split -> cell of each image.
        environments: names of the environments, by index.
        dim: embedding width D.
    """

    original: View
    ids: list[str]
    chunks: NDArray[np.int64]
    layouts: dict[Split, Layout]
    environments: list[str]
    dim: int

    def layout(self, split: Split, halves: bool) -> Layout:
        """Return the cell of each image; without `halves`, a cell has both halves of the classes, called `base`."""
        layout = self.layouts[split]
        return layout if halves else replace(layout, base=layout.classes)

    def digest(self, split: Split, halves: bool = True) -> str:
        """Return a hash of the images and of their cells under a split."""
        layout = self.layout(split, halves)
        digest = hashlib.sha256("\n".join(self.ids).encode())
        for array in (layout.environment, layout.label, layout.side):
            digest.update(np.ascontiguousarray(array).tobytes())
        return f"{digest.hexdigest()} {layout.classes} {layout.base} {self.environments}"


@dataclass(frozen=True)
class SumTask:
    """Sums over all images of a subject, which are one file if the store has them.

    Attributes:
        split: split that defines the cells.
        scale: whether embeddings are raw or have unit length.
        halves: whether the two halves of the classes have cells of their own, as open-class protocols need.
        pairing: pairs whose differences are summed; None (default): the images themselves are summed.
        products: whether z z^do^T is summed too. Default false. The store has no such sums, as few projections use
            them.
    """

    split: Split
    scale: Scale
    halves: bool
    pairing: Pairing | None = None
    products: bool = False

    @property
    def kind(self) -> str | None:
        """Name of the kind of pairs; None for the images themselves."""
        return self.pairing.name if self.pairing else None

    @property
    def is_crossed(self) -> bool:
        """Whether pairs across environments are summed, which needs the means of classes."""
        return self.kind == CROSS

    @property
    def may_be_stored(self) -> bool:
        """Whether the store may have the sums."""
        return not (self.is_crossed or self.products)

    def size(self, environments: int, classes: int, dim: int) -> int:
        """Return the maximum number of bytes in the store: one triangle and some vectors for each cell."""
        triangles, vectors = (1 + self.halves) * dim * (dim + 1) // 2, dim if self.pairing else dim * classes
        return 8 * environments * (self.split.folds or 2) * (triangles + vectors)


def distinct(tasks: Iterable[SumTask]) -> list[SumTask]:
    """Return tasks without repetitions: first those whose sums the store may have, of these the images first.

    Sums without halves of the classes can be read from those with halves.
    """
    every = {repr(task): task for task in tasks}
    some = [t for t in every.values() if t.halves or repr(replace(t, halves=True)) not in every]
    return sorted(some, key=lambda task: (not task.may_be_stored, task.pairing is not None))


def room_of(numbers: int, precision: str) -> float:
    """Return the maximum size of a subject's sums in the store, which has `numbers` numbers of its embeddings."""
    return MAX_SHARE * numbers * store.FLOAT_BYTES.get(precision, 4)


def fitting(sizes: Iterable[float], room: float) -> int:
    """Return how many of the first sums have at most `room` bytes together."""
    return sum(total <= room for total in accumulate(sizes))


def file_of(images: ImageIndex, task: SumTask) -> str:
    """Return the name, inside a store, of the file with the sums of a task."""
    folder, pairing = sums.folder_of(images.original, images.digest(task.split, task.halves), task.scale), task.pairing
    if pairing is None:
        return sums.sums_file(folder)
    drawn = task.split.seed if pairing.one_of else None
    which = repr((pairing.shuffle, pairing.some))
    return sums.sums_file(
        folder, [pairing.name, [v.directory for v in pairing.views], [*pairing.weights], which, drawn]
    )


def read_cells(storage: Storage, images: ImageIndex, tasks: Sequence[SumTask], read: Read) -> Cells:
    """Return the moments of the images and of their pairs by cell, from the store or summed here.

    `tasks` differ only in their pairs; the first one is of the images themselves. `read` returns embeddings.
    DamagedError: a file is damaged.
    """
    there = _there(storage, images, tasks)
    apart = [replace(task, halves=True) for task in tasks]  # of an open-class protocol with the same split
    if 0 not in there and 0 in (of_halves := _there(storage, images, apart)):
        tasks, there = apart, of_halves
    found: dict[int, Cells] = {i: sums.unpacked(storage, file, tasks[i].kind) for i, file in there.items()}
    for i, task in enumerate(tasks):
        if i not in found:
            found[i] = summed(images, task, read, sums_of.class_means(found[0]) if task.is_crossed else None)
    cells = dict(found[0].moments)
    for i in range(1, len(tasks)):
        for cell, moments in found[i].moments.items():
            if cell in cells:
                differences = {**cells[cell].differences, **moments.differences}
                cells[cell] = replace(cells[cell], differences=differences)
    return Cells(cells)


def _there(storage: Storage, images: ImageIndex, tasks: Sequence[SumTask]) -> dict[int, str]:
    """Return the position of each task whose sums the store has -> the file."""
    files = {i: file_of(images, task) for i, task in enumerate(tasks) if task.may_be_stored}
    return {i: file for i, file in files.items() if storage.state(file) != (0, 0)}


def summed(images: ImageIndex, task: SumTask, read: Read, means: PlaceMeans | None = None) -> Cells:
    """Return the sums of a task; pairs across environments need the `means` of classes."""
    return reduce(add, (_sum_rows(images, task, read, rows, means) for rows in _ranges(images)))


def _ranges(images: ImageIndex) -> list[Rows]:
    count = len(images.ids)
    return np.array_split(np.arange(count), max(1, min(MAX_RANGES, -(-count // BLOCK))))


def stored(storage: Storage, images: ImageIndex, view: View, rows: Rows) -> NDArray[np.float32]:
    """Return the embeddings of the images at the positions `rows` from the store, float32, shape (len(rows), D)."""
    return store.read(storage, view, [images.ids[row] for row in rows], images.chunks[rows])


def sum_missing(storage: Storage, images: ImageIndex, tasks: Iterable[SumTask], count: int | None = None) -> int:
    """Write the sums of the first `count` tasks (default: all) that the store lacks. Ray must be connected.

    Returns:
        The number of files written.

    Raises:
        DamagedError: embeddings or existing sums of any task are damaged; the message names all of the latter.
    """
    import ray

    files = {file_of(images, task): task for task in tasks}
    there = [file for file in files if storage.state(file) != (0, 0)]
    if problems := {file: problem for file in there if (problem := problem_by(sums.check, storage, file))}:
        raise DamagedError.of(storage, problems)
    missing = [file for file in [*files][:count] if file not in there]
    for file in missing:
        shared = ray.put((storage, images, files[file]))
        parts = [_sum_range.remote(shared, rows) for rows in _ranges(images)]
        ray.get(_write.remote(storage, file, files[file].kind, *parts))
    return len(missing)


@remote(num_cpus=1)
def _sum_range(shared: tuple[Storage, ImageIndex, SumTask], rows: Rows) -> Cells:
    storage, images, task = shared
    return _sum_rows(images, task, partial(stored, storage, images), rows)


@remote(num_cpus=1)
def _write(storage: Storage, name: str, kind: str | None, *parts: Cells) -> None:
    storage.write_bytes(name, sums.packed(reduce(add, parts), kind, name))


def _sum_rows(images: ImageIndex, task: SumTask, read: Read, rows: Rows, means: PlaceMeans | None = None) -> Cells:
    """Return the sums over the images at the positions `rows`."""
    found, pairing = Cells({}), task.pairing or Pairing("")
    whole, layout = images.layouts[task.split], images.layout(task.split, task.halves)
    shuffle, some = pairing.shuffle, pairing.some
    partners = sums_of.partners(whole, shuffle.seed, shuffle.draw) if shuffle else np.arange(len(images.ids))
    drawn = sums_of.drawn_pairs(whole, some.share, some.seed) if some else np.ones(len(images.ids), dtype=bool)
    normalize: Normalize = "before" if task.scale == "unit" else "none"
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        of_block, z = layout.take(block), scaled(read(images.original, block), normalize)
        if task.pairing is None:
            found = found + sums_of.cells_of(of_block, z, {})
            continue
        if means is not None:
            found = found + sums_of.cross_cells(of_block, z, means, images.environments)
            continue
        views = {view.directory: scaled(read(view, partners[block]), normalize) for view in pairing.views}
        shown: list[Floats] = [*views.values()]
        if pairing.one_of:
            shown = [sums_of.one_of(views, [images.ids[row] for row in block], task.split.seed)]
        pairs = drawn[block], task.products
        found = found + sums_of.paired_cells(of_block, z, shown, pairing.weights, pairing.name, *pairs)
    return found
