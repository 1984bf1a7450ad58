"""Prompts with learnt context vectors, through any text tower that looks tokens up in one table of embeddings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from benchmark.method.arrays import Array

if TYPE_CHECKING:
    import torch

PLACEHOLDER = "X"  # as in CoOp's code: a word of one token, in whose places the vectors are put


@dataclass(frozen=True)
class TextTower:
    """The text side of a dual encoder, for prompts whose context is learnt.

    Attributes:
        names: what prompts call the classes.
        tokenize: texts -> tokens, int64, shape (n, length).
        table: the module that looks up the embedding of each token: (n, length) -> (n, length, width).
        encode: tokens -> raw embeddings, shape (n, D), float32; it calls `table` once.
        map: from text embeddings to the coordinates of a basis, shape (D, D); None leaves them as they are.
        offset: what is subtracted from text embeddings before, shape (D,); None for nothing.
    """

    names: tuple[str, ...]
    tokenize: "Callable[[Sequence[str]], torch.Tensor]"
    table: "torch.nn.Module"
    encode: "Callable[[torch.Tensor], torch.Tensor]"
    map: Array | None = None
    offset: Array | None = None

    def mapped(self, matrix: Array, offset: Array | None = None) -> "TextTower":
        """Return the tower whose texts are in the coordinates of a basis.

        Args:
            matrix: what texts are multiplied by, shape (D, D).
            offset: what is subtracted from them before, shape (D,); by default nothing.
        """
        return replace(self, map=matrix, offset=offset)

    def prompts(self, context: int) -> "Prompts":
        """Return the prompts "X X ... X name." of all classes, with that many vectors in the place of the X.

        Raises:
            ValueError: the tower's tokenizer has no single token for X.
        """
        tokens = self.tokenize([f"{' '.join([PLACEHOLDER] * context)} {name}." for name in self.names])
        if not (tokens[:, 1 : context + 1] == tokens[0, 1]).all() or (tokens[:, context + 1] == tokens[0, 1]).any():
            raise ValueError(f"The text tower's tokenizer has no single token for '{PLACEHOLDER}', as prompts need.")
        return Prompts(self, tokens, context)


@dataclass(frozen=True)
class Prompts:
    """The prompts of all classes, as a function of their context vectors.

    Attributes:
        tower: encodes them.
        tokens: with placeholders behind the first token, shape (n_classes, length).
        context: number of vectors.
    """

    tower: TextTower
    tokens: "torch.Tensor"
    context: int

    @property
    def width(self) -> int:
        """Length of a vector."""
        import torch

        with torch.no_grad():
            return int(self.tower.table(self.tokens[:1]).shape[-1])

    def texts(self, vectors: "torch.Tensor", classes: "torch.Tensor | None" = None) -> "torch.Tensor":
        """Return text embeddings of unit length, in coordinates where there is a `map`, shape (classes, D).

        Args:
            vectors: in the place of the placeholders of every class, shape (context, width).
            classes: positions of the classes that are wanted; by default all.
        """
        import torch
        from torch.nn.functional import normalize

        def put(_module: object, _inputs: object, found: torch.Tensor) -> torch.Tensor:
            own = vectors.to(found).expand(len(found), -1, -1)
            return torch.cat([found[:, :1], own, found[:, 1 + self.context :]], dim=1)

        hook = self.tower.table.register_forward_hook(put)
        try:
            embedded = normalize(self.tower.encode(self.tokens if classes is None else self.tokens[classes]))
        finally:
            hook.remove()
        if self.tower.offset is not None:
            embedded = embedded - torch.from_numpy(np.asarray(self.tower.offset, dtype=np.float32)).to(embedded)
        if self.tower.map is None:
            return embedded
        return embedded @ torch.from_numpy(np.asarray(self.tower.map, dtype=np.float32)).to(embedded)
