"""`icm-bench import-embeddings`: writes a file of embeddings into a store as views, and a recipe that sweeps them.

Exported embeddings keep their identity, so that a sweep gives the same trials and rows. Other embeddings are identified
by a hash of their content. The record that names all files is written last: an interrupted import leaves no trace.
"""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import yaml

from benchmark.backbones.facts import BackboneFacts
from benchmark.commands.interchange import read_embeddings as reader
from benchmark.commands.interchange.embedding_files import files_of
from benchmark.commands.interchange.files import atomic_file, write_new
from benchmark.commands.interchange.read_embeddings import ImportOptions, ReadFile
from benchmark.common.errors import IcmBenchError, some
from benchmark.common.plain import canonical_hash, from_yaml
from benchmark.common.storage.files import Storage
from benchmark.common.terminal.progress import Progress
from benchmark.datasets.manifest import Manifest
from benchmark.method.interventions import INTERVENTIONS
from benchmark.method.interventions.imported import ImportedView as ViewOfImport
from benchmark.recipe.loading import load_recipe, parse_recipe
from benchmark.store import embeddings as store
from benchmark.store import imported_embeddings as imports
from benchmark.store.embeddings import ORIGINAL, View, text_file, write_texts
from benchmark.store.imported_embeddings import Import, ImportedView
from benchmark.store.sealed import DamagedError, read_checked
from benchmark.store.upkeep import problem_of


@dataclass(frozen=True)
class Imported:
    """Summary of an import."""

    dataset: str
    backbone: str  # label
    images: int
    environments: int
    classes: int
    views: list[str]  # labels, the original first
    width: int  # embedding width D
    texts: bool  # whether there are text embeddings of the classes
    logit_scale: float
    exported: bool  # whether icm-bench exported the file, whose identities are then kept
    written: int  # number of files that the store did not have
    store: str
    unused: list[str]  # columns of the file that were not read

    def text(self) -> str:
        """Return the summary as text."""
        how = "identity of the exporting run" if self.exported else "identified by their content"
        views = f"{len(self.views)} view{'s' if len(self.views) > 1 else ''} ({some(self.views)})"
        texts = "texts of all classes" if self.texts else "no texts: no zero-shot prediction"
        unused = f"\nunused columns: {some(self.unused)}" if self.unused else ""
        return (
            f"{self.dataset} under {self.backbone}: {self.images} images in {self.environments} environments, "
            f"{self.classes} classes\n"
            f"{views} of width {self.width}, {texts}, logit scale {self.logit_scale:g}; {how}\n"
            f"{self.written} files written to {self.store}{unused}"
        )


def import_embeddings(storage: Storage, place: Path, asked: ImportOptions) -> tuple[Imported, dict[str, Any] | None]:
    """Import embeddings into a store; return a summary, and keys of the recipe that exported the embeddings.

    The keys are None if icm-bench did not export the file.

    Args:
        storage: the store.
        place: a file, or a folder with `embeddings` and optionally `texts`.
        asked: options of the import.

    Raises:
        IcmBenchError: a name or number is not valid, a file is damaged, or rows are inconsistent.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", asked.name):
        raise IcmBenchError(
            f"--name {asked.name[:60]!a}: give 1 to 100 of A-Z a-z 0-9 . _ -, not beginning with . or -."
        )
    label = asked.backbone
    if label is not None and not (label.strip() == label and label.isprintable() and 0 < len(label) <= 200):
        raise IcmBenchError(f"--backbone {label[:60]!a}: give a printable label of up to 200 characters.")
    scale = asked.logit_scale
    if scale is not None and not 0 < scale < float("inf"):
        raise IcmBenchError(f"--logit-scale {scale:g}: give a number above 0, such as CLIP's 100.")
    storage.check_writable()
    file, texts_file = files_of(place, asked.texts)
    with reader.reading(file, texts_file, asked) as read:
        result = import_read(storage, read, asked)
    return result, read.metadata["recipe"] if read.metadata else None


def import_read(storage: Storage, read: ReadFile, asked: ImportOptions) -> Imported:
    """Import embeddings that were read into a store; return a summary. Arguments and errors as above."""
    manifest = reader.manifest_of(storage, read, asked.name)
    facts = reader.facts_of(read, asked)
    texts = reader.texts_of(read, manifest)
    views = reader.views_of(read, manifest, facts)
    content = _import(read, manifest, facts, views)
    _check_others(storage, content, asked.overwrite)
    written = sum(_write_view(storage, read, manifest, facts, name, view) for name, view in views.items())
    if texts is not None and not _is_intact(storage, content.texts):
        write_texts(storage, content.texts, manifest.prompt_names, texts)
        written += 1
    if not storage.exists(content.images) or problem_of(storage, content.images):
        imports.write_images(storage, content.images, manifest.table)
    imports.write_import(storage, content)
    named = {imports.read_import(storage, name).images for name in imports.imports_of(storage, asked.name)}
    for name in storage.files(imports.folder_of(asked.name), ".parquet"):
        if name not in named:
            storage.delete(name)
    return Imported(
        dataset=asked.name,
        backbone=facts.label,
        images=manifest.table.num_rows,
        environments=len(manifest.environments),
        classes=len(manifest.classes),
        views=[view.label for view in content.views],
        width=facts.dim,
        texts=bool(content.texts),
        logit_scale=facts.logit_scale,
        exported=read.metadata is not None,
        written=written,
        store=storage.path(""),
        unused=read.unused,
    )


def _import(read: ReadFile, manifest: Manifest, facts: BackboneFacts, views: dict[str, View]) -> Import:
    """Return the record of the import."""
    exported: list[str] = read.metadata["prompts"] if read.metadata else []
    prompts = tuple(exported or ([f"imported texts {read.texts.digest[:16]}"] if read.texts else []))
    return Import(
        dataset=manifest.name,
        images=imports.images_file(manifest.name, manifest.fingerprint),
        fingerprint=manifest.fingerprint,
        facts=facts,
        prompts=prompts,
        texts=text_file(facts, manifest.prompt_names, prompts) if read.texts else "",
        views=tuple(ImportedView(v.label, v.seed, v.depends_on, read.metadata is not None) for v in views.values()),
    )


def _check_others(storage: Storage, content: Import, overwrite: bool) -> None:
    """Refuse an import whose images differ from another backbone's, or that replaces one without `overwrite`."""
    own = imports.import_file(content.dataset, content.facts.label)
    for name in imports.imports_of(storage, content.dataset):
        if problem_of(storage, name):
            continue
        other = imports.read_import(storage, name)
        if name == own and not overwrite and canonical_hash(asdict(other)) != canonical_hash(asdict(content)):
            raise IcmBenchError(
                f"--backbone {content.facts.label}: other embeddings, texts or logit scale of '{content.dataset}' were "
                f"imported under this label; give another label, or replace them with --overwrite."
            )
        if name != own and other.fingerprint != content.fingerprint:
            raise IcmBenchError(
                f"--name {content.dataset}: it was imported for {other.facts.label} with other images, classes or "
                f"environments; give the same images, give another name, or delete {storage.path(name)}."
            )


def _write_view(
    storage: Storage, read: ReadFile, manifest: Manifest, facts: BackboneFacts, name: str, view: View
) -> int:
    """Write the parts of a view that the store lacks; return the number of written parts."""
    about = {key: getattr(facts, key) for key in ("random_weights", "dim", "precision")}
    store.write_about(storage, view, {"dataset": manifest.name, "backbone": facts.label, **about})
    images = manifest.table.take(store.distinct(manifest.table["image_id"]))
    size, written = store.chunk_size(len(images)), 0
    kind = pa.float16() if facts.precision == "float16" else pa.float32()
    rejected = read.metadata["rejected"].get(name, {}) if read.metadata else {}
    progress = Progress(f"writing the view {view.label}", len(images), "images")
    for chunk, rows in enumerate(read.chunks[name]):
        progress.update(len(rows))
        if _is_intact(storage, store.part_name(view.directory, chunk)):
            continue
        unreadable = rejected.get(str(chunk), [])
        without = {row[0] for row in unreadable}
        part = images.slice(chunk * size, size)
        kept = part.filter(pa.array([image not in without for image in part["image_id"].to_pylist()]))
        vectors = pa.array(read.vectors[rows].ravel().astype(kind.to_pandas_dtype()), kind)
        columns = {column: kept[column] for column in ("image_id", "environment", "class_name", "label")}
        columns["view"] = pa.array([view.label] * len(kept), pa.string())
        columns["embedding"] = pa.FixedSizeListArray.from_arrays(vectors, facts.dim)
        store.write_part(storage, view, chunk, pa.table(columns), unreadable)
        written += 1
    progress.close()
    return written


def _is_intact(storage: Storage, name: str) -> bool:
    """Return whether a file exists and is not damaged; a damaged one is deleted."""
    if not storage.exists(name):
        return False
    try:
        read_checked(storage, name)
    except DamagedError:
        storage.delete(name)
        return False
    return True


RecipeChange = Literal["new", "added", "complete", "kept"]


def into_recipe(imported: Imported, made_with: Mapping[str, Any] | None, file: Path) -> tuple[RecipeChange, str]:
    """Write a recipe that sweeps an import, or add its backbone to an existing recipe.

    Nothing else in an existing file changes, comments included.

    Args:
        imported: summary of the import.
        made_with: keys of the exporting recipe that the embeddings depend on; None if icm-bench did not export them.
        file: file of the recipe.

    Returns:
        The change and a sentence on it: the file is `new`, the backbone was `added`, the file was `complete` before, or
        it was `kept` unchanged and does not sweep the import.
    """
    content = json.loads(json.dumps(new_recipe(imported, made_with)))
    if write_new(file, yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110), "--recipe"):
        return "new", "a recipe to start with"
    kept = "exists and is unchanged"
    try:
        recipe = load_recipe(file)
    except IcmBenchError as error:
        return "kept", f"{kept}: {error}"
    if not any(dataset.is_imported and dataset.name == imported.dataset for dataset in recipe.datasets):
        return "kept", f"{kept}: '{imported.dataset}' is not an imported data set of it; give another --recipe"
    if imported.backbone in (spec.label for spec in recipe.backbones):
        return "complete", "has this backbone already, and is unchanged"
    text = file.read_bytes().decode()
    if (extended := _with_backbone(text, content["backbones"][0])) is None:
        return "kept", f"{kept}; add '{imported.backbone}' to its backbones"
    with atomic_file(file.resolve(), "--recipe") as place:
        place.write_bytes(extended.encode())
        shutil.copymode(file, place)
    before = from_yaml(text, str(file)).get("interventions")
    views = "" if before == content.get("interventions") else "; its interventions are unchanged"
    return "added", f"has the backbone '{imported.backbone}' too{views}"


def new_recipe(imported: Imported, made_with: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a recipe, as plain data, that sweeps the import."""
    content: dict[str, Any] = {
        "name": imported.dataset,
        "datasets": [{"name": imported.dataset, "layout": "imported"}],
        "backbones": [{"name": imported.backbone}],
    }
    if made_with:
        content |= {key: made_with[key] for key in ("images", "interventions") if key in made_with}
        content["backbones"] = [made_with["backbone"]] if "backbone" in made_with else content["backbones"]
        if imported.texts and "templates" in made_with:
            content["prompts"] = {"templates": made_with["templates"]}
    elif views := [view for view in imported.views if view != ORIGINAL]:
        known = INTERVENTIONS.names()  # views with other names become `ViewOfImport`s
        kinds = [v if v in known else {"name": ViewOfImport(view=v).name, "view": v} for v in views]
        content["interventions"] = {"kinds": kinds}
    if not imported.texts:
        content["sweep"] = {"predictors": ["linear_probe"]}
    parse_recipe(content, "the recipe of the import")
    return content


def _with_backbone(text: str, backbone: Mapping[str, Any]) -> str | None:
    """Return the text of a recipe with `backbone` put first in its list; None if the list cannot be extended."""
    item = yaml.safe_dump(backbone, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10_000).strip()
    document: Any = yaml.compose(text, yaml.SafeLoader)
    listed = next((value for key, value in document.value if key.value == "backbones"), None)
    if not isinstance(listed, yaml.SequenceNode):
        return None
    first = listed.value[0].start_mark.index
    after_it = ", " if listed.flow_style else f"\n{' ' * listed.start_mark.column}- "
    extended = f"{text[:first]}{item}{after_it}{text[first:]}"
    try:
        before, after = from_yaml(text, "before"), from_yaml(extended, "after")
        parse_recipe(after)
    except IcmBenchError:
        return None
    return extended if after == {**before, "backbones": [backbone, *before["backbones"]]} else None
