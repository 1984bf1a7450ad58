"""Engines that map pixels to embeddings by an image tower: PyTorch, or OpenVINO, twice as fast on many CPUs.

In float32, results of both engines agree within a relative error of 1e-5; in bfloat16 they differ.
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

# Batch size and number of rounds for comparing engines, which takes about two seconds for a small transformer.
_BATCH, _ROUNDS = 16, 3


class Tower(torch.nn.Module):
    """An image tower that first normalises the pixels. Its input is uint8, shape (batch, 3, height, width)."""

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
        """Return raw (not normalised) embeddings, shape (batch, D), in the tower's dtype."""
        scaled = pixels.float() * self._scale + self._shift
        return self._encode(scaled.to(self._dtype))


def casts_weights(model: torch.nn.Module) -> bool:
    """Return whether a model runs in low precision with weights that are cast once; else operations are autocast.

    Transformers with cast weights are up to twice as fast as with autocast, which casts weights in each pass; the error
    against float32 is the same. Convolutional towers with cast weights are not faster, and have larger errors.
    """
    visual = getattr(model, "visual", model)
    return sum(isinstance(part, torch.nn.Conv2d) for part in visual.modules()) <= 1  # the patch embedding


def on_openvino(facts: BackboneFacts, tower: Callable[[], Tower] | None = None) -> Engine:
    """Return a backbone's image tower as an OpenVINO engine, with as many threads as torch.

    The converted tower is kept in the cache folder for other processes. If it is missing there, `tower()` returns the
    tower to convert, in float32 and on the CPU.
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
    """A replacement of `Backbone` for images: the converted tower in the cache, run by OpenVINO."""

    device = torch.device("cpu")

    def __init__(self, facts: BackboneFacts) -> None:
        self.facts = facts
        self._run = on_openvino(facts)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Return raw embeddings, shape (batch, D), as `Backbone.embed` does."""
        with torch.inference_mode():
            return self._run(images).float()


def is_converted(facts: BackboneFacts) -> bool:
    """Return whether a backbone's converted image tower is in the cache."""
    return _file(facts).is_file()


def _file(facts: BackboneFacts) -> Path:
    """Return the file of a converted tower; its folder is named by a hash of weights, preprocessing and versions."""
    key = canonical_hash([facts.fingerprint, facts.architecture, facts.preprocess])
    return cache_dir() / "engines" / canonical_hash([key, encoder_versions(), CONVERSION])[:32] / "tower.xml"


def throughputs(engines: dict[str, Engine], size: tuple[int, int]) -> dict[str, float]:
    """Return each engine's images/s: the median over a few batches of random pixels. The engines take turns."""
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
