"""Preparation of a run: store, Ray, checks, and its subjects. A *subject* is one data set under one backbone."""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from inspect import getattr_static
from typing import Any

from benchmark.backbones.describe import describe, is_cached
from benchmark.backbones.facts import BackboneFacts
from benchmark.backbones.models import EncoderModel, model_class
from benchmark.backbones.spec import BackboneSpec
from benchmark.commands.cluster.doctor import check_nodes
from benchmark.commands.preparing import checks, imported_sets
from benchmark.commands.preparing.precision import on_gpus, resolved
from benchmark.commands.preparing.text_pairs import text_pairs_of
from benchmark.commands.stores import open_store, with_copies
from benchmark.common.errors import IcmBenchError
from benchmark.common.ray.autoscaler import available_gpus
from benchmark.common.ray.cluster import connect, connected, cpu_nodes
from benchmark.common.storage.files import Storage, watched
from benchmark.common.terminal.escaping import one_line
from benchmark.common.terminal.progress import tell
from benchmark.datasets.manifest import Manifest
from benchmark.recipe.recipe import Recipe
from benchmark.store import embeddings as store
from benchmark.store.costs import Cost, on_this_machine, remember
from benchmark.store.embeddings import have_texts, pairs_file, text_file
from benchmark.sweep.subject import Subject

Notify = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """A recipe with its data, backbones and store: the input of the commands."""

    recipe: Recipe
    storage: Storage  # store of embeddings and rows
    subjects: tuple[Subject, ...]  # data sets under backbones: for each backbone, all data sets
    notify: Notify  # function that receives each message
    # Key of a subject -> subject of its environments without labels: same backbone, original images only.
    unlabelled: Mapping[str, Subject] = field(default_factory=dict)
    name: str = field(default_factory=lambda: uuid.uuid4().hex)  # id of this run in measured costs

    @property
    def embedded(self) -> tuple[Subject, ...]:
        """All subjects to embed: `subjects`, then the environments in `unlabelled`."""
        return *self.subjects, *self.unlabelled.values()

    def remember(self, costs: Sequence[Cost]) -> None:
        """Store measured costs for plans, in the store and on this machine."""
        remember((self.storage, on_this_machine()), [replace(cost, run=self.name) for cost in costs])


def notify_on_stderr(line: str) -> None:
    """Print a message on standard error."""
    tell(one_line(line))


@contextmanager
def prepared(recipe: Recipe, notify: Notify = notify_on_stderr, held_out: bool = True) -> Iterator[Run]:
    """Open the recipe's store, and yield the run that `prepare` returns, in a block of `connected`."""
    storage = open_store(recipe)
    with with_copies(recipe), connected(), watched(storage):
        yield prepare(recipe, storage, notify, held_out)


def prepare(recipe: Recipe, storage: Storage, notify: Notify, held_out: bool = True, images: int | None = None) -> Run:
    """Read manifests, load every backbone once, and check everything before work that takes time.

    Call it in a block of `connected`. `held_out` adds the checks of a sweep, such as the classes of each environment.
    With `images`, subjects have at most so many images of each data set, see `Manifest.part`. Default None: all images.
    """
    _check_resources(recipe)
    backbones = [spec.with_absolute_paths() for spec in recipe.backbones]
    if not recipe.is_imported:
        _check_backbones(recipe, backbones)
    if not recipe.is_imported and not all(map(is_cached, backbones)):
        connect()  # Ray starts while the first backbone loads
    manifests = imported_sets.manifests_of(recipe, storage)
    for manifest in manifests:
        checks.check_clusters(recipe, manifest.name, manifest.table.num_rows)
        if recipe.interventions.text and manifest.reader.labelled and not recipe.is_imported:
            text_pairs_of(recipe, manifest)
    if held_out:
        checks.check_packages(recipe)
        for manifest in manifests:
            checks.check_protocols(recipe, manifest)
        checks.check_lenders(recipe, manifests)
    check_nodes(storage, manifests, () if recipe.is_imported else backbones, notify)
    notes = [note for manifest in manifests for note in manifest.notes()]
    manifests = [manifest.part(images) for manifest in manifests] if images else manifests
    if recipe.is_imported:
        subjects = [
            imported_sets.imported_subject(recipe, storage, manifest, spec)
            for spec in backbones
            for manifest in manifests
        ]
        notes += imported_sets.texts_note(recipe, subjects)
    else:
        facts = [_described(recipe, spec, notify) for spec in backbones]
        notes += [note for one in facts for note in one.notes]
        recipe = resolved(recipe, storage, manifests, facts, notes)
        subjects = _embedded_subjects(recipe, manifests, facts)
    notes += [*checks.left_out(recipe, subjects), *checks.nameless(recipe)] if held_out else ()
    for note in notes:
        notify(f"note: {note}")
    specs = {spec.name: spec.unlabelled for spec in recipe.located()}
    others = {name: imported_sets.manifest_of(recipe, spec) for name, spec in specs.items() if spec}
    unlabelled = {
        subject.key: replace(
            subject,
            manifest=replace(other, name=f"{other.name} (no labels)"),
            facts=replace(subject.facts, texts="none"),
            views=(),
            texts="",
            text_pairs=None,
        ).with_kinds([None])
        for subject in subjects
        if (other := others.get(subject.manifest.name))
    }
    return Run(recipe, storage, tuple(subjects), notify, unlabelled)


def _check_backbones(recipe: Recipe, backbones: Sequence[BackboneSpec]) -> None:
    """Refuse unknown backbones, and ranks above a backbone's width, as far as known before weights are loaded."""
    for spec in backbones:
        if is_cached(spec):
            recipe.sweep.check_ranks(describe(spec).dim, spec.label)
            continue
        model = model_class(spec)
        model.check_name(spec)
        # A class without a `width` of its own would be built; its rank is checked once it is loaded.
        has_width = getattr_static(model, "width") is not getattr_static(EncoderModel, "width")
        if recipe.sweep.listed_ranks() and has_width:
            recipe.sweep.check_ranks(model.width(spec), spec.label)


def _described(recipe: Recipe, spec: BackboneSpec, notify: Notify) -> BackboneFacts:
    notify(f"loading {spec.label}")
    facts = describe(spec)
    recipe.sweep.check_ranks(facts.dim, spec.label)
    return facts


def _embedded_subjects(recipe: Recipe, manifests: list[Manifest], described: list[BackboneFacts]) -> list[Subject]:
    """Return all subjects; `described` has the facts of the backbones, those with the precision `auto` in float32."""
    subjects = []
    for spec, facts in zip(recipe.backbones, described, strict=True):
        # `describe` considers only GPUs of this machine; encoders may run on others.
        engine = "torch" if on_gpus(recipe) or facts.precision != spec.precision else facts.engine
        spec = spec.with_absolute_paths().model_copy(update={"engine": engine})
        facts = replace(facts, engine=spec.engine, label=spec.label, precision=spec.precision)
        subjects += [_subject(recipe, manifest, spec, facts) for manifest in manifests]
    return subjects


def have_embeddings(run: Run, subjects: Sequence[Subject]) -> None:
    """Check that all views of some subjects are embedded, and embed missing texts."""
    for subject in subjects:
        check_embedded(run.storage, subject)
    wait_for(begin_texts_of(run, subjects))


def begin_texts_of(run: Run, subjects: Sequence[Subject]) -> list[Any]:
    """Start to embed missing texts of some subjects; return the tasks for `wait_for`."""
    begun: list[Any] = []
    try:
        for subject in subjects:
            if subject.manifest.is_imported and subject.texts and not have_texts(run.storage, subject.texts):
                raise IcmBenchError(f"{run.storage.path(subject.texts)} is missing; {_import_again(subject)}.")
            if subject.facts.texts == "any":
                from benchmark.embedding.text_encoding import TextJob, begin_texts  # imported embeddings do not need it

                pairs, names = text_pairs_of(run.recipe, subject.manifest), subject.manifest.prompt_names
                asked = [prompts for p in run.recipe.sweep.all_projections() if (prompts := subject.prompts_of(p))]
                job = TextJob(subject.backbone, subject.facts, [names], subject.prompts, pairs, asked)
                begun += begin_texts(run.storage, job, run.recipe.run.device, after=begun[-1:])
    except IcmBenchError:
        wait_for(begun)  # the caller may repair the store and retry
        raise
    return begun


def wait_for(begun: list[Any]) -> None:
    """Wait for tasks of `begin_texts_of`, and raise their errors."""
    if begun:
        import ray

        ray.get(begun)


def report_place(run: Run, folder: str) -> tuple[Storage, str]:
    """Return the storage and folder of a report: `run.out` if given, else `folder` in the store."""
    out = run.recipe.run.out
    return (Storage(out), "") if out else (run.storage, folder)


def _check_resources(recipe: Recipe) -> None:
    asked = recipe.run.gpus_per_trial
    if recipe.run.cpus_per_trial <= 1 and asked in (0, "auto"):
        return  # any machine has these resources
    connect()
    if recipe.run.cpus_per_trial > (largest := cpu_nodes()[1]):
        raise IcmBenchError(f"run.cpus_per_trial: {recipe.run.cpus_per_trial:g}, but the largest node has {largest}.")
    if asked != "auto" and asked > (gpus := available_gpus()):
        raise IcmBenchError(f"run.gpus_per_trial: {asked:g}, but Ray sees {gpus} GPUs.")


def _subject(recipe: Recipe, manifest: Manifest, spec: BackboneSpec, facts: BackboneFacts) -> Subject:
    prompts = recipe.prompts.templates_for(manifest.name)
    if not manifest.reader.labelled:
        facts = replace(facts, texts="none")  # there are no classes to embed
    pairs = text_pairs_of(recipe, manifest) if facts.texts == "any" else []
    subject = replace(
        imported_sets.without_views(recipe, manifest, spec, facts, prompts),
        texts="" if facts.texts == "none" else text_file(facts, manifest.prompt_names, prompts),
        text_pairs=pairs_file(facts, pairs) if pairs else None,
        clusters=recipe.clusters_of(manifest.name),
    )
    return subject.with_kinds([None, *recipe.kinds_for(manifest.name)])


def check_embedded(storage: Storage, subject: Subject) -> None:
    """Refuse a subject with views that are not embedded."""
    for view in subject.views:
        chunks = store.chunk_count(view.images)
        if missing := chunks - len(store.parts(storage, view.directory)):
            if subject.manifest.is_imported:
                lost = f"{missing} of {chunks} parts of the view '{view.label}' are lost"
                raise IcmBenchError(f"{lost}; {_import_again(subject)}.")
            raise IcmBenchError(
                f"{missing} of {chunks} parts of {subject.manifest.name} have no embeddings of the view '{view.label}' "
                f"in {storage.path('')}; run `icm-bench embed` with this recipe first."
            )


def _import_again(subject: Subject) -> str:
    return f"the embeddings of {subject.key} were imported: run `icm-bench import-embeddings` again"
