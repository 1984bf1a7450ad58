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
import ray
from numpy.typing import NDArray

from benchmark.common.cluster import cpu_nodes
from benchmark.common.storage import Storage
from benchmark.method.arrays import Normalize, Scale, scaled
from benchmark.method.evaluation.cells import Cell, Cells, Layout, Side, cells_of, class_means, cross_cells, one_of
from benchmark.method.evaluation.splits import Split
from benchmark.method.subspace import Moments
from benchmark.method.subspace.moments import CROSS
from benchmark.store import embeddings as store
from benchmark.store.embeddings import View
from benchmark.store.moments import moments_file, packed, unpacked

BLOCK = 4096  # images whose embeddings a worker holds at a time
MAX_WORKERS = 16  # each returns sums as large as the result
MEMORY = 4e9  # bytes that the sums of all workers together may take, if one job allows it


@dataclass(frozen=True)
class Pairing:
    """A kind of intervention as moments know it.

    Attributes:
        name: how intervention sets call it.
        views: the view that images are paired with, or several of which one is drawn for each image; none for
            `cross_environment`, whose pairs are images.
    """

    name: str
    views: tuple[View, ...] = ()


@dataclass(frozen=True)
class ImageIndex:
    """The readable images of a data set under one backbone.

    Attributes:
        original: the view without intervention.
        ids: image ids in manifest order, shape (n,).
        chunks: chunk of the store that holds each, shape (n,).
        layouts: split -> the cell of each image.
        environments: names.
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
        for array in (layout.environment, layout.label, layout.out):
            digest.update(np.ascontiguousarray(array).tobytes())
        return f"{digest.hexdigest()} {layout.classes} {self.environments}"


@dataclass(frozen=True)
class SumTask:
    """What to sum: a split, embeddings raw or at unit length, and the kinds that are missing."""

    split: Split
    scale: Scale
    kinds: tuple[Pairing, ...]


def file_of(images: ImageIndex, digest: str, job: SumTask, kind: Pairing | None) -> str:
    """Return the name, inside a store, of the moments of a kind, or of the images themselves."""
    if kind is None:
        return moments_file(images.original, digest, job.scale)
    drawn = job.split.seed if len(kind.views) > 1 else None
    return moments_file(images.original, digest, job.scale, kind.name, kind.views, drawn)


def sum_moments(
    storage: Storage, images: ImageIndex, splits: Iterable[Split], scales: Iterable[Scale], kinds: Sequence[Pairing]
) -> int:
    """Make sure that the store has the moments of all kinds for every split and scale. Needs a connection to Ray.

    Returns:
        How many files were written.
    """
    digests = {split: images.digest(split) for split in splits}
    jobs = [SumTask(split, scale, tuple(kinds)) for split in digests for scale in scales]
    written = 0
    for crossed in (False, True):  # pairs across environments need the means of the classes first
        chosen = [k for k in kinds if (k.name == CROSS) == crossed]
        at_once = _kinds_at_a_time(images)
        for first in range(0, max(1, len(chosen)), at_once):
            some = tuple(chosen[first : first + at_once])
            missing = [_missing(storage, images, digests[job.split], replace(job, kinds=some)) for job in jobs]
            todo = [(replace(job, kinds=some), files) for job, files in zip(jobs, missing, strict=True) if files]
            while todo:
                together = _jobs_at_a_time(images, todo[0][0])
                written += _sum(storage, images, digests, todo[:together])
                todo = todo[together:]
    return written


def _jobs_at_a_time(images: ImageIndex, job: SumTask) -> int:
    """Return how many splits and scales are summed in one reading, so that the sums of all workers fit into memory."""
    return max(1, int(MEMORY / (_workers(images) * _bytes_of_sums(images, len(job.kinds)))))


def _kinds_at_a_time(images: ImageIndex) -> int:
    """Return how many kinds are summed in one reading: a search brings any number."""
    alone = _bytes_of_sums(images, 0)
    return max(1, int(MEMORY / (_workers(images) * alone)) - 1)


def _workers(images: ImageIndex) -> int:
    """Return how many workers sum: the sums of each, of one kind at least, must fit into memory together."""
    nodes, cores = cpu_nodes()
    fitting = int(MEMORY / _bytes_of_sums(images, 1))
    return max(1, min(nodes * cores, MAX_WORKERS, fitting, -(-len(images.ids) // BLOCK)))


def _bytes_of_sums(images: ImageIndex, kinds: int) -> int:
    """Return the size of one worker's sums: a matrix for each cell, of the images and of each kind."""
    return 4 * len(images.environments) * (1 + kinds) * 8 * images.dim**2


def read_cells(
    storage: Storage, images: ImageIndex, split: Split, scale: Scale, kinds: Sequence[Pairing], side: Side = "in"
) -> Cells:
    """Return the moments of the images on one side of the split, and of some kinds, cell by cell, from the store."""
    job, digest = SumTask(split, scale, tuple(kinds)), images.digest(split)
    cells = _of_side(unpacked(storage, file_of(images, digest, job, None)), side)
    for kind in kinds:
        of_kind = unpacked(storage, file_of(images, digest, job, kind))
        for cell, moments in cells.items():
            if cell in of_kind:
                differences = {**moments.differences, **of_kind[cell].differences}
                cells[cell] = replace(moments, differences=differences)
    return Cells(cells)


def _of_side(cells: dict[Cell, Moments], side: Side) -> dict[Cell, Moments]:
    return {cell: moments for cell, moments in cells.items() if cell[1] == side}


def _missing(storage: Storage, images: ImageIndex, digest: str, job: SumTask) -> dict[str, Pairing | None]:
    """Return file -> kind of what the store lacks for a job."""
    wanted: list[Pairing | None] = list(job.kinds) if any(k.name == CROSS for k in job.kinds) else [None, *job.kinds]
    files = {file_of(images, digest, job, kind): kind for kind in wanted}
    return {file: kind for file, kind in files.items() if not storage.exists(file)}


def _sum(
    storage: Storage,
    images: ImageIndex,
    digests: dict[Split, str],
    todo: list[tuple[SumTask, dict[str, Pairing | None]]],
) -> int:
    """Sum over ranges of images in parallel, then add and write; one worker for each core takes part."""
    ranges = np.array_split(np.arange(len(images.ids)), _workers(images))
    jobs = [replace(job, kinds=tuple(k for k in files.values() if k is not None)) for job, files in todo]
    means = [
        class_means(Cells(unpacked(storage, file_of(images, digests[job.split], job, None))))
        if any(kind.name == CROSS for kind in job.kinds)
        else None
        for job in jobs
    ]
    shared = ray.put((storage, images, jobs, means))
    parts = [
        _sum_range.options(num_returns=len(jobs)).remote(shared, int(rows[0]), int(rows[-1]) + 1) for rows in ranges
    ]
    by_job = [[part] for part in parts] if len(jobs) == 1 else parts
    ray.get([_write.remote(storage, files, *(part[i] for part in by_job)) for i, (_, files) in enumerate(todo)])
    return sum(len(files) for _, files in todo)


@ray.remote(num_cpus=1)
def _sum_range(shared: tuple[Storage, ImageIndex, list[SumTask], list[Any]], first: int, last: int) -> Any:
    storage, images, jobs, means = shared
    found = [Cells({}) for _ in jobs]
    needed = {view.directory: view for job in jobs for kind in job.kinds for view in kind.views}
    for start in range(first, last, BLOCK):
        rows = np.arange(start, min(start + BLOCK, last))
        ids = [images.ids[i] for i in rows]
        arrays = {
            directory: _read_rows(storage, directory, ids, images.chunks[rows])
            for directory in (images.original.directory, *needed)
        }
        for i, job in enumerate(jobs):
            found[i] = found[i] + _cells_of_block(images, job, means[i], rows, ids, arrays)
    return found if len(found) > 1 else found[0]


def _cells_of_block(
    images: ImageIndex,
    job: SumTask,
    means: Any,
    rows: NDArray[np.int64],
    ids: list[str],
    arrays: dict[str, NDArray[Any]],
) -> Cells:
    normalize: Normalize = "before" if job.scale == "unit" else "none"
    layout = images.layouts[job.split].take(rows)
    z = scaled(arrays[images.original.directory], normalize)
    if means is not None:
        return cross_cells(layout, z, means, images.environments)
    views = {}
    for kind in job.kinds:
        of_kind = {view.directory: scaled(arrays[view.directory], normalize) for view in kind.views}
        views[kind.name] = one_of(of_kind, ids, job.split.seed) if len(of_kind) > 1 else next(iter(of_kind.values()))
    return cells_of(layout, z, views)


def _read_rows(storage: Storage, directory: str, ids: Sequence[str], chunks: NDArray[np.int64]) -> NDArray[np.floating]:
    """Return the embeddings of some images, shape (len(ids), D), from the parts that hold them."""
    tables = [storage.read_table(store.part_name(directory, c), ["image_id", "embedding"]) for c in np.unique(chunks)]
    position = {name: i for i, name in enumerate(name for t in tables for name in t["image_id"].to_pylist())}
    return np.concatenate([store.vectors(table) for table in tables])[[position[i] for i in ids]]


@ray.remote(num_cpus=1)
def _write(storage: Storage, files: dict[str, Pairing | None], *parts: Cells) -> None:
    total = sum(parts[1:], parts[0])
    for name, kind in files.items():
        storage.write_bytes(name, packed(total, kind.name if kind else None))
