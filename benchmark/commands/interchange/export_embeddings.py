"""`icm-bench export-embeddings`: write embeddings of a recipe as Parquet files that can be imported again."""

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmark.commands.choice import one_of
from benchmark.commands.embed import on_sound_embeddings
from benchmark.commands.interchange.embedding_files import VERSION, WORDS, Writer, seal_of
from benchmark.commands.interchange.files import atomic_file
from benchmark.commands.preparing.prepare import Run, have_embeddings
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage, reason
from benchmark.common.terminal.progress import Progress
from benchmark.store import embeddings as store
from benchmark.store.embeddings import STORE_VERSION, View, read_texts
from benchmark.store.sealed import DamagedError
from benchmark.sweep.subject import Subject

PARTS_PER_GROUP = 64  # parts of the store in one row group


@dataclass(frozen=True)
class Exported:
    """Summary of an export."""

    folder: str
    dataset: str
    backbone: str
    images: int  # number of distinct, readable images
    views: list[str]  # names of the views, the original first
    rows: int  # number of rows, one per image and view
    texts: bool  # whether text embeddings of the classes were written


def export_embeddings(run: Run, folder: Path, dataset: str | None = None, backbone: str | None = None) -> Exported:
    """Write all views of a data set under a backbone, and texts of its classes. Call it in a block of `connected`.

    Args:
        run: run with embedded views.
        folder: output folder; `embeddings.parquet` and `texts.parquet` in it are replaced atomically.
        dataset: name of the data set; None if the recipe has one only.
        backbone: label of the backbone; None if the recipe has one only.

    Raises:
        IcmBenchError: embeddings are missing, the choice is ambiguous, or the folder cannot be written to.
    """
    names = [s.manifest.name for s in run.subjects], [s.facts.label for s in run.subjects]
    key = one_of("--dataset", dataset, names[0], str), one_of("--backbone", backbone, names[1], str)
    subject = next(s for s in run.subjects if (s.manifest.name, s.facts.label) == key)
    on_sound_embeddings(run, lambda: have_embeddings(run, [subject]))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise IcmBenchError(f"--to {folder} cannot be made ({reason(error)}); give another path.") from error
    return on_sound_embeddings(run, lambda: _export(run, subject, folder))


def _export(run: Run, subject: Subject, folder: Path) -> Exported:
    with ExitStack() as stack:  # contexts end in reverse order: embeddings.parquet is renamed last
        file, texts = stack.enter_context(atomic_file(folder / "embeddings.parquet")), ""
        if subject.texts:
            embedding = read_texts(run.storage, subject.texts)
            text_file = stack.enter_context(atomic_file(folder / "texts.parquet"))
            text_writer = Writer(text_file, ["class"], subject.facts.dim)
            text_writer.add({"class": [*subject.manifest.classes]}, embedding)
            text_writer.close()
            texts = text_writer.digest.hexdigest()
        else:
            (folder / "texts.parquet").unlink(missing_ok=True)
        writer = Writer(file, WORDS, subject.facts.dim)
        labels = [view.label for view in subject.views]  # draws of one kind have equal labels
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
    """Write the rows of a view, some parts at a time; return their number."""
    table, first = subject.manifest.table, writer.rows
    ids = table["image_id"].to_pylist()
    row_of = {ids[i]: int(i) for i in store.distinct(table["image_id"])}
    chunks = [*store.parts(storage, view.directory)]
    for start in range(0, len(chunks), PARTS_PER_GROUP):
        tables, problems = store.read_parts(storage, view.directory, chunks[start : start + PARTS_PER_GROUP])
        if problems:
            raise DamagedError.of(storage, problems)
        found = [image for part in tables for image in part["image_id"].to_pylist()]
        vectors = np.concatenate([store.vectors(part) for part in tables]).astype(np.float32, copy=False)
        if found:
            writer.add(_words(table.take([row_of[image] for image in found]), name), vectors)
        progress.update(len(found))
    return writer.rows - first


def _words(images: pa.Table, view: str) -> dict[str, list[str | None]]:
    """Return the text columns of some images."""
    words = {name: images[{"class": "class_name"}.get(name, name)].to_pylist() for name in WORDS if name != "view"}
    return {**words, "view": [view] * len(images)}


def _metadata(run: Run, subject: Subject, names: dict[str, View]) -> dict[str, Any]:
    """Return all that identifies a trial, except the rows of the file; read_embeddings.py reads it."""
    rejected = {name: store.rejected_in(run.storage, view.directory) for name, view in names.items()}
    unreadable = {image for rows in rejected[next(iter(names))].values() for image, _, _ in rows}
    table = subject.manifest.table
    ids = table["image_id"].to_pylist()
    distinct = set(store.distinct(table["image_id"]).tolist())
    without = [i for i, image in enumerate(ids) if i not in distinct or image in unreadable]
    rest = _words(table.take(pa.array(without, pa.int64())), "")  # the type is given, since the list may be empty
    return {
        "version": VERSION,
        "store_version": STORE_VERSION,
        "dataset": subject.manifest.name,
        "fingerprint": subject.manifest.fingerprint,
        "facts": asdict(subject.facts),
        "prompts": list(subject.prompts) if subject.texts else [],
        "views": [{"view": n, "label": v.label, "seed": v.seed, "depends_on": v.depends_on} for n, v in names.items()],
        # Images without rows: unreadable ones, and duplicates of other images.
        "without": [dict(zip(rest, row, strict=True)) for row in zip(*rest.values(), strict=True)],
        "rejected": {name: {str(chunk): rows for chunk, rows in of.items()} for name, of in rejected.items()},
        "recipe": _recipe_part(run, subject),
    }


def _recipe_part(run: Run, subject: Subject) -> dict[str, Any]:
    """Return the recipe's keys on which the embeddings depend, without paths of this machine."""
    recipe = run.recipe
    keys = {
        "interventions": recipe.interventions.model_dump(mode="json", exclude={"text"}, exclude_defaults=True),
        "images": recipe.images.model_dump(mode="json", exclude_defaults=True),
        "backbone": subject.backbone.model_dump(mode="json", exclude_defaults=True, exclude={"engine"}),
    }
    if any("/" in str(value) for value in keys["backbone"].values()):
        del keys["backbone"]
    return {**{key: value for key, value in keys.items() if value}, "templates": list(subject.prompts)}
