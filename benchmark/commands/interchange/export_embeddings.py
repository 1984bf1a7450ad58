"""`icm-bench export-embeddings`: the embeddings of a recipe as files that others can read, and that can be imported."""

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmark.commands.choice import one_of
from benchmark.commands.embed import on_sound_embeddings
from benchmark.commands.interchange.embedding_files import VERSION, WORDS, Writer, seal_of
from benchmark.commands.interchange.files import whole
from benchmark.commands.preparing.prepare import Run, have_embeddings
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage, reason
from benchmark.common.terminal.progress import Progress
from benchmark.store import embeddings as store
from benchmark.store.embeddings import STORE_VERSION, View, read_texts
from benchmark.store.sealed import DamagedError
from benchmark.sweep.subject import Subject

TOGETHER = 64  # parts of the store in a row group


@dataclass(frozen=True)
class Exported:
    """What was exported."""

    folder: str
    dataset: str
    backbone: str
    images: int  # different ones that can be read
    views: list[str]  # the original first
    rows: int  # one for each image and view
    texts: bool  # whether there are texts of the classes


def export_embeddings(run: Run, folder: Path, dataset: str | None = None, backbone: str | None = None) -> Exported:
    """Write all views of a data set under a backbone, and the texts of its classes. In a block of `connected`.

    Args:
        run: whose embeddings; its views must be embedded.
        folder: where to; `embeddings.parquet` and `texts.parquet` in it are replaced, each as a whole.
        dataset: name of the data set; None where the recipe has one.
        backbone: label of the backbone; None where the recipe has one.

    Raises:
        IcmBenchError: embeddings are missing, the recipe has several and none is named, or the folder cannot be
            written to.
    """
    names = [s.manifest.name for s in run.subjects], [s.facts.label for s in run.subjects]
    key = one_of("--dataset", dataset, names[0], str), one_of("--backbone", backbone, names[1], str)
    subject = next(s for s in run.subjects if (s.manifest.name, s.facts.label) == key)
    on_sound_embeddings(run, lambda: have_embeddings(run, [subject]))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise IcmBenchError(f"--to {folder} cannot be made ({reason(error)}); give another place.") from error
    return on_sound_embeddings(run, lambda: _export(run, subject, folder))


def _export(run: Run, subject: Subject, folder: Path) -> Exported:
    with ExitStack() as stack:  # what is entered first takes its name last
        file, texts = stack.enter_context(whole(folder / "embeddings.parquet")), ""
        if subject.texts:
            embedding = read_texts(run.storage, subject.texts)
            of_texts = Writer(stack.enter_context(whole(folder / "texts.parquet")), ["class"], subject.facts.dim)
            of_texts.add({"class": [*subject.manifest.classes]}, embedding)
            of_texts.close()
            texts = of_texts.digest.hexdigest()
        else:
            (folder / "texts.parquet").unlink(missing_ok=True)
        writer = Writer(file, WORDS, subject.facts.dim)
        labels = [view.label for view in subject.views]  # of several draws of a kind, the seed is part of the name
        names = {v.label if labels.count(v.label) == 1 else f"{v.label} (seed {v.seed})": v for v in subject.views}
        progress = Progress(f"exporting {subject.key}", subject.views[0].images * len(names), "rows")
        counts = [_write_view(run.storage, subject, view, name, writer, progress) for name, view in names.items()]
        progress.close()
        metadata = _metadata(run, subject, names)
        writer.close({**metadata, "digest": seal_of(metadata, writer.digest, texts)})
    return Exported(
        str(folder), subject.manifest.name, subject.facts.label, counts[0], [*names], writer.rows, bool(texts)
    )


def _write_view(storage: Storage, subject: Subject, view: View, name: str, writer: Writer, progress: Progress) -> int:
    """Write the rows of a view, some parts at a time; return how many."""
    table, first = subject.manifest.table, writer.rows
    ids = table["image_id"].to_pylist()
    row_of = {ids[i]: int(i) for i in store.distinct(table["image_id"])}
    chunks = [*store.parts(storage, view.directory)]
    for start in range(0, len(chunks), TOGETHER):
        tables, problems = store.read_parts(storage, view.directory, chunks[start : start + TOGETHER])
        if problems:
            raise DamagedError.of(storage, problems)
        found = [image for part in tables for image in part["image_id"].to_pylist()]
        vectors = np.concatenate([store.vectors(part) for part in tables]).astype(np.float32, copy=False)
        if found:
            writer.add(_words(table.take([row_of[image] for image in found]), name), vectors)
        progress.update(len(found))
    return writer.rows - first


def _words(images: pa.Table, view: str) -> dict[str, list[str | None]]:
    """Return the columns of some images beside their embedding."""
    words = {name: images[{"class": "class_name"}.get(name, name)].to_pylist() for name in WORDS if name != "view"}
    return {**words, "view": [view] * len(images)}


def _metadata(run: Run, subject: Subject, names: dict[str, View]) -> dict[str, Any]:
    """Return what the file says of itself: all on which the identity of rows depends, but for what it holds."""
    rejected = {name: store.rejected_in(run.storage, view.directory) for name, view in names.items()}
    unreadable = {image for rows in rejected[next(iter(names))].values() for image, _, _ in rows}
    table = subject.manifest.table
    ids = table["image_id"].to_pylist()
    distinct = set(store.distinct(table["image_id"]).tolist())
    without = [i for i, image in enumerate(ids) if i not in distinct or image in unreadable]
    of_rest = _words(table.take(pa.array(without, pa.int64())), "")  # of an empty list it would not know the type
    return {
        "version": VERSION,
        "store_version": STORE_VERSION,
        "dataset": subject.manifest.name,
        "fingerprint": subject.manifest.fingerprint,
        "facts": asdict(subject.facts),
        "prompts": list(subject.prompts) if subject.texts else [],
        "views": [{"view": n, "label": v.label, "seed": v.seed, "depends_on": v.depends_on} for n, v in names.items()],
        # Images that stand in no row: they repeat another one's bytes, or cannot be read.
        "without": [dict(zip(of_rest, row, strict=True)) for row in zip(*of_rest.values(), strict=True)],
        "rejected": {name: {str(chunk): rows for chunk, rows in of.items()} for name, of in rejected.items()},
        "recipe": _recipe(run, subject),
    }


def _recipe(run: Run, subject: Subject) -> dict[str, Any]:
    """Return what of the recipe counts for the embeddings; no path of this machine is among it."""
    recipe, spec = run.recipe, subject.backbone
    interventions = recipe.interventions.model_dump(mode="json", exclude={"text"}, exclude_defaults=True)
    said: dict[str, Any] = {"interventions": interventions} if interventions else {}
    if images := recipe.images.model_dump(mode="json", exclude_defaults=True):
        said["images"] = images
    backbone = spec.model_dump(mode="json", exclude_defaults=True, exclude={"engine"})
    if not any("/" in str(value) for value in backbone.values()):
        said["backbone"] = backbone
    return {**said, "templates": list(subject.prompts)}
