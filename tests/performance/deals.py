"""Planted sets for which each drawing is embedded once, whatever deals it is in.

Deals of a planted set have the same drawings with the same changes in other environments. A block (style, change, sizes)
is drawn, intervened on and embedded once, by the encoder actor of a run, and kept below the cache folder. A deal is
then a choice of rows.

What is drawn for an image's view depends on its environment in a run. Here it is the first environment that has its
changes, so in sets whose environments all differ the embeddings are those of a run. Views of what is held out enter no
fit: they are not made, and ones in their place. That all others are those of a run, image by image, was last seen at
commit e35b93a, by `test_deals.py` in the history.
"""

import functools
import hashlib

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmark.backbones.describe import describe
from benchmark.backbones.loading import Backbone
from benchmark.common.plain import canonical_hash
from benchmark.common.storage.files import Storage
from benchmark.common.storage.places import cache_dir
from benchmark.demo import emoji_styles, planted
from benchmark.demo.emoji import draw
from benchmark.demo.planted import Planted, PlantedImage, changed, contents
from benchmark.embedding.batching import Batcher
from benchmark.embedding.chunks import DecodedChunk
from benchmark.embedding.encoder import Encoder
from benchmark.embedding.images import Geometry, model_input
from benchmark.embedding.pool import CPU_LIMITS
from benchmark.method.prompts import fill
from benchmark.recipe.recipe import Recipe
from benchmark.store.embeddings import Decoding, View, view_of
from tests.performance.in_process import ImageRow, Images, subject_of

ROOT = "controls"
# Style, (shift, size) of its changes, which change, environment in which its views are drawn, whether there are views.
Block = tuple[str, tuple[tuple[planted.Shift, float], ...], int, str, bool]


class Drawings:
    """Embeddings of drawings with changes, of all views of a recipe under its one backbone.

    Args:
        recipe: whose backbone, interventions and prompts count.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self.spec, self.interventions = recipe.backbones[0].with_absolute_paths(), recipe.interventions
        self.facts = describe(self.spec)
        svgs = emoji_styles.drawings()
        self.classes = {name: sorted(of_class) for name, of_class in next(iter(svgs.values())).items()}
        self.concepts = [(name, concept) for name in sorted(self.classes) for concept in self.classes[name]]
        self._place = {concept: place for place, (_, concept) in enumerate(self.concepts)}
        self._store = Storage(str(cache_dir() / ROOT))
        self._blocks: dict[Block, NDArray[np.float32]] = {}
        self._encoder: Batcher | None = None
        self.text = self._texts(recipe)

    def deal(self, name: str, spec: Planted, held_out: str) -> Images:
        """Return a planted set.

        Args:
            name: name of the data set.
            spec: which set, with the seed of the deal.
            held_out: the environment that is held out.
        """
        images = contents(spec, self.classes)
        grouped = len(spec.styles) > 1
        rows = [
            ImageRow(i.environment, i.class_name, f"{i.concept}-{i.style}", i.concept if grouped else None)
            for i in images
        ]
        subject = subject_of(self._recipe, name, rows, self.facts)
        return Images(subject, self._of(spec, images, held_out), self.text)

    def _of(self, spec: Planted, images: list[PlantedImage], held_out: str) -> NDArray[np.float32]:
        """Return the embeddings of images of a planted set, shape (images, views, D); views of the held-out are ones."""
        made = np.ones((len(images), 1 + len(self.interventions.kinds), self.facts.dim), dtype=np.float32)
        for row, image in zip(made, images, strict=True):
            block = self._block(_block_of(spec, image, held_out))[self._place[image.concept]]
            seen = 1 if image.environment == held_out else len(block)
            row[:seen] = block[:seen]
        return made

    def _block(self, block: Block) -> NDArray[np.float32]:
        if block not in self._blocks:
            names = ("DUSK", "LUMA", "TINT", "FIRST_HUE", "INK", "LINE", "SPACING", "CHANGES")
            drawn = [getattr(planted, name) for name in names]
            kinds = [kind.model_dump(mode="json") for kind in self.interventions.kinds]
            known = [self.facts.identity(), kinds, self.interventions.seed, drawn, emoji_styles.content_hash(), block]
            file = f"{canonical_hash(known)[:32]}.npy"
            if not self._store.exists(file):
                made = self._embedded(block)
                self._store.write_bytes(file, made.tobytes())
            shape = (len(self.concepts), -1, self.facts.dim)
            self._blocks[block] = np.frombuffer(self._store.read_bytes(file), dtype=np.float32).reshape(shape)
        return self._blocks[block]

    def _embedded(self, block: Block) -> NDArray[np.float32]:
        style, sizes, change, environment, viewed = block
        svgs, geometry = emoji_styles.drawings()[style], Geometry.of(self.facts.preprocess)
        pixels, ids = [], []
        for name, concept in self.concepts:
            png = draw(changed(svgs[name][concept], dict(sizes), change))
            pixels.append(model_input(png, geometry, Decoding(draft=False)))
            ids.append(hashlib.sha256(png + f"\0{environment}\0{name}".encode()).hexdigest())
        images = pa.RecordBatch.from_pydict({"image_id": ids})
        views = self._views()
        lacking = 2 ** len(views) - 1 if viewed else 1
        draws = [
            kind.draws(ids, view.seed) if (kind := view.intervention) else np.empty((len(ids), 0)) for view in views
        ]
        draws = draws[: lacking.bit_length()]
        chunk = DecodedChunk(0, 0, images, lacking, [""] * len(ids), np.stack(pixels), 0.0, draws=draws)
        make = functools.partial(Encoder, self.spec, self.facts, views, None, 1, compile_model=False)
        self._encoder = self._encoder or Batcher(make, CPU_LIMITS)
        try:
            return self._encoder.encode(chunk)[0]
        finally:
            self._encoder.release(chunk)

    def _views(self) -> list[View]:
        """Return the views as the encoder takes them: they lie nowhere."""
        kinds = (None, *self.interventions.kinds)
        seeds = self.interventions.seed
        return [view_of("", len(self.concepts), self.facts.identity(), kind, seeds) for kind in kinds]

    def _texts(self, recipe: Recipe) -> NDArray[np.float32]:
        """Return the texts of the classes as `embedding.text_encoding` makes them, shape (classes, D)."""
        backbone, total = Backbone(self.spec), np.zeros((len(self.classes), self.facts.dim))
        for template in recipe.prompts.templates_for(planted.NAME):
            z = backbone.encode_texts([fill(template, name) for name in sorted(self.classes)]).astype(np.float64)
            total += z / np.linalg.norm(z, axis=1, keepdims=True)
        return np.asarray(total / np.linalg.norm(total, axis=1, keepdims=True), dtype=np.float32)


def _block_of(spec: Planted, image: PlantedImage, held_out: str) -> Block:
    sizes = spec.sizes(image.environment)
    alike = [environment for environment in spec.environments if spec.sizes(environment) == sizes]
    change = image.change if sizes else 0
    return (image.style, tuple(sorted(sizes.items())), change, alike[0], any(name != held_out for name in alike))
