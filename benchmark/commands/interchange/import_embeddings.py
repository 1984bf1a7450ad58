"""`icm-bench import-embeddings`: embeddings that exist become views of a store, as if they had been made here.

What a run exported has the identity that it had: a sweep of it gives the same trials and rows. Of all others the
identity is their content. What names everything is written last: an import that was ended leaves nothing to be seen.
"""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmark.backbones.facts import BackboneFacts
from benchmark.commands.interchange.embedding_files import files_of
from benchmark.commands.interchange.read_embeddings import (
    Asked,
    ReadFile,
    facts_of,
    manifest_of,
    reading,
    texts_of,
    views_of,
)
from benchmark.common.errors import IcmBenchError, some
from benchmark.common.hashing import canonical_hash
from benchmark.common.storage.files import Storage
from benchmark.common.terminal.progress import Progress
from benchmark.datasets.manifest import Manifest
from benchmark.store import embeddings as store
from benchmark.store.checked import read_checked
from benchmark.store.embeddings import View
from benchmark.store.imported import (
    Import,
    ImportedView,
    folder_of,
    images_file,
    import_file,
    imports_of,
    problem_of,
    read_import,
    write_images,
    write_import,
)
from benchmark.store.sealed import DamagedError
from benchmark.store.texts import text_file, write_texts


@dataclass(frozen=True)
class Imported:
    """What was imported.

    Attributes:
        dataset: name of the data set.
        backbone: label of the backbone.
        images, environments, classes: their numbers.
        views: their labels, the original first.
        width: of the embeddings, D.
        texts: whether there are texts of the classes.
        logit_scale: factor on cosine similarities.
        exported: whether the file said how it was made, so that all identities are those of the run that did.
        written: number of files that the store did not have.
        store: where it lies.
        unused: columns of the file that were not asked for.
    """

    dataset: str
    backbone: str
    images: int
    environments: int
    classes: int
    views: list[str]
    width: int
    texts: bool
    logit_scale: float
    exported: bool
    written: int
    store: str
    unused: list[str]

    def text(self) -> str:
        """Return what was imported in some lines."""
        how = "with the identity of the run that exported them" if self.exported else "known by their content"
        views = f"{len(self.views)} view{'s' if len(self.views) > 1 else ''} ({some(self.views)})"
        texts = "texts of all classes" if self.texts else "no texts: no zero-shot prediction"
        unused = [f"columns that are not used: {some(self.unused)}"] if self.unused else []
        return "\n".join(
            [
                f"{self.dataset} under {self.backbone}: {self.images} images in {self.environments} environments, "
                f"{self.classes} classes",
                f"{views} of width {self.width}, {texts}, logit scale {self.logit_scale:g}; {how}",
                f"{self.written} files written to {self.store}",
                *unused,
            ]
        )


def import_embeddings(storage: Storage, place: Path, asked: Asked) -> tuple[Imported, dict[str, Any] | None]:
    """Take embeddings into a store, and return what was imported, and what the file says of its recipe.

    Args:
        storage: the store.
        place: a file, or a folder with `embeddings` and perhaps `texts`.
        asked: what a person asks for.

    Raises:
        IcmBenchError: a name is none, a file is damaged, or its rows make no sense; names file and row.
    """
    _check_names(asked)
    storage.check_writable()
    file, texts_file = files_of(place, asked.texts)
    with reading(file, texts_file, asked) as read:
        manifest = manifest_of(storage, read, asked.name)
        facts = facts_of(read, asked)
        texts = texts_of(read, manifest)
        views = views_of(read, manifest, facts)
        content = _import(read, manifest, facts, views)
        _check_others(storage, content, asked.overwrite)
        written = sum(_write_view(storage, read, manifest, facts, name, view) for name, view in views.items())
        if texts is not None and not _is_there(storage, content.texts):
            write_texts(storage, content.texts, manifest.prompt_names, texts)
            written += 1
        _finish(storage, content, manifest)
    counts = manifest.table.num_rows, len(manifest.environments), len(manifest.classes)
    labels = [view.label for view in content.views]
    has, exported = bool(content.texts), read.said is not None
    result = Imported(
        asked.name, facts.label, *counts, labels, facts.dim, has, facts.logit_scale, exported, written,
        storage.path(""), read.unused,
    )  # fmt: skip
    return result, read.said["recipe"] if read.said else None


def _check_names(asked: Asked) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", asked.name):
        raise IcmBenchError(
            f"--name {asked.name[:60]!a}: give up to 100 letters, digits, '.', '_' and '-', neither '.' nor '-' first."
        )
    label = asked.backbone
    if label is not None and not (label.strip() == label and label.isprintable() and 0 < len(label) <= 200):
        raise IcmBenchError(f"--backbone {label[:60]!a}: give a label that can be printed, up to 200 letters.")
    scale = asked.logit_scale
    if scale is not None and not 0 < scale < float("inf"):
        raise IcmBenchError(f"--logit-scale {scale:g}: give a number above 0, such as CLIP's 100.")


def _import(read: ReadFile, manifest: Manifest, facts: BackboneFacts, views: dict[str, View]) -> Import:
    """Return what the store is to know of the import."""
    prompts: tuple[str, ...] = ()
    if read.said and read.said["prompts"]:
        prompts = tuple(read.said["prompts"])
    elif read.texts:
        prompts = (f"imported texts {read.texts.digest[:16]}",)
    return Import(
        dataset=manifest.name,
        images=images_file(manifest.name, manifest.fingerprint),
        fingerprint=manifest.fingerprint,
        facts=facts,
        prompts=prompts,
        texts=text_file(facts, manifest.prompt_names, prompts) if read.texts else "",
        views=tuple(ImportedView(v.label, v.seed, v.depends_on, read.said is not None) for v in views.values()),
    )


def _check_others(storage: Storage, content: Import, overwrite: bool) -> None:
    """Refuse an import that would replace another one, or whose images differ from those of another backbone."""
    own = import_file(content.dataset, content.facts.label)
    for name in imports_of(storage, content.dataset):
        if problem_of(storage, name):
            continue
        other = read_import(storage, name)
        if name == own and not overwrite and canonical_hash(asdict(other)) != canonical_hash(asdict(content)):
            raise IcmBenchError(
                f"--backbone {content.facts.label}: other embeddings, texts or logit scale of '{content.dataset}' were "
                f"imported under this label; give another --backbone, or replace them with --overwrite."
            )
        if name != own and other.fingerprint != content.fingerprint:
            raise IcmBenchError(
                f"--name {content.dataset}: it was imported for {other.facts.label} with other images, classes or "
                f"environments; give the same ones, or another name (or delete {storage.path(name)})."
            )


def _write_view(
    storage: Storage, read: ReadFile, manifest: Manifest, facts: BackboneFacts, name: str, view: View
) -> int:
    """Write the parts of a view that the store lacks; return how many."""
    about = ("label", "random_weights", "dim", "precision")
    said = {"backbone" if key == "label" else key: getattr(facts, key) for key in about}
    store.write_about(storage, view, {"dataset": manifest.name, **said})
    images = manifest.table.take(store.distinct(manifest.table["image_id"]))
    size, written = store.chunk_size(len(images)), 0
    kind = pa.float16() if facts.precision == "float16" else pa.float32()
    rejected = read.said["rejected"].get(name, {}) if read.said else {}
    progress = Progress(f"writing the view {view.label}", len(images), "images")
    for chunk, rows in enumerate(read.chunks[name]):
        progress.update(len(rows))
        if _is_there(storage, store.part_name(view.directory, chunk)):
            continue
        lost = rejected.get(str(chunk), [])
        gone = {row[0] for row in lost}
        of_chunk = images.slice(chunk * size, size)
        kept = of_chunk.filter(pa.array([image not in gone for image in of_chunk["image_id"].to_pylist()]))
        vectors = pa.array(read.vectors[rows].ravel().astype(kind.to_pandas_dtype()), kind)
        columns = {column: kept[column] for column in ("image_id", "environment", "class_name", "label")}
        columns["view"] = pa.array([view.label] * len(kept), pa.string())
        columns["embedding"] = pa.FixedSizeListArray.from_arrays(vectors, facts.dim)
        store.write_part(storage, view, chunk, pa.table(columns), lost)
        written += 1
    progress.close()
    return written


def _is_there(storage: Storage, name: str) -> bool:
    """Return whether a file is there as it was written; one that is damaged is deleted."""
    if not storage.exists(name):
        return False
    try:
        read_checked(storage, name)
    except DamagedError:
        storage.delete(name)
        return False
    return True


def _finish(storage: Storage, content: Import, manifest: Manifest) -> None:
    """Write what names everything, and remove images that nothing names any more."""
    if not storage.exists(content.images) or problem_of(storage, content.images):
        write_images(storage, content.images, manifest.table)
    write_import(storage, content)
    named = {read_import(storage, name).images for name in imports_of(storage, content.dataset)}
    for name in storage.files(folder_of(content.dataset), ".parquet"):
        if name not in named:
            storage.delete(name)
