"""Measurement of what a recipe costs here: a part of every stage runs, and plans use what it took."""

import time
import uuid
from dataclasses import replace

from benchmark.commands.embed import embed_stage
from benchmark.commands.preparing.prepare import Notify, Run, notify_on_stderr, prepare
from benchmark.commands.report import report_stage
from benchmark.commands.stores import open_store, with_copies
from benchmark.commands.sweep import sweep_stage
from benchmark.common.ray.cluster import connected
from benchmark.common.storage.files import Storage, watched
from benchmark.recipe.recipe import Recipe
from benchmark.store.costs import START, Cost
from benchmark.store.embeddings import TEXTS
from benchmark.store.imported_embeddings import ROOT as IMPORTED
from benchmark.store.upkeep import MEASURED
from benchmark.sweep.trials import Trial
from benchmark.sweep.work import kind_of

_SECONDS = 15.0  # time in which a backbone embeds its part
_FIRST, _LEAST, _MOST = 16, 64, 2000  # numbers of images: to measure the speed, and bounds of the part
_SMALL_TRIALS = 500  # trials that run besides those of different kinds, if the recipe has more trials


def measure(recipe: Recipe, notify: Notify = notify_on_stderr, began: float | None = None) -> None:
    """Run a part of a recipe on this machine or cluster, and remember its costs on this machine.

    Of the first data set, each backbone embeds about as many images as it can in 15 seconds. A trial of each kind then
    runs with one held-out environment and, if a predictor is trained, one fold, and a report is written. Nothing of it
    stays in the store. Imported embeddings are copied and used as a whole. `began` is the time from which the start of
    a run is counted. Default: now.

    Raises:
        IcmBenchError: images or weights are not available, or another error that a run would raise.
    """
    began, storage = began or time.time(), open_store(recipe)
    folder = f"{MEASURED}/{uuid.uuid4().hex}"
    part = Storage(storage.path(folder))
    datasets = recipe.datasets if recipe.shifts() else recipe.datasets[:1]
    options = recipe.run.model_copy(update={"out": None, "loggers": ()})
    with with_copies(recipe), connected(), watched(storage):
        try:
            widths = set[int]()
            for backbone in recipe.backbones:
                changed = {"datasets": datasets, "backbones": (backbone,), "run": options}
                _measure(recipe.model_copy(update=changed), storage, part, notify, began, widths)
                began = 0.0
        finally:
            storage.delete_folder(folder)


def _measure(recipe: Recipe, storage: Storage, part: Storage, notify: Notify, began: float, widths: set[int]) -> None:
    """Measure one backbone, with trials unless some ran at its width; `began` is 0 unless the start is measured."""
    imported = recipe.is_imported
    run = prepare(recipe, storage if imported else part, notify, images=None if imported else _FIRST)
    start = Cost(START, 1, time.time() - began)
    run = _copied(run, part) if imported else run
    run.remember([start] if began else [])
    dims = {subject.facts.dim for subject in run.subjects}
    if not imported:
        speeds = [report.speed for report in embed_stage(run) if report.speed]
        each = sum(speed.seconds / speed.images for speed in speeds)  # seconds of an image of every data set
        run = prepare(recipe, part, lambda _: None, images=min(_MOST, max(_LEAST, int(_SECONDS / each))))
        embed_stage(run)
    if not dims <= widths:
        widths |= dims
        sweep_stage(run, _some)
        report_stage(run.recipe, part, run.subjects)


def _copied(run: Run, part: Storage) -> Run:
    """Copy the imported embeddings of a run."""
    views = {view.directory for subject in run.subjects for view in subject.views}
    for folder in (IMPORTED, TEXTS, *views):
        for name in run.storage.files(folder, ""):
            part.write_bytes(name, run.storage.read_bytes(name))
    return replace(run, storage=part)


def _some(trials: list[Trial]) -> list[Trial]:
    """Return the first trial of each kind, with one held-out environment, and of many trials a part besides.

    Trials of trained predictors have one fold only, as they take longest.
    """
    chosen = trials[:_SMALL_TRIALS] if len(trials) > _SMALL_TRIALS else []
    for trial in {kind_of(trial.spec): trial for trial in reversed(trials)}.values():
        spec = replace(trial.spec, space={}, lambdas=trial.spec.lambdas or ((1.0,) if trial.spec.space else ()))
        fold = 0 if spec.folds and spec.predictor.uses_training_images else None
        held_out = spec.holdouts(trial.environments)[0].name
        chosen.append(replace(trial, spec=replace(spec, held_out=held_out, fold=fold)))
    return [*{trial.id: trial for trial in chosen}.values()]
