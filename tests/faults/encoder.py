"""A small encoder for runs that are disturbed: no weights that mean anything, the same in every process."""

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmark import EncoderModel


class Blocks(EncoderModel):
    """Images by the colours of 8 x 8 blocks, texts by their letters."""

    size, mean, std, logit_scale = (32, 32), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), 50.0

    def __init__(self, spec: object) -> None:  # noqa: ARG002  every encoder takes one
        torch.manual_seed(0)
        self.towers = {"image": torch.nn.Linear(48, 16), "text": torch.nn.EmbeddingBag(256, 16)}
        self.module = torch.nn.ModuleDict(self.towers)

    def encode_images(self, images: Tensor) -> Tensor:
        """See `EncoderModel.encode_images`."""
        encoded: Tensor = self.towers["image"](torch.nn.functional.avg_pool2d(images, 8).flatten(1))
        return encoded

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """See `EncoderModel.encode_texts`."""
        return torch.cat([self.towers["text"](torch.tensor([list(text.encode())])) for text in texts])
