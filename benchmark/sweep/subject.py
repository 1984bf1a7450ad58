"""Subjects (a data set under a backbone) that trials evaluate, and the images of a protocol without embeddings."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmark.backbones.facts import BackboneFacts
from benchmark.backbones.spec import BackboneSpec
from benchmark.common.plain import canonical_hash
from benchmark.common.storage.files import Storage
from benchmark.datasets.manifest import Manifest
from benchmark.datasets.spec import label_of
from benchmark.method.evaluation.embedded import Embedded, shifted
from benchmark.method.evaluation.splits import Split, base_classes, sides
from benchmark.method.interventions import Intervention
from benchmark.method.prompts import Names, Prompt
from benchmark.method.subspace import Projection
from benchmark.method.subspace.moments import CROSS
from benchmark.recipe.sets import TEXT, InterventionSet
from benchmark.recipe.specs import InterventionsSpec
from benchmark.store import embeddings as store
from benchmark.store.embeddings import ORIGINAL, Decoding, View, view_of
from benchmark.sweep.summing import Pairing, Shuffle, Some

NO_TEXT = np.zeros((0, 0), dtype=np.float32)
IMAGE_COLUMNS = ("image_id", "path", "class_name", "environment", "group")  # of `Seen.table`, with dataset


@dataclass(frozen=True)
class Subject:
    """One data set under one backbone, fully resolved from a recipe.

    Attributes:
        manifest: the images of the data set.
        backbone: the dual encoder as named in the recipe, with absolute paths of its files.
        facts: facts of the loaded encoder.
        interventions: how views and text pairs are made.
        decoding: how images are decoded.
        views: all views to embed, the original first.
        prompts: prompt templates for zero-shot prediction.
        texts: file in the store of the text embeddings of the classes, which exists once the sweep starts; empty if
            the backbone has no texts.
        text_pairs: file in the store of the embeddings of text pairs; None if the recipe has no pairs.
        unreadable: hash of the ids of unreadable images, known after embedding; empty if all are readable.
        view_draw: number of the draw of random views that fits use, from 0.
        clusters: number of clusters that replace the source environments; 0 for the environments of the manifest.
    """

    manifest: Manifest
    backbone: BackboneSpec
    facts: BackboneFacts
    interventions: InterventionsSpec
    decoding: Decoding
    views: tuple[View, ...]
    prompts: tuple[str, ...]
    texts: str
    text_pairs: str | None = None
    unreadable: str = ""
    view_draw: int = 0
    clusters: int = 0

    @property
    def key(self) -> str:
        """Unique name of the subject in a run."""
        return f"{self.manifest.name}, {self.facts.label}"

    @property
    def name(self) -> str:
        """Name of the data set in rows and tables."""
        return label_of(self.manifest.name, self.clusters)

    @property
    def seen(self) -> tuple[View, ...]:
        """The views that fits use: the original and one per kind."""
        seed_of, kinds = self.interventions.seed_of, ((view, view.intervention) for view in self.views)
        return tuple(view for view, kind in kinds if kind is None or view.seed == seed_of(kind, self.view_draw))

    @property
    def kinds(self) -> tuple[str, ...]:
        """Available kinds of pairs: views of images, text pairs, pairs of images across environments."""
        views = (view.label for view in self.seen if view.intervention is not None)
        return (*views, *([TEXT] if self.text_pairs else []), CROSS)

    def prompts_of(self, projection: Projection) -> tuple[Prompt, ...]:
        """Return the prompts that a projection uses."""
        manifest = self.manifest
        return projection.prompts(Names(tuple(manifest.prompt_names), tuple(manifest.environments), self.prompts))

    def at_draw(self, number: int) -> "Subject":
        """Return the subject for the trials of seed number `number`: seeds use the draws of views in turn."""
        return replace(self, view_draw=number % self.interventions.draws)

    def with_unreadable(self, storage: Storage) -> "Subject":
        """Return the subject with `unreadable` set from the store."""
        ids = sorted(store.rejected(storage, self.views))
        return replace(self, unreadable=canonical_hash(ids) if ids else "")

    def with_kinds(self, kinds: Iterable[Intervention | None]) -> "Subject":
        """Return the subject with the views of further kinds of intervention; None is the original."""
        images = len(store.distinct(self.manifest.table["image_id"]))
        known = {view.label for view in self.views}
        made = [
            view_of(self.manifest.fingerprint, images, self.facts.identity(), kind, seed, self.decoding)
            for kind in kinds
            for seed in (self.interventions.seeds_of(kind) if kind else (self.interventions.seed,))
        ]
        return replace(self, views=(*self.views, *(view for view in made if view.label not in known)))

    def labels_of(self, intervention_set: InterventionSet) -> tuple[str, ...]:
        """Return the labels of the kinds of an intervention set; without kinds, all embedded kinds."""
        return intervention_set.kinds or tuple(view.label for view in self.seen if view.label != ORIGINAL)

    def pairings_of(self, intervention_set: InterventionSet | None) -> list[Pairing]:
        """Return the pairings whose moments an intervention set needs from the store, without text pairs.

        Placebos also have the pairings of their real set, from which the replacement of C_d is computed.
        """
        if intervention_set is None:
            return []
        labels, views = self.labels_of(intervention_set), {view.label: view for view in self.seen}
        share, name = intervention_set.pairs, _name_of(intervention_set)
        some = Some(share, intervention_set.seed) if share < 1 else None
        if intervention_set.pairing == "random_one":
            return [Pairing(name(_random_one(labels)), tuple(views[label] for label in labels), some=some)]
        pairings = [Pairing(name(label), (views[label],), some=some) for label in labels if label in views]
        pairings += [Pairing(CROSS)] if CROSS in labels else []
        if intervention_set.placebo == "shuffled":  # one pairing per draw, of all kinds with their weights
            of_kinds = tuple(view for pairing in pairings for view in pairing.views)
            weights = intervention_set.weights or (1.0,) * len(of_kinds)
            for drawn in intervention_set.drawn():
                shuffle = Shuffle(drawn.seed, drawn.first, weights)
                pairings.append(Pairing(self.shuffled_name(drawn), of_kinds, shuffle))
        return pairings

    def drawn_from(self, intervention_set: InterventionSet | None) -> list[tuple[View, ...]]:
        """Return the views of each kind of a set: one, or several of which one is drawn per image.

        Text pairs, pairs of different images and placebo pairings are excluded.
        """
        return [p.views for p in self.pairings_of(intervention_set) if p.views and not p.shuffle]

    def shuffled_name(self, drawn: InterventionSet) -> str:
        """Return the name of the pairs of one draw of a shuffled set; it contains all that they depend on."""
        labels = self.labels_of(drawn)
        weights = drawn.weights or (1.0,) * len(labels)
        of = ", ".join(f"{weight!r} {label}" for weight, label in zip(weights, labels, strict=True))
        return f"shuffled {drawn.first} by {drawn.seed}: {of}"

    def weights_of(self, intervention_set: InterventionSet | None) -> dict[str, float] | None:
        """Return kind -> weight in C_d of an intervention set; None without a set."""
        if intervention_set is None:
            return None
        labels, name = self.labels_of(intervention_set), _name_of(intervention_set)
        if intervention_set.pairing == "random_one":
            return {name(_random_one(labels)): 1.0}
        return dict(zip(map(name, labels), intervention_set.weights or [1.0] * len(labels), strict=True))


def sides_of(manifest: Manifest, split: Split) -> NDArray[np.int64]:
    """Return the side of each image of a data set, see `splits.sides`, shape (n,)."""
    new = manifest.table["label"].to_numpy() >= base_classes(len(manifest.classes), split.rounding)
    return sides(manifest.environment_index, manifest.groups, split, new)


def _name_of(intervention_set: InterventionSet) -> Callable[[str], str]:
    """Return a function from a kind to its name in moments, which contains the share of pairs, if any."""
    words = intervention_set.pairs_in_words
    return lambda label: f"{label}, {words}" if words else label


def _random_one(labels: tuple[str, ...]) -> str:
    """Return the name of the kind in which each image has a view of one kind drawn at random."""
    return f"one of {', '.join(labels)}"


def images_of(manifest: Manifest, splits: Sequence[Split], unreadable: Collection[str] = ()) -> Embedded:
    """Return the images of a data set without the `unreadable` ones, with embeddings of width 0."""
    ids = manifest.table["image_id"].to_pylist()
    readable = np.array([image_id not in unreadable for image_id in ids])
    position = np.flatnonzero(readable)
    return Embedded(
        z=np.zeros((len(position), 0), dtype=np.float32),
        environment=manifest.environment_index[readable],
        label=manifest.table["label"].to_numpy()[readable],
        # The split is drawn over all images: an unreadable file does not move other images to another side.
        side={split: sides_of(manifest, split)[readable] for split in splits},
        text=NO_TEXT,
        environments=manifest.environments,
        classes=manifest.classes,
        group=None if manifest.groups is None else np.unique(manifest.groups, return_inverse=True)[1][readable],
        position=position,
    )


@dataclass(frozen=True)
class Seen:
    """The images that a protocol uses.

    Attributes:
        data: the images, with embeddings of width 0.
        table: the same images in the same order: dataset and, from the manifest, image_id, path, class_name,
            environment (across data sets: the data set) and group.
    """

    data: Embedded
    table: pa.Table


def seen(
    manifest: Manifest, variants: Sequence[Manifest], split: Split, unreadable: Mapping[str, Collection[str]]
) -> Seen:
    """Return the images that a protocol uses: of a data set and, if it tests across data sets, of its `variants`.

    `unreadable` is name of a data set -> ids of unreadable images, which are left out.
    """
    every = [manifest, *variants]
    parts = [images_of(one, [split], unreadable.get(one.name, ())) for one in every]
    tables = [one.table.select(IMAGE_COLUMNS).take(part.position) for one, part in zip(every, parts, strict=True)]
    names = tuple(one.name for one in every)
    tables = [t.append_column("dataset", pa.repeat(name, len(t))) for name, t in zip(names, tables, strict=True)]
    if not variants:
        return Seen(parts[0], tables[0])
    data = shifted(parts[0], dict(zip(names[1:], parts[1:], strict=True)), names)
    table = pa.concat_tables(tables)
    return Seen(data, table.set_column(table.column_names.index("environment"), "environment", table["dataset"]))


def list_of(manifest: Manifest, variants: Sequence[Manifest], unreadable: Mapping[str, Collection[str]]) -> pa.Table:
    """Return the image list that positions in rows refer to, columns as in `benchmark.store.tested`."""
    return seen(manifest, variants, Split(0), unreadable).table if variants else manifest.table
