"""Files computed from embeddings: moments, and the k-means clusters that replace environments.

Moments are sums over embeddings, see `benchmark.method.subspace.moments`: one file for the images themselves, and one
per kind of intervention. Clusters are stored, since k-means on another machine may assign some images differently.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa
import safetensors.numpy
from numpy.typing import NDArray

from benchmark.common.plain import canonical_hash
from benchmark.common.storage.files import Storage
from benchmark.method.arrays import Scale
from benchmark.method.evaluation.cells import Cell, Cells
from benchmark.method.subspace import Differences, Moments
from benchmark.method.subspace.moments import CROSS
from benchmark.store import embeddings
from benchmark.store.embeddings import View
from benchmark.store.sealed import DIFFERS, DamagedError, bytes_of, read_checked, reading, write_checked

ROOT = "moments"  # has one folder per view of originals, with the same name as the view's folder of embeddings
# Increase it with a change of the sums (method/subspace/moments.py) or of their file format, and write the new digest
# into `MOMENTS` of tests/store/test_golden.py.
VERSION = 4
IMAGES = "images"  # stem of the file with the moments of the images themselves
CLUSTERS, CLUSTERS_VERSION = "clusters", 1  # increase it with a change of the clustering


def moments_file(
    original: View,
    digest: str,
    scale: Scale,
    kind: str | None = None,
    views: Sequence[View] = (),
    seed: int | None = None,
) -> str:
    """Return the name, inside a store, of the file of moments of the images, or of the differences of one `kind`.

    `digest` is the hash of the cells of all images. The moments are of the images if `kind` is None. Differences are
    between the originals and `views`, or between environments if there are no `views`. `seed` is the seed of the draw
    if one of several views is drawn for each image.
    """
    folder = folder_of(original, digest, scale)
    if kind is None:
        return f"{folder}/{IMAGES}.safetensors"
    return f"{folder}/{canonical_hash([kind, [view.directory for view in views], seed])[:32]}.safetensors"


def folder_of(original: View, digest: str, scale: Scale) -> str:
    """Return the folder, inside a store, of all moments with the given cells and scale, see `moments_file`."""
    key = canonical_hash([digest, scale, VERSION])[:32]
    return f"{ROOT}/{original.directory.removeprefix(embeddings.ROOT + '/')}/{key}"


def packed(cells: Cells, kind: str | None, name: str) -> bytes:
    """Return the content of the safetensors file `name`: moments of the images, or of the differences of `kind`."""
    arrays: dict[str, NDArray[Any]] = {}
    for (environment, side, half), moments in cells.moments.items():
        place = f"{environment}/{side}/{half}"
        if kind is None:
            arrays |= {f"{place}/{n}": getattr(moments, n) for n in ("counts", "sums", "outer")}
        for pair, d in moments.differences.items() if kind else ():
            if pair == kind or (kind == CROSS and pair.startswith(CROSS)):
                fields = {"n": np.array([d.n]), "total": d.total, "outer": d.outer}
                fields |= {} if d.cross is None else {"cross": d.cross}
                arrays |= {f"{place}/{field}/{pair}": value for field, value in fields.items()}
    contiguous = {place: np.ascontiguousarray(a) for place, a in arrays.items()}
    return safetensors.numpy.save(contiguous, metadata={"digest": _digest(contiguous, name)})


def unpacked(storage: Storage, name: str, products: bool = True) -> dict[Cell, Moments]:
    """Return cell -> moments from a file written by `packed`. A file of one kind gives only differences.

    Without `products`, the sums of z z^do^T (z: embedding of an image, z^do: of its view) are left out: they are half
    of a file, and few projections use them. Raises DamagedError if the file is damaged.
    """
    arrays = _read(storage, name, products)
    by_cell: dict[Cell, dict[str, NDArray[Any]]] = {}
    for key in sorted(arrays):
        environment, side, half, field = key.split("/", 3)
        cell = cast("Cell", (int(environment), int(side), half))
        by_cell.setdefault(cell, {})[field] = arrays[key]
    cells, none = dict[Cell, Moments](), np.zeros(0)
    for cell, fields in by_cell.items():
        differences = {
            kind: Differences(
                int(fields[f"n/{kind}"][0]),
                fields[f"total/{kind}"],
                fields[f"outer/{kind}"],
                fields.get(f"cross/{kind}") if products else None,
            )
            for kind in (field.partition("/")[2] for field in fields if field.startswith("n/"))
        }
        images = (fields.get("counts", none.astype(np.int64)), fields.get("sums", none), fields.get("outer", none))
        cells[cell] = Moments(*images, differences)
    return cells


def check(storage: Storage, name: str) -> None:
    """Raise DamagedError if a file is damaged. A local file unchanged since this process checked it is skipped."""
    if not storage.is_local or _compared.get(storage.path(name)) != storage.state(name):
        _checked(storage, name)


# Verified local file -> (size, time of change): trials read the same files repeatedly. Files in object stores are left
# out, since reading size and time takes a request.
_compared: dict[str, tuple[int, int]] = {}
# Verified file in an object store -> its content, which never changes under the same name.
_held: dict[str, bytes] = {}
_HELD_BYTES = 2**27  # maximum total size of `_held`


def _read(storage: Storage, name: str, products: bool) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of a file, from memory if this process has read it from an object store before.

    Without `products`, the sums of z z^do^T in a verified local file are not read.
    """
    place = storage.path(name)
    if (content := _held.get(place)) is not None:
        return safetensors.numpy.load(content)
    if products or not storage.is_local or _compared.get(place) != storage.state(name):
        return _checked(storage, name)
    try:
        with safetensors.safe_open(place, framework="numpy", backend="pread") as file:
            return {key: file.get_tensor(key) for key in file.keys() if key.split("/", 4)[3] != "cross"}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError):  # deleted or changed meanwhile: the full read reports it
        return _checked(storage, name)


def _checked(storage: Storage, name: str) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of a file. The digest is checked; of a local file only once after each change."""
    state = storage.state(name) if storage.is_local else None
    content = bytes_of(storage, name)
    with reading(storage, name, safetensors.SafetensorError, KeyError, TypeError):
        arrays = safetensors.numpy.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        written = header["__metadata__"]["digest"]
    if state is None or _compared.get(storage.path(name)) != state:
        if written != _digest(arrays, name):
            raise DamagedError.of(storage, {name: DIFFERS})
        if state:
            _compared[storage.path(name)] = state
        else:  # kept in memory for later trials; beyond the limit the oldest files are dropped
            while _held and sum(map(len, _held.values())) + len(content) > _HELD_BYTES:
                _held.pop(next(iter(_held)))
            if len(content) <= _HELD_BYTES:
                _held[storage.path(name)] = content
    return arrays


def _digest(arrays: Mapping[str, NDArray[Any]], name: str) -> str:
    digest = hashlib.sha256(name.encode())
    for place in sorted(arrays):
        digest.update(f"{place} {arrays[place].dtype} {arrays[place].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[place]).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


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
