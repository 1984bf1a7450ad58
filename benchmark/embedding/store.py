"""The store of embeddings: Parquet parts in a directory for each view, named by the hash of what they depend on."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmark.interventions import Intervention
from benchmark.recipe import canonical_hash
from benchmark.storage import Storage

ORIGINAL = "original"
PIXELS_VERSION = 1  # to be raised when decoding or a built-in intervention gives other pixels than before
_REJECTED_SCHEMA = pa.schema([("image_id", pa.string()), ("path", pa.string()), ("reason", pa.string())])


@dataclass(frozen=True)
class View:
    """One view of the images of a data set under one backbone: a directory of the store.

    Attributes:
        label: `original`, or the label of the intervention.
        intervention: None for the original.
        seed: of the intervention's draws.
        depends_on: data set fingerprint, backbone identity and view, in plain data; its hash is the key.
    """

    label: str
    intervention: Intervention | None
    seed: int
    depends_on: dict[str, Any]

    @property
    def directory(self) -> str:
        """The directory inside the store."""
        return f"embeddings/{canonical_hash(self.depends_on)[:32]}"


def view_of(
    dataset_fingerprint: str, backbone_identity: dict[str, Any], intervention: Intervention | None, seed: int
) -> View:
    """Return the view's place in the store. The original image does not depend on the seed."""
    what: dict[str, Any] = {"kind": ORIGINAL} if intervention is None else {
        **intervention.model_dump(mode="json"), "seed": seed, "implementation": intervention.implementation
    }  # fmt: skip
    what["version"] = PIXELS_VERSION
    depends_on = {"dataset": dataset_fingerprint, "backbone": backbone_identity, "view": what}
    return View(intervention.label if intervention else ORIGINAL, intervention, seed, depends_on)


def write_part(storage: Storage, view: View, table: pa.Table) -> None:
    """Add embeddings: columns image_id, environment, class_name, label, view, embedding.

    The part is named by the hash of its image ids, so that writing the same part twice changes nothing.
    """
    storage.write_table(f"{view.directory}/part-{_ids_hash(table)}.parquet", table)


def write_rejected(storage: Storage, view: View, table: pa.Table) -> None:
    """Add images that cannot be read: columns image_id, path, reason."""
    name = f"{view.directory}/rejected-{_ids_hash(table)}.parquet"
    storage.write_table(name, table.select(_REJECTED_SCHEMA.names))


def present(storage: Storage, view: View) -> set[str]:
    """Return the ids of the images that need no further work: embedded or rejected."""
    found: set[str] = set()
    for name in storage.files(view.directory, ".parquet"):
        found.update(storage.read_table(name, ["image_id"])["image_id"].to_pylist())
    return found


def rejected(storage: Storage, views: Sequence[View]) -> dict[str, tuple[str, str]]:
    """Return image id -> (path, reason) of the images that could not be read for any of the views."""
    found = {}
    for view in views:
        for name in storage.files(view.directory, ".parquet"):
            if "/rejected-" in name:
                for row in storage.read_table(name).to_pylist():
                    found[row["image_id"]] = (row["path"], row["reason"])
    return found


def read(storage: Storage, view: View, image_ids: Sequence[str]) -> NDArray[np.float32]:
    """Return the embeddings of `image_ids` in that order, shape (len(image_ids), D), float32.

    Raises:
        KeyError: an image is not in the store.
    """
    tables = [
        storage.read_table(name, ["image_id", "embedding"])
        for name in storage.files(view.directory, ".parquet")
        if "/part-" in name
    ]
    table = pa.concat_tables(tables)
    position = {image_id: i for i, image_id in enumerate(table["image_id"].to_pylist())}
    column = table["embedding"].combine_chunks()
    embeddings = column.flatten().to_numpy(zero_copy_only=False).reshape(len(table), column.type.list_size)
    return np.asarray(embeddings[[position[i] for i in image_ids]], dtype=np.float32)


def write_about(storage: Storage, view: View, about: dict[str, Any]) -> None:
    """Write, beside the parts, what they are in words."""
    content = {"view": view.label, "depends_on": view.depends_on, **about}
    storage.write_bytes(f"{view.directory}/about.json", json.dumps(content, indent=2, sort_keys=True).encode())


def _ids_hash(table: pa.Table) -> str:
    return hashlib.sha256("\n".join(table["image_id"].to_pylist()).encode()).hexdigest()[:24]
