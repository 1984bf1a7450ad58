"""Conversion of PyTorch image towers to OpenVINO models, and inference with these models, for CPU backbones.

Inputs are pixels: uint8, shape (batch, 3, height, width). In float32, outputs agree with PyTorch within 1e-5 of the
largest output. A converted model with ten times this error is refused.
"""

import contextlib
import functools
import logging
import os
import platform
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmark.common.errors import IcmBenchError

Engine = Callable[[torch.Tensor], torch.Tensor]
CONVERSION = 2
"""Version of the conversion; increase it when the conversion changes."""
# Precision in recipes -> OpenVINO's name. A new precision is also a word of `Precision` in backbones/spec.py.
_HINTS = {"float32": "f32", "tf32": "f32", "bfloat16": "bf16", "float16": "f16"}
# Maximum difference between outputs of a converted module and of PyTorch, relative to the largest output. Usual: 1e-5.
_MAX_ERROR = 1e-4
# Maximum images per thread of an infer request. With few images, activations stay in a core's cache, but weights are
# read more often. Measured on two cores: 20 % faster than whole batches for convolutions, 5 % for transformers.
_CONVOLUTIONAL, _TRANSFORMER = 4, 16
_MAX_IN_FLIGHT = 32  # images in flight


def openvino_missing() -> bool:
    """Return whether OpenVINO is not installed."""
    return find_spec("openvino") is None


@contextlib.contextmanager
def for_user() -> Iterator[None]:
    """Raise IcmBenchError if OpenVINO is not installed, and turn any error of the block into IcmBenchError."""
    if openvino_missing():
        raise IcmBenchError(
            f"OpenVINO is not installed on {platform.node()}; pip install 'icm-bench[cpu]' there, or set engine: torch."
        )
    try:
        yield
    except Exception as error:  # the converter can raise anything for unsupported models
        why = error.__cause__ or error
        first = (str(why).strip().splitlines() or [type(why).__name__])[0]
        raise IcmBenchError(f"OpenVINO cannot run this model ({first:.200}); engine: torch can.") from error


def converted(module: torch.nn.Module, size: tuple[int, int]) -> Any:
    """Return a module converted to an OpenVINO model for the CPU, in float32, for any batch size.

    The module maps images of `size` (height, width) to outputs of shape (batch, D), for any D. It is converted by
    tracing, which takes a third of the time of `torch.export`.

    Raises:
        ValueError: the outputs of the converted model differ from the module's outputs, or are NaN.
    """
    _openvino()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    example = torch.zeros((2, 3, *size), dtype=torch.uint8)
    with _quiet(), traceable_attention(), torch.no_grad():
        # `decoder` must stay alive for the frontend. `_check_outputs` checks more than `check_trace` would.
        decoder = TorchScriptPythonDecoder(module.eval(), example_input=example, trace_kwargs={"check_trace": False})
        frontend = FrontEndManager().load_by_framework("pytorch")
        model = frontend.convert(frontend.load(decoder))
    model.reshape([-1, 3, *size])
    _check_outputs(model, module, size)
    return model


def save(model: Any, file: str) -> None:
    """Write a converted model to an .xml file, and its weights to a file next to it."""
    _openvino().save_model(model, file, compress_to_fp16=False)


def runner(model: Any, precision: str) -> Engine:
    """Return a function that maps a batch of pixels to the outputs of a converted model; it is not thread-safe.

    It uses as many threads as torch. A batch is cut into pieces that run concurrently, each on its own threads. `model`
    is a result of `converted` or the name of a model file. For `precision` see `_HINTS`.
    """
    model = _core().read_model(model) if isinstance(model, str) else model
    convolutions = sum("Convolution" in operation.get_type_name() for operation in model.get_ops())
    max_images = _CONVOLUTIONAL if convolutions > 1 else _TRANSFORMER  # a transformer has one: the patch embedding
    threads = torch.get_num_threads()
    streams = max(n for n in range(1, _MAX_IN_FLIGHT // max_images + 1) if threads % n == 0)
    max_images *= threads // streams
    compiled = _core().compile_model(model, "CPU", _settings(precision) | {"NUM_STREAMS": streams})
    requests = [compiled.create_infer_request() for _ in range(streams)]

    def run(pixels: torch.Tensor) -> torch.Tensor:
        pieces = pixels.contiguous().tensor_split(max(streams, -(-len(pixels) // max_images)))
        found, in_flight = [], deque[Any]()
        try:
            for number, piece in enumerate(filter(len, pieces)):
                if len(in_flight) == streams:
                    found.append(_result(in_flight.popleft()))
                requests[number % streams].start_async([piece.numpy()], share_inputs=True)
                in_flight.append(requests[number % streams])
            while in_flight:
                found.append(_result(in_flight.popleft()))
        finally:
            for request in in_flight:  # after an error: these requests still read the pixels
                with contextlib.suppress(Exception):
                    request.wait()
        return torch.cat(found)

    return run


def _result(request: Any) -> torch.Tensor:
    request.wait()
    return torch.from_numpy(request.get_output_tensor().data.copy())


def _openvino() -> Any:
    """Return OpenVINO, imported without its telemetry."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None makes its import fail
    import openvino

    return openvino


@functools.cache
def _core() -> Any:
    """Return the only `openvino.Core` of this process, which is never destroyed.

    Each `Core` replaces the signal stack of the main thread, and restores the previous stack when it is destroyed. If
    two of them are destroyed in the order of their creation, the next Ctrl-C is a segmentation fault.
    """
    return _openvino().Core()


def _settings(precision: str) -> dict[str, Any]:
    """Return OpenVINO's compile options for a precision, with one stream on all of torch's threads."""
    return {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # otherwise two processes might be pinned to the same core
    }


def _check_outputs(model: Any, module: torch.nn.Module, size: tuple[int, int]) -> None:
    """Raise ValueError if the outputs of `model` and `module` differ.

    Batches of two sizes are compared, since a trace may be valid for one size only.
    """
    compiled = _core().compile_model(model, "CPU", _settings("float32"))
    noise = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    ramp = torch.linspace(90, 160, size[1]).to(torch.uint8).expand_as(noise)
    for pixels in (noise, torch.cat([torch.full_like(noise, 255), noise, ramp])):
        with torch.inference_mode():
            expected = module(pixels)
        found = torch.from_numpy(compiled([pixels.numpy()])[0])
        close = found.shape == expected.shape and (found - expected).abs().max() <= _MAX_ERROR * expected.abs().max()
        if not close:  # also for NaN
            raise ValueError("the outputs of the converted model differ")


@contextlib.contextmanager
def traceable_attention() -> Iterator[None]:
    """Disable torch's fast path of attention inside the block, since it cannot be traced."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress output and log messages inside the block, since converters report even errors that they handled."""
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
