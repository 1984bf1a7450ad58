"""The search of a sweep, round by round: embed what is new, run the trials, look at scores."""

from collections.abc import Mapping, Sequence

from benchmark.commands.embed import embed_views
from benchmark.commands.preparing.prepare import Run
from benchmark.commands.preparing.records import write_record
from benchmark.method.interventions import Intervention
from benchmark.recipe.specs import SearchSpec
from benchmark.store.rows import unfinished
from benchmark.sweep.search import Search, Study, rounds_of, trial_count
from benchmark.sweep.subject import Subject
from benchmark.sweep.tune import sweep

VIEWS_AT_ONCE = 32  # of a round, at one visit of an image


def search_stage(run: Run, spec: SearchSpec, studies: Sequence[Study], ids: list[str]) -> None:
    """Run a recipe's search: all views of a round are embedded, then all its trials run.

    Args:
        run: whose search it is. Needs the views of the grid; in a block of `connected`.
        spec: how is searched.
        studies: what is searched.
        ids: of the grid's trials; those of the search join them in the record of the run.

    Raises:
        IcmBenchError: a finished trial has no score under the rule, or the sweep was ended early.
    """
    recipe, storage = run.recipe, run.storage
    search, rounds = Search(spec, studies), rounds_of(spec)
    planned = len(ids) + trial_count(spec, studies)
    known = {study.trial.subject.key: study.trial.subject for study in studies}
    for number, count in enumerate(rounds, start=1):
        trials = search.trials(_with_kinds(run, known, search.ask(count)))
        ids += [trial.id for trial in trials if trial.id not in ids]
        write_record(recipe, storage, run.subjects, ids, len(ids) if number == len(rounds) else planned)
        there = len(trials) - len(unfinished(storage, [trial.id for trial in trials]))
        run.notify(f"search: round {number} of {len(rounds)}: {len(trials)} trials, {there} of them done before")
        sweep(storage, trials, recipe.run, recipe.name, run.remember)
        search.tell(storage)


def _with_kinds(
    run: Run, subjects: Mapping[str, Subject], kinds: Mapping[str, Sequence[Intervention]]
) -> dict[str, Subject]:
    """Embed further kinds of intervention (by key of a subject), and return the subjects with their views."""
    changed = {key: subject.with_kinds(kinds[key]) for key, subject in subjects.items()}
    for key, subject in changed.items():
        original, new = subject.views[0], subject.views[len(subjects[key].views) :]
        for first in range(0, len(new), VIEWS_AT_ONCE):
            embed_views(run, subject, (original, *new[first : first + VIEWS_AT_ONCE]))
    return changed
