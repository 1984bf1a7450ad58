"""The base class of image interventions, and the random generator for one image."""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmark.common.errors import IcmBenchError
from benchmark.common.registry import Component

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def view_rng(seed: int, image_id: str, what: str) -> np.random.Generator:
    """Return the random generator for one image and one purpose.

    `what` names the purpose, for example an intervention with its parameters as JSON. The generator depends only on the
    arguments, so draws do not depend on the batch size, the number of workers or the order of images.
    """
    digest = hashlib.sha256(f"{seed}|{image_id}|{what}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))


def to_device(tensor: "Tensor", device: "torch.device") -> "Tensor":
    """Return a tensor of the host on a device. A copy to a GPU comes from pinned memory, so that nothing waits."""
    pinned = device.type == "cuda" and tensor.device.type == "cpu" and tensor.numel() > 0
    return (tensor.pin_memory() if pinned else tensor).to(device, non_blocking=pinned)


class Intervention(Component):
    """Base class of image interventions: parameters, a random draw for each image, and an operation on batches.

    To add a kind, derive from this class in a separate file, write `apply` (and `draw`, if views are random), and give
    the class a name in `INTERVENTIONS` (or name it `module:Class` in the recipe). No hash covers the code of built-in
    kinds, so raise `STORE_VERSION` in `benchmark/store/embeddings.py` if you change one. `make docs` copies the
    descriptions of fields to docs/recipe.md.

    Example:
        >>> import torch
        >>> from benchmark.method.interventions import Intervention
        >>> class Darken(Intervention):
        ...     "Divide every value by a divisor drawn for each image."
        ...     largest: int = 4
        ...
        ...     def draw(self, rng):
        ...         return (rng.integers(2, self.largest, endpoint=True),)
        ...
        ...     def apply(self, images, drawn):
        ...         return (images // drawn[:, :, None, None]).to(torch.uint8)
        >>> images = torch.full((2, 3, 4, 4), 240, dtype=torch.uint8)
        >>> views = Darken().views(images, ["a.jpg", "b.jpg"], seed=0)
        >>> set(views.unique().tolist()) <= {120, 80, 60}
        True
        >>> torch.equal(views[1:], Darken().views(images[1:], ["b.jpg"], seed=0))  # in any batch
        True

    Attributes:
        draws_on_host: whether `apply` gets its draws on the CPU (default False: on the images' device), for an
            operation that needs their values in Python; to read them from a GPU would wait for it.
    """

    draws_on_host: ClassVar[bool] = False

    @property
    def is_random(self) -> bool:
        """Whether views are random and so depend on the seed."""
        return type(self).draw is not Intervention.draw

    def at_strength(self, strengths: Mapping[str, float]) -> "Intervention":
        """Return this intervention with other values of some parameters.

        Values of integer parameters are rounded. For a range, the value becomes both bounds.

        Args:
            strengths: name of a parameter -> its value.

        Raises:
            pydantic.ValidationError: a value is out of range.
        """
        params = self.params
        for name, value in strengths.items():
            if isinstance(params[name], tuple):
                params[name] = (value, value)
            else:
                params[name] = round(value) if isinstance(params[name], int) else value
        return type(self)(**params)

    def draw(self, rng: np.random.Generator) -> Sequence[float]:
        """Return the random parameters of one image's view, by default none.

        Their number must be the same for every image.

        Args:
            rng: the generator of this image, the only allowed source of randomness.
        """
        del rng
        return ()

    @abstractmethod
    def apply(self, images: "Tensor", drawn: "Tensor") -> "Tensor":
        """Return the intervened images.

        The view of an image must have the same bytes in any batch. So use no statistics over the batch, and no
        operation whose rounding depends on the batch's size or layout (see `pixels.py`). On a GPU, nothing should read
        a value back (`.item()`, `.tolist()`, `.cpu()`, boolean masks): it would wait until the GPU has nothing to do.

        Args:
            images: RGB images, uint8, shape (batch, 3, height, width), of any size and memory format, on any device.
                `apply` must not write to them.
            drawn: the P numbers from `draw` for each image, float64, shape (batch, P), on the images' device; on the
                CPU with `draws_on_host`.

        Returns:
            The views, uint8, of the images' shape.
        """

    def draws(self, image_ids: Sequence[str], seed: int) -> NDArray[np.float64]:
        """Return the random parameters of each image's view, shape (images, P). Needs no torch.

        Args:
            image_ids: id of each image in its data set.
            seed: seed of all draws.
        """
        if not self.is_random:
            return np.empty((len(image_ids), 0))
        what = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return np.array([tuple(self.draw(view_rng(seed, image_id, what))) for image_id in image_ids], dtype=np.float64)

    def views(self, images: "Tensor", image_ids: Sequence[str], seed: int) -> "Tensor":
        """Return the view of every image of a batch. It depends only on the image, its id, the parameters and the seed.

        The same as `apply_draws` with the draws of these images, see there.
        """
        return self.apply_draws(images, self.draws(image_ids, seed))

    def apply_draws(self, images: "Tensor", draws: NDArray[np.float64]) -> "Tensor":
        """Return the view of every image of a batch for given draws. Built-in kinds never wait for a GPU.

        Args:
            images: RGB images, uint8, shape (batch, 3, height, width), on any device.
            draws: see `draws`, in the order of `images`.

        Returns:
            The views, uint8, of the images' shape and on their device.

        Raises:
            IcmBenchError: `apply` returned another shape or dtype.
        """
        import torch

        drawn = torch.tensor(draws, dtype=torch.float64)
        views = self.apply(images, drawn if self.draws_on_host else to_device(drawn, images.device))
        if views.shape != images.shape or views.dtype != torch.uint8:
            raise IcmBenchError(
                f"The intervention '{self.name}' must return uint8 of shape {tuple(images.shape)}, "
                f"not {str(views.dtype).removeprefix('torch.')} of shape {tuple(views.shape)}."
            )
        return views
