"""`icm-bench sweep`: all settings on the stored embeddings."""

from collections.abc import Collection, Sequence

from benchmark.commands.embed import on_sound_embeddings
from benchmark.commands.preparing.left_out import left_out
from benchmark.commands.preparing.prepare import Run, have_embeddings
from benchmark.commands.preparing.records import write_record
from benchmark.commands.search import search_stage
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.store import embeddings as store
from benchmark.store.images import write_images
from benchmark.store.rows import add_to_index, finished, read_rows, unfinished
from benchmark.sweep.identity import code_version
from benchmark.sweep.images import list_of
from benchmark.sweep.search import studies_of, trial_count
from benchmark.sweep.trials import Trial, trials_of
from benchmark.sweep.tune import sweep


def sweep_stage(run: Run) -> None:
    """Run the trials that have no rows yet, of the grid and then of the search. Needs embedded views.

    In a block of `connected`.

    Raises:
        IcmBenchError: embeddings are missing, or the sweep was ended before all trials were tried.
    """
    on_sound_embeddings(run, lambda: _sweep(run))


def _nothing_possible(run: Run) -> str:
    reasons = " ".join(left_out(run.recipe, run.subjects))
    return f"The sweep has no trial. {reasons} Add a predictor that learns from images, such as linear_probe."


def _sweep(run: Run) -> None:
    have_embeddings(run, run.subjects)
    recipe, storage = run.recipe, run.storage
    subjects = [subject.with_unreadable(storage) for subject in run.subjects]
    every = trials_of(recipe, subjects)
    if not every:
        raise IcmBenchError(_nothing_possible(run))
    trials = [trial for trial in every if not trial.spec.space]
    studies = studies_of([trial for trial in every if trial.spec.space])
    ids = [trial.id for trial in trials]
    before = write_record(recipe, storage, run.subjects, ids, len(ids) + trial_count(recipe.sweep.search, studies))
    if obsolete := {*before} - {*ids}:
        _say_what_is_obsolete(run, obsolete & finished(storage))
    _write_images(storage, every)
    if trials:
        there = len(ids) - len(unfinished(storage, ids))
        run.notify(f"sweep: {len(trials)} trials, {there} of them done before")
        sweep(storage, trials, recipe.run, recipe.name, run.remember)
        add_to_index(storage, ids)
    if recipe.sweep.search and studies:
        search_stage(run, recipe.sweep.search, studies, ids)


def _say_what_is_obsolete(run: Run, trials: Collection[str]) -> None:
    """Say why trials that an earlier run of the recipe has rows of are run anew, where other code made these."""
    try:
        codes = [*read_rows(run.storage, sorted(trials)[:1], ["code_version"])["code_version"]]
    except IcmBenchError:
        codes = ["of an earlier version"]
    if {*codes} - {code_version()}:
        run.notify(
            f"note: the rows of {len(trials)} trials of this recipe were made by icm-bench {codes[0]}; the code of "
            f"this one ({code_version()}) differs, so these trials are run anew."
        )


def _write_images(storage: Storage, trials: Sequence[Trial]) -> None:
    """Write the lists of images in which rows of these trials name positions."""
    for trial in {trial.images: trial for trial in trials}.values():
        subjects = (trial.subject, *trial.variants)
        unreadable = {s.manifest.name: store.rejected(storage, s.views) for s in subjects}
        first, *others = (subject.manifest for subject in subjects)
        write_images(storage, trial.images, list_of(first, others, unreadable))
