"""`icm-bench embed`: embeds every image and its views once. Other commands use its repair of damaged files."""

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
    """Embed the missing views of every subject (a data set under one backbone). Call it in a block of `connected`.

    Args:
        run: run with the subjects.
        began: time (seconds since 1970) from which the time to the first embedding is counted. Default: now.

    Raises:
        IcmBenchError: too many images cannot be read, or the store cannot be written.
    """
    reports: list[EmbedReport] = []
    texts = on_sound_embeddings(run, lambda: begin_texts_of(run, run.subjects), embed_again=False)
    # Texts are embedded before images if the encoders hold the text tower too: without a converted image tower, or with
    # other nodes. Text pairs also come first: if they fail (most likely with noise), better before hours of images.
    beside = all(subject.backbone.engine == "openvino" and not subject.text_pairs for subject in run.subjects)
    if not beside or len(alive_nodes()) > 1:
        wait_for(texts)
    for subject in run.embedded:
        # The time since `began` is reported with the first subject that is embedded.
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
    """Embed the missing images of some views of a subject; return counts, unreadable images and speed."""
    if subject.manifest.is_imported:
        return _imported(run, subject)
    from benchmark.embedding.pipeline import EmbedJob, embed  # not needed for imported embeddings

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
    """Return the report of a subject with imported embeddings; refuse the subject if some of them are missing."""
    check_embedded(run.storage, subject)
    run.notify(f"{subject.manifest.name} with {subject.facts.label}: imported, nothing to embed")
    table = subject.manifest.table
    unreadable = rejected(run.storage, subject.views)
    images = zip(table["image_id"].to_pylist(), table["path"].to_pylist(), strict=True)
    reasons = {path: unreadable[image][1] for image, path in images if image in unreadable}
    reused = subject.views[0].images * len(subject.views)
    return EmbedReport(images=table.num_rows, reused=reused, total=reused, rejected=reasons)


def on_sound_embeddings(run: Run, work: Callable[[], T], embed_again: bool = True) -> T:
    """Run a function that reads the store, and return its result; after damage, repair the files and run it again.

    If embeddings are damaged, all embeddings of the same data set and backbone are checked, since the cause may have
    damaged more of them. Other damaged files, such as moments and texts, are removed, and `work` recomputes them.

    Args:
        run: run with the store, inside a block of `connected`.
        work: function that reads embeddings, texts and moments, and skips finished work.
        embed_again: whether damaged views are embedded here. Default True; False if `work` embeds them.

    Raises:
        IcmBenchError: `work` raises one, or a file is damaged again after its repair.
    """
    removed_here, removed_by_others = set[str](), set[str]()
    while True:
        try:
            return work()
        except DamagedError as error:
            problems = error.problems
        # If several commands repair a store at the same time, one may remove a file that another has just rewritten.
        newly_missing = {name for name, problem in problems.items() if problem == GONE} - removed_by_others
        removed_by_others |= newly_missing
        if again := (removed_here & set(problems)) - newly_missing:
            name = min(again)
            raise IcmBenchError(
                f"{run.storage.path(name)} {problems[name]}, although it was just rewritten: check the disk or "
                f"the network of the store, or give another --store."
            )
        directories = {name.rpartition("/")[0] for name in problems if name.startswith(ROOT)}
        for subject in run.embedded:
            of_subject = {view.directory for view in subject.views}
            directories |= of_subject if directories & of_subject else set()
        removed = remove_damaged(run.storage, problems, sorted(directories))
        for name, problem in removed.items():
            run.notify(f"damaged: {run.storage.path(name)} {problem}; it is recomputed")
        removed_here |= set(removed)
        for subject in run.embedded if embed_again else ():
            if views := [view for view in subject.views if view.directory in directories]:
                embed_views(run, subject, views)
