"""One data set under one backbone, from the store to arrays and moments. Needs Ray, and what `embed` wrote."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmark.backbones.facts import BackboneFacts
from benchmark.common.hashing import canonical_hash
from benchmark.common.storage import Storage
from benchmark.datasets.manifest import Manifest
from benchmark.method.evaluation.splits import Split, base_classes, out_mask
from benchmark.method.subspace.moments import CROSS
from benchmark.recipe.specs import InterventionSet
from benchmark.store import embeddings as store
from benchmark.store.embeddings import ORIGINAL, View
from benchmark.sweep.summing import Pairing


@dataclass(frozen=True)
class Subject:
    """One data set under one backbone: what trials evaluate, without the arrays.

    Attributes:
        manifest: of the data set.
        facts: of the backbone.
        views: all embedded views, the original first.
        texts: the file of the store with the text embeddings of the classes; there from the sweep on.
        ranks: to evaluate, ascending.
        text_pairs: the file of the store with the embeddings of pairs of texts, where the recipe has any.
        unreadable: hash of the images that cannot be read, known once all are embedded; empty where all can be.
    """

    manifest: Manifest
    facts: BackboneFacts
    views: tuple[View, ...]
    texts: str
    ranks: tuple[int, ...]
    text_pairs: str | None = None
    unreadable: str = ""


def split_of(manifest: Manifest, split: Split) -> NDArray[np.bool_]:
    """Return which images of a data set are in the 20 % out-split, shape (n,)."""
    new = manifest.table["label"].to_numpy() >= base_classes(len(manifest.classes))
    return out_mask(manifest.environment_index, manifest.groups, split, new)


def with_unreadable(storage: Storage, subject: Subject) -> Subject:
    """Return the source with what the store says of images that cannot be read."""
    ids = sorted(store.rejected(storage, subject.views))
    return replace(subject, unreadable=canonical_hash(ids) if ids else "")


def labels_of(subject: Subject, chosen: InterventionSet) -> tuple[str, ...]:
    """Return the kinds of an intervention set; an empty one means all embedded kinds."""
    return chosen.kinds or tuple(view.label for view in subject.views if view.label != ORIGINAL)


def pairings_of(subject: Subject, chosen: InterventionSet | None) -> list[Pairing]:
    """Return the kinds whose moments an intervention set needs from the store; pairs of texts are none of them."""
    if chosen is None:
        return []
    labels, views = labels_of(subject, chosen), {view.label: view for view in subject.views}
    if chosen.pairing == "random_one":
        return [Pairing(_random_one(labels), tuple(views[label] for label in labels))]
    kinds = [Pairing(label, (views[label],)) for label in labels if label in views]
    return [*kinds, *([Pairing(CROSS)] if CROSS in labels else [])]


def weights_of(subject: Subject, chosen: InterventionSet | None) -> dict[str, float] | None:
    """Return the weight of every kind of an intervention set in C_d; None where there is no set."""
    if chosen is None:
        return None
    labels = labels_of(subject, chosen)
    if chosen.pairing == "random_one":
        return {_random_one(labels): 1.0}
    return dict(zip(labels, chosen.weights or [1.0] * len(labels), strict=True))


def _random_one(labels: tuple[str, ...]) -> str:
    """Return the name of the kind in which each image has the view of one of some kinds, drawn for it."""
    return f"one of {', '.join(labels)}"
