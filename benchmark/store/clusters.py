"""The files of a store that say in which cluster images lie, where clusters take the place of environments.

They are made once: k-means on another machine may put an image that lies between two clusters into the other one.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmark.common.hashing import canonical_hash
from benchmark.common.storage.files import Storage
from benchmark.store.checked import checked, read_checked, write_checked
from benchmark.store.embeddings import View
from benchmark.store.sealed import DamagedError, problem_by

ROOT = "clusters"
VERSION = 1  # to be raised when clusters are made in another way
_COLUMN = "cluster"


def clusters_file(original: View, ids: Sequence[str], count: int, seed: int) -> str:
    """Return the name, inside a store, of the file with the clusters of some images.

    Args:
        original: the view whose embeddings are clustered.
        ids: ids of the images.
        count: number of clusters.
        seed: of the clustering.
    """
    images = hashlib.sha256("\n".join(ids).encode()).hexdigest()
    return f"{ROOT}/{canonical_hash([original.directory, images, count, seed, VERSION])[:32]}.parquet"


def write_clusters(storage: Storage, name: str, clusters: NDArray[np.int64]) -> None:
    """Write the cluster of each image, shape (n,)."""
    write_checked(storage, name, pa.table({_COLUMN: pa.array(clusters, pa.int64())}))


def read_clusters(storage: Storage, name: str, images: int, count: int) -> NDArray[np.int64] | None:
    """Return the cluster of each image, shape (n,); None where there is no file, or a damaged one, to be made again.

    Args:
        storage: with the file.
        name: of the file.
        images: number n of images.
        count: number of clusters.
    """
    content = storage.read_if_there(name)
    if content is None:
        return None
    try:
        clusters = np.asarray(checked(storage, name, content)[_COLUMN], dtype=np.int64)
    except DamagedError:
        return None
    sound = len(clusters) == images and set(np.unique(clusters)) == set(range(count))
    return clusters if sound else None


def problem_of(storage: Storage, name: str) -> str:
    """Return what is wrong with a file of clusters; nothing where it is what was written."""
    return problem_by(read_checked, storage, name)
