"""What every stage needs before it starts: the store, Ray, manifests, the facts of backbones, and refusals."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmark.backbones.describe import describe
from benchmark.backbones.facts import BackboneFacts
from benchmark.backbones.spec import BackboneSpec
from benchmark.commands.checks import check_packages, check_protocols
from benchmark.commands.text_pairs import text_pairs_of
from benchmark.common.cache import cache_dir
from benchmark.common.cluster import check_shared, connected, cpu_nodes, gpu_count
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage import Storage
from benchmark.datasets.manifest import Manifest, read_manifest
from benchmark.embedding.texts import embed_texts
from benchmark.method.interventions import Intervention
from benchmark.recipe.recipe import Recipe
from benchmark.store import embeddings as store
from benchmark.store.embeddings import Decoding, View, view_of
from benchmark.store.texts import pairs_file, text_file
from benchmark.sweep.subject import Subject

Notify = Callable[[str], None]
Sources = list[tuple[Subject, BackboneSpec]]


def notify_on_stderr(line: str) -> None:
    """Print a line for the person who watches, apart from the output that a script reads."""
    print(line, file=sys.stderr, flush=True)


def open_store(recipe: Recipe) -> Storage:
    """Return the recipe's store, after making sure that it can be written to."""
    storage = store_at(recipe.run.store)
    storage.check_writable()
    return storage


def store_at(uri: str | None) -> Storage:
    """Return the store at a URI; by default the one in the cache folder."""
    return Storage(uri or str(cache_dir() / "store"))


@contextmanager
def prepared(recipe: Recipe, storage: Storage, notify: Notify, held_out: bool = True) -> Iterator[Sources]:
    """Connect to Ray for the time of the block, and give it what `prepare` returns."""
    with connected():
        yield prepare(recipe, storage, notify, held_out)


def prepare(recipe: Recipe, storage: Storage, notify: Notify, held_out: bool = True) -> Sources:
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
    check_shared(storage, [*(f for m in manifests if (f := m.reader.local_folder)), *places])
    subjects = []
    notes = [note for manifest in manifests for note in manifest.notes()]
    for spec in backbones:
        notify(f"loading {spec.label}")
        facts = describe(spec)
        ranks = recipe.sweep.ranks_for(facts.dim)
        notes += facts.notes
        for manifest in manifests:
            texts = text_file(facts, manifest.prompt_names, recipe.prompts.templates_for(manifest.name))
            pairs = text_pairs_of(recipe, manifest)
            pairs_name = pairs_file(facts, pairs) if pairs else None
            subjects.append(
                (Subject(manifest, facts, views_of(recipe, manifest, facts), texts, ranks, pairs_name), spec)
            )
    for note in notes:
        notify(f"note: {note}")
    return subjects


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
            decoding_of(recipe),
        )
        for kind in kinds
    )


def decoding_of(recipe: Recipe) -> Decoding:
    """Return how a recipe wants images decoded, the same for all its views."""
    return Decoding(at_source=recipe.interventions.apply_at == "source", draft=recipe.images.jpeg_draft)


def _have_embeddings(recipe: Recipe, storage: Storage, subjects: Sources) -> None:
    """Check that all views are embedded, and embed the texts where that is still to be done."""
    for subject, _ in subjects:
        _check_embedded(storage, subject.manifest, subject.views)
    for subject, spec in subjects:
        pairs = text_pairs_of(recipe, subject.manifest)
        templates = recipe.prompts.templates_for(subject.manifest.name)
        embed_texts(storage, spec, subject.facts, [subject.manifest.prompt_names], templates, pairs)


def _check_embedded(storage: Storage, manifest: Manifest, views: tuple[View, ...]) -> None:
    for view in views:
        chunks = store.chunk_count(view.images)
        if lacking := chunks - len(store.parts(storage, view.directory)):
            raise IcmBenchError(
                f"{lacking} of {chunks} parts of {manifest.name} have no embeddings of the view '{view.label}' in "
                f"{storage.path('')}; run `icm-bench embed` with this recipe first."
            )
