"""The files of a store that hold text embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmark.backbones.facts import BackboneFacts
from benchmark.common.hashing import canonical_hash
from benchmark.common.storage import Storage
from benchmark.method.arrays import Normalize, scaled
from benchmark.method.interventions.text import TextPair, pairs_digest


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
        classes: class name of the object in each pair; None where unknown.
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
