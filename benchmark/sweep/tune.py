"""The sweep on Ray Tune: trials run side by side, and each leaves one file of result rows.

Tune's own state is disposable: a trial whose rows and tested images are there is not run again.
"""

import contextlib
import faulthandler
import io
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import ray

from benchmark.common import patience
from benchmark.common.cluster import connect, gpu_count, sentence_of
from benchmark.common.errors import IcmBenchError, UnwritableError
from benchmark.common.failing import in_words, meant_for_user, told
from benchmark.common.progress import Progress
from benchmark.common.storage import Storage
from benchmark.method.evaluation.selection import source_scores
from benchmark.method.evaluation.splits import Split
from benchmark.recipe.specs import RunSpec
from benchmark.store.costs import Cost
from benchmark.store.rows import failures, finished, unfinished, write_failure, write_rows
from benchmark.store.tested import write_tested
from benchmark.sweep.clusters import Clusters, index_in_clusters
from benchmark.sweep.evaluate import evaluate
from benchmark.sweep.inputs import Arrays, inputs_of
from benchmark.sweep.loading import load, load_view, sum_subject
from benchmark.sweep.loggers import callbacks, log_folder
from benchmark.sweep.subject import Subject
from benchmark.sweep.summing import ImageIndex
from benchmark.sweep.trials import Trial
from benchmark.sweep.work import MOMENTS, Ran, costs_of, summing_work

Remember = Callable[[Sequence[Cost]], None]
# Key of a subject -> references to its arrays and to its image index; directory of a view -> one to its embeddings.
Shared = Mapping[str, Any]


def sweep(
    storage: Storage, trials: Sequence[Trial], options: RunSpec, name: str, remember: Remember = lambda _: None
) -> None:
    """Run the trials that are not finished; those that fail twice leave a reason in the store.

    In a block of `connected`. A trial is finished if its rows are there, and the images that these were tested on.

    Args:
        storage: with embeddings and texts; rows go there.
        trials: all that are wanted.
        options: what a trial may take, and which loggers follow.
        name: of the recipe, for loggers.
        remember: is told what the trials that ran took, of a sweep that is ended early too.

    Raises:
        DamagedError: embeddings, texts or moments are not what was written.
        IcmBenchError: a file of rows is damaged or holds another trial's, the store cannot be written, or the sweep
            was ended before all trials were tried.
    """
    to_run = set(unfinished(storage, [trial.id for trial in trials]))
    missing = sorted((trial for trial in trials if trial.id in to_run), key=lambda trial: (trial.shares, trial.sums))
    if not missing:
        return
    connect()
    failed_with = _tune(storage, missing, options, name, remember)
    for _, error in failed_with:
        if isinstance(meant := meant_for_user(error), UnwritableError):
            raise meant  # it is no fault of the trial, and its reason could not be kept either
    for trial, error in failed_with:
        write_failure(storage, trial.id, trial.label, _reason(error, options.trial_timeout), str(error))
    failed = failures(storage, [trial.id for trial in missing])
    done = finished(storage)
    if not all(trial.id in failed or trial.id in done for trial in missing):
        raise IcmBenchError("The sweep ended before all trials did; run the same command to go on.")


def _tune(
    storage: Storage, trials: list[Trial], options: RunSpec, name: str, remember: Remember
) -> list[tuple[Trial, Exception]]:
    """Run trials, and return those that failed with their errors."""
    from ray import tune

    # Tune would take an interrupt for the wish to end early and call the sweep finished.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # three files for each trial that nobody asked for
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # failures are written down, with their tracebacks
    shared = share(storage, trials, remember=remember)
    trainable = tune.with_parameters(_train, storage=storage, trials=trials, shared=shared, options=options)
    scratch = log_folder(options) or tempfile.mkdtemp(prefix="icm-bench-tune-")
    watch = _watch(trials)
    tuner = tune.Tuner(
        tune.with_resources(trainable, lambda config: resources_of(trials[config["trial"]["number"]], options)),
        # What tells trials apart in Tune and in loggers.
        param_space={"trial": tune.grid_search([{"number": i, "label": t.label} for i, t in enumerate(trials)])},
        tune_config=tune.TuneConfig(reuse_actors=True),
        run_config=tune.RunConfig(
            storage_path=scratch,
            verbose=0,
            callbacks=[watch, *callbacks(options, name)],
            failure_config=tune.FailureConfig(max_failures=1),
            stop=watch.stopper,
        ),
    )
    slots = min(len(trials), max(1, int(ray.cluster_resources().get("CPU", 1) / options.cpus_per_trial)))
    began = time.time()
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # Tune prints a banner whatever its verbosity
            results = tuner.fit()
    finally:
        watch.progress.close()
        remember(costs_of(watch.ran, began, slots))
        if not log_folder(options):
            shutil.rmtree(scratch, ignore_errors=True)
    watch.progress.notify(f"{watch.rows} rows, {watch.rows / (time.time() - began):.1f} rows/s")
    failed = [result for result in results if result.error is not None and result.config is not None]
    return [(trials[result.config["trial"]["number"]], result.error) for result in failed]


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


def _watch(trials: list[Trial]) -> Any:
    """Return the callback that shows a sweep's progress, and the best trial so far by what the sources say."""
    from ray import tune

    class Stopper(tune.Stopper):
        """Ends the sweep where a trial could not write: the others would work for nothing."""

        unwritable = False

        def __call__(self, trial_id: str, result: Any) -> bool:  # noqa: ARG002
            return False

        def stop_all(self) -> bool:
            return self.unwritable

    class Watch(tune.Callback):
        def __init__(self) -> None:
            self.progress = Progress("sweep", len(trials), "trials")
            self.stopper = Stopper()
            self.rows = 0
            self.ran: list[Ran] = []
            self._best: dict[str, tuple[float, str]] = {}

        def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:  # noqa: ARG002
            ran = _trial_of(trial)
            self.rows += result.get("rows", 0)
            patience.count(patience.Retries(result.get("retries", 0), result.get("waited", 0.0)))
            if "began" in result:
                self.ran.append(Ran(ran, result["began"], result["seconds"]))
            rule = "lodo" if "lodo" in result else "training_domain"
            if rule in result and result[rule] > self._best.get(ran.subject.key, (0.0, ""))[0]:
                self._best[ran.subject.key] = (result[rule], f"best by {rule} {100 * result[rule]:.1f} %: {ran.label}")

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
            self._done(trial)

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
            self.stopper.unwritable |= isinstance(meant_for_user(trial.get_pickled_error()), UnwritableError)
            self._done(trial)

        def _done(self, trial: Any) -> None:
            self.progress.update(note=self._best.get(_trial_of(trial).subject.key, (0.0, ""))[1])

    def _trial_of(tunes: Any) -> Trial:
        return trials[tunes.config["trial"]["number"]]

    return Watch()


def _reason(error: Exception, limit: float | None) -> str:
    """Return why a trial failed, in a line; `limit` is the number of seconds after which it was ended, if any."""
    from ray.exceptions import RayActorError

    if meant := meant_for_user(error):
        return sentence_of(meant)
    if not (isinstance(error, RayActorError) or "ActorDied" in str(error) or "ActorUnavailable" in str(error)):
        cause = getattr(error, "cause", None)
        return in_words(cause if isinstance(cause, Exception) else error)
    took_too_long = f", or it took longer than run.trial_timeout = {limit:g} s" if limit else ""
    return f"its process ended without a word: it was killed, ran out of memory{took_too_long}"


@told
def _train(config: dict[str, Any], storage: Storage, trials: list[Trial], shared: Shared, options: RunSpec) -> None:
    """Run one trial in a worker of Tune's."""
    from ray import tune

    began, trial = time.time(), trials[config["trial"]["number"]]
    device = device_of(resources_of(trial, options)["gpu"])
    arrays = Arrays(lambda s: tuple(ray.get(list(shared[s.key]))), lambda view, _: ray.get(shared[view.directory]))
    inputs = inputs_of(storage, trial, arrays, device)
    if options.trial_timeout:  # ends this process, even one that hangs in native code, and Tune takes another
        faulthandler.dump_traceback_later(options.trial_timeout, exit=True, file=2)
    try:
        evaluated = evaluate(trial, inputs.data, inputs.cells, device, inputs.lent, inputs.plain)
    finally:
        faulthandler.cancel_dump_traceback_later()
    for tested in evaluated.tested:  # first, so that no row names what is not there
        write_tested(storage, tested)
    write_rows(storage, trial.id, evaluated.rows)
    # No accuracy on what is held out leaves a trial but in its rows: nothing that chooses can see it by accident.
    took = {"began": began, "seconds": time.time() - began}
    again = patience.taken()
    took |= {"retries": again.count, "waited": again.seconds}
    tune.report({"rows": len(evaluated.rows), **took, **source_scores(evaluated.rows)})


def resources_of(trial: Trial, options: RunSpec) -> dict[str, float]:
    """Return what a trial reserves."""
    asked = options.gpus_per_trial
    gpus = float(gpu_count() > 0 and trial.samples) if asked == "auto" else asked
    return {"cpu": options.cpus_per_trial, "gpu": gpus}


def device_of(gpus: float) -> str:
    """Return the torch device of a trial that reserves so many GPUs; Ray shows them to those that reserve none too."""
    if not gpus:
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
