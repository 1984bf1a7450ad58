"""A recipe's search, round by round: embed what is new, run the trials, look at scores."""

from collections.abc import Mapping
from dataclasses import replace

from benchmark.commands.embed import VIEWS_AT_ONCE, _embed_source
from benchmark.commands.prepare import Notify, Sources, views_for
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage import Storage
from benchmark.method.evaluation.selection import source_scores
from benchmark.method.interventions import Intervention
from benchmark.recipe.recipe import Recipe
from benchmark.store.rows import read_source_scores, row_file
from benchmark.sweep import search, suggest
from benchmark.sweep.identity import trial_id
from benchmark.sweep.records import _write_record
from benchmark.sweep.subject import Subject
from benchmark.sweep.trials import Trial
from benchmark.sweep.tune import sweep


def _search_stage(
    recipe: Recipe,
    storage: Storage,
    subjects: Sources,
    bare: list[Subject],
    studies: list[search.Study],
    ids: list[str],
    notify: Notify,
) -> None:
    """Run a recipe's search round by round: all views of a round are embedded, then all its trials run.

    Args:
        recipe, storage, sources: as for `sweep_stage`.
        bare: the sources, with what is known of unreadable images.
        studies: of the recipe.
        ids: of the grid's trials; those of the search are added for the report.
        notify: takes each line for the person who watches.
    """
    spec = recipe.sweep.search
    assert spec is not None
    suggesters = [suggest.suggester(spec, study.space) for study in studies]
    kinds, rounds = recipe.interventions.by_label(), search.rounds_of(spec)
    planned = len(ids) + search.trial_count(spec, studies)
    for number, count in enumerate(rounds, start=1):
        points = [suggester.ask(count) for suggester in suggesters]
        changed: dict[int, dict[str, Intervention]] = {}
        for study, own in zip(studies, points, strict=True):
            for point in own:
                new = {kind.label: kind for kind in search.changed_kinds(point, kinds).values()}
                changed.setdefault(study.trial.subject, {}).update(new)
        seen = _with_views(recipe, storage, subjects, bare, changed, notify)
        trials = [
            [study.trials(bare[study.trial.subject], point, kinds) for point in own]
            for study, own in zip(studies, points, strict=True)
        ]
        by_id = {trial_id(recipe, seen, t): t for own in trials for of_point in own for t in of_point}
        ids += [name for name in by_id if name not in ids]
        _write_record(recipe, storage, bare, ids, len(ids) if number == len(rounds) else planned)
        there = sum(storage.exists(row_file(name)) for name in by_id)
        notify(f"search: round {number} of {len(rounds)}: {len(by_id)} trials, {there} of them done before")
        sweep(storage, recipe, seen, list(by_id.values()))
        for suggester, tried in zip(suggesters, trials, strict=True):
            suggester.tell([_score_of(recipe, storage, seen, of_point) for of_point in tried])


def _with_views(
    recipe: Recipe,
    storage: Storage,
    subjects: Sources,
    bare: list[Subject],
    changed: Mapping[int, Mapping[str, Intervention]],
    notify: Notify,
) -> list[Subject]:
    """Embed further kinds of intervention (position of a source -> label -> kind) and return the sources with them."""
    seen = list(bare)
    for position, by_label in changed.items():
        subject, spec = bare[position], subjects[position][1]
        known = {view.label for view in subject.views}
        new = [kind for label, kind in by_label.items() if label not in known]
        views = views_for(recipe, subject.manifest, subject.facts, new)
        for first in range(0, len(views), VIEWS_AT_ONCE):
            group = views[first : first + VIEWS_AT_ONCE]
            _embed_source(recipe, storage, subject, spec, (subject.views[0], *group), notify)
        seen[position] = replace(subject, views=(*subject.views, *views))
    return seen


def _score_of(recipe: Recipe, storage: Storage, subjects: list[Subject], trials: list[Trial]) -> float | None:
    """Return the score of a point over its seeds, by the rows' columns on source environments alone.

    Raises:
        IcmBenchError: a finished trial has no score under the rule that is searched by.
    """
    spec = recipe.sweep.search
    assert spec is not None
    scores = []
    for trial in trials:
        rows = read_source_scores(storage, [trial_id(recipe, subjects, trial)])
        found = source_scores(rows).get(spec.rule)
        if rows and found is None:
            raise IcmBenchError(
                f"sweep.search.rule: {trial.label(subjects[trial.subject])} has no score under '{spec.rule}'; leaving "
                f"a source out takes two or more: use rule 'training_domain'."
            )
        scores.append(found)
    return search.mean_score(scores)
