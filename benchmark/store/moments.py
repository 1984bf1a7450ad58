"""Files computed from embeddings: moments, and the k-means clusters that replace environments.

Moments are sums over embeddings, see `benchmark.method.subspace.moments`: one file for the images themselves, and one
per pairing of images with views. Clusters are stored, since k-means on another machine may assign some images
differently.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import safetensors.numpy
from numpy.typing import NDArray

from benchmark.common.plain import canonical_hash
from benchmark.common.storage.files import Storage
from benchmark.method.arrays import Scale
from benchmark.method.evaluation.cells import HALVES, Cell, Cells
from benchmark.method.subspace import Differences, Moments
from benchmark.store import embeddings
from benchmark.store.embeddings import View
from benchmark.store.sealed import (
    DIFFERS,
    UNSEALED,
    DamagedError,
    bytes_of,
    has_digest,
    read_checked,
    reading,
    with_digest,
    write_checked,
)

OBSOLETE = "moments"  # folder of the sums of earlier versions
ROOT = "sums"  # has one folder per view of originals, with the same name as the view's folder of embeddings
# Increase it with a change of the sums (method/subspace/moments.py) or of their file format, and write the new digest
# into `MOMENTS` of tests/store/test_golden.py.
VERSION = 5
CLUSTERS, CLUSTERS_VERSION = "clusters", 1  # increase it with a change of the clustering


def folder_of(original: View, digest: str, scale: Scale) -> str:
    """Return the folder, inside a store, of all sums with the given scale and `digest`, the hash of all cells."""
    key = canonical_hash([digest, scale, VERSION])[:32]
    return f"{ROOT}/{original.directory.removeprefix(embeddings.ROOT + '/')}/{key}"


def sums_file(folder: str, pairs: object = None) -> str:
    """Return the name, inside a store, of the file with the sums of the images, or of pairs.

    `pairs` is plain data that describes the pairs; None (default): the file is of the images.
    """
    return f"{folder}/{'images' if pairs is None else canonical_hash(pairs)[:32]}.safetensors"


def packed(cells: Cells, kind: str | None, name: str) -> bytes:
    """Return the content of the file `name`: sums of the images, or of the differences of `kind`.

    Of symmetric matrices it has the upper triangle, of classes those that a cell has.
    """
    places, every = [(e, side, HALVES.index(half)) for e, side, half in cells.moments], cells.moments.values()
    pairs = [moments.differences[kind] for moments in every] if kind else []
    fields = [(np.array([d.n]), d.total[None], d.outer) for d in pairs] or [(m.counts, m.sums, m.outer) for m in every]
    counts, triangle = np.stack([field[0] for field in fields]), np.triu_indices(len(fields[0][2]))
    arrays = {
        "cells": np.array(places),
        "counts": counts,
        "sums": np.stack([field[1] for field in fields])[counts > 0],
        "outer": np.stack([field[2][triangle] for field in fields]),
    }
    return with_digest(safetensors.numpy.save(arrays, metadata=UNSEALED), name)


def unpacked(storage: Storage, name: str, kind: str | None) -> Cells:
    """Return the sums in a file written by `packed`, by cell; for a `kind`, only differences.

    Raises:
        DamagedError: the file is damaged.
    """
    arrays, cells, nothing = _arrays(storage, name), dict[Cell, Moments](), np.zeros(0)
    counts, dim = arrays["counts"], arrays["sums"].shape[1]
    sums, triangle = np.zeros((*counts.shape, dim)), np.triu_indices(dim)
    sums[counts > 0] = arrays["sums"]
    for i, (environment, side, half) in enumerate(arrays["cells"].tolist()):
        outer = np.empty((dim, dim))
        outer[triangle] = outer.T[triangle] = arrays["outer"][i]
        one = Moments(counts[i], sums[i], outer)
        if kind:
            one = Moments(counts[i, :0], nothing, nothing, {kind: Differences(one.n, sums[i, 0], outer)})
        cells[environment, side, HALVES[half]] = one
    return Cells(cells)


# Verified local file -> (size, time of change): trials read the same files repeatedly.
_compared: dict[str, tuple[int, int]] = {}


def check(storage: Storage, name: str) -> None:
    """Raise DamagedError if a file is damaged. A local file unchanged since this process checked it is skipped."""
    state = storage.state(name) if storage.is_local else None
    if state is None or _compared.get(storage.path(name)) != state:
        _sound(storage, name)
        if state:
            _compared[storage.path(name)] = state


def _sound(storage: Storage, name: str) -> bytes:
    """Return the content of an undamaged file."""
    content = bytes_of(storage, name)
    if not has_digest(storage, name, content, name):
        raise DamagedError.of(storage, {name: DIFFERS})
    return content


def _arrays(storage: Storage, name: str) -> dict[str, NDArray[Any]]:
    """Return the arrays of a file, of a local one through a memory map."""
    if not storage.is_local:
        return safetensors.numpy.load(_sound(storage, name))
    check(storage, name)
    with reading(storage, name, safetensors.SafetensorError):
        file = safetensors.safe_open(storage.path(name), framework="numpy")
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def clusters_file(original: View, ids: Sequence[str], count: int, seed: int) -> str:
    """Return the name, inside a store, of the file with the clusters of the images `ids`."""
    images = hashlib.sha256("\n".join(ids).encode()).hexdigest()
    return f"{CLUSTERS}/{canonical_hash([original.directory, images, count, seed, CLUSTERS_VERSION])[:32]}.parquet"


def write_clusters(storage: Storage, name: str, clusters: NDArray[np.int64]) -> None:
    """Write the cluster number of each image, shape (n,)."""
    write_checked(storage, name, pa.table({"cluster": pa.array(clusters, pa.int64())}))


def read_clusters(storage: Storage, name: str, images: int, count: int) -> NDArray[np.int64] | None:
    """Return the cluster number of each image, shape (n,); None if the file is missing or damaged."""
    content = storage.read_if_there(name)
    if content is None:
        return None
    try:
        clusters = np.asarray(read_checked(storage, name, content)["cluster"], dtype=np.int64)
    except DamagedError:
        return None
    sound = len(clusters) == images and set(np.unique(clusters)) == set(range(count))
    return clusters if sound else None
