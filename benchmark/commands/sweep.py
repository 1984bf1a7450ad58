"""`icm-bench sweep`: all settings on the stored embeddings."""

from benchmark.commands.prepare import Notify, Sources, _have_embeddings
from benchmark.commands.search import _search_stage
from benchmark.common.storage import Storage
from benchmark.recipe.recipe import Recipe
from benchmark.store.rows import row_file
from benchmark.sweep import search
from benchmark.sweep.identity import trial_id
from benchmark.sweep.records import _write_record
from benchmark.sweep.subject import with_unreadable
from benchmark.sweep.trials import trials_of
from benchmark.sweep.tune import sweep


def sweep_stage(recipe: Recipe, storage: Storage, subjects: Sources, notify: Notify) -> None:
    """Run the trials that have no rows yet, of the grid and then of the search. Needs Ray and embedded views.

    Raises:
        IcmBenchError: embeddings are missing, or the sweep was ended before all trials were tried.
    """
    _have_embeddings(recipe, storage, subjects)
    bare = [with_unreadable(storage, subject) for subject, _ in subjects]
    trials = trials_of(recipe)
    ids = [trial_id(recipe, bare, trial) for trial in trials]
    studies = search.studies_of(recipe, bare)
    planned = len(ids) + search.trial_count(recipe.sweep.search, studies)
    _write_record(recipe, storage, bare, ids, planned)
    if trials:
        there = sum(storage.exists(row_file(name)) for name in ids)
        notify(f"sweep: {len(trials)} trials, {there} of them done before")
        sweep(storage, recipe, bare, trials)
    if studies:
        _search_stage(recipe, storage, subjects, bare, studies, ids, notify)
