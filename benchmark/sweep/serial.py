"""Runs the trials of one data set in this process, one after another and without Ray.

The rows equal those of `benchmark.sweep.tune` to the last digit, but no sums are stored. The caller has to limit linear
algebra to one thread, as Ray limits its workers.
"""

from collections.abc import Sequence
from functools import cache

from benchmark.common.storage.files import Storage
from benchmark.store.rows import write_rows
from benchmark.store.tested import write_tested
from benchmark.sweep import inputs
from benchmark.sweep.evaluate import evaluate
from benchmark.sweep.loading import load, load_view
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
    views = {view.directory: view for view in subject.views}
    fetch = cache(lambda key: load_view.here(storage, views[key], loaded[1])[0] if key in views else loaded)
    for trial in sorted(trials, key=lambda trial: (trial.shares, trial.sums)):
        evaluated = evaluate(trial, inputs.inputs_of(storage, trial, fetch, "cpu"))
        for tested in evaluated.tested:
            write_tested(storage, tested)
        write_rows(storage, trial.id, evaluated.rows)
    inputs.forget()
