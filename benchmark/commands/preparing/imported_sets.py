"""Manifests and subjects of data sets with imported embeddings: no image is opened, and no backbone is loaded.

A *subject* is one data set under one backbone, with its views and texts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from benchmark.backbones.facts import BackboneFacts, Embeds
from benchmark.backbones.spec import BackboneSpec
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.datasets.manifest import Manifest, imported_manifest, read_manifest
from benchmark.datasets.spec import DatasetSpec
from benchmark.recipe.recipe import Recipe
from benchmark.store import embeddings as store
from benchmark.store.embeddings import DECODING_KEYS, ORIGINAL, Decoding, View, view_of
from benchmark.store.imported_embeddings import Import, ImportedView, find_import, folder_of
from benchmark.store.sealed import read_checked
from benchmark.sweep.subject import Subject


def manifests_of(recipe: Recipe, storage: Storage) -> list[Manifest]:
    """Return the manifest of each data set of a recipe, read from its images or from the imports in the store.

    Raises:
        IcmBenchError: `read_manifest` raises it, embeddings were not imported, or the images differ between backbones.
    """
    if not recipe.is_imported:
        return [manifest_of(recipe, spec) for spec in recipe.located()]
    manifests = []
    for name in (dataset.name for dataset in recipe.datasets):
        first, *others = (find_import(storage, name, spec.label) for spec in recipe.backbones)
        if other := next((one for one in others if one.fingerprint != first.fingerprint), None):
            raise IcmBenchError(
                f"datasets: the images of '{name}' differ between {first.facts.label} and {other.facts.label}; import "
                f"one of the two again from the same images."
            )
        manifests.append(imported_manifest(name, uri_of(storage, name), read_checked(storage, first.images)))
    return manifests


def manifest_of(recipe: Recipe, spec: DatasetSpec) -> Manifest:
    """Return the manifest of a data set, whose images are read with the recipe's timeout and formats."""
    manifest, images = read_manifest(spec), recipe.images
    reader = replace(manifest.reader, timeout=recipe.run.storage_timeout, formats=images.formats)
    return replace(manifest, reader=reader)


def uri_of(storage: Storage, dataset: str) -> str:
    """Return the URI of the folder in which a store keeps the imports of a data set."""
    address, mark, query = storage.uri.partition("?")
    return f"{address.rstrip('/')}/{folder_of(dataset)}{mark}{query}"


def imported_subject(recipe: Recipe, storage: Storage, manifest: Manifest, spec: BackboneSpec) -> Subject:
    """Return the subject of an import; views in the recipe that were not imported are left out.

    Raises:
        IcmBenchError: there is no such import, a rank is above its embedding width, or the recipe searches strengths,
            which an encoder must embed.
    """
    imported = find_import(storage, manifest.name, spec.label)
    if recipe.sweep.search and recipe.sweep.search.strengths:
        raise IcmBenchError(
            f"sweep.search.strengths: views of other strengths must be embedded, and those of {manifest.name} were "
            f"imported; leave strengths out."
        )
    recipe.sweep.check_ranks(imported.facts.dim, spec.label)
    subject = without_views(recipe, manifest, spec, imported.facts, imported.prompts)
    return replace(subject, views=tuple(_views(recipe, manifest, imported, subject.decoding)), texts=imported.texts)


def without_views(
    recipe: Recipe, manifest: Manifest, spec: BackboneSpec, facts: BackboneFacts, prompts: tuple[str, ...]
) -> Subject:
    """Return a subject without views and texts, which the caller adds."""
    images, at_source = recipe.images, recipe.interventions.apply_at == "source"
    decoding = Decoding(at_source, images.jpeg_draft, images.upright, images.resize)
    return Subject(manifest, spec, facts, recipe.interventions, decoding, (), prompts, "")


def _views(recipe: Recipe, manifest: Manifest, imported: Import, decoding: Decoding) -> Iterator[View]:
    """Yield the original view, and the views of each kind of the recipe of which all draws were imported."""
    spec, images = recipe.interventions, len(store.distinct(manifest.table["image_id"]))
    original = next(view for view in imported.views if view.label == ORIGINAL)
    yield View(ORIGINAL, None, spec.seed, images, original.depends_on)
    for kind in recipe.kinds_for(manifest.name):
        wanted = [
            view_of(imported.fingerprint, images, imported.facts.identity(), kind, seed, decoding)
            for seed in spec.seeds_of(kind)
        ]
        there = [next((one for one in imported.views if _is_same(one, view)), None) for view in wanted]
        for view, one in zip(wanted, there, strict=True) if None not in there else ():
            assert one is not None
            yield View(kind.label, kind, view.seed, images, one.depends_on)


def _is_same(imported: ImportedView, wanted: View) -> bool:
    """Return whether an imported view is the wanted one.

    All parameters are compared; if those of the import are unknown, only the labels are. The decoding is not compared,
    and neither is the store's version, since nothing is decoded here.
    """
    if not imported.known:
        return imported.label == wanted.label
    theirs, ours = (
        {key: value for key, value in of["view"].items() if key not in DECODING_KEYS}
        for of in (imported.depends_on, wanted.depends_on)
    )
    return theirs == ours


def texts_note(recipe: Recipe, subjects: Sequence[Subject]) -> list[str]:
    """Return a note for each subject whose imported texts differ from the recipe's prompts."""
    notes = []
    for subject in subjects:
        name = subject.manifest.name
        asked = recipe.prompts.by_dataset.get(name, recipe.prompts.templates)
        given = name in recipe.prompts.by_dataset or "templates" in recipe.prompts.model_fields_set
        if subject.texts and given and asked != subject.prompts:
            shown = ", ".join(f'"{prompt}"' for prompt in subject.prompts[:2])
            notes.append(f"{subject.key}: the texts of the classes are those that were imported ({shown}).")
    return notes


def embeds_of(recipe: Recipe, storage: Storage) -> list[Embeds]:
    """Return the embedding width D of each backbone of a recipe, and which texts it embeds.

    Raises:
        IcmBenchError: a backbone is unknown, its embeddings were not imported, or a rank is above its embedding width.
    """
    if recipe.is_imported:
        of_first = [find_import(storage, recipe.datasets[0].name, spec.label).facts for spec in recipe.backbones]
        embeds = [Embeds(facts.dim, facts.texts) for facts in of_first]
    else:
        from benchmark.backbones.loading import texts_of, width_of

        embeds = [Embeds(width_of(spec), texts_of(spec)) for spec in recipe.backbones]
    for spec, (dim, _) in zip(recipe.backbones, embeds, strict=True):
        recipe.sweep.check_ranks(dim, spec.label)
    return embeds
