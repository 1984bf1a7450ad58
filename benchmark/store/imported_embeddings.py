"""Imported embeddings: the list of their images, and the facts of their backbone.

The embeddings and the texts of the classes are stored like computed embeddings. One file per backbone names all other
files. It is written last, so an import is complete if this file exists.
"""

import re
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from benchmark.backbones.facts import BackboneFacts
from benchmark.common.errors import IcmBenchError, nearest
from benchmark.common.plain import canonical_hash
from benchmark.common.storage.files import Storage
from benchmark.store.embeddings import IMPORTS_SINCE
from benchmark.store.sealed import DIFFERS, DamagedError, read_checked, read_json, sealed_json, write_checked

ROOT = "imported"
VERSION = 1  # increase it when the file of a backbone or the columns of the images change
IMAGES = ("content", "image_id", "path", "environment", "class_name", "group")  # string columns


@dataclass(frozen=True)
class ImportedView:
    """One view of imported images.

    Attributes:
        label: `original`, or the label of the kind of intervention.
        seed: seed of the random draws; 0 if unknown.
        depends_on: plain data whose hash names the view's directory, see `View`.
        known: whether the parameters of the intervention are known; otherwise only its label is known.
    """

    label: str
    seed: int
    depends_on: dict[str, Any]
    known: bool


@dataclass(frozen=True)
class Import:
    """Imported embeddings of a data set under a backbone.

    Attributes:
        images: name of the file that lists the images of the data set.
        prompts: prompt templates of the class texts, or a description if they are unknown; empty without texts.
        texts: name of the file of class texts; empty without texts.
        views: all views, the original first.
    """

    dataset: str
    images: str
    fingerprint: str
    facts: BackboneFacts
    prompts: tuple[str, ...]
    texts: str
    views: tuple[ImportedView, ...]


def folder_of(dataset: str) -> str:
    """Return the folder, inside a store, of a data set's imports."""
    return f"{ROOT}/{dataset}"


def images_file(dataset: str, fingerprint: str) -> str:
    """Return the name, inside a store, of a data set's image list."""
    return f"{folder_of(dataset)}/images-{fingerprint[:32]}.parquet"


def import_file(dataset: str, label: str) -> str:
    """Return the name, inside a store, of the import file of a data set under the backbone `label`."""
    words = re.sub(r"[^A-Za-z0-9._-]+", "-", label)[:64].strip("-.")
    return f"{folder_of(dataset)}/{words}-{canonical_hash(label)[:8]}.json"


def imports_of(storage: Storage, dataset: str) -> list[str]:
    """Return the import files of a data set, one per backbone, sorted."""
    return storage.files(folder_of(dataset), ".json")


def write_images(storage: Storage, name: str, table: pa.Table) -> None:
    """Write the image list of a data set, with the columns `IMAGES`, as the file `name`."""
    write_checked(storage, name, table.select(IMAGES).cast(pa.schema([(column, pa.string()) for column in IMAGES])))


def write_import(storage: Storage, imported: Import) -> None:
    """Write the import file of a backbone, which completes the import. Call it after all other files are written."""
    name = import_file(imported.dataset, imported.facts.label)
    content = {"version": VERSION, **asdict(imported)}
    storage.write_bytes(name, sealed_json({**content, "digest": canonical_hash([name, content])}))


def read_import(storage: Storage, name: str) -> Import:
    """Return the import in a file.

    Raises:
        DamagedError: the file is damaged.
        IcmBenchError: a later version wrote the file.
    """
    try:
        content: dict[str, Any] = read_json(storage, name)
        content.pop("sha256", None)
        version, digest = int(content["version"]), content.pop("digest")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError.of(storage, {name: "is damaged"}) from error
    if digest != canonical_hash([name, content]):
        raise DamagedError.of(storage, {name: DIFFERS})
    if version > VERSION:
        raise IcmBenchError(f"{storage.path(name)} is of version {version}; install the icm-bench that wrote it.")
    del content["version"]
    facts = {**content["facts"], "notes": tuple(content["facts"]["notes"])}
    views = tuple(ImportedView(**view) for view in content["views"])
    made = {"facts": BackboneFacts(**facts), "prompts": tuple(content["prompts"]), "views": views}
    return Import(**{**content, **made})


def find_import(storage: Storage, dataset: str, label: str) -> Import:
    """Return the import of a data set under the backbone `label`.

    Raises:
        IcmBenchError: there is no such import; the message suggests existing ones. Or an earlier version made it.
    """
    if storage.exists(name := import_file(dataset, label)):
        found = read_import(storage, name)
        if any(int(view.depends_on["view"].get("version", 0)) < IMPORTS_SINCE for view in found.views):
            raise IcmBenchError(
                f"datasets: '{dataset}' was imported into {storage.path('')} by an earlier version of icm-bench, which "
                f"divided embeddings otherwise; import it again with `icm-bench import-embeddings`."
            )
        return found
    labels = [read_import(storage, file).facts.label for file in imports_of(storage, dataset)]
    if labels:
        raise IcmBenchError(
            f"backbones: '{label}' is none for which embeddings of '{dataset}' were imported; {nearest(label, labels)}"
        )
    names = sorted({file.split("/")[1] for file in storage.files(ROOT, ".json")})
    known = f"; {nearest(dataset, names)}" if names else "."
    raise IcmBenchError(
        f"datasets: {storage.path('')} has no imported embeddings of '{dataset}': `icm-bench import-embeddings FILE "
        f"--name {dataset}` puts them there{known}"
    )


def check(storage: Storage, name: str) -> None:
    """Raise DamagedError if an image list or an import file is damaged."""
    (read_import if name.endswith(".json") else read_checked)(storage, name)
