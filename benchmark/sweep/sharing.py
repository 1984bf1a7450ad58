"""The arrays and moments that the trials of a sweep share: loaded and summed by workers, before any trial begins."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import ray

from benchmark.common.storage.files import Storage
from benchmark.common.terminal.progress import Progress
from benchmark.method.evaluation.splits import Split
from benchmark.store.costs import Cost
from benchmark.sweep.clusters import Clusters, index_in_clusters
from benchmark.sweep.loading import load, load_view, sum_subject
from benchmark.sweep.subject import Subject
from benchmark.sweep.summing import ImageIndex
from benchmark.sweep.trials import Trial
from benchmark.sweep.work import MOMENTS, summing_work

Remember = Callable[[Sequence[Cost]], None]
# Key of a subject -> references to its arrays and to its image index; directory of a view -> one to its embeddings.
Shared = Mapping[str, Any]


def share(
    storage: Storage, trials: Sequence[Trial], others: Sequence[Subject] = (), remember: Remember = lambda _: None
) -> Shared:
    """Return references to the arrays of every subject that a trial needs, and see that its moments are there.

    The arrays are loaded by a worker, shared by all trials of a node, and never seen by this process.

    Args:
        storage: with embeddings and texts; moments go there.
        trials: of which arrays and moments are needed.
        others: subjects whose arrays alone are needed. Default: none.
        remember: is told what moments took.

    Raises:
        DamagedError: a file of the store is not what was written.
    """
    uses = [(s, trial) for trial in trials for s in (trial.subject, *([trial.lender] if trial.lender else []))]
    subjects = {s.key: s for s in others} | {s.key: s for trial in trials for s in trial.variants}
    subjects |= {s.key: s for s, _ in uses}
    by_key = {key: [(s, trial) for s, trial in uses if s.key == key] for key in subjects}
    shared = {
        key: load.remote(storage, subject, _splits([trial for _, trial in by_key[key]]))
        for key, subject in subjects.items()
    }
    began, summed = time.time(), 0.0
    for key, of_subject in by_key.items():
        images = ray.get(shared[key][1])  # of variants too: what is damaged is to be known before any trial begins
        alike: dict[tuple[int, Clusters | None], list[tuple[Subject, Trial]]] = {}
        for s, trial in of_subject:
            alike.setdefault((s.view_draw, trial.clusters if s is trial.subject else None), []).append((s, trial))
        known = {None: images} | _in_clusters(storage, {clusters for _, clusters in alike if clusters}, shared[key])
        for (_, clusters), uses_alike in alike.items():
            wanted = [trial for _, trial in uses_alike]
            normalizes = [trial.spec.normalize for trial in wanted]
            sets = [trial.spec.intervention_set for trial in wanted]
            subject = uses_alike[0][0]
            if sum_subject(storage, subject, known[clusters], _splits(wanted), normalizes, sets):
                summed += summing_work(len(images.ids), len(subject.views), images.dim)
    remember([Cost(MOMENTS, summed, time.time() - began)])
    of_views = {
        view.directory: (view, trial.subject)
        for trial in trials
        if trial.spec.predictor.uses_views
        for views in trial.subject.drawn_from(trial.spec.intervention_set)
        for view in views
    }
    return shared | {
        directory: load_view.remote(storage, view, shared[subject.key][1])
        for directory, (view, subject) in of_views.items()
    }


def _in_clusters(storage: Storage, asked: Collection[Clusters], loaded: Any) -> dict[Clusters, ImageIndex]:
    """Return where the images of a subject lie with each of some clusters for source environments.

    Args:
        storage: has the clusters from then on.
        asked: which clusters.
        loaded: references to the subject's arrays and to its image index.
    """
    progress = Progress("clustering", len(asked), "sets of sources") if asked else None
    tasks = {clusters: index_in_clusters.remote(storage, clusters, *loaded) for clusters in asked}
    known = {}
    for clusters, task in tasks.items():
        known[clusters] = ray.get(task)
        if progress:
            progress.update()
    if progress:
        progress.close()
    return known


def _splits(trials: Sequence[Trial]) -> tuple[Split, ...]:
    return tuple(sorted({trial.spec.split for trial in trials}))
