"""An encoder of 64 dimensions that loads in a moment, and whose embeddings of noise fill its space; they mean nothing."""

import torch
from torch import Tensor

from benchmark import EncoderModel


class Pixels(EncoderModel):
    """Images by their pixels, texts by their letters."""

    size, mean, std, logit_scale = (16, 16), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), 50.0

    def __init__(self, spec: object) -> None:  # noqa: ARG002  every encoder takes one
        torch.manual_seed(0)
        self.module = torch.nn.ModuleDict({"image": torch.nn.Linear(768, 64), "text": torch.nn.EmbeddingBag(256, 64)})

    def encode_images(self, images: Tensor) -> Tensor:
        """See `EncoderModel.encode_images`."""
        encoded: Tensor = self.module["image"](images.flatten(1))
        return encoded

    def encode_texts(self, texts: list[str]) -> Tensor:
        """See `EncoderModel.encode_texts`."""
        return torch.cat([self.module["text"](torch.tensor([list(text.encode())])) for text in texts])
