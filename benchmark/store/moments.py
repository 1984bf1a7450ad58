"""The files of a store that hold moments: one for the images themselves, one for each kind of intervention."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from benchmark.common.hashing import canonical_hash
from benchmark.common.storage.files import Storage, reason
from benchmark.method.arrays import Scale
from benchmark.method.evaluation.cells import Cell, Cells
from benchmark.method.subspace import Differences, Moments
from benchmark.method.subspace.moments import CROSS
from benchmark.store import embeddings
from benchmark.store.embeddings import View
from benchmark.store.sealed import DIFFERS, DamagedError, bytes_of, problem_by

ROOT = "moments"  # below it, a folder for each view of originals, called as that of its embeddings
VERSION = 4  # to be raised when the sums or their file change
IMAGES = "images"  # the file with the moments of the images themselves


def moments_file(
    original: View,
    digest: str,
    scale: Scale,
    kind: str | None = None,
    views: Sequence[View] = (),
    seed: int | None = None,
) -> str:
    """Return the name, inside a store, of the moments of a kind of intervention, or of the images themselves.

    Args:
        original: the view without intervention.
        digest: hash of which image lies in which cell.
        scale: whether embeddings are summed raw or at unit length.
        kind: the kind of intervention, as intervention sets call it; None for the images themselves.
        views: the views that images are paired with; none for pairs across environments.
        seed: seed of the draw of one of several `views` for each image; None where there is nothing to draw.
    """
    folder = folder_of(original, digest, scale)
    if kind is None:
        return f"{folder}/{IMAGES}.safetensors"
    return f"{folder}/{canonical_hash([kind, [view.directory for view in views], seed])[:32]}.safetensors"


def folder_of(original: View, digest: str, scale: Scale) -> str:
    """Return the folder, inside a store, of all moments of some cells at some scale, see `moments_file`."""
    key = canonical_hash([digest, scale, VERSION])[:32]
    return f"{ROOT}/{original.directory.removeprefix(embeddings.ROOT + '/')}/{key}"


def packed(cells: Cells, kind: str | None, name: str) -> bytes:
    """Return the moments of the images, or the differences of a kind, as the content of the safetensors file `name`."""
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
    """Return what `packed` wrote: cell -> moments; those of a kind have no images.

    Args:
        storage: with the file.
        name: of the file.
        products: whether the sums of z z^do^T are held, half of a file, which few projections look at.

    Raises:
        DamagedError: the file is not what was written under that name.
    """
    arrays = _read(storage, name, products)
    cells: dict[Cell, Moments] = {}
    for cell, fields in _by_cell(arrays):
        none = np.zeros(0)
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


def _by_cell(arrays: Mapping[str, NDArray[Any]]) -> Iterator[tuple[Cell, dict[str, NDArray[Any]]]]:
    cells: dict[Cell, dict[str, NDArray[Any]]] = {}
    for name in sorted(arrays):
        environment, side, half, field = name.split("/", 3)
        cell = cast("Cell", (int(environment), int(side), half))
        cells.setdefault(cell, {})[field] = arrays[name]
    yield from cells.items()


def problem_of(storage: Storage, name: str) -> str:
    """Return what is wrong with a file; nothing where it is what was written under that name."""
    if storage.is_local and _compared.get(storage.path(name)) == storage.state(name):
        return ""
    return problem_by(_checked, storage, name)


# File on a disk -> its size and time of change when this process found it sound: trials read the same ones again and
# again. In an object store it takes a request to ask for them.
_compared: dict[str, tuple[int, int]] = {}


# File in an object store -> its content, found sound: it is never written with another content under its name.
_held: dict[str, bytes] = {}
_HELD_BYTES = 2**27


def _hold(place: str, content: bytes) -> None:
    """Keep the content of a file for the next trial that reads it, and let go of others where it is too much."""
    while _held and sum(map(len, _held.values())) + len(content) > _HELD_BYTES:
        _held.pop(next(iter(_held)))
    if len(content) <= _HELD_BYTES:
        _held[place] = content


def _read(storage: Storage, name: str, products: bool) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of a file, of an object store those that this process has read before.

    Of a file on a disk that this process found sound they are without the sums of z z^do^T, unless `products`.
    """
    place = storage.path(name)
    if (content := _held.get(place)) is not None:
        return safetensors.numpy.load(content)
    if products or not storage.is_local or _compared.get(place) != storage.state(name):
        return _checked(storage, name)
    try:
        with safetensors.safe_open(place, framework="numpy", backend="pread") as file:
            return {key: file.get_tensor(key) for key in file.keys() if _field(key) != "cross"}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError):  # gone or changed in this moment: who reads all of it says so
        return _checked(storage, name)


def _field(key: str) -> str:
    """Return which sum an array is, of its name `environment/side/half/field`, or with a kind behind it."""
    return key.split("/", 4)[3]


def _checked(storage: Storage, name: str) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of a file, compared with what was written unless this process has done so since it changed."""
    state = storage.state(name) if storage.is_local else None
    content = bytes_of(storage, name)
    try:
        arrays = safetensors.numpy.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        written = header["__metadata__"]["digest"]
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise DamagedError.of(storage, {name: f"is damaged ({reason(error)})"}) from error
    if state is None or _compared.get(storage.path(name)) != state:
        if written != _digest(arrays, name):
            raise DamagedError.of(storage, {name: DIFFERS})
        if state:
            _compared[storage.path(name)] = state
        else:
            _hold(storage.path(name), content)
    return arrays


def _digest(arrays: Mapping[str, NDArray[Any]], name: str) -> str:
    digest = hashlib.sha256(name.encode())
    for place in sorted(arrays):
        digest.update(f"{place} {arrays[place].dtype} {arrays[place].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[place]).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
