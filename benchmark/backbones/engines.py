"""What runs an image tower: PyTorch, or OpenVINO, which is twice as fast on many CPUs. Pixels in, embeddings out.

OpenVINO's numbers in float32 are PyTorch's within 1e-5 of their size; in bfloat16 they are numbers of their own, as
PyTorch's are.
"""

import contextlib
import functools
import logging
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmark.backbones.facts import BackboneFacts
from benchmark.backbones.models import EncoderModel
from benchmark.common.cache import cache_dir
from benchmark.common.errors import IcmBenchError
from benchmark.common.hashing import canonical_hash
from benchmark.common.machine import encoder_versions

Engine = Callable[[torch.Tensor], torch.Tensor]
_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
# Batch and rounds by which engines are compared: some two seconds of a small transformer.
_BATCH, _ROUNDS = 16, 3
CONVERSION = 2  # to be raised where towers are converted in another way
_FARTHEST = 1e-4  # that a converted tower may be from PyTorch's, relative to the largest number; they are within 1e-5


class Tower(torch.nn.Module):
    """An image tower with its normalisation: images at model-input size, uint8, shape (batch, 3, height, width), in.

    Args:
        model: the model; its image side is used.
        mean: of each channel, for values on the scale 0 to 1.
        std: likewise.
        dtype: type of the pixels that the tower takes.
    """

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
        """Return raw (not normalised) embeddings, shape (batch, D), in the type that the tower computes in."""
        scaled = pixels.float() * self._scale + self._shift
        return self._encode(scaled.to(self._dtype))


def holds_cast_weights(model: torch.nn.Module) -> bool:
    """Say whether a lower precision is that of the weights, instead of autocast's choice operation by operation.

    Transformers are up to twice as fast so (no weight is cast again at each pass) at the same distance from float32.
    Convolutional towers are not, and lose more of their numbers.
    """
    visual = getattr(model, "visual", model)
    return sum(isinstance(part, torch.nn.Conv2d) for part in visual.modules()) <= 1  # that of the patches


def openvino_missing() -> bool:
    """Say whether OpenVINO is not installed here."""
    return find_spec("openvino") is None


def on_openvino(facts: BackboneFacts, tower: Callable[[], Tower]) -> Engine:
    """Return an image tower that OpenVINO runs, on as many threads as torch has.

    The converted tower is kept in the cache folder, where other processes find it.

    Args:
        facts: what is known of the backbone.
        tower: gives the tower in float32, on the CPU; called where the cache has no converted one.

    Raises:
        IcmBenchError: OpenVINO is not installed, or cannot run this model.
    """
    if openvino_missing():
        raise IcmBenchError(
            f"OpenVINO is not installed on {platform.node()}; pip install 'icm-bench[cpu]' there, or set engine: torch."
        )
    try:
        if not is_converted(facts):
            _keep_converted(facts, tower())
        compiled = _core().compile_model(str(_file(facts)), "CPU", _settings(facts.precision))
    except Exception as error:  # a model that it does not know can make a converter raise anything
        why = error.__cause__ or error
        first = (str(why).strip().splitlines() or [type(why).__name__])[0]
        raise IcmBenchError(f"OpenVINO cannot run this model ({first:.200}); engine: torch can.") from error
    request = compiled.create_infer_request()

    def run(pixels: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(request.infer([pixels.contiguous().numpy()], share_inputs=True)[compiled.output(0)])

    return run


def _openvino() -> Any:
    """Return OpenVINO, which reports to its maker that it was imported unless it finds nothing to report by."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: importing it fails
    import openvino

    return openvino


@functools.cache
def _core() -> Any:
    """Return what models are compiled by: one in a process, and never given back.

    Each gives the main thread a stack for its signals, and takes it away at its end, though that of another was there
    before: with two that end in the order in which they began, the next Ctrl-C is a segmentation fault.
    """
    return _openvino().Core()


def _settings(precision: str) -> dict[str, Any]:
    """Return how models are compiled."""
    return {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
    }


class ConvertedTower:
    """The image side of a backbone, from what the cache has of it: no weights are loaded, and PyTorch runs nothing.

    Args:
        facts: what is known of the backbone; `is_converted` must say so.

    Raises:
        IcmBenchError: OpenVINO is not installed, or cannot run this model.
    """

    device = torch.device("cpu")

    def __init__(self, facts: BackboneFacts) -> None:
        self.facts = facts
        self._run = on_openvino(facts, tower=_unconverted)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Return what `Backbone.embed` does with this engine."""
        with torch.inference_mode():
            return self._run(images).float()


def is_converted(facts: BackboneFacts) -> bool:
    """Say whether the cache has a backbone's image tower for OpenVINO."""
    return _file(facts).is_file()


def _file(facts: BackboneFacts) -> Path:
    """Return the file of a tower in OpenVINO's own format, named by all that it depends on."""
    key = canonical_hash([facts.fingerprint, facts.architecture, facts.preprocess])
    return cache_dir() / "engines" / canonical_hash([key, encoder_versions(), CONVERSION])[:32] / "tower.xml"


def _unconverted() -> Tower:
    raise FileNotFoundError("its converted tower has left the cache folder")


def _keep_converted(facts: BackboneFacts, tower: Tower) -> None:
    """Convert a tower, and keep it in the cache folder."""
    height, width = facts.preprocess["size"]
    model = _convert(tower, (height, width))
    _check_numbers(model, tower, (height, width))
    place = _file(facts).parent
    place.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=place.parent))
    _openvino().save_model(model, made / "tower.xml", compress_to_fp16=False)
    try:
        made.rename(place)
    except OSError:  # another process was faster
        shutil.rmtree(made)


def _convert(tower: Tower, size: tuple[int, int]) -> Any:
    """Return OpenVINO's model of a tower for batches of any size.

    Traced, which takes a third of the time of `torch.export` and what its graph must be rewritten by.
    """
    _openvino()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    example = torch.zeros((2, 3, *size), dtype=torch.uint8)
    with _quiet(), traceable_attention(), torch.no_grad():
        # The frontend does not keep it alive. `_check_numbers` checks more than tracing again would.
        decoder = TorchScriptPythonDecoder(tower.eval(), example_input=example, trace_kwargs={"check_trace": False})
        frontend = FrontEndManager().load_by_framework("pytorch")
        model = frontend.convert(frontend.load(decoder))
    model.reshape([-1, 3, *size])
    return model


def _check_numbers(model: Any, tower: Tower, size: tuple[int, int]) -> None:
    """Refuse a converted tower whose numbers are not those of the tower: a trace may hold for some batches alone.

    Raises:
        ValueError: they differ, or are none.
    """
    compiled = _core().compile_model(model, "CPU", _settings("float32"))
    noise = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    ramp = torch.linspace(90, 160, size[1]).to(torch.uint8).expand_as(noise)
    for pixels in (noise, torch.cat([torch.full_like(noise, 255), noise, ramp])):
        with torch.inference_mode():
            expected = tower(pixels)
        found = torch.from_numpy(compiled([pixels.numpy()])[0])
        close = found.shape == expected.shape and (found - expected).abs().max() <= _FARTHEST * expected.abs().max()
        if not close:  # as no number is to another
            raise ValueError("what it makes of it has other numbers")


@contextlib.contextmanager
def traceable_attention() -> Iterator[None]:
    """Let attention take the way that can be traced: its fast one is opaque."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what converters log and print, also of what they mend by themselves, from the person who watches."""
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            Path(os.devnull).open("w") as nowhere,
            contextlib.redirect_stderr(nowhere),
            contextlib.redirect_stdout(nowhere),
        ):
            yield
    finally:
        logging.disable(logging.NOTSET)


def rates(engines: dict[str, Engine], size: tuple[int, int]) -> dict[str, float]:
    """Return images/s of engines, which take turns: medians of a few batches of random pixels.

    Args:
        engines: name -> engine.
        size: height and width of the images.
    """
    draws = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (_BATCH, 3, *size), dtype=torch.uint8, generator=draws)
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for engine in engines.values():
        engine(pixels)  # what is only done the first time
    for _ in range(_ROUNDS):
        for name, engine in engines.items():
            start = time.perf_counter()
            engine(pixels)
            seconds[name].append(time.perf_counter() - start)
    return {name: _BATCH / statistics.median(taken) for name, taken in seconds.items()}
