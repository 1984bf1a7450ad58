"""`icm-bench sweep`: fits and evaluates all settings on stored embeddings; a search runs in rounds."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from benchmark.commands.embed import embed_views, on_sound_embeddings
from benchmark.commands.preparing.checks import left_out
from benchmark.commands.preparing.prepare import Run, have_embeddings
from benchmark.commands.preparing.records import record_of
from benchmark.common.errors import IcmBenchError
from benchmark.common.plain import canonical_hash
from benchmark.common.secrets import hidden_in, public
from benchmark.recipe.specs import SearchSpec
from benchmark.store import embeddings as store
from benchmark.store.records import RunRecord, read_record, write_record
from benchmark.store.row_index import states
from benchmark.store.rows import finished, read_rows, unfinished
from benchmark.store.tested import IMAGES, write_images
from benchmark.store.tested import ROOT as TESTED
from benchmark.sweep.identity import code_version
from benchmark.sweep.search import Search, Study, rounds_of, studies_of, trial_count
from benchmark.sweep.subject import Subject, list_of
from benchmark.sweep.trials import Trial, trials_of
from benchmark.sweep.tune import sweep

VIEWS_AT_ONCE = 32  # number of views in a search round that are made each time an image is decoded


def sweep_stage(run: Run, chosen: Callable[[list[Trial]], list[Trial]] | None = None) -> None:
    """Run the trials that have no rows yet, of the grid and then of the search. Needs embedded views.

    Call it in a block of `benchmark.common.ray.cluster.connected`.

    Args:
        run: run with the subjects.
        chosen: function that returns the trials to run, from all trials of the recipe. Default None: all of them.

    Raises:
        IcmBenchError: embeddings are missing, or the sweep was ended before all trials were tried.
    """
    on_sound_embeddings(run, lambda: _sweep(run, chosen))


def _sweep(run: Run, chosen: Callable[[list[Trial]], list[Trial]] | None) -> None:
    have_embeddings(run, run.subjects)
    recipe, storage, file = run.recipe, run.storage, record_of(run.recipe, run.subjects)
    subjects = [subject.with_unreadable(storage) for subject in run.subjects]
    record = read_record(storage, file) if chosen is None and storage.exists(file) else None
    if record and record.done and record.done == _state(run, subjects, record.trials):
        run.notify(f"sweep: {len(record.trials)} trials, {len(record.trials)} of them done before")
        return
    every = trials_of(recipe, subjects)
    every = chosen(every) if chosen else every
    if not every:
        reasons = " ".join(left_out(recipe, run.subjects))
        raise IcmBenchError(f"The sweep has no trial. {reasons} Add a predictor of images, such as linear_probe.")
    trials = [trial for trial in every if not trial.spec.space]
    studies = studies_of([trial for trial in every if trial.spec.space])
    ids = [trial.id for trial in trials]
    before = _write_record(run, ids, len(ids) + trial_count(recipe.sweep.search, studies))
    if (gone := {*before} - {*ids}) and (obsolete := sorted(gone & finished(storage))):
        _note_other_code(run, obsolete)
    for trial in {trial.images: trial for trial in every}.values():  # rows name images by positions in these lists
        seen = (trial.subject, *trial.variants)
        unreadable = {s.manifest.name: store.rejected(storage, s.views) for s in seen}
        first, *others = (subject.manifest for subject in seen)
        write_images(storage, trial.images, list_of(first, others, unreadable))
    if trials:
        missing = set(unfinished(storage, ids))
        run.notify(f"sweep: {len(trials)} trials, {len(ids) - len(missing)} of them done before")
        left = [trial for trial in trials if trial.id in missing]
        sweep(storage, left, recipe.run, recipe.name, run.remember)
    if recipe.sweep.search and studies:
        _search(run, recipe.sweep.search, studies, ids)
    elif chosen is None and finished(storage) >= {*ids}:
        written = replace(read_record(storage, file), imported={}, done=_state(run, subjects, ids))
        write_record(storage, file, written)


def _state(run: Run, subjects: Sequence[Subject], ids: Sequence[str]) -> str:
    """Return a hash that is equal as long as a recipe has the trials `ids`, and their files are unchanged.

    Ids of trials with the first seed stand for all: they are hashes of all that trials depend on, but for the seed.
    """
    recipe, there = run.recipe, states(run.storage)
    sweep = recipe.sweep.model_copy(update={"seeds": recipe.sweep.seeds[:1]})
    first = [trial.id for trial in trials_of(recipe.model_copy(update={"sweep": sweep}), subjects)]
    lists = [info for root in (TESTED, IMAGES) for info in run.storage.file_infos(root, ".parquet")]
    of_lists = [(info.name, info.bytes, info.modified_ns) for info in lists]
    return canonical_hash([first, [(name, there.get(name)) for name in ids], of_lists])


def _note_other_code(run: Run, obsolete: Sequence[str]) -> None:
    """Say so if an earlier run has rows of trials that this run lacks, because the code, part of their ids, changed."""
    try:
        codes = [*read_rows(run.storage, obsolete[:1], ["code_version"])["code_version"]]
    except IcmBenchError:
        codes = ["of an earlier version"]
    if {*codes} - {code_version()}:
        run.notify(
            f"note: the rows of {len(obsolete)} trials of this recipe were made by icm-bench {codes[0]}; the code of "
            f"this one ({code_version()}) differs, so these trials are run anew."
        )


def _write_record(run: Run, ids: list[str], planned: int) -> list[str]:
    """Write the record of a run: ids and planned number of its trials. Return the ids in an earlier record."""
    recipe, subjects = run.recipe, run.subjects
    content = recipe.model_dump(mode="json", exclude={"run"})
    for dataset in content["datasets"]:
        dataset["root"] = dataset["root"] and public(dataset["root"])
    left = left_out(recipe, subjects)
    record = RunRecord(recipe.name, hidden_in(content), recipe.hash(), ids, planned, left_out=left)
    return write_record(run.storage, record_of(recipe, subjects), record)


def _search(run: Run, spec: SearchSpec, studies: Sequence[Study], ids: list[str]) -> None:
    """Run a recipe's search. Each round embeds its views, then runs its trials and appends their ids to `ids`."""
    recipe, storage = run.recipe, run.storage
    search, rounds = Search(spec, studies), rounds_of(spec)
    planned = len(ids) + trial_count(spec, studies)
    known = {study.trial.subject.key: study.trial.subject for study in studies}
    for number, count in enumerate(rounds, start=1):
        kinds = search.ask(count)
        changed = {key: subject.with_kinds(kinds[key]) for key, subject in known.items()}
        for key, subject in changed.items():
            original, new = subject.views[0], subject.views[len(known[key].views) :]
            for first in range(0, len(new), VIEWS_AT_ONCE):
                embed_views(run, subject, (original, *new[first : first + VIEWS_AT_ONCE]))
        trials = search.trials(changed)
        ids += [trial.id for trial in trials if trial.id not in ids]
        _write_record(run, ids, len(ids) if number == len(rounds) else planned)
        there = len(trials) - len(unfinished(storage, [trial.id for trial in trials]))
        run.notify(f"search: round {number} of {len(rounds)}: {len(trials)} trials, {there} of them done before")
        sweep(storage, trials, recipe.run, recipe.name, run.remember)
        search.tell(storage)
