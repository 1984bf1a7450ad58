"""Computes moments from stored embeddings, once and with one worker per core. The store keeps them.

Each worker reads a range of images in blocks, so memory does not grow with the data set. The sums of all ranges are
added and written: one file for the images and one for each kind of intervention. A sweep then needs only these
matrices. If the sums change, increase `VERSION` in `benchmark/store/moments.py`.
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
from benchmark.method.evaluation import cells as sums_of
from benchmark.method.evaluation.cells import Cells, Layout, one_of
from benchmark.method.evaluation.splits import Split
from benchmark.method.subspace.moments import CROSS
from benchmark.store import embeddings as store
from benchmark.store import moments as sums
from benchmark.store.embeddings import View
from benchmark.store.moments import folder_of, moments_file, packed, unpacked
from benchmark.store.sealed import DamagedError, problem_by

BLOCK = 4096  # images in a block that a worker reads
MAX_WORKERS = 16  # each worker returns sums as large as the result
MEMORY = 4e9  # bytes for the sums of all workers


@dataclass(frozen=True)
class Shuffle:
    """Specifies pairs of different images: an image with views of its partner, see `evaluation.cells.partners`.

    Attributes:
        seed: seed of all draws.
        draw: number of the draw.
        weights: weights of the views, above 0.
    """

    seed: int
    draw: int
    weights: tuple[float, ...]


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
        name: name of the kind in intervention sets. For pairs of different images, it contains everything that they
            depend on.
        views: the view to pair images with, or several views, from which one is drawn per image. Empty (default) for
            `cross_environment`, which pairs images with images.
        shuffle: how each image is paired with all `views`, weighted, of another image. None (default): images are
            paired with their own views.
        some: which subset of the images is paired; None (default): all images.
    """

    name: str
    views: tuple[View, ...] = ()
    shuffle: Shuffle | None = None
    some: Some | None = None

    @property
    def one_of(self) -> bool:
        """Whether one of several views is drawn per image."""
        return len(self.views) > 1 and self.shuffle is None


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

    def digest(self, split: Split) -> str:
        """Return a hash of the images and of their cells under a split."""
        layout = self.layouts[split]
        digest = hashlib.sha256("\n".join(self.ids).encode())
        for array in (layout.environment, layout.label, layout.side):
            digest.update(np.ascontiguousarray(array).tobytes())
        return f"{digest.hexdigest()} {layout.classes} {layout.base} {self.environments}"


@dataclass(frozen=True)
class SumTask:
    """Sums that are computed in one pass over the images.

    Attributes:
        split: split that defines the cells.
        scale: whether embeddings are raw or have unit length.
        pairings: pairings whose differences are summed.
    """

    split: Split
    scale: Scale
    pairings: tuple[Pairing, ...]


def file_of(images: ImageIndex, digest: str, task: SumTask, pairing: Pairing | None) -> str:
    """Return the name, inside a store, of the file with the moments of a pairing (None: of the images)."""
    if pairing is None:
        return moments_file(images.original, digest, task.scale)
    drawn = task.split.seed if pairing.one_of else None
    return moments_file(images.original, digest, task.scale, pairing.name, pairing.views, drawn)


def sum_moments(
    storage: Storage, images: ImageIndex, splits: Iterable[Split], scales: Iterable[Scale], pairings: Sequence[Pairing]
) -> int:
    """Compute the moments of pairings, splits and scales that the store lacks. Ray must be connected.

    Returns:
        The number of files written.

    Raises:
        DamagedError: embeddings or existing moments are damaged.
    """
    digests, scales, written = {split: images.digest(split) for split in splits}, [*scales], 0
    for crossed in (False, True):  # pairs across environments need the class means first
        of_turn = [pairing for pairing in pairings if (pairing.name == CROSS) == crossed]
        if crossed and not of_turn:
            continue
        # One pass sums as many pairings, splits and scales as fit into memory with the sums of all workers. A search
        # may have any number of pairings.
        room = MEMORY / _workers(images)
        at_once = max(1, (int(room / _bytes_of_sums(images, 0)) - 1) // 2)
        for first in range(0, max(1, len(of_turn)), at_once):
            part = tuple(of_turn[first : first + at_once])
            tasks = [SumTask(split, scale, part) for split in digests for scale in scales]
            todo = [(task, files) for task in tasks if (files := _missing(storage, images, digests[task.split], task))]
            while todo:
                together = max(1, int(room / _bytes_of_sums(images, len(part))))
                written += _sum(storage, images, digests, todo[:together])
                todo = todo[together:]
    return written


def _workers(images: ImageIndex) -> int:
    """Return how many workers can run at once if their sums, each for at least one pairing, must fit into memory."""
    from benchmark.common.ray.cluster import cpu_nodes

    nodes, cores = cpu_nodes()
    fitting = int(MEMORY / _bytes_of_sums(images, 1))
    return max(1, min(nodes * cores, MAX_WORKERS, fitting, -(-len(images.ids) // BLOCK)))


def _bytes_of_sums(images: ImageIndex, pairings: int) -> int:
    """Return the bytes of the sums of one worker."""
    sides = max(split.folds or 3 for split in images.layouts)
    return bytes_of_sums(sides, len(images.environments), pairings, images.dim)


def bytes_of_sums(sides: int, environments: int, pairings: int, dim: int) -> int:
    """Return the bytes of moments: for each cell one D x D matrix, and two more for each pairing."""
    return 2 * sides * environments * (1 + 2 * pairings) * 8 * dim**2


def read_cells(
    storage: Storage, images: ImageIndex, split: Split, scale: Scale, pairings: Sequence[Pairing], products: bool = True
) -> Cells:
    """Return the stored moments of the images and of pairings, by cell. `products` as in `store.moments.unpacked`."""
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
    """Return the files that a task needs and the store lacks, as file -> pairing (None: the images).

    Raises:
        DamagedError: existing files are damaged; the message names all of them.
    """
    crossed = any(pairing.name == CROSS for pairing in task.pairings)
    wanted: list[Pairing | None] = [*task.pairings] if crossed else [None, *task.pairings]
    files = {file_of(images, digest, task, pairing): pairing for pairing in wanted}
    listed = set(storage.files(folder_of(images.original, digest, task.scale), ".safetensors"))
    there = [file for file in files if file in listed]
    if problems := {file: problem for file in there if (problem := problem_by(sums.check, storage, file))}:
        raise DamagedError.of(storage, problems)
    return {file: pairing for file, pairing in files.items() if file not in there}


def _sum(
    storage: Storage,
    images: ImageIndex,
    digests: dict[Split, str],
    todo: list[tuple[SumTask, dict[str, Pairing | None]]],
) -> int:
    """Sum over ranges of images in parallel, add the sums and write them; return the number of files."""
    import ray

    ranges = np.array_split(np.arange(len(images.ids)), _workers(images))
    tasks = [replace(task, pairings=tuple(pairing for pairing in files.values() if pairing)) for task, files in todo]
    means = [
        sums_of.class_means(Cells(unpacked(storage, file_of(images, digests[task.split], task, None))))
        if any(pairing.name == CROSS for pairing in task.pairings)
        else None
        for task in tasks
    ]
    shared = ray.put((storage, images, tasks, means))
    summed = _sum_range.options(num_returns=len(tasks))
    parts = [summed.remote(shared, int(rows[0]), int(rows[-1]) + 1) for rows in ranges]
    by_task = [[part] for part in parts] if len(tasks) == 1 else parts
    ray.get([_write.remote(storage, files, *(part[i] for part in by_task)) for i, (_, files) in enumerate(todo)])
    return sum(len(files) for _, files in todo)


@remote(num_cpus=1)
def _sum_range(shared: tuple[Storage, ImageIndex, list[SumTask], list[Any]], first: int, last: int) -> Any:
    storage, images, tasks, means = shared
    sums = [Cells({}) for _ in tasks]
    paired = (view for task in tasks for p in task.pairings if not p.shuffle for view in p.views)
    needed = {view.directory: view for view in (images.original, *paired)}
    of_partners, drawn = list[dict[str, NDArray[np.int64]]](), list[dict[str, NDArray[np.bool_]]]()
    for task in tasks:
        layout, shuffles = images.layouts[task.split], {p.name: p.shuffle for p in task.pairings if p.shuffle}
        of_partners.append({name: sums_of.partners(layout, s.seed, s.draw) for name, s in shuffles.items()})
        drawn.append({p.name: sums_of.drawn_pairs(layout, p.some.share, p.some.seed) for p in task.pairings if p.some})
    for start in range(first, last, BLOCK):
        rows = np.arange(start, min(start + BLOCK, last))
        arrays = {directory: _read(storage, view, images, rows) for directory, view in needed.items()}
        for i, task in enumerate(tasks):
            normalize: Normalize = "before" if task.scale == "unit" else "none"
            layout, z = images.layouts[task.split].take(rows), scaled(arrays[images.original.directory], normalize)
            if means[i] is not None:
                sums[i] = sums[i] + sums_of.cross_cells(layout, z, means[i], images.environments)
                continue
            views = {}
            for pairing in (p for p in task.pairings if not p.shuffle):
                shown = {view.directory: scaled(arrays[view.directory], normalize) for view in pairing.views}
                ids = [images.ids[row] for row in rows] if pairing.one_of else []
                views[pairing.name] = one_of(shown, ids, task.split.seed) if ids else next(iter(shown.values()))
            some = {name: mask[rows] for name, mask in drawn[i].items()}
            sums[i] = sums[i] + sums_of.cells_of(layout, z, views, some)
            for pairing in task.pairings:  # embeddings of partners are read separately
                if pairing.shuffle:
                    theirs = of_partners[i][pairing.name][rows]
                    shown_of = [scaled(_read(storage, view, images, theirs), normalize) for view in pairing.views]
                    weights = pairing.shuffle.weights
                    sums[i] = sums[i] + sums_of.shuffled_cells(layout, z, shown_of, weights, pairing.name)
    return sums if len(sums) > 1 else sums[0]


def _read(storage: Storage, view: View, images: ImageIndex, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the embeddings of the images at the positions `rows`."""
    return store.read(storage, view, [images.ids[row] for row in rows], images.chunks[rows])


@remote(num_cpus=1)
def _write(storage: Storage, files: dict[str, Pairing | None], *parts: Cells) -> None:
    total = sum(parts[1:], parts[0])
    for name, pairing in files.items():
        storage.write_bytes(name, packed(total, pairing.name if pairing else None, name))
