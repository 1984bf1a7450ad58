"""One data set under one backbone, from the store to arrays and moments. Needs Ray, and what `embed` wrote."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import ray
from numpy.typing import NDArray

from benchmark.backbones import BackboneFacts
from benchmark.datasets.manifest import Manifest
from benchmark.datasets.splits import Split, base_classes, out_mask
from benchmark.embedding import store
from benchmark.embedding.moments import Images, Kind, read_cells, scale_of, sum_moments
from benchmark.embedding.store import ORIGINAL, View
from benchmark.embedding.texts import TextDifferences, read_pairs, read_texts
from benchmark.evaluation.cells import Cells, Layout
from benchmark.evaluation.embedded import Embedded
from benchmark.recipe import TEXT, InterventionSet, Normalize, canonical_hash
from benchmark.storage import Storage
from benchmark.subspace import Differences, Moments
from benchmark.subspace.moments import CROSS


@dataclass(frozen=True)
class Source:
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


def with_unreadable(storage: Storage, source: Source) -> Source:
    """Return the source with what the store says of images that cannot be read."""
    ids = sorted(store.rejected(storage, source.views))
    return replace(source, unreadable=canonical_hash(ids) if ids else "")


def labels_of(source: Source, chosen: InterventionSet) -> tuple[str, ...]:
    """Return the kinds of an intervention set; an empty one means all embedded kinds."""
    return chosen.kinds or tuple(view.label for view in source.views if view.label != ORIGINAL)


def kinds_of(source: Source, chosen: InterventionSet | None) -> list[Kind]:
    """Return the kinds whose moments an intervention set needs from the store; pairs of texts are none of them."""
    if chosen is None:
        return []
    labels, views = labels_of(source, chosen), {view.label: view for view in source.views}
    if chosen.pairing == "random_one":
        return [Kind(_random_one(labels), tuple(views[label] for label in labels))]
    kinds = [Kind(label, (views[label],)) for label in labels if label in views]
    return [*kinds, *([Kind(CROSS)] if CROSS in labels else [])]


def weights_of(source: Source, chosen: InterventionSet | None) -> dict[str, float] | None:
    """Return the weight of every kind of an intervention set in C_d; None where there is no set."""
    if chosen is None:
        return None
    labels = labels_of(source, chosen)
    if chosen.pairing == "random_one":
        return {_random_one(labels): 1.0}
    return dict(zip(labels, chosen.weights or [1.0] * len(labels), strict=True))


def _random_one(labels: tuple[str, ...]) -> str:
    """Return the name of the kind in which each image has the view of one of some kinds, drawn for it."""
    return f"one of {', '.join(labels)}"


def sum_source(
    storage: Storage,
    source: Source,
    images: Images,
    splits: Iterable[Split],
    normalizes: Iterable[Normalize],
    sets: Iterable[InterventionSet | None],
) -> None:
    """Make sure that the store has the moments that some settings of a source need."""
    kinds = {str([kind.name, *(v.directory for v in kind.views)]): kind for s in sets for kind in kinds_of(source, s)}
    sum_moments(storage, images, splits, sorted({scale_of(n) for n in normalizes}), list(kinds.values()))


def cells_for(
    storage: Storage, source: Source, images: Images, chosen: InterventionSet | None, split: Split, normalize: Normalize
) -> Cells:
    """Return the moments of a source for one intervention set, from the store."""
    cells = read_cells(storage, images, split, scale_of(normalize), kinds_of(source, chosen))
    if chosen and source.text_pairs and TEXT in chosen.kinds:
        pairs = read_pairs(storage, source.text_pairs, normalize)
        cells = cells + text_cells(pairs, source.manifest.classes, images.ids, images.layouts[split])
    return cells


def text_cells(pairs: TextDifferences, classes: list[str], ids: list[str], layout: Layout) -> Cells:
    """Return the differences of pairs of texts: those that describe images lie in the cells of these.

    Others belong to all environments, and to the half of their class; one of unknown class is no base class's.

    Args:
        pairs: their differences.
        classes: of the data set, in order.
        ids, layout: of the readable images; pairs that describe others are left out.
    """
    d = pairs.d
    if pairs.images is None:
        of_base = set(classes[: base_classes(len(classes))])
        base = np.array([name in of_base for name in pairs.classes], dtype=bool)
        return Cells({}, {TEXT: {"base": Differences.of(d[base]), "new": Differences.of(d[~base])}})
    position = {image_id: i for i, image_id in enumerate(ids)}
    known = np.array([i for i, image_id in enumerate(pairs.images) if image_id in position], dtype=np.int64)
    of_images = layout.take(np.array([position[pairs.images[i]] for i in known], dtype=np.int64))
    return Cells(
        {
            cell: Moments.nothing(layout.classes, d.shape[1], {TEXT: Differences.of(d[known[rows]])})
            for cell in of_images.cells()
            for rows in [of_images.members(cell)]
        }
    )


@ray.remote(num_returns=2)
def load(storage: Storage, source: Source, splits: tuple[Split, ...]) -> tuple[Embedded, Images]:
    """Return the arrays of one source from the store, without the images that cannot be read, and where these lie."""
    manifest = source.manifest
    original = source.views[0]
    assert original.label == ORIGINAL
    unreadable = store.rejected(storage, source.views)
    ids = manifest.table["image_id"].to_pylist()
    kept = np.array([image_id not in unreadable for image_id in ids])
    kept_ids = [image_id for image_id, keep in zip(ids, kept, strict=True) if keep]
    # The split is drawn over all images, so that a bad file does not move the others to another side.
    out = {split: split_of(manifest, split)[kept] for split in splits}
    data = Embedded(
        z=store.read(storage, original, kept_ids),
        environment=manifest.environment_index[kept],
        label=manifest.table["label"].to_numpy()[kept],
        out=out,
        text=read_texts(storage, source.texts),
        environments=manifest.environments,
        classes=manifest.classes,
        group=None if manifest.groups is None else np.unique(manifest.groups, return_inverse=True)[1][kept],
        logit_scale=source.facts.logit_scale,
    )
    first = store.distinct(ids)
    chunk_of = dict(zip((ids[i] for i in first), range(len(first)), strict=True))
    chunks = np.array([chunk_of[image_id] for image_id in kept_ids]) // store.chunk_size(len(first))
    layouts = {split: data.layout(split) for split in splits}
    return data, Images(original, kept_ids, chunks, layouts, manifest.environments, source.facts.dim)
