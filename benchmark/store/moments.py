"""The files of a store that hold moments: one for the images themselves, one for each kind of intervention."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from benchmark.common.errors import IcmBenchError
from benchmark.common.hashing import canonical_hash
from benchmark.common.storage import Storage
from benchmark.method.arrays import Scale
from benchmark.method.evaluation.cells import Cell, Cells
from benchmark.method.subspace import Differences, Moments
from benchmark.method.subspace.moments import CROSS
from benchmark.store import embeddings
from benchmark.store.embeddings import View

ROOT = "moments"  # below it, a folder for each view of originals, called as that of its embeddings
VERSION = 2  # to be raised when the sums or their file change
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
    key = canonical_hash([digest, scale, VERSION])[:32]
    folder = f"{ROOT}/{original.directory.removeprefix(embeddings.ROOT + '/')}/{key}"
    if kind is None:
        return f"{folder}/{IMAGES}.safetensors"
    return f"{folder}/{canonical_hash([kind, [view.directory for view in views], seed])[:32]}.safetensors"


def packed(cells: Cells, kind: str | None) -> bytes:
    """Return the moments of the images, or the differences of a kind, as a safetensors file."""
    arrays: dict[str, NDArray[Any]] = {}
    for (environment, side, half), moments in cells.moments.items():
        place = f"{environment}/{side}/{half}"
        if kind is None:
            arrays |= {f"{place}/{n}": getattr(moments, n) for n in ("counts", "sums", "outer")}
        for name, d in moments.differences.items() if kind else ():
            if name == kind or (kind == CROSS and name.startswith(CROSS)):
                fields = {"n": np.array([d.n]), "total": d.total, "outer": d.outer}
                arrays |= {f"{place}/{field}/{name}": value for field, value in fields.items()}
    contiguous = {name: np.ascontiguousarray(a) for name, a in arrays.items()}
    return safetensors.numpy.save(contiguous, metadata={"digest": _digest(contiguous)})


def unpacked(storage: Storage, name: str) -> dict[Cell, Moments]:
    """Return what `packed` wrote: cell -> moments; those of a kind have no images.

    Raises:
        IcmBenchError: the file is damaged; names it.
    """
    content = storage.read_bytes(name)
    try:
        arrays = safetensors.numpy.load(content)
    except safetensors.SafetensorError as error:
        raise IcmBenchError(
            f"{storage.path(name)} is damaged ({error}); delete it and run again: only it is recomputed."
        ) from error
    cells: dict[Cell, Moments] = {}
    for cell, fields in _by_cell(arrays):
        none = np.zeros(0)
        differences = {
            kind: Differences(int(fields[f"n/{kind}"][0]), fields[f"total/{kind}"], fields[f"outer/{kind}"])
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
    """Return what is wrong with a file, read back as a whole; nothing where it is what was written."""
    try:
        content = storage.read_bytes(name)
        arrays = safetensors.numpy.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        written = header["__metadata__"]["digest"]
    except (IcmBenchError, safetensors.SafetensorError, ValueError, KeyError, TypeError):
        return "cannot be read"
    return "" if written == _digest(arrays) else "is not what was written (its digest differs)"


def _digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()
