"""Runs the trials of one data set in this process, one after another and without Ray.

The rows equal those of `benchmark.sweep.tune` on a local Ray of this machine to the last digit: sums are over the same
ranges of images. The caller has to limit linear algebra to one thread, as Ray limits its workers.
"""

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from benchmark.common.storage.files import Storage
from benchmark.common.workers import cores
from benchmark.method.arrays import scale_of
from benchmark.method.evaluation.cells import Cells, class_means
from benchmark.method.subspace.moments import CROSS
from benchmark.store.moments import unpacked
from benchmark.store.rows import write_rows
from benchmark.store.tested import write_tested
from benchmark.sweep import inputs, summing
from benchmark.sweep.evaluate import evaluate
from benchmark.sweep.loading import load, load_view
from benchmark.sweep.subject import Subject
from benchmark.sweep.summing import ImageIndex, Pairing, SumTask
from benchmark.sweep.trials import Trial


def sweep_here(storage: Storage, trials: Sequence[Trial]) -> None:
    """Evaluate trials of one subject, which has all views in the store, and write their rows there.

    Trials of a search, of protocols across data sets and of borrowed placebos are not supported.

    Raises:
        DamagedError: embeddings or texts are damaged.
        IcmBenchError: a trial cannot be evaluated.
    """
    subject = trials[0].subject
    splits = tuple(sorted({trial.spec.split for trial in trials}))
    inputs.forget()  # subjects of an earlier call may have the same name
    loaded = load.here(storage, subject, splits)
    _sum(storage, subject, loaded[1], trials)
    views = {view.directory: view for view in subject.views}
    fetch = cache(lambda key: load_view.here(storage, views[key], loaded[1]) if key in views else loaded)
    for trial in sorted(trials, key=lambda trial: (trial.shares, trial.sums)):
        evaluated = evaluate(trial, inputs.inputs_of(storage, trial, fetch, "cpu"))
        for tested in evaluated.tested:
            write_tested(storage, tested)
        write_rows(storage, trial.id, evaluated.rows)
    inputs.forget()


def _sum(storage: Storage, subject: Subject, images: ImageIndex, trials: Sequence[Trial]) -> None:
    """Write the moments of all trials, as `summing.sum_moments` does with workers."""
    # Tasks of `summing` are called by their private names: any change of that module makes stored rows stale.
    pairings = {str(p): p for t in trials for p in subject.pairings_of(t.spec.intervention_set)}.values()
    turns: list[list[Pairing | None]]  # pairs across environments need the class means first
    turns = [[None, *(p for p in pairings if p.name != CROSS)], [p for p in pairings if p.name == CROSS]]
    ranges = [(int(rows[0]), int(rows[-1]) + 1) for rows in _ranges(images)]
    for split, scale in {(trial.spec.split, scale_of(trial.spec.normalize)) for trial in trials}:
        file_of = partial(summing.file_of, images, images.digest(split))
        for wanted in filter(None, turns):
            task = SumTask(split, scale, tuple(pairing for pairing in wanted if pairing))
            means = class_means(Cells(unpacked(storage, file_of(task, None)))) if None not in wanted else None
            shared = storage, images, [task], [means]
            parts = [summing._sum_range.here(shared, *rows) for rows in ranges]
            summing._write.here(storage, {file_of(task, pairing): pairing for pairing in wanted}, *parts)


def _ranges(images: ImageIndex) -> list[Any]:
    """Return the ranges of images whose sums are added up, one for each worker of a local Ray."""
    sides = max(split.folds or 3 for split in images.layouts)
    fitting = int(summing.MEMORY / summing.bytes_of_sums(sides, len(images.environments), 1, images.dim))
    count, blocks = len(images.ids), -(-len(images.ids) // summing.BLOCK)
    return np.array_split(np.arange(count), max(1, min(cores(), summing.MAX_WORKERS, fitting, blocks)))
