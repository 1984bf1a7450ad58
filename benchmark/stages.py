"""The stages of a run in their order: embed, sweep, report. Each reads only what the one before wrote.

This module alone knows all rooms; it reaches `reports` last, and only to write down what the rows say.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark import search
from benchmark.backbones import BackboneFacts
from benchmark.cache import cache_dir
from benchmark.checks import check_packages, check_protocols
from benchmark.cluster import check_shared, connected, cpu_nodes, gpu_count
from benchmark.datasets.manifest import Manifest, read_manifest
from benchmark.embedding import store
from benchmark.embedding.facts import describe
from benchmark.embedding.pipeline import EmbedReport, embed
from benchmark.embedding.store import View, view_of
from benchmark.embedding.texts import embed_texts, pairs_file, text_file
from benchmark.errors import IcmBenchError
from benchmark.interventions import Intervention
from benchmark.pairs import text_pairs_of
from benchmark.recipe import BackboneSpec, Recipe, canonical_hash
from benchmark.results import failures, read_rows, read_source_scores, row_file
from benchmark.source import Source, with_unreadable
from benchmark.storage import Storage, public
from benchmark.sweep import sweep
from benchmark.trials import Trial, source_scores, trial_id, trials_of

if TYPE_CHECKING:
    from reports import ReportFiles

Say = Callable[[str], None]
Sources = list[tuple[Source, BackboneSpec]]
VIEWS_AT_ONCE = 32  # of a search's round, at one visit of an image


def say_on_stderr(line: str) -> None:
    """Print a line for the person who watches, apart from the output that a script reads."""
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Outcome:
    """What a run leaves.

    Attributes:
        embedded, reused: (image, view) pairs computed now, and found in the store.
        rejected: path -> reason of the images that cannot be read.
        trials, rows: finished trials of the recipe and their rows.
        failed: trial in words -> reason, of the trials that failed.
        report: URI of the report's folder.
        files: its files.
        text: the main tables as plain text.
    """

    embedded: int
    reused: int
    rejected: dict[str, str]
    trials: int
    rows: int
    failed: dict[str, str]
    report: str
    files: list[str]
    text: str


def run(recipe: Recipe, say: Say = say_on_stderr, began: float | None = None) -> Outcome:
    """Embed, sweep and report: what `icm-bench run` does. Finished work is found in the store and not done again.

    Args:
        recipe: what to do.
        say: takes each line for the person who watches.
        began: time of day from which the time to the first embedding counts; by default now.

    Raises:
        IcmBenchError: whatever the user can put right, in one sentence; finished work is kept.
    """
    began = began or time.time()
    storage = open_store(recipe)
    if recipe.run.out:
        Storage(recipe.run.out).check_writable()  # before hours of work, not after them
    with prepared(recipe, storage, say) as sources:
        embedded = embed_stage(recipe, storage, sources, say, began)
        sweep_stage(recipe, storage, sources, say)
    return report_stage(recipe, storage, [source for source, _ in sources], embedded)


def open_store(recipe: Recipe) -> Storage:
    """Return the recipe's store, after making sure that it can be written to."""
    storage = Storage(recipe.run.store or str(cache_dir() / "store"))
    storage.check_writable()
    return storage


@contextmanager
def prepared(recipe: Recipe, storage: Storage, say: Say, held_out: bool = True) -> Iterator[Sources]:
    """Connect to Ray for the time of the block, and give it what `prepare` returns."""
    with connected():
        yield prepare(recipe, storage, say, held_out)


def prepare(recipe: Recipe, storage: Storage, say: Say, held_out: bool = True) -> Sources:
    """Read manifests, load every backbone once, and refuse what cannot work before anything costs time.

    Returns one source for each data set and backbone, in the recipe's order. Needs a connection to Ray. Only with
    `held_out`, that is for a sweep, must the environments of a data set be such that each can be held out in turn.
    """
    if recipe.run.cpus_per_trial > (largest := cpu_nodes()[1]):
        raise IcmBenchError(
            f"run.cpus_per_trial: {recipe.run.cpus_per_trial:g} cores for a trial, but the largest node has {largest}."
        )
    if recipe.run.gpus_per_trial > (gpus := gpu_count()):
        raise IcmBenchError(f"run.gpus_per_trial: {recipe.run.gpus_per_trial:g} for a trial, but Ray sees {gpus} GPUs.")
    manifests = [read_manifest(spec) for spec in recipe.located()]
    if held_out:
        check_packages(recipe)
        for manifest in manifests:
            check_protocols(recipe, manifest)
    backbones = [spec.with_absolute_paths() for spec in recipe.backbones]
    places = [Path(place) for spec in backbones for place in (spec.folder, spec.pretrained) if place and "/" in place]
    check_shared(storage, [*(f for m in manifests if (f := m.source.local_folder)), *places])
    sources = []
    notes = [note for manifest in manifests for note in manifest.notes()]
    for spec in backbones:
        say(f"loading {spec.label}")
        facts = describe(spec)
        ranks = recipe.sweep.ranks_for(facts.dim)
        notes += facts.notes
        for manifest in manifests:
            texts = text_file(facts, manifest.prompt_names, recipe.prompts.templates_for(manifest.name))
            pairs = text_pairs_of(recipe, manifest)
            pairs_name = pairs_file(facts, pairs) if pairs else None
            sources.append((Source(manifest, facts, views_of(recipe, manifest, facts), texts, ranks, pairs_name), spec))
    for note in notes:
        say(f"note: {note}")
    return sources


def views_of(recipe: Recipe, manifest: Manifest, facts: BackboneFacts) -> tuple[View, ...]:
    """Return the views of a recipe for one data set and backbone, the original first."""
    return views_for(recipe, manifest, facts, [None, *recipe.kinds_for(manifest.name)])


def views_for(
    recipe: Recipe, manifest: Manifest, facts: BackboneFacts, kinds: Iterable[Intervention | None]
) -> tuple[View, ...]:
    """Return the views that some kinds of intervention make; None is the original."""
    images = len(store.distinct(manifest.table["image_id"].to_pylist()))
    return tuple(
        view_of(
            manifest.fingerprint,
            images,
            facts.identity(),
            kind,
            recipe.interventions.seed,
            at_source=recipe.interventions.apply_at == "source",
            draft=recipe.images.jpeg_draft,
        )
        for kind in kinds
    )


def embed_stage(
    recipe: Recipe, storage: Storage, sources: Sources, say: Say, began: float | None = None
) -> list[EmbedReport]:
    """Embed what the store lacks. Needs a connection to Ray. `began`: see `run`."""
    reports: list[EmbedReport] = []
    for source, spec in sources:
        first = None if any(report.speed for report in reports) else began  # the others began when it had ended
        report = _embed_source(recipe, storage, source, spec, source.views, say, first)
        for path, reason in report.rejected.items():
            say(f"skipped: {source.manifest.place(path)} ({reason})")
        if report.rejected:
            say(f"skipped {len(report.rejected)} of {report.images} images of {source.manifest.name}")
        reports.append(report)
    return reports


def _embed_source(
    recipe: Recipe,
    storage: Storage,
    source: Source,
    spec: BackboneSpec,
    views: Sequence[View],
    say: Say,
    began: float | None = None,
) -> EmbedReport:
    report = embed(storage, source.manifest, spec, source.facts, list(views), recipe.run, began=began)
    name = f"{source.manifest.name} with {source.facts.label}"
    say(f"{name}: {report.embedded} views embedded, {report.reused} reused")
    if report.speed:
        say(f"{name}: {report.speed.text()}")
    return report


def sweep_stage(recipe: Recipe, storage: Storage, sources: Sources, say: Say) -> None:
    """Run the trials that have no rows yet, of the grid and then of the search. Needs Ray and embedded views.

    Raises:
        IcmBenchError: embeddings are missing, or the sweep was ended before all trials were tried.
    """
    _have_embeddings(recipe, storage, sources)
    bare = [with_unreadable(storage, source) for source, _ in sources]
    trials = trials_of(recipe)
    ids = [trial_id(recipe, bare, trial) for trial in trials]
    studies = search.studies_of(recipe, bare)
    planned = len(ids) + search.trial_count(recipe.sweep.search, studies)
    _write_record(recipe, storage, bare, ids, planned)
    if trials:
        there = sum(storage.exists(row_file(name)) for name in ids)
        say(f"sweep: {len(trials)} trials, {there} of them done before")
        sweep(storage, recipe, bare, trials)
    if studies:
        _search_stage(recipe, storage, sources, bare, studies, ids, say)


def _search_stage(
    recipe: Recipe,
    storage: Storage,
    sources: Sources,
    bare: list[Source],
    studies: list[search.Study],
    ids: list[str],
    say: Say,
) -> None:
    """Run a recipe's search round by round: all views of a round are embedded, then all its trials run.

    Args:
        recipe, storage, sources: as for `sweep_stage`.
        bare: the sources, with what is known of unreadable images.
        studies: of the recipe.
        ids: of the grid's trials; those of the search are added for the report.
        say: takes each line for the person who watches.
    """
    spec = recipe.sweep.search
    assert spec is not None
    suggesters = [search.suggester(spec, study.space) for study in studies]
    kinds, rounds = recipe.interventions.by_label(), search.rounds_of(spec)
    planned = len(ids) + search.trial_count(spec, studies)
    for number, count in enumerate(rounds, start=1):
        points = [suggester.ask(count) for suggester in suggesters]
        changed: dict[int, dict[str, Intervention]] = {}
        for study, own in zip(studies, points, strict=True):
            for point in own:
                new = {kind.label: kind for kind in search.changed_kinds(point, kinds).values()}
                changed.setdefault(study.trial.source, {}).update(new)
        seen = _with_views(recipe, storage, sources, bare, changed, say)
        trials = [
            [study.trials(bare[study.trial.source], point, kinds) for point in own]
            for study, own in zip(studies, points, strict=True)
        ]
        by_id = {trial_id(recipe, seen, t): t for own in trials for of_point in own for t in of_point}
        ids += [name for name in by_id if name not in ids]
        _write_record(recipe, storage, bare, ids, len(ids) if number == len(rounds) else planned)
        there = sum(storage.exists(row_file(name)) for name in by_id)
        say(f"search: round {number} of {len(rounds)}: {len(by_id)} trials, {there} of them done before")
        sweep(storage, recipe, seen, list(by_id.values()))
        for suggester, tried in zip(suggesters, trials, strict=True):
            suggester.tell([_score_of(recipe, storage, seen, of_point) for of_point in tried])


def _with_views(
    recipe: Recipe,
    storage: Storage,
    sources: Sources,
    bare: list[Source],
    changed: Mapping[int, Mapping[str, Intervention]],
    say: Say,
) -> list[Source]:
    """Embed further kinds of intervention (position of a source -> label -> kind) and return the sources with them."""
    seen = list(bare)
    for position, by_label in changed.items():
        source, spec = bare[position], sources[position][1]
        known = {view.label for view in source.views}
        new = [kind for label, kind in by_label.items() if label not in known]
        views = views_for(recipe, source.manifest, source.facts, new)
        for first in range(0, len(views), VIEWS_AT_ONCE):
            group = views[first : first + VIEWS_AT_ONCE]
            _embed_source(recipe, storage, source, spec, (source.views[0], *group), say)
        seen[position] = replace(source, views=(*source.views, *views))
    return seen


def _score_of(recipe: Recipe, storage: Storage, sources: list[Source], trials: list[Trial]) -> float | None:
    """Return the score of a point over its seeds, by the rows' columns on source environments alone.

    Raises:
        IcmBenchError: a finished trial has no score under the rule that is searched by.
    """
    spec = recipe.sweep.search
    assert spec is not None
    scores = []
    for trial in trials:
        rows = read_source_scores(storage, [trial_id(recipe, sources, trial)])
        found = source_scores(rows).get(spec.rule)
        if rows and found is None:
            raise IcmBenchError(
                f"sweep.search.rule: {trial.label(sources[trial.source])} has no score under '{spec.rule}'; leaving a "
                f"source out takes two or more: use rule 'training_domain'."
            )
        scores.append(found)
    return search.mean_score(scores)


def _write_record(recipe: Recipe, storage: Storage, sources: list[Source], ids: list[str], planned: int) -> None:
    """Write down which trials a run has, and how many it will have: what a report is made of."""
    content = recipe.model_dump(mode="json", exclude={"run"})
    for dataset in content["datasets"]:
        dataset["root"] = dataset["root"] and public(dataset["root"])
    record = {"name": recipe.name, "recipe": content, "recipe_hash": recipe.hash(), "trials": ids, "planned": planned}
    storage.write_bytes(_record_file(recipe, sources), json.dumps(record, indent=2, sort_keys=True).encode())


def report_stage(
    recipe: Recipe,
    storage: Storage,
    sources: list[Source] | None = None,
    embedded: list[EmbedReport] | None = None,
) -> Outcome:
    """Write the report from whatever rows of the recipe exist. Needs no Ray, no images and no backbone.

    Without `sources`, the store must hold results of the recipe on one state of data and weights only.

    Raises:
        IcmBenchError: the recipe was never swept with this store, or the report cannot be written.
    """
    from reports import write_report

    records = [_record_file(recipe, sources)] if sources else storage.files(_record_folder(recipe), ".json")
    if len(records) > 1:
        raise IcmBenchError(
            f"{storage.path('')} holds results of the recipe '{recipe.name}' on {len(records)} states of data or "
            f"weights; `icm-bench run` with the data at hand reports on the right one."
        )
    if not records:
        raise IcmBenchError(
            f"{storage.path('')} holds no results of the recipe '{recipe.name}' as it stands; run it first: "
            f"icm-bench run RECIPE."
        )
    record = json.loads(storage.read_bytes(records[0]))
    trials, planned = record["trials"], record.get("planned", len(record["trials"]))
    rows = read_rows(storage, trials)
    failed = dict(failures(storage, trials).values())
    if failed and not len(rows):
        raise IcmBenchError(failure_words(failed, len(trials)))
    place = Storage(recipe.run.out) if recipe.run.out else storage
    folder = "" if recipe.run.out else f"reports/{recipe.name}-{recipe.hash()[:8]}-{Path(records[0]).stem[:8]}"
    finished = int(rows["trial_id"].nunique())
    report = write_report(rows, place, folder, recipe.name, planned, finished, failed)
    embedded = embedded or []
    return Outcome(
        embedded=sum(e.embedded for e in embedded),
        reused=sum(e.reused for e in embedded),
        rejected={path: reason for e in embedded for path, reason in e.rejected.items()},
        trials=finished,
        rows=len(rows),
        failed=failed,
        report=place.path(folder).rstrip("/"),
        files=report.files,
        text=report.text,
    )


def failure_words(failed: dict[str, str], trials: int) -> str:
    """Return a sentence on the trials that failed."""
    label, reason = next(iter(failed.items()))
    return (
        f"{len(failed)} of {trials} trials failed, the first ({label}) with: {reason.rstrip('.')}; the rows of the "
        f"others are kept, running again tries only the failed ones, and the store's folder 'failed' has tracebacks."
    )


def export_stage(
    recipe: Recipe,
    storage: Storage,
    sources: Sources,
    given: dict[str, Any],
    rank: int,
    folder: Path,
) -> dict[str, Any]:
    """Fit one projection of a recipe, write it into `folder`, and return its provenance. Needs a connection to Ray.

    `given` is what the command line chose: see `fitted.choose`.

    Raises:
        IcmBenchError: the choice is ambiguous or impossible, embeddings are missing, or the folder is not writable.
    """
    from benchmark import fitted  # scipy and torch take seconds to import, which no other stage should wait for
    from benchmark.export import write_projection

    choice = fitted.choose(recipe, [source for source, _ in sources], given)
    _check_rank(rank, choice.source)
    _have_embeddings(recipe, storage, [(s, spec) for s, spec in sources if s is choice.source])
    fitting = fitted.Fitting(storage, choice.source, (choice.seed,))
    facts = fitted.provenance(recipe, choice, fitting.moments(choice))
    write_projection(folder, fitting.basis(choice).vectors[:, :rank], facts)
    return {"folder": str(folder), "rank": rank, "dim": choice.source.facts.dim, **facts}


def diagnose_stage(
    recipe: Recipe, storage: Storage, sources: Sources, given: dict[str, Any], rank: int | None
) -> tuple[dict[str, Any], "ReportFiles"]:
    """Look at one projection of a recipe; return what was found, and what was written. Needs a connection to Ray.

    Where the recipe has several backbones, the same projection of each is compared with that of the chosen one.

    Raises:
        IcmBenchError: as `export_stage`.
    """
    from benchmark import fitted
    from reports import write_diagnostics

    choice = fitted.choose(recipe, [source for source, _ in sources], given)
    source = choice.source
    rank = source.ranks[len(source.ranks) // 2] if rank is None else rank
    _check_rank(rank, source)
    own = [(s, spec) for s, spec in sources if s.manifest.name == source.manifest.name and s.facts.dim >= rank]
    _have_embeddings(recipe, storage, own)
    fitting = fitted.Fitting(storage, source, recipe.sweep.seeds)
    found = fitted.diagnose(fitting, recipe, choice, rank)
    found |= {"dataset": source.manifest.name, "backbone": source.facts.label}
    found |= {"random_weights": source.facts.random_weights, "normalize": choice.normalize, "seed": choice.seed}
    if len(own) > 1:
        all_of_them = {
            s.facts.label: (
                fitting if s is source else fitted.Fitting(storage, s, (choice.seed,)),
                replace(choice, source=s),
            )
            for s, _ in own
        }
        found["backbones"] = fitted.backbone_angles(all_of_them, rank)
    place = Storage(recipe.run.out) if recipe.run.out else storage
    content = [source.manifest.fingerprint, source.facts.identity(), choice.label, choice.normalize, choice.seed]
    name = canonical_hash([*content, list(choice.without), rank])
    folder = "" if recipe.run.out else f"reports/{recipe.name}-{recipe.hash()[:8]}-diagnostics-{name[:8]}"
    return found, write_diagnostics(found, place, folder)


def _check_rank(rank: int, source: Source) -> None:
    if not 1 <= rank <= source.facts.dim:
        raise IcmBenchError(f"--rank: {rank} is not between 1 and the embedding width D = {source.facts.dim}.")


def _have_embeddings(recipe: Recipe, storage: Storage, sources: Sources) -> None:
    """Check that all views are embedded, and embed the texts where that is still to be done."""
    for source, _ in sources:
        _check_embedded(storage, source.manifest, source.views)
    for source, spec in sources:
        pairs = text_pairs_of(recipe, source.manifest)
        templates = recipe.prompts.templates_for(source.manifest.name)
        embed_texts(storage, spec, source.facts, [source.manifest.prompt_names], templates, pairs)


def _record_folder(recipe: Recipe) -> str:
    return f"runs/{recipe.hash()[:32]}"


def _record_file(recipe: Recipe, sources: list[Source]) -> str:
    """Return the file that lists a run's trials: one for each state of the data and weights that a recipe names."""
    inputs = [[s.manifest.fingerprint, s.facts.fingerprint, s.facts.architecture, s.text_pairs] for s in sources]
    return f"{_record_folder(recipe)}/{canonical_hash(inputs)[:32]}.json"


def _check_embedded(storage: Storage, manifest: Manifest, views: tuple[View, ...]) -> None:
    for view in views:
        chunks = store.chunk_count(view.images)
        if lacking := chunks - len(store.parts(storage, view.directory)):
            raise IcmBenchError(
                f"{lacking} of {chunks} parts of {manifest.name} have no embeddings of the view '{view.label}' in "
                f"{storage.path('')}; run `icm-bench embed` with this recipe first."
            )
