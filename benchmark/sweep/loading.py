"""Loads arrays and moments of a subject from the store into workers. Requires Ray and stored embeddings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmark.common.errors import IcmBenchError
from benchmark.common.ray.remote import remote
from benchmark.common.storage.files import Storage
from benchmark.method.arrays import Array, Normalize, scale_of
from benchmark.method.evaluation.cells import Cells, Layout, one_of
from benchmark.method.evaluation.embedded import Embedded
from benchmark.method.evaluation.fits import parts_of
from benchmark.method.evaluation.splits import Split, Turn, turn_of
from benchmark.method.predictors.base import TextTower
from benchmark.method.prompts import PromptEmbeddings
from benchmark.method.subspace import Differences, Moments, Projection
from benchmark.recipe.sets import TEXT, InterventionSet
from benchmark.store import embeddings as store
from benchmark.store.embeddings import TextDifferences, View, prompts_file, read_pairs, read_texts
from benchmark.sweep.subject import Subject, images_of
from benchmark.sweep.summing import ImageIndex, Read, SumTask, read_cells, stored


@remote(num_returns=2)
def load(storage: Storage, subject: Subject, splits: tuple[Split, ...]) -> tuple[Embedded, ImageIndex]:
    """Return the arrays and the image index of a subject, without unreadable images.

    Raises:
        DamagedError: a file of the store is damaged.
    """
    manifest, original, dim = subject.manifest, subject.views[0], subject.facts.dim
    unreadable = store.rejected(storage, subject.views)
    ids = manifest.table["image_id"].to_pylist()
    readable_ids = [image_id for image_id in ids if image_id not in unreadable]
    first = store.distinct(manifest.table["image_id"])
    chunk_of = dict(zip((ids[i] for i in first), range(len(first)), strict=True))
    chunks = np.array([chunk_of[image_id] for image_id in readable_ids]) // store.chunk_size(len(first))
    # If there are no texts, no predictor uses them.
    nothing = np.zeros((len(manifest.classes), dim), dtype=np.float32)
    text = read_texts(storage, subject.texts) if subject.texts else nothing
    data = replace(
        images_of(manifest, splits, unreadable),
        z=store.read(storage, original, readable_ids, chunks),
        text=text,
        logit_scale=subject.facts.logit_scale,
    )
    layouts = {split: data.layout(split) for split in splits}
    return data, ImageIndex(original, readable_ids, chunks, layouts, manifest.environments, dim)


@remote(num_returns=2)
def load_view(storage: Storage, view: View, images: ImageIndex) -> tuple[NDArray[np.float32], None]:
    """Return the embeddings of a view from the store, float32, shape (n, D), and nothing, to wait for.

    All trials on a node share this array of 4 n D bytes: 1.8 GB for DomainNet at width 768. Arrays that do not fit into
    Ray's object store are spilled to the node's disk until a trial needs them. DamagedError: a file of the store is
    damaged.
    """
    return store.read(storage, view, images.ids, images.chunks), None


def lent_views(
    kinds: Sequence[Sequence[View]], arrays: Mapping[str, NDArray[np.float32]], images: ImageIndex, seed: int
) -> tuple[NDArray[np.float32], ...]:
    """Return for each kind in an intervention set the embeddings of its views, each of shape (n, D).

    They are for predictors that use views. `kinds`: the views of each kind; of several views, `seed` draws one per
    image. `arrays`: directory of a view -> its embeddings.
    """
    of_kinds = [{view.directory: arrays[view.directory] for view in views} for views in kinds]
    return tuple(one_of(z, images.ids, seed) if len(z) > 1 else next(iter(z.values())) for z in of_kinds)


def text_tower(subject: Subject, device: str) -> TextTower:
    """Load the backbone of a subject, and return its text encoder.

    Raises:
        IcmBenchError: the weights differ from the weights that made the embeddings, or the text encoder cannot learn
            prompts.
    """
    if subject.facts.texts != "any":
        raise IcmBenchError(f"'{subject.facts.label}' has no text encoder, and no prompts can be learnt through it.")
    from benchmark.backbones.loading import Backbone

    backbone = Backbone(subject.backbone, device, known=subject.facts)
    names = tuple(name.replace("_", " ") for name in subject.manifest.prompt_names)
    return TextTower(names, *backbone.text_tower())


@dataclass(frozen=True)
class MomentsSpec:
    """Specification of the moments for fits, the same for all subjects.

    Attributes:
        intervention_set: the intervention set of C_d; None for none.
        split: how images are divided into sides.
        normalize: when embeddings are scaled to unit length.
        turns: turns of the split that the fits belong to. Default: none, for a fit on the in-split of an 80/20 split.
        projection: the projection to fit, which determines whether sums of z z^do^T and prompts are needed. None
            (default): the sums are needed, prompts are not.
        halves: whether fits use only one half of the classes. Default false.
        merged: whether kinds are weighed to one before they are summed, see `Subject.merged_pairings`. Default false.
    """

    intervention_set: InterventionSet | None
    split: Split
    normalize: Normalize
    turns: tuple[Turn, ...] = ()
    projection: Projection | None = None
    halves: bool = False
    merged: bool = False

    @property
    def products(self) -> bool:
        """Whether sums of z z^do^T are needed."""
        return self.projection is None or self.projection.uses_products


def tasks_of(subject: Subject, wanted: MomentsSpec) -> list[SumTask]:
    """Return the sums that fits need, those of the images first."""
    of_set = wanted.intervention_set
    pairings = subject.merged_pairings(of_set)[0] if wanted.merged else subject.pairings_of(of_set)
    of_images = SumTask(wanted.split, scale_of(wanted.normalize), wanted.halves)
    return [of_images, *(replace(of_images, pairing=pairing, products=wanted.products) for pairing in pairings)]


def cells_for(
    storage: Storage, subject: Subject, images: ImageIndex, wanted: MomentsSpec, read: Read | None = None
) -> Cells:
    """Return the moments of a subject for a fit. `read` returns embeddings; by default they are read from the store.

    Raises:
        DamagedError: a file of the store is damaged.
    """
    intervention_set, split, projection = wanted.intervention_set, wanted.split, wanted.projection
    parts = parts_of(wanted.turns or [turn_of(split, None, grouped=False)])
    cells = read_cells(storage, images, tasks_of(subject, wanted), read or partial(stored, storage, images))
    cells = cells.joined(parts)
    if intervention_set and subject.text_pairs and TEXT in intervention_set.kinds:
        pairs = read_pairs(storage, subject.text_pairs, wanted.normalize)
        of_texts = text_cells(pairs, subject.manifest.classes, images.ids, images.layouts[split])
        cells = cells + of_texts.joined(parts)
    if projection and (prompts := subject.prompts_of(projection)):
        z = read_texts(storage, prompts_file(subject.facts, prompts)).astype(np.float64)
        cells = replace(cells, prompts=PromptEmbeddings(prompts, z, images.layouts[split].base))
    return replace(cells, together=subject.merged_pairings(intervention_set)[1]) if wanted.merged else cells


def lent_c_d(storage: Storage, lender: Subject, images: ImageIndex, wanted: MomentsSpec, read: Read) -> Array:
    """Return C_d over all images of `lender`, the data set of a `borrowed` placebo, shape (D, D)."""
    cells, merged = read_cells(storage, images, tasks_of(lender, wanted), read), lender.merged_pairings
    cells, chosen = replace(cells, together=merged(wanted.intervention_set)[1]), wanted.intervention_set
    names = {environment: images.environments[environment] for environment, _, _ in cells.moments}
    sides = frozenset(side for _, side, _ in cells.moments)
    return cells.sources(names, lender.weights_of(chosen), sides).c_d()


def text_cells(pairs: TextDifferences, classes: list[str], ids: list[str], layout: Layout) -> Cells:
    """Return differences of text pairs by cell. A pair that describes an image is in the cell of this image.

    Other pairs belong to all environments and to the half of their class, or to the new classes if the class is
    unknown.
    """
    d = pairs.d
    if pairs.images is None:
        of_base = set(classes[: layout.base])
        base = np.array([name in of_base for name in pairs.classes], dtype=bool)
        return Cells({}, {TEXT: {"base": Differences.of(d[base]), "new": Differences.of(d[~base])}})
    position = {image_id: i for i, image_id in enumerate(ids)}
    known = np.array([i for i, image_id in enumerate(pairs.images) if image_id in position], dtype=np.int64)
    of_images = layout.take(np.array([position[pairs.images[i]] for i in known], dtype=np.int64))
    return Cells(
        {
            cell: Moments.nothing(layout.classes, d.shape[1], {TEXT: Differences.of(d[known[rows]])})
            for cell, rows in of_images.parts()
        }
    )
