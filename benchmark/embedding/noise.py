"""Texts with Gaussian noise among their tokens, as CLAP inserts it (Cai et al., ECCV 2024, arXiv 2311.16445).

Four vectors, each entry of mean 0 and standard deviation 0.02, stand where four more words could: before the text, two
before and two after it, or after it. They take the place of embeddings of tokens, as learnt context vectors do.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmark.backbones.loading import Backbone
from benchmark.common.errors import IcmBenchError
from benchmark.method.predictors.base import PLACEHOLDER

if TYPE_CHECKING:
    import torch

VECTORS, DEVIATION = 4, 0.02
PLACES = ((4, 0), (2, 2), (0, 4))  # vectors before and after the text
BATCH = 256


def encode_with_noise(backbone: Backbone, texts: Sequence[str], seeds: Sequence[int]) -> NDArray[np.float32]:
    """Return raw (not normalised) embeddings of texts with noise, shape (len(texts), D).

    Args:
        backbone: the dual encoder.
        texts: the texts.
        seeds: for each the seed of its noise and of where this stands.

    Raises:
        IcmBenchError: the backbone's table of tokens is not known, its tokenizer has no single token as placeholder, or
            a text leaves no room for four more.
    """
    blocks = [slice(start, start + BATCH) for start in range(0, len(texts), BATCH)]
    return np.concatenate([_block(backbone, texts[block], seeds[block]) for block in blocks])


def _block(backbone: Backbone, texts: Sequence[str], seeds: Sequence[int]) -> NDArray[np.float32]:
    import torch

    tokenize, table, encode = backbone.text_tower()
    draws = [np.random.default_rng(seed) for seed in seeds]
    places = [PLACES[rng.integers(len(PLACES))] for rng in draws]
    filled = [
        " ".join([*[PLACEHOLDER] * before, text, *[PLACEHOLDER] * after])
        for text, (before, after) in zip(texts, places, strict=True)
    ]
    tokens = tokenize(filled)
    columns = _columns(tokens, tokenize([" ".join([PLACEHOLDER] * VECTORS)])[0], places, filled)
    rows = torch.arange(len(filled), device=tokens.device)[:, None]

    def put(_module: object, _inputs: object, found: "torch.Tensor") -> "torch.Tensor":
        noise = np.stack([DEVIATION * rng.standard_normal((VECTORS, found.shape[-1])) for rng in draws])
        found = found.clone()
        found[rows, columns] = torch.from_numpy(noise).to(found)
        return found

    hook = table.register_forward_hook(put)
    try:
        with torch.no_grad():
            return np.asarray(encode(tokens).cpu().numpy(), dtype=np.float32)
    finally:
        hook.remove()


def _columns(
    tokens: "torch.Tensor", alone: "torch.Tensor", places: Sequence[tuple[int, int]], texts: Sequence[str]
) -> "torch.Tensor":
    """Return where the placeholders stand, shape (n, VECTORS): the first and the last ones, if the text has more.

    Args:
        tokens: of the texts with placeholders, shape (n, length).
        alone: of placeholders alone, shape (length,).
        places: how many stand before and after each text.
        texts: the texts with placeholders.
    """
    import torch

    (run,) = torch.nonzero(alone == alone[1], as_tuple=True)
    if len(run) != VECTORS or int(run[-1] - run[0]) != VECTORS - 1:
        raise IcmBenchError(
            f"The text tower's tokenizer has no single token for '{PLACEHOLDER}', in whose place noise could stand; "
            f"leave 'noise' out of interventions.text.edits."
        )
    columns = []
    for of_text, (before, after), text in zip(tokens, places, texts, strict=True):
        (there,) = torch.nonzero(of_text == alone[1], as_tuple=True)
        if len(there) < VECTORS:
            raise IcmBenchError(
                f"'{text:.60}' has more tokens than the text tower takes, and noise has no place in it; give the class "
                f"a shorter name, or leave 'noise' out of interventions.text.edits."
            )
        columns.append(torch.cat([there[:before], there[len(there) - after :]]))
    return torch.stack(columns)
