"""One data set under one backbone: what trials evaluate, without the arrays."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmark.backbones.facts import BackboneFacts
from benchmark.backbones.spec import BackboneSpec
from benchmark.common.hashing import canonical_hash
from benchmark.common.storage.files import Storage
from benchmark.datasets.manifest import Manifest
from benchmark.datasets.spec import label_of
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


@dataclass(frozen=True)
class Subject:
    """One data set under one backbone, resolved once from a recipe; nothing below asks the recipe again.

    Attributes:
        manifest: the images of the data set.
        backbone: which dual encoder, as the recipe names it, its files with absolute paths.
        facts: what is known of that encoder since it was loaded.
        interventions: how the views and the pairs of texts are made.
        decoding: how image files become pixels.
        views: all views to be embedded, the original first.
        prompts: templates of the texts behind zero-shot prediction.
        texts: the file of the store with the text embeddings of the classes, there from the sweep on; empty where the
            backbone has no texts.
        text_pairs: the file of the store with the embeddings of pairs of texts; None where the recipe has no pairs.
        unreadable: hash of the images that cannot be read, known once all are embedded; empty where all can be.
        view_draw: which draw of the views that are drawn fits see, from 0.
        clusters: number of clusters in the place of the source environments; 0 where these are the manifest's.
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
        """What tells the subject from the others of a run, in words."""
        return f"{self.manifest.name}, {self.facts.label}"

    @property
    def name(self) -> str:
        """What rows and tables call the data set."""
        return label_of(self.manifest.name, self.clusters)

    @property
    def seen(self) -> tuple[View, ...]:
        """The views that fits see: the original, and of each kind one."""
        seed_of, kinds = self.interventions.seed_of, ((view, view.intervention) for view in self.views)
        return tuple(view for view, kind in kinds if kind is None or view.seed == seed_of(kind, self.view_draw))

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of pairs that there are: views of images, pairs of texts, pairs of images across environments."""
        views = (view.label for view in self.seen if view.intervention is not None)
        return (*views, *([TEXT] if self.text_pairs else []), CROSS)

    def prompts_of(self, projection: Projection) -> tuple[Prompt, ...]:
        """Return the prompts that a projection asks for."""
        manifest = self.manifest
        return projection.prompts(Names(tuple(manifest.prompt_names), tuple(manifest.environments), self.prompts))

    def at_draw(self, number: int) -> "Subject":
        """Return the subject as the trials of a seed see it.

        Args:
            number: position of the seed among the sweep's; they take the draws of views in turn.
        """
        return replace(self, view_draw=number % self.interventions.draws)

    def with_unreadable(self, storage: Storage) -> "Subject":
        """Return the subject with what the store says of images that cannot be read."""
        ids = sorted(store.rejected(storage, self.views))
        return replace(self, unreadable=canonical_hash(ids) if ids else "")

    def with_kinds(self, kinds: Iterable[Intervention | None]) -> "Subject":
        """Return the subject with the views that some kinds of intervention make, beside those it has.

        Args:
            kinds: kinds of intervention, None for the original; those that have views are not repeated.
        """
        images = len(store.distinct(self.manifest.table["image_id"]))
        known = {view.label for view in self.views}
        made = [
            view_of(self.manifest.fingerprint, images, self.facts.identity(), kind, seed, self.decoding)
            for kind in kinds
            for seed in (self.interventions.seeds_of(kind) if kind else (self.interventions.seed,))
        ]
        return replace(self, views=(*self.views, *(view for view in made if view.label not in known)))

    def labels_of(self, intervention_set: InterventionSet) -> tuple[str, ...]:
        """Return the labels of the kinds of an intervention set; an empty set means all embedded kinds."""
        return intervention_set.kinds or tuple(view.label for view in self.seen if view.label != ORIGINAL)

    def pairings_of(self, intervention_set: InterventionSet | None) -> list[Pairing]:
        """Return the pairings whose moments a set needs from the store; pairs of texts are none of them.

        Placebos have those of the real set beside their own, if any: what replaces C_d is made from it.
        """
        if intervention_set is None:
            return []
        labels, views = self.labels_of(intervention_set), {view.label: view for view in self.seen}
        share, name = intervention_set.pairs, _name_of(intervention_set)
        some = Some(share, intervention_set.seed) if share < 1 else None
        if intervention_set.pairing == "random_one":
            return [Pairing(name(_random_one(labels)), tuple(views[label] for label in labels), some=some)]
        pairings = [Pairing(name(label), (views[label],), some=some) for label in labels if label in views]
        return [*pairings, *([Pairing(CROSS)] if CROSS in labels else []), *self._shuffled(intervention_set, pairings)]

    def drawn_from(self, intervention_set: InterventionSet | None) -> list[tuple[View, ...]]:
        """Return for each kind of a set the views from which images have theirs: one, or several of which one is drawn.

        Pairs of texts and of different images, and what a placebo makes of views, are none.
        """
        return [p.views for p in self.pairings_of(intervention_set) if p.views and not p.shuffle]

    def _shuffled(self, intervention_set: InterventionSet, pairings: Sequence[Pairing]) -> list[Pairing]:
        """Return a pairing for each draw of a shuffled set: all kinds together, by their weights."""
        if intervention_set.placebo != "shuffled":
            return []
        views = tuple(view for pairing in pairings for view in pairing.views)
        weights = intervention_set.weights or (1.0,) * len(views)
        return [
            Pairing(self.shuffled_name(drawn), views, Shuffle(drawn.seed, drawn.first, weights))
            for drawn in intervention_set.drawn()
        ]

    def shuffled_name(self, drawn: InterventionSet) -> str:
        """Return the name of the pairs of one draw of a shuffled set: it says all they depend on."""
        labels = self.labels_of(drawn)
        weights = drawn.weights or (1.0,) * len(labels)
        of = ", ".join(f"{weight!r} {label}" for weight, label in zip(weights, labels, strict=True))
        return f"shuffled {drawn.first} by {drawn.seed}: {of}"

    def weights_of(self, intervention_set: InterventionSet | None) -> dict[str, float] | None:
        """Return the weight of every kind of an intervention set in C_d; None where there is no set."""
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
    """Return how a set calls its kinds in moments: with a share of the pairs by that too."""
    words = intervention_set.pairs_in_words
    return lambda label: f"{label}, {words}" if words else label


def _random_one(labels: tuple[str, ...]) -> str:
    """Return the name of the kind in which each image has the view of one of some kinds, drawn for it."""
    return f"one of {', '.join(labels)}"
