"""The files of a store that hold text embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmark.backbones.facts import BackboneFacts
from benchmark.common.hashing import canonical_hash
from benchmark.common.storage.files import Storage
from benchmark.method.arrays import Normalize, scaled
from benchmark.method.interventions.text import TextPair, pairs_digest
from benchmark.method.prompts import Prompt
from benchmark.store.sealed import read_checked, write_checked

ROOT = "texts"
VERSION = 2  # to be raised when the files, or how their embeddings are made, change


def text_file(facts: BackboneFacts, classes: Sequence[str], templates: Sequence[str]) -> str:
    """Return the name, inside a store, of the text embeddings of `classes`: it says all they depend on."""
    return f"{ROOT}/{canonical_hash([VERSION, facts.identity(), list(classes), list(templates)])[:32]}.parquet"


def pairs_file(facts: BackboneFacts, pairs: Sequence[TextPair]) -> str:
    """Return the name, inside a store, of the embeddings of pairs of texts."""
    content = [VERSION, facts.identity(), pairs_digest(pairs), "class_name"]
    return f"{ROOT}/pairs-{canonical_hash(content)[:32]}.parquet"


def prompts_file(facts: BackboneFacts, prompts: Sequence[Prompt]) -> str:
    """Return the name, inside a store, of the embeddings of prompts that a projection asks for."""
    content = [VERSION, facts.identity(), [list(prompt.texts) for prompt in prompts]]
    return f"{ROOT}/prompts-{canonical_hash(content)[:32]}.parquet"


def have_texts(storage: Storage, name: str) -> bool:
    """Return whether a file of texts, or of pairs of them, is there.

    Raises:
        DamagedError: it is there, and not what was written under that name.
    """
    content = storage.read_if_there(name)
    if content is None:
        return False
    read_checked(storage, name, content)
    return True


def write_texts(storage: Storage, name: str, classes: Sequence[str], embeddings: NDArray[np.float32]) -> None:
    """Write text embeddings, shape (classes, D), at unit length; of prompts the first text stands for a class."""
    write_checked(storage, name, pa.table({"class_name": pa.array(list(classes)), "embedding": _column(embeddings)}))


def read_texts(storage: Storage, name: str) -> NDArray[np.float32]:
    """Return text embeddings of classes or prompts, shape (classes, D), at unit length.

    Raises:
        DamagedError: the file is not what was written under that name.
    """
    column = read_checked(storage, name)["embedding"]  # of many prompts: no list of Python's numbers is made of it
    return np.array(column.combine_chunks().flatten(), dtype=np.float32).reshape(len(column), -1)


def write_pairs(
    storage: Storage, name: str, pairs: Sequence[TextPair], caption: NDArray[np.float32], rewrite: NDArray[np.float32]
) -> None:
    """Write the embeddings of pairs of texts as the backbone gives them, each of shape (pairs, D)."""
    known = {name: pa.array([getattr(p, name) for p in pairs], pa.string()) for name in ("class_name", "image_id")}
    write_checked(storage, name, pa.table({**known, "caption": _column(caption), "rewrite": _column(rewrite)}))


def _column(embeddings: NDArray[np.float32]) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(embeddings.ravel()), embeddings.shape[1])


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
    """Return the differences of pairs of texts at the scale that a projection sees.

    Raises:
        DamagedError: the file is not what was written under that name.
    """
    table = read_checked(storage, name)
    images = table["image_id"].to_pylist()
    raw = (np.array(table[column].to_pylist(), dtype=np.float64) for column in ("caption", "rewrite"))
    caption, rewrite = (scaled(z, normalize) for z in raw)
    described = images if images and images[0] is not None else None
    return TextDifferences(caption - rewrite, table["class_name"].to_pylist(), described)
