"""Moments summed over the store, once, by as many workers as there are cores, and kept beside the embeddings.

Each worker reads a range of chunks block by block, so that memory does not grow with the data set; the sums of all
ranges are added and written, one file for the images themselves and one for each kind of intervention. What a sweep
needs of the views is then a few matrices.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.common.ray.remote import remote
from benchmark.common.storage.files import Storage
from benchmark.method.arrays import Normalize, Scale, scaled
from benchmark.method.evaluation.cells import (
    Cells,
    Layout,
    cells_of,
    class_means,
    cross_cells,
    drawn_pairs,
    one_of,
    partners,
    shuffled_cells,
)
from benchmark.method.evaluation.splits import Split
from benchmark.method.subspace.moments import CROSS
from benchmark.store import embeddings as store
from benchmark.store.embeddings import View
from benchmark.store.moments import folder_of, moments_file, packed, problem_of, unpacked
from benchmark.store.sealed import DamagedError

BLOCK = 4096  # images whose embeddings a worker holds at a time
MAX_WORKERS = 16  # each returns sums as large as the result
MEMORY = 4e9  # bytes that the sums of all workers together may take, if one task fits


@dataclass(frozen=True)
class Shuffle:
    """Pairs of different images: each image with the views of a partner, see `evaluation.cells.partners`.

    Attributes:
        seed: seed of all draws.
        draw: number of the draw.
        weights: of the views, above 0.
    """

    seed: int
    draw: int
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Some:
    """Some of the images, whose views alone are summed, see `evaluation.cells.drawn_pairs`.

    Attributes:
        share: of the images, above 0, below 1.
        seed: of the draw.
    """

    share: float
    seed: int


@dataclass(frozen=True)
class Pairing:
    """What images are paired with: a kind of intervention as moments know it.

    Attributes:
        name: name of the kind in intervention sets; of pairs of different images it says all they depend on.
        views: the view that images are paired with, or several of which one is drawn for each image; none for
            `cross_environment`, where images are paired with images.
        shuffle: set where images are paired with views of other images; all of `views` count then, by their weights.
        some: set where some of the images are paired, and not all.
    """

    name: str
    views: tuple[View, ...] = ()
    shuffle: Shuffle | None = None
    some: Some | None = None

    @property
    def one_of(self) -> bool:
        """Whether one of several views is drawn for each image."""
        return len(self.views) > 1 and self.shuffle is None


@dataclass(frozen=True)
class ImageIndex:
    """The readable images of a data set under one backbone.

    Attributes:
        original: the view without intervention.
        ids: image ids in manifest order, shape (n,).
        chunks: chunk of the store that holds each, shape (n,).
        layouts: split -> the cell of each image.
        environments: names of the environments, by index.
        dim: embedding width D.
    """

    original: View
    ids: list[str]
    chunks: NDArray[np.int64]
    layouts: dict[Split, Layout]
    environments: list[str]
    dim: int

    def digest(self, split: Split) -> str:
        """Return the hash of which image lies in which cell."""
        layout = self.layouts[split]
        digest = hashlib.sha256("\n".join(self.ids).encode())
        for array in (layout.environment, layout.label, layout.side):
            digest.update(np.ascontiguousarray(array).tobytes())
        return f"{digest.hexdigest()} {layout.classes} {layout.base} {self.environments}"


@dataclass(frozen=True)
class SumTask:
    """What is summed in one go.

    Attributes:
        split: which split the cells are of.
        scale: whether embeddings are as they are or at unit length.
        pairings: whose differences are summed.
    """

    split: Split
    scale: Scale
    pairings: tuple[Pairing, ...]


def file_of(images: ImageIndex, digest: str, task: SumTask, pairing: Pairing | None) -> str:
    """Return the name, inside a store, of the moments of a pairing, or of the images themselves."""
    if pairing is None:
        return moments_file(images.original, digest, task.scale)
    drawn = task.split.seed if pairing.one_of else None
    return moments_file(images.original, digest, task.scale, pairing.name, pairing.views, drawn)


def sum_moments(
    storage: Storage, images: ImageIndex, splits: Iterable[Split], scales: Iterable[Scale], pairings: Sequence[Pairing]
) -> int:
    """Make sure that the store has the moments of all pairings for every split and scale. Needs `connect`.

    Returns:
        How many files were written.

    Raises:
        DamagedError: parts, or moments that are there, are not what was written.
    """
    digests = {split: images.digest(split) for split in splits}
    tasks = [SumTask(split, scale, tuple(pairings)) for split in digests for scale in scales]
    written = 0
    for crossed in (False, True):  # pairs across environments need the means of the classes first
        of_turn = [pairing for pairing in pairings if (pairing.name == CROSS) == crossed]
        if crossed and not of_turn:
            continue
        at_once = _pairings_at_a_time(images)
        for first in range(0, max(1, len(of_turn)), at_once):
            part = tuple(of_turn[first : first + at_once])
            missing = [_missing(storage, images, digests[task.split], replace(task, pairings=part)) for task in tasks]
            todo = [(replace(task, pairings=part), files) for task, files in zip(tasks, missing, strict=True) if files]
            while todo:
                together = _tasks_at_a_time(images, todo[0][0])
                written += _sum(storage, images, digests, todo[:together])
                todo = todo[together:]
    return written


def _tasks_at_a_time(images: ImageIndex, task: SumTask) -> int:
    """Return how many splits and scales are summed in one reading, so that the sums of all workers fit into memory."""
    return max(1, int(MEMORY / (_workers(images) * _bytes_of_sums(images, len(task.pairings)))))


def _pairings_at_a_time(images: ImageIndex) -> int:
    """Return how many pairings are summed in one reading: a search brings any number."""
    alone = _bytes_of_sums(images, 0)
    return max(1, (int(MEMORY / (_workers(images) * alone)) - 1) // 2)


def _workers(images: ImageIndex) -> int:
    """Return how many workers sum: the sums of each, of one pairing at least, must fit into memory together."""
    from benchmark.common.ray.cluster import cpu_nodes

    nodes, cores = cpu_nodes()
    fitting = int(MEMORY / _bytes_of_sums(images, 1))
    return max(1, min(nodes * cores, MAX_WORKERS, fitting, -(-len(images.ids) // BLOCK)))


def _bytes_of_sums(images: ImageIndex, pairings: int) -> int:
    """Return the size of one worker's sums."""
    sides = max(split.folds or 3 for split in images.layouts)
    return bytes_of_sums(sides, len(images.environments), pairings, images.dim)


def bytes_of_sums(sides: int, environments: int, pairings: int, dim: int) -> int:
    """Return the size of moments: for each cell, with half of the classes, a matrix of its images and two a pairing."""
    return 2 * sides * environments * (1 + 2 * pairings) * 8 * dim**2


def read_cells(
    storage: Storage,
    images: ImageIndex,
    split: Split,
    scale: Scale,
    pairings: Sequence[Pairing],
    products: bool = True,
) -> Cells:
    """Return the moments of the images and of some pairings, cell by cell, from the store; see `unpacked`."""
    task, digest = SumTask(split, scale, tuple(pairings)), images.digest(split)
    cells = unpacked(storage, file_of(images, digest, task, None))
    for pairing in pairings:
        of_pairing = unpacked(storage, file_of(images, digest, task, pairing), products)
        for cell, moments in cells.items():
            if cell in of_pairing:
                differences = {**moments.differences, **of_pairing[cell].differences}
                cells[cell] = replace(moments, differences=differences)
    return Cells(cells)


def _missing(storage: Storage, images: ImageIndex, digest: str, task: SumTask) -> dict[str, Pairing | None]:
    """Return file -> pairing of what the store lacks for a task.

    Raises:
        DamagedError: files that are there are not what was written; names all of them.
    """
    crossed = any(pairing.name == CROSS for pairing in task.pairings)
    wanted: list[Pairing | None] = [*task.pairings] if crossed else [None, *task.pairings]
    files = {file_of(images, digest, task, pairing): pairing for pairing in wanted}
    listed = set(storage.files(folder_of(images.original, digest, task.scale), ".safetensors"))
    there = [file for file in files if file in listed]
    if problems := {file: problem for file in there if (problem := problem_of(storage, file))}:
        raise DamagedError.of(storage, problems)
    return {file: pairing for file, pairing in files.items() if file not in there}


def _sum(
    storage: Storage,
    images: ImageIndex,
    digests: dict[Split, str],
    todo: list[tuple[SumTask, dict[str, Pairing | None]]],
) -> int:
    """Sum over ranges of images in parallel, then add and write; one worker for each core takes part."""
    import ray

    ranges = np.array_split(np.arange(len(images.ids)), _workers(images))
    tasks = [replace(task, pairings=tuple(pairing for pairing in files.values() if pairing)) for task, files in todo]
    means = [
        class_means(Cells(unpacked(storage, file_of(images, digests[task.split], task, None))))
        if any(pairing.name == CROSS for pairing in task.pairings)
        else None
        for task in tasks
    ]
    shared = ray.put((storage, images, tasks, means))
    parts = [
        _sum_range.options(num_returns=len(tasks)).remote(shared, int(rows[0]), int(rows[-1]) + 1) for rows in ranges
    ]
    by_task = [[part] for part in parts] if len(tasks) == 1 else parts
    ray.get([_write.remote(storage, files, *(part[i] for part in by_task)) for i, (_, files) in enumerate(todo)])
    return sum(len(files) for _, files in todo)


@remote(num_cpus=1)
def _sum_range(shared: tuple[Storage, ImageIndex, list[SumTask], list[Any]], first: int, last: int) -> Any:
    storage, images, tasks, means = shared
    sums = [Cells({}) for _ in tasks]
    paired = [pairing for task in tasks for pairing in task.pairings if not pairing.shuffle]
    needed = {view.directory: view for pairing in paired for view in pairing.views}
    of_partners = [
        [(p, partners(images.layouts[task.split], p.shuffle.seed, p.shuffle.draw)) for p in task.pairings if p.shuffle]
        for task in tasks
    ]
    drawn = [
        {p.name: drawn_pairs(images.layouts[task.split], p.some.share, p.some.seed) for p in task.pairings if p.some}
        for task in tasks
    ]
    for start in range(first, last, BLOCK):
        rows = np.arange(start, min(start + BLOCK, last))
        ids = [images.ids[i] for i in rows]
        arrays = {
            view.directory: store.read(storage, view, ids, images.chunks[rows])
            for view in (images.original, *needed.values())
        }
        for i, task in enumerate(tasks):
            sums[i] = sums[i] + _cells_of_block(images, task, means[i], rows, ids, arrays, drawn[i])
            for pairing, partner in of_partners[i]:
                sums[i] = sums[i] + _with_partners(storage, images, task, pairing, rows, partner[rows], arrays)
    return sums if len(sums) > 1 else sums[0]


def _cells_of_block(
    images: ImageIndex,
    task: SumTask,
    means: Any,
    rows: NDArray[np.int64],
    ids: list[str],
    arrays: dict[str, NDArray[Any]],
    drawn: dict[str, NDArray[np.bool_]],
) -> Cells:
    normalize: Normalize = "before" if task.scale == "unit" else "none"
    layout = images.layouts[task.split].take(rows)
    z = scaled(arrays[images.original.directory], normalize)
    if means is not None:
        return cross_cells(layout, z, means, images.environments)
    views = {}
    for pairing in task.pairings:
        if pairing.shuffle:
            continue
        of_pairing = {view.directory: scaled(arrays[view.directory], normalize) for view in pairing.views}
        first = next(iter(of_pairing.values()))
        views[pairing.name] = one_of(of_pairing, ids, task.split.seed) if pairing.one_of else first
    return cells_of(layout, z, views, {name: some[rows] for name, some in drawn.items()})


def _with_partners(
    storage: Storage,
    images: ImageIndex,
    task: SumTask,
    pairing: Pairing,
    rows: NDArray[np.int64],
    partner: NDArray[np.int64],
    arrays: dict[str, NDArray[Any]],
) -> Cells:
    """Return the differences of the images of a block to the views of their partners, which are read for it.

    Args:
        storage: with the embeddings.
        images: of which some are summed.
        task: whose split and scale count.
        pairing: of images with views of partners.
        rows: positions of the block's images, shape (m,).
        partner: positions of their partners, shape (m,).
        arrays: embeddings of the block's images, among them the originals.
    """
    normalize: Normalize = "before" if task.scale == "unit" else "none"
    ids, chunks = [images.ids[i] for i in partner], images.chunks[partner]
    views = [scaled(store.read(storage, view, ids, chunks), normalize) for view in pairing.views]
    z = scaled(arrays[images.original.directory], normalize)
    weights = pairing.shuffle.weights if pairing.shuffle else ()
    return shuffled_cells(images.layouts[task.split].take(rows), z, views, weights, pairing.name)


@remote(num_cpus=1)
def _write(storage: Storage, files: dict[str, Pairing | None], *parts: Cells) -> None:
    total = sum(parts[1:], parts[0])
    for name, pairing in files.items():
        storage.write_bytes(name, packed(total, pairing.name if pairing else None, name))
