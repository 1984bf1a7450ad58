"""The sweep on Ray Tune: trials run side by side, and each leaves one file of result rows.

Tune's own state is disposable: a trial whose rows and tested images are there is not run again.
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
from benchmark.common.failing import meant_for_user, outcome_of, told
from benchmark.common.ray.cluster import connect, gpu_count, sentence_of
from benchmark.common.secrets import hidden
from benchmark.common.storage import retries
from benchmark.common.storage.files import Storage
from benchmark.common.terminal.progress import Progress
from benchmark.method.evaluation.selection import source_scores
from benchmark.recipe.specs import RunSpec
from benchmark.store.rows import failures, unfinished, write_failure, write_rows
from benchmark.store.tested import write_tested
from benchmark.sweep.batches import Batch, batches_of, callbacks, log_folder, one_by_one, resources_of
from benchmark.sweep.evaluate import evaluate
from benchmark.sweep.inputs import Remember, Shared, fetched, inputs_of, share
from benchmark.sweep.trials import Trial
from benchmark.sweep.work import Ran, costs_of

NODES_LOST = 3  # times that trials are begun again since their nodes died
TOLD_EVERY = 2.0  # seconds, in which a batch says what it has done


def sweep(
    storage: Storage, trials: Sequence[Trial], options: RunSpec, name: str, remember: Remember = lambda _: None
) -> None:
    """Run the trials that are not finished; those that fail twice leave a reason in the store.

    In a block of `connected`. A trial is finished if its rows are there, and the images that these were tested on.
    Small trials run in batches. What a batch did not do is tried again, each trial alone, so that a trial that takes
    its process along takes no other; the death of a node is no failure of a trial. `remember` is told what the trials
    that ran took, of a sweep that is ended early too.

    Raises:
        DamagedError: embeddings, texts or moments are not what was written.
        IcmBenchError: a file of rows is damaged or holds another trial's, the store cannot be written, or the sweep
            was ended before all trials were tried.
    """
    to_run = set(unfinished(storage, [trial.id for trial in trials]))
    missing = [trial for trial in trials if trial.id in to_run]
    # Next to each other those that share most.
    missing.sort(key=lambda t: (t.shares, t.spec.protocol.name, t.spec.predictor.uses_training_images, t.sums))
    if not missing:
        return
    connect()
    left = _run(storage, missing, options, name, remember)
    if not failures(storage, left).keys() >= set(left):
        raise IcmBenchError("The sweep ended before all trials did; run the same command to go on.")


@dataclass(frozen=True)
class Given:
    """What all batches of a sweep are given.

    Attributes:
        storage: with embeddings and texts; rows go there.
        shared: the arrays of all trials.
        options: what a trial may take, and which loggers follow.
        name: of the recipe, for loggers.
        gpus: number of GPUs of the cluster.
    """

    storage: Storage
    shared: Shared
    options: RunSpec
    name: str
    gpus: int


def _run(storage: Storage, trials: list[Trial], options: RunSpec, name: str, remember: Remember) -> list[str]:
    """Run trials in batches, and what is left of them once more, one by one; return the ids of those without rows."""
    Thread(target=import_module, args=["ray.tune"]).start()  # which takes two seconds, while workers sum moments
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
    for lost in range(NODES_LOST + 1):
        if not again:
            break
        failed = _tune(given, again, one_by_one(again), _watch("sweep, once more", again, failed_with))
        again = [trial for trial, error in failed if _lost_its_node(error) and lost < NODES_LOST]
        for trial, error in failed:
            if trial not in again:
                failed_with(trial, error)
    return unfinished(storage, [*left])


def _tune(given: Given, trials: list[Trial], batches: list[Batch], watch: Any) -> list[tuple[Trial, Exception]]:
    """Run trials, and return the first of each batch that failed with its error.

    Raises:
        UnwritableError: the store cannot be written, which is no fault of a trial.
    """
    from ray import tune
    from ray.tune.execution import class_cache

    # Tune would hand keys on in a runtime environment, which Ray writes into its logs; a storage brings them along.
    class_cache.ENV_VARS_TO_PROPAGATE -= {name for name in os.environ if name.startswith("AWS_")}
    # Tune would take an interrupt for the wish to end early and call the sweep finished.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # three files for each trial that nobody asked for
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # failures are written down, with their tracebacks
    # Tune unpickles what it is given anew for every batch, again and again: the trials are not among that.
    asked = {batch.first: resources_of(trials[batch.first], given.options, given.gpus) for batch in batches}
    trainable = tune.with_parameters(_train, given=given, trials=[ray.put(trials)])
    scratch = log_folder(given.options) or tempfile.mkdtemp(prefix="icm-bench-tune-")
    tuner = tune.Tuner(
        tune.with_resources(trainable, lambda config: asked[config["trial"]["number"]]),
        # What tells batches apart in Tune and in loggers.
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
        raise watch.unwritable  # reasons could not be kept either
    return failed


def _watch(stage: str, every: list[Trial], failed_with: Callable[[Trial, Exception], None]) -> Any:
    """Return the callback that shows a sweep's progress, and the best trial so far by what the sources say.

    `failed_with` keeps why a trial failed as soon as it did, since a sweep may be ended before its end: not of one that
    lost its node, nor of a batch, which does not say which of its trials it was.
    """
    from ray import tune

    class Watch(tune.Callback, tune.Stopper):
        """Ends the sweep too, where a trial could not write: the others would work for nothing."""

        unwritable: UnwritableError | None = None

        def __init__(self) -> None:
            self.progress = Progress(stage, len(every), "trials")
            self.rows = 0
            self.ran: dict[int, Ran] = {}
            self._best: dict[str, tuple[float, str]] = {}

        def __call__(self, trial_id: str, result: Any) -> bool:  # noqa: ARG002
            return False

        def stop_all(self) -> bool:
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
            # As `Trial.get_pickled_error`, which however looks where Tune brings the file only later.
            place, batch = trial.pickled_error_file, Batch.named(trial.config["trial"])
            if not place or not Path(place).is_file():  # of an error of Tune's own
                return
            error: Exception = ray.cloudpickle.loads(Path(place).read_bytes())  # of this very process
            try:
                if isinstance(meant := meant_for_user(error), UnwritableError):
                    raise meant
                if batch.count == 1 and not _lost_its_node(error):
                    failed_with(every[batch.first], error)
            except UnwritableError as unwritable:
                self.unwritable = unwritable

    return Watch()


def _keep_failure(storage: Storage, trial: Trial, error: Exception, limit: float | None) -> None:
    """Write down why a trial failed; `limit` is the number of seconds after which it was ended, if any."""
    from ray.exceptions import RayActorError

    outcome: IcmBenchError | FaultError
    if isinstance(error, RayActorError) or "ActorDied" in str(error) or "ActorUnavailable" in str(error):
        took_too_long = f", or it took longer than run.trial_timeout = {limit:g} s" if limit else ""
        outcome = IcmBenchError(f"its process ended without a word: it was killed, ran out of memory{took_too_long}")
    else:
        outcome = outcome_of(error)
    fault = outcome.trace if isinstance(outcome, FaultError) else ""
    trace = fault or hidden("".join(traceback.format_exception(error)))
    write_failure(storage, trial.id, trial.label, sentence_of(outcome), trace, is_fault=bool(fault))


def _lost_its_node(error: Exception) -> bool:
    """Return whether a trial ended since its node died, or was taken away."""
    return bool(getattr(error, "preempted", False)) or "its node has died" in str(error)


@told
def _train(config: dict[str, Any], given: Given, trials: list[Any]) -> None:
    """Write the rows of one batch in a worker of Tune's; `trials` holds one reference, to the list of all."""
    from ray import tune

    batch, every, ran, told_at = Batch.named(config["trial"]), _kept(trials[0]), [], time.monotonic()
    device = device_of(resources_of(every[batch.first], given.options, given.gpus)["gpu"])

    fetch = functools.cache(functools.partial(fetched, given.shared))
    for number, trial in enumerate(batch.of(every), batch.first):
        try:
            ran.append({"number": number, **_rows_of(trial, given, fetch, device)})
        except Exception as error:
            if batch.count == 1 or isinstance(meant_for_user(error), UnwritableError):
                raise
            # Kept at once, although the trial is tried again, alone: the sweep may be ended before.
            _keep_failure(given.storage, trial, error, None)
            continue
        if batch.count > 1 and time.monotonic() - told_at > TOLD_EVERY:
            tune.report({"ran": ran})
            ran, told_at = [], time.monotonic()
    if ran:
        tune.report(ran[0] if batch.count == 1 else {"ran": ran})  # loggers understand plain numbers


@functools.lru_cache(maxsize=1)
def _kept(reference: Any) -> Any:
    """Return an object that is the same for all batches of a worker: it is unpickled once."""
    return ray.get(reference)


def _rows_of(trial: Trial, given: Given, fetch: Callable[[str], Any], device: str) -> dict[str, Any]:
    """Write the rows of a trial, and return what Tune and loggers are told of it."""
    began, storage, limit = time.time(), given.storage, given.options.trial_timeout
    inputs = inputs_of(storage, trial, fetch, device)
    if limit:  # ends this process, even one that hangs in native code, and Tune takes another
        faulthandler.dump_traceback_later(limit, exit=True, file=2)
    try:
        evaluated = evaluate(trial, inputs, device)
    finally:
        faulthandler.cancel_dump_traceback_later()
    for tested in evaluated.tested:  # first, so that no row names what is not there
        write_tested(storage, tested)
    write_rows(storage, trial.id, evaluated.rows)
    # No accuracy on what is held out leaves a trial but in its rows: nothing that chooses can see it by accident.
    again = retries.taken()
    took = {"began": began, "seconds": time.time() - began, "retries": again.count, "waited": again.seconds}
    return {"rows": len(evaluated.rows), **took, **source_scores(evaluated.rows)}


def device_of(gpus: float) -> str:
    """Return the torch device of a trial that reserves so many GPUs; Ray shows them to those that reserve none too."""
    if not gpus:
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
