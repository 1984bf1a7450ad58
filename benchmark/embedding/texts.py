"""Text embeddings of the classes: once per weights, classes and templates, kept in the store."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from benchmark.backbones import Backbone, BackboneFacts
from benchmark.cluster import gpu_count
from benchmark.errors import IcmBenchError
from benchmark.evaluation.embedded import scaled
from benchmark.interventions.text import TextPair, pairs_digest
from benchmark.recipe import BackboneSpec, Normalize, canonical_hash
from benchmark.storage import Storage


def prompts(classes: Sequence[str], template: str) -> list[str]:
    """Return the prompt of every class, with spaces for underscores as in the released code."""
    return [template.replace("{}", name.replace("_", " ")) for name in classes]


def text_file(facts: BackboneFacts, classes: Sequence[str], templates: Sequence[str]) -> str:
    """Return the name, inside a store, of the text embeddings of `classes`: it says all they depend on."""
    return f"texts/{canonical_hash([facts.identity(), list(classes), list(templates)])[:32]}.parquet"


def read_texts(storage: Storage, name: str) -> NDArray[np.float32]:
    """Return text embeddings, shape (classes, D), at unit length."""
    return np.array(storage.read_table(name)["embedding"].to_pylist(), dtype=np.float32)


def pairs_file(facts: BackboneFacts, pairs: Sequence[TextPair]) -> str:
    """Return the name, inside a store, of the embeddings of pairs of texts."""
    return f"texts/pairs-{canonical_hash([facts.identity(), pairs_digest(pairs), 'class_name'])[:32]}.parquet"


@dataclass(frozen=True)
class TextDifferences:
    """What pairs of texts say of interventions.

    Attributes:
        d: differences, shape (pairs, D).
        classes: of the objects; None where unknown.
        images: ids of the images that the pairs describe, or None where they describe no single images.
    """

    d: NDArray[np.float64]
    classes: list[str | None]
    images: list[str] | None = None


def read_pairs(storage: Storage, name: str, normalize: Normalize) -> TextDifferences:
    """Return the differences of pairs of texts at the scale that a projection sees."""
    table = storage.read_table(name)
    images = table["image_id"].to_pylist()
    caption, rewrite = (
        scaled(np.array(table[column].to_pylist(), dtype=np.float64), normalize) for column in ("caption", "rewrite")
    )
    described = images if images and images[0] is not None else None
    return TextDifferences(caption - rewrite, table["class_name"].to_pylist(), described)


def embed_texts(
    storage: Storage,
    spec: BackboneSpec,
    facts: BackboneFacts,
    class_lists: Sequence[Sequence[str]],
    templates: Sequence[str],
    pairs: Sequence[TextPair] = (),
) -> None:
    """Make sure that the store has the text embeddings of each list of classes. Needs a connection to Ray.

    They are the mean over templates of unit-length embeddings, at unit length again, computed once per weights,
    classes and templates. Those of `pairs` are kept as the backbone gives them.

    Raises:
        IcmBenchError: the weights are not those of `facts` any more.
    """
    missing = [c for c in class_lists if not storage.exists(text_file(facts, c, templates))]
    if storage.exists(pairs_file(facts, pairs)):
        pairs = ()
    if missing or pairs:
        resources = {"num_gpus": 1} if gpu_count() else {"num_cpus": 1}
        ray.get(_embed_on_worker.options(**resources).remote(storage, spec, facts, missing, templates, pairs))


@ray.remote(max_retries=0)
def _embed_on_worker(
    storage: Storage,
    spec: BackboneSpec,
    facts: BackboneFacts,
    lists: Sequence[Sequence[str]],
    templates: Sequence[str],
    pairs: Sequence[TextPair],
) -> None:
    backbone = Backbone(spec)
    if backbone.facts.fingerprint != facts.fingerprint:
        raise IcmBenchError(f"The weights of '{facts.label}' changed during the run; run again.")
    for classes in lists:
        _embed(storage, text_file(facts, classes, templates), backbone, classes, templates)
    if pairs:
        columns = {
            name: _column(backbone.encode_texts([getattr(pair, name) for pair in pairs]))
            for name in ("caption", "rewrite")
        }
        known = {name: pa.array([getattr(p, name) for p in pairs], pa.string()) for name in ("class_name", "image_id")}
        storage.write_table(pairs_file(facts, pairs), pa.table({**known, **columns}))


def _embed(storage: Storage, name: str, backbone: Backbone, classes: Sequence[str], templates: Sequence[str]) -> None:
    total = np.zeros((len(classes), backbone.facts.dim))
    for template in templates:
        embeddings = backbone.encode_texts(prompts(classes, template)).astype(np.float64)
        total += embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    texts = (total / np.linalg.norm(total, axis=1, keepdims=True)).astype(np.float32)
    storage.write_table(name, pa.table({"class_name": pa.array(list(classes)), "embedding": _column(texts)}))


def _column(embeddings: NDArray[np.float32]) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(embeddings.ravel()), embeddings.shape[1])
