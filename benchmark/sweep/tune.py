"""Runs a sweep on Ray Tune: trials run in parallel, and each trial writes one file of result rows.

Tune's own state is not needed to resume: a trial whose rows and test images exist is not run again.
"""

import contextlib
import faulthandler
import functools
import io
import logging
import os
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any

import ray

from benchmark.common.errors import FaultError, IcmBenchError, UnwritableError
from benchmark.common.failing import meant_for_user, outcome_of, propagate_user_errors
from benchmark.common.ray.cluster import connect, gpu_count, sentence_of
from benchmark.common.secrets import hidden
from benchmark.common.storage import retries
from benchmark.common.storage.files import Storage
from benchmark.common.terminal.progress import Progress
from benchmark.method.evaluation.selection import source_scores
from benchmark.recipe.specs import RunSpec
from benchmark.store.rows import failures, index_rows, unfinished, write_failure, write_rows
from benchmark.store.tested import write_tested
from benchmark.sweep.batches import Batch, batches_of, callbacks, log_folder, one_by_one, resources_of
from benchmark.sweep.evaluate import evaluate
from benchmark.sweep.inputs import Remember, Shared, fetched, inputs_of, share
from benchmark.sweep.trials import Trial
from benchmark.sweep.work import Ran, costs_of

MAX_NODE_RETRIES = 3  # number of retries of trials whose node died
REPORT_SECONDS = 2.0  # seconds between two reports of a batch


def sweep(
    storage: Storage, trials: Sequence[Trial], options: RunSpec, name: str, remember: Remember = lambda _: None
) -> None:
    """Run the unfinished trials. A trial that fails twice leaves a failure record in the store.

    Call it inside `connected`. A trial is finished if its rows and test images exist. Small trials run in batches.
    Trials that a batch did not finish are retried one by one, so that a crashing trial affects no other. The death of a
    node does not count as a failure of a trial. `remember` gets the costs of the trials, even if the sweep is
    interrupted.

    Raises:
        DamagedError: embeddings, texts or moments are damaged.
        IcmBenchError: a row file is damaged or has another trial's rows, the store cannot be written, or the sweep
            ended before all trials were tried.
    """
    to_run = set(unfinished(storage, [trial.id for trial in trials])) if trials else set()
    missing = [trial for trial in trials if trial.id in to_run]
    # Trials that share much work become adjacent.
    missing.sort(key=lambda t: (t.shares, t.spec.protocol.name, t.spec.predictor.uses_training_images, t.sums))
    if not missing:
        return
    connect()
    left = _run(storage, missing, options, name, remember)
    if not failures(storage, left).keys() >= set(left):
        raise IcmBenchError("The sweep ended before all trials did; run the same command to go on.")


@dataclass(frozen=True)
class Given:
    """The inputs of all batches of a sweep.

    Attributes:
        storage: store that has the embeddings and gets the rows.
        shared: Ray references to the arrays of all trials.
        options: options of the run, such as limits of a trial and loggers.
        name: name of the recipe, for loggers.
        gpus: number of GPUs in the cluster.
    """

    storage: Storage
    shared: Shared
    options: RunSpec
    name: str
    gpus: int


def _run(storage: Storage, trials: list[Trial], options: RunSpec, name: str, remember: Remember) -> list[str]:
    """Run trials in batches, then retry unfinished ones one by one; return the ids of trials without rows."""
    Thread(target=import_module, args=["ray.tune"]).start()  # takes two seconds, during which workers sum moments
    given = Given(storage, share(storage, trials, remember=remember), options, name, gpu_count())
    cores = float(ray.cluster_resources().get("CPU", 1))
    began, slots = time.time(), max(1, int(cores / options.cpus_per_trial))

    def failed_with(trial: Trial, error: Exception) -> None:
        _keep_failure(storage, trial, error, options.trial_timeout)

    watch = _watch("sweep", trials, failed_with)
    try:
        _tune(given, trials, batches_of(trials, options, cores, given.gpus), watch)
    finally:
        remember(costs_of([*watch.ran.values()], began, min(len(trials), slots)))
    watch.progress.notify(f"{watch.rows} rows, {watch.rows / (time.time() - began):.1f} rows/s")
    if not (not_done := [trial.id for number, trial in enumerate(trials) if number not in watch.ran]):
        return []
    left = set(unfinished(storage, not_done))
    again = [trial for trial in trials if trial.id in left]
    for attempt in range(MAX_NODE_RETRIES + 1):
        if not again:
            break
        failed = _tune(given, again, one_by_one(again), _watch("sweep, once more", again, failed_with))
        again = [trial for trial, error in failed if _lost_its_node(error) and attempt < MAX_NODE_RETRIES]
        for trial, error in failed:
            if trial not in again:
                failed_with(trial, error)
    return unfinished(storage, [*left])


def _tune(given: Given, trials: list[Trial], batches: list[Batch], watch: Any) -> list[tuple[Trial, Exception]]:
    """Run trials; return (first trial, error) of each failed batch.

    Raises:
        UnwritableError: the store cannot be written.
    """
    from ray import tune
    from ray.tune.execution import class_cache

    # Tune would pass credentials in a runtime environment, which Ray logs. The storage object already has them.
    class_cache.ENV_VARS_TO_PROPAGATE -= {name for name in os.environ if name.startswith("AWS_")}
    # Tune would treat an interrupt as an early stop and report the sweep as finished.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # avoids three log files per trial
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # failures are stored with their tracebacks
    # Tune unpickles parameters for every batch, so trials are passed by reference.
    asked = {batch.first: resources_of(trials[batch.first], given.options, given.gpus) for batch in batches}
    trainable = tune.with_parameters(_train, given=given, trials=[ray.put(trials)])
    scratch = log_folder(given.options) or tempfile.mkdtemp(prefix="icm-bench-tune-")
    tuner = tune.Tuner(
        tune.with_resources(trainable, lambda config: asked[config["trial"]["number"]]),
        # The configuration identifies a batch in Tune and in loggers.
        param_space={"trial": tune.grid_search([batch.config(trials) for batch in batches])},
        tune_config=tune.TuneConfig(reuse_actors=True),
        run_config=tune.RunConfig(
            storage_path=scratch,
            verbose=0,
            callbacks=[watch, *callbacks(given.options, given.name)],
            failure_config=tune.FailureConfig(max_failures=0),
            stop=watch,
        ),
    )
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # Tune prints a banner whatever its verbosity
            results = tuner.fit()
    finally:
        watch.progress.close()
        if not log_folder(given.options):
            shutil.rmtree(scratch, ignore_errors=True)
    failed = [(trials[one.config["trial"]["number"]], one.error) for one in results if one.error and one.config]
    if watch.unwritable:
        raise watch.unwritable  # in this case failures could not be stored either
    return failed


def _watch(stage: str, every: list[Trial], failed_with: Callable[[Trial, Exception], None]) -> Any:
    """Return a Tune callback that shows progress and the trial with the best source scores so far.

    `failed_with` stores a failure at once, since the sweep may be interrupted. It is not called for trials that lost
    their node, or for batches of several trials, whose failing trial is unknown.
    """
    from ray import tune

    class Watch(tune.Callback, tune.Stopper):
        """Shows progress, and stops the sweep if a trial cannot write to the store."""

        unwritable: UnwritableError | None = None

        def __init__(self) -> None:
            self.progress = Progress(stage, len(every), "trials")
            self.rows = 0
            self.ran: dict[int, Ran] = {}
            self._best: dict[str, tuple[float, str]] = {}

        def __call__(self, trial_id: str, result: Any) -> bool:  # noqa: ARG002
            return False

        def stop_all(self) -> bool:  # Tune asks several times a second
            self.progress.update(0)
            return self.unwritable is not None

        def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:  # noqa: ARG002
            for one in result.get("ran", [result]):
                if (number := one.get("number")) in (None, *self.ran):
                    continue
                ran = every[number]
                self.rows += one["rows"]
                retries.count(retries.Retries(one["retries"], one["waited"]))
                self.ran[number] = Ran(ran, one["began"], one["seconds"])
                rule = "lodo" if "lodo" in one else "training_domain"
                best, words = self._best.get(ran.subject.key, (0.0, ""))
                if one.get(rule, 0.0) > best:
                    best, words = one[rule], f"best by {rule} {100 * one[rule]:.1f} %: {ran.label}"
                    self._best[ran.subject.key] = best, words
                self.progress.update(note=words)

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
            # As in `Trial.get_pickled_error`, which reads a folder that Tune fills only later.
            place, batch = trial.pickled_error_file, Batch.named(trial.config["trial"])
            if not place or not Path(place).is_file():  # an error of Tune itself
                return
            error: Exception = ray.cloudpickle.loads(Path(place).read_bytes())  # written by this process
            try:
                if isinstance(meant := meant_for_user(error), UnwritableError):
                    raise meant
                if batch.count == 1 and not _lost_its_node(error):
                    failed_with(every[batch.first], error)
            except UnwritableError as unwritable:
                self.unwritable = unwritable

    return Watch()


def _keep_failure(storage: Storage, trial: Trial, error: Exception, limit: float | None) -> None:
    """Store why a trial failed; `limit` is the time limit in seconds, if any."""
    from ray.exceptions import RayActorError

    outcome: IcmBenchError | FaultError
    if isinstance(error, RayActorError) or "ActorDied" in str(error) or "ActorUnavailable" in str(error):
        took_too_long = f", or it took longer than run.trial_timeout = {limit:g} s" if limit else ""
        outcome = IcmBenchError(f"its process ended without an error: it was killed, ran out of memory{took_too_long}")
    else:
        outcome = outcome_of(error)
    fault = outcome.trace if isinstance(outcome, FaultError) else ""
    trace = fault or hidden("".join(traceback.format_exception(error)))
    write_failure(storage, trial.id, trial.label, sentence_of(outcome), trace, is_fault=bool(fault))


def _lost_its_node(error: Exception) -> bool:
    """Return whether a trial ended because its node died or was preempted."""
    return bool(getattr(error, "preempted", False)) or "its node has died" in str(error)


@propagate_user_errors
def _train(config: dict[str, Any], given: Given, trials: list[Any]) -> None:
    """Evaluate one batch in a Tune worker; `trials` contains one reference, to the list of all trials."""
    from ray import tune

    batch, every, ran, reported_at = Batch.named(config["trial"]), _kept(trials[0]), [], time.monotonic()
    device = device_of(resources_of(every[batch.first], given.options, given.gpus)["gpu"])

    fetch, tables = functools.cache(functools.partial(fetched, given.shared)), dict[str, Any]()
    for number, trial in enumerate(batch.of(every), batch.first):
        try:
            report, tables[trial.id] = _rows_of(trial, given, fetch, device)
            ran.append({"number": number, **report})
        except Exception as error:
            if batch.count == 1 or isinstance(meant_for_user(error), UnwritableError):
                raise
            # Stored at once, although the trial is retried alone, since the sweep may be interrupted before that.
            _keep_failure(given.storage, trial, error, None)
            continue
        if batch.count > 1 and time.monotonic() - reported_at > REPORT_SECONDS:
            tune.report({"ran": ran})
            ran, reported_at = [], time.monotonic()
    index_rows(given.storage, tables, len(every))
    if ran:
        tune.report(ran[0] if batch.count == 1 else {"ran": ran})  # loggers need plain numbers


@functools.lru_cache(maxsize=1)
def _kept(reference: Any) -> Any:
    """Return the object behind a Ray reference. A worker unpickles it once for all its batches."""
    return ray.get(reference)


def _rows_of(trial: Trial, given: Given, fetch: Callable[[str], Any], device: str) -> tuple[dict[str, Any], Any]:
    """Evaluate a trial and write its rows; return its report for Tune and loggers, and the table of its rows."""
    began, storage, limit = time.time(), given.storage, given.options.trial_timeout
    inputs = inputs_of(storage, trial, fetch, device)
    if limit:  # a time limit ends this process even if native code hangs; Tune starts another one
        faulthandler.dump_traceback_later(limit, exit=True, file=2)
    try:
        evaluated = evaluate(trial, inputs, device)
    finally:
        faulthandler.cancel_dump_traceback_later()
    for tested in evaluated.tested:  # written first, so that rows never refer to missing files
        write_tested(storage, tested)
    table = write_rows(storage, trial.id, evaluated.rows)
    # Held-out accuracies are only in rows, so that no selection can use them by accident.
    again = retries.take_retries()
    took = {"began": began, "seconds": time.time() - began, "retries": again.count, "waited": again.seconds}
    return {"rows": len(evaluated.rows), **took, **source_scores(evaluated.rows)}, table


def device_of(gpus: float) -> str:
    """Return the torch device of a trial that reserves `gpus` GPUs. Ray shows GPUs even to trials without any."""
    if not gpus:
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
