"""Engines of image towers: PyTorch, or OpenVINO, which is twice as fast on many CPUs. Pixels in, embeddings out.

OpenVINO's results in float32 are PyTorch's up to a relative error of 1e-5; in bfloat16 the two differ.
"""

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmark.backbones.facts import BackboneFacts
from benchmark.backbones.models import EncoderModel
from benchmark.common.conversion import CONVERSION, Engine, converted, for_user, runner, save
from benchmark.common.machine import encoder_versions
from benchmark.common.plain import canonical_hash
from benchmark.common.storage.places import cache_dir

# Batch size and rounds to compare engines: about two seconds for a small transformer.
_BATCH, _ROUNDS = 16, 3


class Tower(torch.nn.Module):
    """An image tower with normalisation, for images in uint8, shape (batch, 3, height, width)."""

    def __init__(
        self, model: EncoderModel, mean: list[float], std: list[float], dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self._weights, self._encode, self._dtype = model.module, model.encode_images, dtype
        self._scale: torch.Tensor
        self._shift: torch.Tensor
        of_mean, of_std = (torch.tensor(values).view(1, 3, 1, 1) for values in (mean, std))
        self.register_buffer("_scale", 1 / (255 * of_std))
        self.register_buffer("_shift", -of_mean / of_std)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return raw (not normalised) embeddings, shape (batch, D), in the dtype of the tower."""
        scaled = pixels.float() * self._scale + self._shift
        return self._encode(scaled.to(self._dtype))


def casts_weights(model: torch.nn.Module) -> bool:
    """Return whether weights are cast to a lower precision, instead of autocast by operation.

    Transformers are then up to twice as fast (no weight is cast in each pass), with the same error against float32.
    Convolutional towers are not faster, and have larger errors.
    """
    visual = getattr(model, "visual", model)
    return sum(isinstance(part, torch.nn.Conv2d) for part in visual.modules()) <= 1  # the patch embedding


def on_openvino(facts: BackboneFacts, tower: Callable[[], Tower] | None = None) -> Engine:
    """Return an image tower run by OpenVINO, with as many threads as torch.

    The converted tower is stored in the cache folder for other processes. If it is missing, `tower` returns the tower
    to convert: in float32, on the CPU.
    """
    with for_user():
        if not is_converted(facts):
            if tower is None:
                raise FileNotFoundError("its converted tower has left the cache folder")
            height, width = facts.preprocess["size"]
            model, place = converted(tower(), (height, width)), _file(facts).parent
            place.parent.mkdir(parents=True, exist_ok=True)
            made = Path(tempfile.mkdtemp(dir=place.parent))
            save(model, str(made / "tower.xml"))
            try:
                made.rename(place)
            except OSError:  # another process was faster
                shutil.rmtree(made)
        return runner(str(_file(facts)), facts.precision)


class ConvertedTower:
    """The image tower of a backbone from the cache, run by OpenVINO; no weights are loaded."""

    device = torch.device("cpu")

    def __init__(self, facts: BackboneFacts) -> None:
        self.facts = facts
        self._run = on_openvino(facts)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """See `Backbone.embed`."""
        with torch.inference_mode():
            return self._run(images).float()


def is_converted(facts: BackboneFacts) -> bool:
    """Return whether the cache has the converted image tower of a backbone."""
    return _file(facts).is_file()


def _file(facts: BackboneFacts) -> Path:
    """Return the file of a tower in OpenVINO's format, named by a hash of all dependencies."""
    key = canonical_hash([facts.fingerprint, facts.architecture, facts.preprocess])
    return cache_dir() / "engines" / canonical_hash([key, encoder_versions(), CONVERSION])[:32] / "tower.xml"


def throughputs(engines: dict[str, Engine], size: tuple[int, int]) -> dict[str, float]:
    """Return images/s of engines, run alternately: medians over a few batches of random pixels."""
    draws = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (_BATCH, 3, *size), dtype=torch.uint8, generator=draws)
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for engine in engines.values():
        engine(pixels)  # warm-up
    for _ in range(_ROUNDS):
        for name, engine in engines.items():
            start = time.perf_counter()
            engine(pixels)
            seconds[name].append(time.perf_counter() - start)
    return {name: _BATCH / statistics.median(taken) for name, taken in seconds.items()}
