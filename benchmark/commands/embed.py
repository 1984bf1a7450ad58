"""`icm-bench embed`: embed every image and its interventions once, and repair damaged files."""

import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, TypeVar

from benchmark.commands.planning.estimate import embedding_kind, start_kind
from benchmark.commands.preparing.prepare import Run, begin_texts_of, check_embedded, wait_for
from benchmark.common.errors import MAX_NAMES, IcmBenchError
from benchmark.common.ray.cluster import alive_nodes
from benchmark.embedding.speed import EmbedReport
from benchmark.store.costs import Cost
from benchmark.store.embeddings import ROOT, View, rejected
from benchmark.store.sealed import GONE, DamagedError
from benchmark.store.upkeep import remove_damaged
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
    texts = on_sound_embeddings(run, lambda: begin_texts_of(run, run.subjects), embed_again=False)
    # Encoders that have no converted image tower, as on another node, hold the texts' side too; and pairs of texts are
    # what can fail, with noise above all, which is to be known before hours of images.
    beside = all(subject.backbone.engine == "openvino" and not subject.text_pairs for subject in run.subjects)
    if not beside or len(alive_nodes()) > 1:
        wait_for(texts)
    for subject in run.embedded:
        # Start-up counts for the first subject that is embedded.
        first = None if any(report.speed for report in reports) else began
        report = embed_views(run, subject, subject.views, first)
        for path, reason in islice(report.rejected.items(), MAX_NAMES):
            run.notify(f"skipped: {subject.manifest.place(path)} ({reason})")
        if count := len(report.rejected):
            every = ": `icm-bench embed RECIPE --json` lists all of them" if count > MAX_NAMES else ""
            run.notify(f"skipped {count} of {report.images} images of {subject.manifest.name}{every}")
        reports.append(report)
        wait_for(texts)
    return reports


def embed_views(run: Run, subject: Subject, views: Sequence[View], began: float | None = None) -> EmbedReport:
    """Embed what the store lacks of some views of a subject, and say what was done."""
    if subject.manifest.is_imported:
        return _imported(run, subject)
    from benchmark.embedding.pipeline import EmbedJob, embed  # which imported embeddings can do without

    start, backbone = time.time(), subject.backbone
    job = EmbedJob(run.storage, subject.manifest, backbone, subject.facts, tuple(views), subject.decoding)
    report = on_sound_embeddings(run, lambda: embed(job, run.recipe.run, began=began), embed_again=False)
    name, speed = f"{subject.manifest.name} with {subject.facts.label}", report.speed
    run.notify(f"{name}: {report.text()}")
    if speed:
        run.notify(f"{name}: {speed.text()}")
        measured = ("device", "actors", "cores", "ceiling", "memory", "gpu")
        of_encoders: dict[str, Any] = {key: getattr(speed, key) for key in measured}
        cost = Cost(embedding_kind(backbone), speed.views, speed.seconds, **of_encoders)
        run.remember([cost, Cost(start_kind(backbone), 1, time.time() - start - speed.seconds)])
    return report


def _imported(run: Run, subject: Subject) -> EmbedReport:
    """Say that nothing is to be embedded of a subject whose embeddings were imported; refuse one that lost some."""
    check_embedded(run.storage, subject)
    run.notify(f"{subject.manifest.name} with {subject.facts.label}: imported, nothing is to be embedded")
    table = subject.manifest.table
    unreadable = rejected(run.storage, subject.views)
    images = zip(table["image_id"].to_pylist(), table["path"].to_pylist(), strict=True)
    reasons = {path: unreadable[image][1] for image, path in images if image in unreadable}
    reused = subject.views[0].images * len(subject.views)
    return EmbedReport(images=table.num_rows, reused=reused, total=reused, rejected=reasons)


def on_sound_embeddings(run: Run, work: Callable[[], T], embed_again: bool = True) -> T:
    """Run a function on the store and return its result; repair damaged files that it meets, and run it again.

    Where a part of a view is damaged, all parts of the data set under that backbone are looked at, since what damaged
    one may have damaged others. What is damaged beside views, such as moments and texts, the work makes by itself.

    Args:
        run: whose store it is; in a block of `connected`.
        work: reads embeddings, texts and moments; what it finds done, it does not do again.
        embed_again: whether damaged views are embedded here. Default True; False where the work itself embeds.

    Raises:
        IcmBenchError: whatever the work raises, or a file is damaged again after it was made again.
    """
    gone, excused = set[str](), set[str]()
    while True:
        try:
            return work()
        except DamagedError as error:
            problems = error.problems
        # Where several commands mend a store at the same moment, one may remove what another has just made again.
        removed_by_others = {name for name, problem in problems.items() if problem == GONE} - excused
        excused |= removed_by_others
        if again := (gone & set(problems)) - removed_by_others:
            name = min(again)
            raise IcmBenchError(
                f"{run.storage.path(name)} {problems[name]}, though it was made again just now: see whether the disk "
                f"or the network behind the store can be trusted, or give another --store."
            )
        directories = {name.rpartition("/")[0] for name in problems if name.startswith(ROOT)}
        for subject in run.embedded:
            of_subject = {view.directory for view in subject.views}
            directories |= of_subject if directories & of_subject else set()
        removed = remove_damaged(run.storage, problems, sorted(directories))
        for name, problem in removed.items():
            run.notify(f"damaged: {run.storage.path(name)} {problem}; it is made again")
        gone |= set(removed)
        for subject in run.embedded if embed_again else ():
            if views := [view for view in subject.views if view.directory in directories]:
                embed_views(run, subject, views)
