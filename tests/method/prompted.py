"""Prompts of a projection with stand-ins for their embeddings: random directions, one for each text."""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from benchmark.method.arrays import Array, unit
from benchmark.method.prompts import Names, Prompt, PromptEmbeddings
from benchmark.method.subspace import Projection


def stand_in(text: str, dim: int) -> Array:
    """Return a random direction that depends on the text alone, shape (dim,)."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
    drawn = np.random.default_rng(seed).standard_normal(dim)
    return np.asarray(drawn / np.linalg.norm(drawn))


def prompted(
    projection: Projection,
    classes: Sequence[str],
    environments: Sequence[str],
    base: int,
    dim: int,
    hidden: Callable[[Prompt], bool] = lambda _: False,
) -> PromptEmbeddings | None:
    """Return embeddings of a projection's prompts, with other values for `hidden` prompts; None without prompts."""
    prompts = projection.prompts(Names(tuple(classes), tuple(environments), ("a photo of a {}.", "{} in a scene")))
    if not prompts:
        return None
    words = ["another " * hidden(prompt) for prompt in prompts]
    means = [
        np.mean([stand_in(word + text, dim) for text in p.texts], axis=0)
        for p, word in zip(prompts, words, strict=True)
    ]
    return PromptEmbeddings(prompts, unit(np.array(means)), base)
