"""`icm-bench embed`: every image and its interventions, once."""

from collections.abc import Sequence

from benchmark.backbones.spec import BackboneSpec
from benchmark.commands.prepare import Notify, Sources, decoding_of
from benchmark.common.storage import Storage
from benchmark.embedding.pipeline import EmbedJob, embed
from benchmark.embedding.speed import EmbedReport
from benchmark.recipe.recipe import Recipe
from benchmark.store.embeddings import View
from benchmark.sweep.subject import Subject

VIEWS_AT_ONCE = 32  # of a search's round, at one visit of an image


def embed_stage(
    recipe: Recipe, storage: Storage, subjects: Sources, notify: Notify, began: float | None = None
) -> list[EmbedReport]:
    """Embed what the store lacks. Needs a connection to Ray. `began`: see `run`."""
    reports: list[EmbedReport] = []
    for subject, spec in subjects:
        first = None if any(report.speed for report in reports) else began  # the others began when it had ended
        report = _embed_source(recipe, storage, subject, spec, subject.views, notify, first)
        for path, reason in report.rejected.items():
            notify(f"skipped: {subject.manifest.place(path)} ({reason})")
        if report.rejected:
            notify(f"skipped {len(report.rejected)} of {report.images} images of {subject.manifest.name}")
        reports.append(report)
    return reports


def _embed_source(
    recipe: Recipe,
    storage: Storage,
    subject: Subject,
    spec: BackboneSpec,
    views: Sequence[View],
    notify: Notify,
    began: float | None = None,
) -> EmbedReport:
    job = EmbedJob(storage, subject.manifest, spec, subject.facts, tuple(views), decoding_of(recipe))
    report = embed(job, recipe.run, began=began)
    name = f"{subject.manifest.name} with {subject.facts.label}"
    notify(f"{name}: {report.embedded} views embedded, {report.reused} reused")
    if report.speed:
        notify(f"{name}: {report.speed.text()}")
    return report
