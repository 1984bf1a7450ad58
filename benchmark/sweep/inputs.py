"""Inputs of trials: arrays and moments, prepared and shared before the sweep, and a trial's inputs in its worker."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from benchmark.common.storage.files import Storage
from benchmark.common.terminal.progress import Progress
from benchmark.method.arrays import scale_of
from benchmark.method.evaluation.cells import Cells
from benchmark.method.evaluation.embedded import Embedded, shifted
from benchmark.method.evaluation.evaluation import Plain
from benchmark.method.evaluation.fits import turns_of
from benchmark.store.costs import Cost
from benchmark.sweep import loading
from benchmark.sweep.evaluate import Inputs
from benchmark.sweep.loading import MomentsSpec
from benchmark.sweep.pseudo_environments import Clusters, clustered, index_in_clusters
from benchmark.sweep.subject import Subject
from benchmark.sweep.summing import ImageIndex
from benchmark.sweep.trials import Trial, TrialSpec
from benchmark.sweep.work import MOMENTS, summing_work

Remember = Callable[[Sequence[Cost]], None]
# Key of a subject -> Ray references to its arrays and image index; directory of a view -> reference to its embeddings.
Shared = Mapping[str, Any]

# Results of plain prediction from the last trials of this process. Only a next trial with the same key uses them.
_PLAIN: dict[tuple[object, ...], Plain] = {}
# The moments of the last trial of this process with the key of their images, since reading takes as long as a small
# trial.
_CELLS: dict[tuple[object, ...], tuple[tuple[object, ...], Cells]] = {}


def fetched(shared: Shared, key: str) -> Any:
    """Return the object behind the Ray reference under `key`, or a tuple of objects for several references."""
    import ray

    found = shared[key]
    return tuple(ray.get(list(found))) if isinstance(found, list | tuple) else ray.get(found)


def forget() -> None:
    """Drop what this process keeps of the last trials. Call it if other images may have the same names."""
    _PLAIN.clear()
    _CELLS.clear()


def inputs_of(storage: Storage, trial: Trial, fetch: Callable[[str], Any], device: str) -> Inputs:
    """Return the inputs of a trial. `fetch` returns the shared objects under a key.

    Raises:
        DamagedError: moments or texts are damaged.
    """
    spec, subject, lender = trial.spec, trial.subject, trial.lender
    data, images = fetch(subject.key)
    if trial.clusters:
        data, images = clustered(storage, trial.clusters, data, images)
    if trial.variants:
        parts = [fetch(variant.key)[0] for variant in trial.variants]
        data = shifted(data, dict(zip(trial.environments[1:], parts, strict=True)), tuple(trial.environments))
    if spec.predictor.uses_text_tower:
        data = replace(data, tower=loading.text_tower(subject, device))
    if spec.predictor.uses_views:
        kinds = subject.drawn_from(spec.intervention_set)
        of_views = {view.directory: fetch(view.directory) for views in kinds for view in views}
        data = replace(data, views=loading.lent_views(kinds, of_views, images, spec.split.seed))
    if trial.shares not in _PLAIN:  # then results of other trials are dropped
        _PLAIN.clear()
    plain = _PLAIN.setdefault(trial.shares, Plain())
    cells = _shared_cells(storage, trial, data, images)
    lent = loading.lent_c_d(storage, lender, fetch(lender.key)[1], _moments_of(spec)) if lender else None
    return Inputs(data, cells, lent, plain)


def _moments_of(spec: TrialSpec) -> MomentsSpec:
    return MomentsSpec(spec.intervention_set, spec.split, spec.normalize)


def _shared_cells(storage: Storage, trial: Trial, data: Embedded, images: ImageIndex) -> Cells:
    """Return the moments of a trial, reusing the last trial's moments if they are the same.

    If only the intervention set differs, results that depend only on the images are reused.
    """
    spec, subject = trial.spec, trial.subject
    if trial.sums not in _CELLS:
        of_images = (images.original.directory, images.digest(spec.split), spec.fold, scale_of(spec.normalize))
        before = [cells for seen, cells in _CELLS.values() if seen == of_images]
        _CELLS.clear()
        turns = tuple(turns_of(spec.split, data.group is not None, spec.fold, spec.train_share).values())
        wanted = replace(_moments_of(spec), turns=turns, projection=spec.projection)
        cells = loading.cells_for(storage, subject, images, wanted).weighted(subject.weights_of(spec.intervention_set))
        _CELLS[trial.sums] = of_images, cells.after(before[0]) if before else cells
    return _CELLS[trial.sums][1]


def share(
    storage: Storage, trials: Sequence[Trial], others: Sequence[Subject] = (), remember: Remember = lambda _: None
) -> Shared:
    """Compute missing moments of the trials, and return references to the arrays of all their subjects.

    For the subjects `others` arrays are loaded, but no moments are computed. `remember` gets the cost of the moments. A
    worker loads the arrays, and all trials on a node share them; this process never holds them.

    DamagedError: a file of the store is damaged.
    """
    import ray

    subjects = {s.key: s for s in (*others, *(v for trial in trials for v in trial.variants))}
    # Key of a subject -> (draw of views, clusters) -> the subject, and specs of the trials that need its moments.
    uses: dict[str, dict[tuple[int, Clusters | None], tuple[Subject, list[TrialSpec]]]] = {key: {} for key in subjects}
    for trial in trials:
        for s in filter(None, (trial.subject, trial.lender)):
            subjects[s.key] = s
            key = s.view_draw, trial.clusters if s is trial.subject else None
            uses.setdefault(s.key, {}).setdefault(key, (s, []))[1].append(trial.spec)
    shared: dict[str, Any] = {}
    for name, subject in subjects.items():
        splits = {spec.split for _, specs in uses[name].values() for spec in specs}
        shared[name] = loading.load.remote(storage, subject, tuple(sorted(splits)))
    began, summed = time.time(), 0.0
    for name, alike in uses.items():
        images = ray.get(shared[name][1])  # shifted variants too, to report damage before any trial begins
        known = {None: images} | _in_clusters(storage, {clusters for _, clusters in alike if clusters}, shared[name])
        for (_, clusters), (subject, specs) in alike.items():
            if loading.sum_subject(storage, subject, known[clusters], [_moments_of(spec) for spec in specs]):
                summed += summing_work(len(images.ids), len(subject.views), images.dim)
    remember([Cost(MOMENTS, summed, time.time() - began)])
    for trial in (trial for trial in trials if trial.spec.predictor.uses_views):
        for view in chain(*trial.subject.drawn_from(trial.spec.intervention_set)):
            if view.directory not in shared:
                shared[view.directory] = loading.load_view.remote(storage, view, shared[trial.subject.key][1])
    return shared


def _in_clusters(storage: Storage, asked: Collection[Clusters], loaded: Any) -> dict[Clusters, ImageIndex]:
    """Return a dictionary: clusters -> image index in which these clusters are the source environments."""
    if not asked:
        return {}
    import ray

    progress = Progress("clustering", len(asked), "sets of sources")
    tasks = {clusters: index_in_clusters.remote(storage, clusters, *loaded) for clusters in asked}
    known = {}
    for clusters, task in tasks.items():
        known[clusters] = ray.get(task)
        progress.update()
    progress.close()
    return known
