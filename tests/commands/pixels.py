"""An encoder of 64 dimensions that loads in a moment, and whose embeddings of noise fill its space; they mean nothing."""

import torch
from torch import Tensor

from tests.faults.encoder import Blocks


class Pixels(Blocks):
    """Images by their pixels, texts by their letters."""

    size = (16, 16)

    def __init__(self, spec: object) -> None:  # noqa: ARG002  every encoder takes one
        torch.manual_seed(0)
        self.towers = {"image": torch.nn.Linear(768, 64), "text": torch.nn.EmbeddingBag(256, 64)}
        self.module = torch.nn.ModuleDict(self.towers)

    def encode_images(self, images: Tensor) -> Tensor:
        """See `EncoderModel.encode_images`."""
        encoded: Tensor = self.towers["image"](images.flatten(1))
        return encoded
