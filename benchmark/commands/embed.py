"""`icm-bench embed`: every image and its interventions, once."""

import time
from collections.abc import Callable, Collection, Sequence
from itertools import islice
from typing import Any, TypeVar

from benchmark.backbones.spec import BackboneSpec
from benchmark.commands.planning.kinds import embedding_kind, start_kind
from benchmark.commands.preparing.mending import mended
from benchmark.commands.preparing.prepare import Run, begin_texts_of, check_embedded, wait_for
from benchmark.common.errors import MAX_NAMES
from benchmark.common.ray.cluster import alive_nodes
from benchmark.embedding.feeding import DecodingCost, remember
from benchmark.embedding.speed import EmbedReport, Speed
from benchmark.store.costs import Cost
from benchmark.store.embeddings import View, rejected
from benchmark.sweep.subject import Subject

T = TypeVar("T")


def embed_stage(run: Run, began: float | None = None) -> list[EmbedReport]:
    """Embed what the store lacks, subject by subject. In a block of `connected`.

    Args:
        run: whose views are embedded.
        began: time of day (seconds since 1970) from which the time to the first embedding counts; by default now.

    Raises:
        IcmBenchError: too many images cannot be read, or the store cannot be written.
    """
    reports: list[EmbedReport] = []
    texts = mended(run, lambda: begin_texts_of(run, run.subjects), lambda _: None)
    if not all(map(_can_be_beside_texts, run.subjects)) or len(alive_nodes()) > 1:
        wait_for(texts)
    for subject in run.embedded:
        first = None if any(report.speed for report in reports) else began  # the others began when it had ended
        report = embed_views(run, subject, subject.views, first)
        for path, reason in islice(report.rejected.items(), MAX_NAMES):
            run.notify(f"skipped: {subject.manifest.place(path)} ({reason})")
        if count := len(report.rejected):
            every = ": `icm-bench embed RECIPE --json` lists all of them" if count > MAX_NAMES else ""
            run.notify(f"skipped {count} of {report.images} images of {subject.manifest.name}{every}")
        reports.append(report)
        wait_for(texts)
    return reports


def _can_be_beside_texts(subject: Subject) -> bool:
    """Say whether images may be embedded beside texts.

    Encoders that have no converted image tower, as on another node, hold the texts' side too; and pairs of texts are
    what can fail, with noise above all, which is to be known before hours of images.
    """
    return subject.backbone.engine == "openvino" and not subject.text_pairs


def embed_views(run: Run, subject: Subject, views: Sequence[View], began: float | None = None) -> EmbedReport:
    """Embed what the store lacks of some views of a subject, and say what was done."""
    if subject.manifest.is_imported:
        return _imported(run, subject)
    from benchmark.embedding.pipeline import EmbedJob, embed  # which imported embeddings can do without

    start = time.time()
    job = EmbedJob(run.storage, subject.manifest, subject.backbone, subject.facts, tuple(views), subject.decoding)
    report = mended(run, lambda: embed(job, run.recipe.run, began=began), lambda _: None)
    name = f"{subject.manifest.name} with {subject.facts.label}"
    run.notify(f"{name}: {report.text()}")
    if report.speed:
        run.notify(f"{name}: {report.speed.text()}")
        run.remember(_costs(subject.backbone, report.speed, time.time() - start))
        if report.speed.decode:
            high, wide = subject.facts.preprocess["size"]
            remember(DecodingCost(1e3 / report.speed.decode, subject.manifest.name, (high, wide)))
    return report


def _imported(run: Run, subject: Subject) -> EmbedReport:
    """Say that nothing is to be embedded of a subject whose embeddings were imported.

    Raises:
        IcmBenchError: parts of them are lost.
    """
    check_embedded(run.storage, subject)
    run.notify(f"{subject.manifest.name} with {subject.facts.label}: imported, nothing is to be embedded")
    table = subject.manifest.table
    unreadable = rejected(run.storage, subject.views)
    images = zip(table["image_id"].to_pylist(), table["path"].to_pylist(), strict=True)
    reasons = {path: unreadable[image][1] for image, path in images if image in unreadable}
    distinct = subject.views[0].images
    reused = distinct * len(subject.views)
    return EmbedReport(images=table.num_rows, reused=reused, total=reused, rejected=reasons)


def _costs(backbone: BackboneSpec, speed: Speed, seconds: float) -> list[Cost]:
    """Return what embeddings cost that took so many seconds in all."""
    of_encoders: dict[str, Any] = {
        name: getattr(speed, name) for name in ("device", "actors", "cores", "ceiling", "memory", "gpu")
    }
    return [
        Cost(embedding_kind(backbone), speed.views, speed.seconds, **of_encoders),
        Cost(start_kind(backbone), 1, seconds - speed.seconds),
    ]


def on_sound_embeddings(run: Run, work: Callable[[], T]) -> T:
    """Return what some work on embedded views returns; what it finds damaged is named and made again, see `mended`.

    Args:
        run: whose store it is; in a block of `connected`.
        work: reads embeddings, texts and moments; what it finds done, it does not do again.

    Raises:
        IcmBenchError: whatever the work raises, or a file is damaged again after it was made again.
    """

    def embed_again(directories: Collection[str]) -> None:
        for subject in run.embedded:
            if views := [view for view in subject.views if view.directory in directories]:
                embed_views(run, subject, views)

    return mended(run, work, embed_again)
