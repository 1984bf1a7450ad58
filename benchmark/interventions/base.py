"""What an intervention on images is, and where its randomness comes from."""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from benchmark.registry import Component

if TYPE_CHECKING:
    import torch


def view_rng(seed: int, image_id: str, what: str) -> np.random.Generator:
    """Return the generator for one image and one purpose.

    It depends on its three arguments alone, so a draw is the same whatever the batch size, the number of workers
    or the order in which images come.
    """
    digest = hashlib.sha256(f"{seed}|{image_id}|{what}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))


class Intervention(Component):
    """A change of the variant factors of an image: a frozen set of strengths and one method.

    To add a kind, derive from this class in a file of its own, write `apply`, and give the class a name in
    `INTERVENTIONS` (or name it `module:Class` in the recipe).
    """

    @abstractmethod
    def apply(self, image: "torch.Tensor", rng: np.random.Generator) -> "torch.Tensor":
        """Return the intervened image.

        Args:
            image: uint8, shape (3, height, width), RGB, at model-input size; not to be written to.
            rng: the only source of randomness allowed.

        Returns:
            uint8, same shape.
        """

    def views(self, images: "torch.Tensor", image_ids: Sequence[str], seed: int) -> "torch.Tensor":
        """Return the view of every image of a batch: uint8, shape (batch, 3, height, width)."""
        import torch

        what = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return torch.stack(
            [
                self.apply(image, view_rng(seed, image_id, what))
                for image, image_id in zip(images, image_ids, strict=True)
            ]
        )
