"""Inputs of trials: arrays, shared before the sweep, and a trial's inputs in its worker, which sums its moments."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.common.storage.files import Storage
from benchmark.common.terminal.progress import Progress
from benchmark.method.arrays import Array, scale_of
from benchmark.method.evaluation.cells import Cells
from benchmark.method.evaluation.embedded import Embedded, shifted
from benchmark.method.evaluation.evaluation import Plain
from benchmark.method.evaluation.fits import turns_of
from benchmark.store.costs import Cost
from benchmark.store.embeddings import View
from benchmark.sweep import loading
from benchmark.sweep.evaluate import Inputs
from benchmark.sweep.loading import MomentsSpec
from benchmark.sweep.pseudo_environments import Clusters, clustered, index_in_clusters
from benchmark.sweep.subject import Subject
from benchmark.sweep.summing import ImageIndex, Read, Rows, SumTask, distinct, fitting, room_of, stored, sum_missing
from benchmark.sweep.trials import Trial, TrialSpec
from benchmark.sweep.work import MOMENTS, summing_work

Remember = Callable[[Sequence[Cost]], None]
# Key of a subject -> Ray references to its arrays and image index; directory of a view -> reference to its embeddings.
Shared = Mapping[str, Any]

MAX_MAPPED = 2e9  # maximum bytes of the views of a subject in memory for sums; more of them are read in blocks

# Results of plain prediction from the last trials of this process. Only a next trial with the same key uses them.
_PLAIN: dict[tuple[object, ...], Plain] = {}
# The moments of the last trial of this process with the key of their images, since summing takes as long as a small
# trial; and the C_d that the last trial borrowed.
_CELLS: dict[tuple[object, ...], tuple[tuple[object, ...], Cells]] = {}
_LENT: dict[tuple[object, ...], Array] = {}


def fetched(shared: Shared, key: str) -> Any:
    """Return the object behind the Ray reference under `key`, or a tuple for several references; None if not shared."""
    import ray

    if (found := shared.get(key)) is None:
        return None
    return tuple(ray.get(list(found))) if isinstance(found, list | tuple) else ray.get(found)


def forget() -> None:
    """Drop what this process keeps of the last trials. Call it if other images may have the same names."""
    _PLAIN.clear()
    _CELLS.clear()
    _LENT.clear()


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
    cells = _shared_cells(storage, trial, data, images, _reader(storage, subject, images, fetch))
    return Inputs(data, cells, _lent(storage, trial, lender, fetch) if lender else None, plain)


def _moments_of(spec: TrialSpec) -> MomentsSpec:
    of_set, halves = spec.intervention_set, spec.protocol.open_class
    return MomentsSpec(of_set, spec.split, spec.normalize, projection=spec.projection, halves=halves, merged=True)


def _reader(storage: Storage, subject: Subject, images: ImageIndex, fetch: Callable[[str], Any]) -> Read:
    """Return a function that reads embeddings of a subject: mapped arrays if its views are shared, else the store."""

    def read(view: View, rows: Rows) -> NDArray[np.float32]:
        z = fetch(subject.key)[0].z if view.directory == images.original.directory else fetch(view.directory)
        return stored(storage, images, view, rows) if z is None else z[rows]

    return read


def _lent(storage: Storage, trial: Trial, lender: Subject, fetch: Callable[[str], Any]) -> Array:
    """Return the C_d that a trial borrows, reusing the last one if it is the same."""
    key = lender.key, lender.view_draw, repr(trial.spec.intervention_set), trial.spec.split, trial.spec.normalize
    if key not in _LENT:
        _LENT.clear()
        images = fetch(lender.key)[1]
        read = _reader(storage, lender, images, fetch)
        _LENT[key] = loading.lent_c_d(storage, lender, images, _moments_of(trial.spec), read)
    return _LENT[key]


def _shared_cells(storage: Storage, trial: Trial, data: Embedded, images: ImageIndex, read: Read) -> Cells:
    """Return the moments of a trial, reusing the last trial's moments if they are the same.

    If only the intervention set differs, results that depend only on the images are reused.
    """
    spec, subject = trial.spec, trial.subject
    if trial.sums not in _CELLS:
        of_images = (images.original.directory, images.digest(spec.split), spec.fold, scale_of(spec.normalize))
        before = [cells for seen, cells in _CELLS.values() if seen == of_images]
        _CELLS.clear()
        turns = tuple(turns_of(spec.split, data.group is not None, spec.fold, spec.train_share).values())
        cells = loading.cells_for(storage, subject, images, replace(_moments_of(spec), turns=turns), read)
        _CELLS[trial.sums] = of_images, cells.after(before[0]) if before else cells
    return _CELLS[trial.sums][1]


def share(
    storage: Storage, trials: Sequence[Trial], others: Sequence[Subject] = (), remember: Remember = lambda _: None
) -> Shared:
    """Return references to the arrays of all subjects of the trials, and write the sums that the store should have.

    Views are shared too if they are summed in workers and fit into `MAX_MAPPED`. For the subjects `others` only arrays
    are loaded. `remember` gets the cost. A worker loads the arrays, and all trials on a node share them; this process
    never holds them.

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
    began, summed, loading_views = time.time(), 0.0, list[Any]()
    for name, alike in uses.items():
        images = ray.get(shared[name][1])  # shifted variants too, to report damage before any trial begins
        known = {None: images} | _in_clusters(storage, {clusters for _, clusters in alike if clusters}, shared[name])
        one, numbers = subjects[name], len(images.ids) * images.dim
        room = room_of(numbers * len(one.views), one.facts.precision)
        for (_, clusters), (subject, specs) in alike.items():
            index, tasks = known[clusters], _tasks(subject, specs)
            counts = len(index.environments), len(one.manifest.classes), images.dim
            sizes = [task.size(*counts) for task in tasks if task.may_be_stored]
            count = fitting(sizes, room)
            room -= sum(sizes[:count])
            if sum_missing(storage, index, tasks[: len(sizes)], count) or not count:
                summed += summing_work(len(images.ids), len(one.views), images.dim)
            views = {view.directory: view for task in tasks[count:] if task.pairing for view in task.pairing.views}
            views = views if 4 * numbers * len(views) <= MAX_MAPPED else {}
            for spec in (spec for spec in specs if spec.predictor.uses_views):
                views |= {view.directory: view for view in chain(*subject.drawn_from(spec.intervention_set))}
            for directory in views.keys() - shared.keys():
                shared[directory], loaded = loading.load_view.remote(storage, views[directory], shared[name][1])
                loading_views.append(loaded)
    ray.get(loading_views)  # to report damage
    remember([Cost(MOMENTS, summed, time.time() - began)])
    return shared


def _tasks(subject: Subject, specs: Sequence[TrialSpec]) -> list[SumTask]:
    """Return the sums that trials of a subject need, see `summing.distinct`."""
    asked = {repr((s.intervention_set, s.split, s.normalize, s.halves, s.products)): s for s in map(_moments_of, specs)}
    return distinct(task for spec in asked.values() for task in loading.tasks_of(subject, spec))


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
