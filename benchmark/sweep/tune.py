"""The sweep on Ray Tune: trials run side by side, and each leaves one file of result rows.

Tune's own state is disposable: a trial whose rows exist is not run again.
"""

import contextlib
import faulthandler
import io
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import ray

from benchmark.common.errors import IcmBenchError
from benchmark.common.progress import Progress
from benchmark.common.storage import Storage
from benchmark.method.evaluation.embedded import shifted
from benchmark.method.evaluation.selection import source_scores
from benchmark.recipe.recipe import Recipe
from benchmark.store.rows import failures, row_file, write_failure, write_rows
from benchmark.sweep.evaluate import evaluate
from benchmark.sweep.identity import trial_id
from benchmark.sweep.loading import cells_for, load, sum_source
from benchmark.sweep.loggers import callbacks, log_folder
from benchmark.sweep.subject import Subject
from benchmark.sweep.trials import Trial


def sweep(storage: Storage, recipe: Recipe, subjects: list[Subject], trials: Sequence[Trial]) -> None:
    """Run the trials whose rows do not exist yet; those that fail twice leave a reason in the store. Needs Ray.

    Raises:
        IcmBenchError: the sweep was ended before all trials were tried.
    """
    ids = [trial_id(recipe, subjects, trial) for trial in trials]
    missing = [i for i, name in enumerate(ids) if not storage.exists(row_file(name))]
    if missing:
        _tune(storage, recipe, subjects, {i: (ids[i], trials[i]) for i in missing})


def _tune(storage: Storage, recipe: Recipe, subjects: list[Subject], todo: dict[int, tuple[str, Trial]]) -> None:
    from ray import tune

    # Tune would take an interrupt for the wish to end early and call the sweep finished.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # three files for each trial that nobody asked for
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # failures are written down, with their tracebacks
    shared = _shared(storage, subjects, [trial for _, trial in todo.values()])
    trainable = tune.with_parameters(
        _train, storage=storage, recipe=recipe, subjects=subjects, todo=todo, shared=shared
    )
    scratch = log_folder(recipe) or tempfile.mkdtemp(prefix="icm-bench-tune-")
    watch = _watch(subjects, todo)
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": recipe.run.cpus_per_trial, "gpu": recipe.run.gpus_per_trial}),
        param_space={"trial": tune.grid_search(_settings(subjects, todo))},
        tune_config=tune.TuneConfig(reuse_actors=True),
        run_config=tune.RunConfig(
            storage_path=scratch,
            verbose=0,
            callbacks=[watch, *callbacks(recipe)],
            failure_config=tune.FailureConfig(max_failures=1),
        ),
    )
    began = time.monotonic()
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # Tune prints a banner whatever its verbosity
            results = tuner.fit()
    finally:
        watch.progress.close()
        if not log_folder(recipe):
            shutil.rmtree(scratch, ignore_errors=True)
    watch.progress.notify(f"{watch.rows} rows, {watch.rows / (time.monotonic() - began):.1f} rows/s")
    for result in results:
        if result.error is not None and result.config is not None:
            name, trial = todo[result.config["trial"]["number"]]
            label, reason = trial.label(subjects[trial.subject]), _reason(result.error, recipe)
            write_failure(storage, name, label, reason, str(result.error))
    reasons = failures(storage, [name for name, _ in todo.values()])
    if not all(name in reasons or storage.exists(row_file(name)) for name, _ in todo.values()):
        raise IcmBenchError("The sweep ended before all trials did; run the same command to go on.")


def _shared(storage: Storage, subjects: list[Subject], trials: list[Trial]) -> dict[int, Any]:
    """Return, for every source that a trial needs, references to its arrays; and see that its moments are there.

    The arrays are loaded by a worker, shared by all trials of a node, and never seen by this process.
    """
    needed = sorted({i for trial in trials for i in (trial.subject, *trial.shifts)})
    splits = {i: tuple(sorted({t.split for t in trials if t.subject == i})) for i in needed}
    shared = {i: load.remote(storage, subjects[i], splits[i]) for i in needed}
    for i in (i for i in needed if splits[i]):
        own = [trial for trial in trials if trial.subject == i]
        images = ray.get(shared[i][1])
        sets = [trial.intervention_set for trial in own]
        sum_source(storage, subjects[i], images, splits[i], {trial.normalize for trial in own}, sets)
    return shared


def _settings(subjects: list[Subject], todo: dict[int, tuple[str, Trial]]) -> list[dict[str, Any]]:
    """Return what tells trials apart in Tune and in loggers."""
    return [{"number": i, "label": trial.label(subjects[trial.subject])} for i, (_, trial) in todo.items()]


def _watch(subjects: list[Subject], todo: dict[int, tuple[str, Trial]]) -> Any:
    """Return the callback that shows a sweep's progress, and the best trial so far by what the sources say."""
    from ray import tune

    class Watch(tune.Callback):
        def __init__(self) -> None:
            self.progress = Progress("sweep", len(todo), "trials")
            self.rows = 0
            self._best: dict[int, tuple[float, str]] = {}

        def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:  # noqa: ARG002
            own = todo[trial.config["trial"]["number"]][1]
            self.rows += result.get("rows", 0)
            rule = "lodo" if "lodo" in result else "training_domain"
            if rule in result and result[rule] > self._best.get(own.subject, (0.0, ""))[0]:
                label = own.label(subjects[own.subject])
                self._best[own.subject] = (result[rule], f"best by {rule} {100 * result[rule]:.1f} %: {label}")

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
            self._done(trial)

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
            self._done(trial)

        def _done(self, trial: Any) -> None:
            subject = todo[trial.config["trial"]["number"]][1].subject
            self.progress.update(note=self._best.get(subject, (0.0, ""))[1])

    return Watch()


def _reason(error: Exception, recipe: Recipe) -> str:
    """Return why a trial failed, in a line."""
    from ray.exceptions import RayActorError

    last = (str(error).strip() or type(error).__name__).splitlines()[-1]
    if not (isinstance(error, RayActorError) or "ActorDied" in str(error) or "ActorUnavailable" in str(error)):
        return last
    limit = recipe.run.trial_timeout
    took_too_long = f", or it took longer than run.trial_timeout = {limit:g} s" if limit else ""
    return f"its process ended without a word: it was killed, ran out of memory{took_too_long}"


def _train(
    config: dict[str, Any],
    storage: Storage,
    recipe: Recipe,
    subjects: list[Subject],
    todo: dict[int, tuple[str, Trial]],
    shared: dict[int, Any],
) -> None:
    from ray import tune

    name, trial = todo[config["trial"]["number"]]
    subject = subjects[trial.subject]
    data, images = ray.get(list(shared[trial.subject]))
    if trial.shifts:
        names = trial.environments(subjects)
        tests = dict(zip(names[1:], ray.get([shared[i][0] for i in trial.shifts]), strict=True))
        data = shifted(data, tests, tuple(names))
    cells = cells_for(storage, subject, images, trial.intervention_set, trial.split, trial.normalize)
    if recipe.run.trial_timeout:  # ends this process, even one that hangs in native code, and Tune takes another
        faulthandler.dump_traceback_later(recipe.run.trial_timeout, exit=True, file=2)
    try:
        rows = evaluate(data, cells, subjects, recipe, trial, name)
    finally:
        faulthandler.cancel_dump_traceback_later()
    write_rows(storage, name, rows)
    # No accuracy on what is held out leaves a trial but in its rows: nothing that chooses can see it by accident.
    tune.report({"rows": len(rows), **source_scores(rows)})
