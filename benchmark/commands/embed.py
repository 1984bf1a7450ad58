"""`icm-bench embed`: every image and its interventions, once."""

from collections.abc import Sequence

from benchmark.commands.prepare import Run
from benchmark.embedding.pipeline import EmbedJob, embed
from benchmark.embedding.speed import EmbedReport
from benchmark.store.embeddings import View
from benchmark.sweep.subject import Subject


def embed_stage(run: Run, began: float | None = None) -> list[EmbedReport]:
    """Embed what the store lacks, subject by subject. Needs a connection to Ray.

    Args:
        run: whose views are embedded.
        began: time of day (seconds since 1970) from which the time to the first embedding counts; by default now.

    Raises:
        IcmBenchError: too many images cannot be read, or the store cannot be written.
    """
    reports: list[EmbedReport] = []
    for subject in run.subjects:
        first = None if any(report.speed for report in reports) else began  # the others began when it had ended
        report = embed_views(run, subject, subject.views, first)
        for path, reason in report.rejected.items():
            run.notify(f"skipped: {subject.manifest.place(path)} ({reason})")
        if report.rejected:
            run.notify(f"skipped {len(report.rejected)} of {report.images} images of {subject.manifest.name}")
        reports.append(report)
    return reports


def embed_views(run: Run, subject: Subject, views: Sequence[View], began: float | None = None) -> EmbedReport:
    """Embed what the store lacks of some views of a subject, and say what was done."""
    job = EmbedJob(run.storage, subject.manifest, subject.backbone, subject.facts, tuple(views), subject.decoding)
    report = embed(job, run.recipe.run, began=began)
    name = f"{subject.manifest.name} with {subject.facts.label}"
    run.notify(f"{name}: {report.embedded} views embedded, {report.reused} reused")
    if report.speed:
        run.notify(f"{name}: {report.speed.text()}")
    return report
