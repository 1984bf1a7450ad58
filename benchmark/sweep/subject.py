"""Subjects, each a data set under a backbone, and the images that a protocol uses, without embeddings."""

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
from benchmark.method.subspace.moments import CROSS, TOGETHER
from benchmark.recipe.sets import TEXT, InterventionSet
from benchmark.recipe.specs import InterventionsSpec
from benchmark.store import embeddings as store
from benchmark.store.embeddings import ORIGINAL, Decoding, View, view_of
from benchmark.sweep.summing import Pairing, Shuffle, Some

NO_TEXT = np.zeros((0, 0), dtype=np.float32)
# The same columns as `IMAGE_COLUMNS` in `benchmark/store/tested.py`, which stores them.
IMAGE_COLUMNS = ("image_id", "path", "class_name", "environment", "group")  # columns of `Seen.table` besides dataset


@dataclass(frozen=True)
class Subject:
    """One data set under one backbone, with everything that a recipe says about them.

    A field that changes results must also be in `Trial.id` (`trials.py`).

    Attributes:
        manifest: the images of the data set.
        backbone: the backbone as in the recipe, with absolute paths of its files.
        facts: facts of the loaded backbone, such as its width.
        interventions: how views and text pairs are made.
        decoding: how images are decoded.
        views: all views to embed, the original first.
        prompts: templates of the prompts for zero-shot prediction.
        texts: name, inside the store, of the file with text embeddings of the classes; empty if the backbone has no
            texts. The file exists when the sweep starts.
        text_pairs: name, inside the store, of the file with embeddings of text pairs; None (default) if the recipe has
            none.
        unreadable: hash of the ids of unreadable images, known after embedding; empty (default) if all are readable.
        view_draw: number of the draw of random views that fits use, from 0 (default).
        clusters: number of clusters that replace the source environments; 0 (default): none do.
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
        """The views that fits use: the original, and one view of each kind from the current draw."""
        seed_of, kinds = self.interventions.seed_of, ((view, view.intervention) for view in self.views)
        return tuple(view for view, kind in kinds if kind is None or view.seed == seed_of(kind, self.view_draw))

    @property
    def kinds(self) -> tuple[str, ...]:
        """The available kinds of pairs: views of images, text pairs, and pairs of images across environments."""
        views = (view.label for view in self.seen if view.intervention is not None)
        return (*views, *([TEXT] if self.text_pairs else []), CROSS)

    def prompts_of(self, projection: Projection) -> tuple[Prompt, ...]:
        """Return the prompts that a projection uses on this subject."""
        manifest = self.manifest
        return projection.prompts(Names(tuple(manifest.prompt_names), tuple(manifest.environments), self.prompts))

    def at_draw(self, number: int) -> "Subject":
        """Return the subject for trials of seed number `number`. Seeds use the draws of views in turn."""
        return replace(self, view_draw=number % self.interventions.draws)

    def with_unreadable(self, storage: Storage) -> "Subject":
        """Return the subject with `unreadable` set from the store."""
        ids = sorted(store.rejected(storage, self.views))
        return replace(self, unreadable=canonical_hash(ids) if ids else "")

    def with_kinds(self, kinds: Iterable[Intervention | None]) -> "Subject":
        """Return the subject with views of further kinds of intervention; None stands for the original image."""
        images = len(store.distinct(self.manifest.table["image_id"]))
        known = {view.label for view in self.views}
        made = [
            view_of(self.manifest.fingerprint, images, self.facts.identity(), kind, seed, self.decoding)
            for kind in kinds
            for seed in (self.interventions.seeds_of(kind) if kind else (self.interventions.seed,))
        ]
        return replace(self, views=(*self.views, *(view for view in made if view.label not in known)))

    def labels_of(self, intervention_set: InterventionSet) -> tuple[str, ...]:
        """Return the labels of the kinds in an intervention set. A set without kinds has all embedded kinds."""
        return intervention_set.kinds or tuple(view.label for view in self.seen if view.label != ORIGINAL)

    def pairings_of(self, intervention_set: InterventionSet | None) -> list[Pairing]:
        """Return the pairings whose moments an intervention set needs, without text pairs.

        A placebo also has the pairings of its real set, from which the replacement of C_d is computed.
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
        if intervention_set.placebo == "shuffled":  # one pairing per draw, with the weighted views of all kinds
            of_kinds = tuple(view for pairing in pairings for view in pairing.views)
            weights = intervention_set.weights or (1.0,) * len(of_kinds)
            for drawn in intervention_set.drawn():
                shuffle = Shuffle(drawn.seed, drawn.first)
                pairings.append(Pairing(self.shuffled_name(drawn), of_kinds, weights, shuffle))
        return pairings

    def merged_pairings(self, intervention_set: InterventionSet | None) -> tuple[list[Pairing], dict[str, float]]:
        """Return the pairings of a set with all kinds of views of an image as one kind, `TOGETHER`.

        C_d is linear in the sums, so it does not change. The second value is kind -> its weight in `TOGETHER`; it is
        empty if there are not several such kinds.
        """
        pairings, weights = self.pairings_of(intervention_set), self.weights_of(intervention_set) or {}
        alike = [p for p in pairings if p.views and not p.shuffle and weights.get(p.name)]
        if len(alike) < 2:
            return pairings, {}
        together = {pairing.name: weights[pairing.name] for pairing in alike}
        views = tuple(view for pairing in alike for view in pairing.views)
        one = Pairing(TOGETHER, views, tuple(together.values()), some=alike[0].some)
        return [one, *(pairing for pairing in pairings if pairing not in alike)], together

    def drawn_from(self, intervention_set: InterventionSet | None) -> list[tuple[View, ...]]:
        """Return for each kind in a set its views: one view, or several from which one is drawn per image.

        Text pairs, pairs of different images and pairings of placebos are left out.
        """
        return [p.views for p in self.pairings_of(intervention_set) if p.views and not p.shuffle]

    def shuffled_name(self, drawn: InterventionSet) -> str:
        """Return the name of one draw of shuffled pairs; it contains everything that these pairs depend on."""
        labels = self.labels_of(drawn)
        weights = drawn.weights or (1.0,) * len(labels)
        of = ", ".join(f"{weight!r} {label}" for weight, label in zip(weights, labels, strict=True))
        return f"shuffled {drawn.first} by {drawn.seed}: {of}"

    def weights_of(self, intervention_set: InterventionSet | None) -> dict[str, float] | None:
        """Return kind -> weight in C_d of an intervention set; None if there is no set."""
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
    """Return a function: label of a kind -> its name in moments. The name contains the share of pairs if below 1."""
    words = intervention_set.pairs_in_words
    return lambda label: f"{label}, {words}" if words else label


def _random_one(labels: tuple[str, ...]) -> str:
    """Return the name of the kind for which each image is paired with a view of one random kind."""
    return f"one of {', '.join(labels)}"


def images_of(manifest: Manifest, splits: Sequence[Split], unreadable: Collection[str] = ()) -> Embedded:
    """Return the readable images of a data set, with embeddings of width 0."""
    ids = manifest.table["image_id"].to_pylist()
    readable = np.array([image_id not in unreadable for image_id in ids])
    position = np.flatnonzero(readable)
    return Embedded(
        z=np.zeros((len(position), 0), dtype=np.float32),
        environment=manifest.environment_index[readable],
        label=manifest.table["label"].to_numpy()[readable],
        # The split is drawn over all images, so an unreadable file does not move other images to another side.
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
        table: a table of these images in the same order, with the columns dataset, image_id, path, class_name,
            environment and group. Across data sets, environment is the data set.
    """

    data: Embedded
    table: pa.Table


def seen(
    manifest: Manifest, variants: Sequence[Manifest], split: Split, unreadable: Mapping[str, Collection[str]]
) -> Seen:
    """Return the images that a protocol uses: images of a data set, and of `variants` if it tests across data sets.

    `unreadable`: name of a data set -> ids of unreadable images, which are left out.
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
    """Return the image list that positions in rows refer to, with the columns of `benchmark.store.tested`."""
    return seen(manifest, variants, Split(0), unreadable).table if variants else manifest.table
