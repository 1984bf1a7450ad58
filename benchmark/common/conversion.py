"""PyTorch modules that make numbers of pixels, converted to OpenVINO's models and run by it.

Pixels are uint8, of shape (batch, 3, height, width). The numbers in float32 are PyTorch's within 1e-5 of their size; a
model with others, by ten times that, is refused.
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
"""To be raised where modules are converted in another way."""
_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
_FARTHEST = 1e-4  # that a converted module may be from PyTorch's, relative to the largest number; they are within 1e-5
# Images that an infer request takes at most for each of its threads: of few, what it makes stays in a core's cache, but
# weights are read for each. Measured on two cores: a fifth faster than a batch at once, a twentieth for transformers.
_CONVOLUTIONAL, _TRANSFORMER = 4, 16
_AT_A_TIME = 32  # images that are under way at most


def openvino_missing() -> bool:
    """Say whether OpenVINO is not installed here."""
    return find_spec("openvino") is None


@contextlib.contextmanager
def for_user() -> Iterator[None]:
    """Let what the block raises come out as a sentence: OpenVINO is not installed, or cannot run a model."""
    if openvino_missing():
        raise IcmBenchError(
            f"OpenVINO is not installed on {platform.node()}; pip install 'icm-bench[cpu]' there, or set engine: torch."
        )
    try:
        yield
    except Exception as error:  # a model that it does not know can make a converter raise anything
        why = error.__cause__ or error
        first = (str(why).strip().splitlines() or [type(why).__name__])[0]
        raise IcmBenchError(f"OpenVINO cannot run this model ({first:.200}); engine: torch can.") from error


def converted(module: torch.nn.Module, size: tuple[int, int]) -> Any:
    """Return OpenVINO's model of a module on the CPU, in float32, for batches of any size.

    The module makes numbers, shape (batch, any), of images of a height and width. Traced, which takes a third of the
    time of `torch.export` and what its graph must be rewritten by.

    Raises:
        ValueError: its numbers are others, or none.
    """
    _openvino()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    example = torch.zeros((2, 3, *size), dtype=torch.uint8)
    with _quiet(), traceable_attention(), torch.no_grad():
        # The frontend does not keep it alive. `_check_numbers` checks more than tracing again would.
        decoder = TorchScriptPythonDecoder(module.eval(), example_input=example, trace_kwargs={"check_trace": False})
        frontend = FrontEndManager().load_by_framework("pytorch")
        model = frontend.convert(frontend.load(decoder))
    model.reshape([-1, 3, *size])
    _check_numbers(model, module, size)
    return model


def save(model: Any, file: str) -> None:
    """Write a converted model into a file, and its weights beside it."""
    _openvino().save_model(model, file, compress_to_fp16=False)


def runner(model: Any, precision: str) -> Engine:
    """Return what runs a converted model, on as many threads as torch has; not for several callers at a time.

    A batch is cut into pieces, of which several are under way, each on threads of its own. The model is as `converted`
    returns it, or the name of a file of one; the precision float32, bfloat16 or float16.
    """
    model = _core().read_model(model) if isinstance(model, str) else model
    convolutions = sum("Convolution" in operation.get_type_name() for operation in model.get_ops())
    most = _CONVOLUTIONAL if convolutions > 1 else _TRANSFORMER  # one is that of the patches
    threads = torch.get_num_threads()
    streams = max(n for n in range(1, _AT_A_TIME // most + 1) if threads % n == 0)
    most *= threads // streams
    compiled = _core().compile_model(model, "CPU", _settings(precision) | {"NUM_STREAMS": streams})
    requests = [compiled.create_infer_request() for _ in range(streams)]

    def run(pixels: torch.Tensor) -> torch.Tensor:
        pieces = pixels.contiguous().tensor_split(max(streams, -(-len(pixels) // most)))
        found, under_way = [], deque[Any]()
        try:
            for number, piece in enumerate(filter(len, pieces)):
                if len(under_way) == streams:
                    found.append(_result(under_way.popleft()))
                requests[number % streams].start_async([piece.numpy()], share_inputs=True)
                under_way.append(requests[number % streams])
            while under_way:
                found.append(_result(under_way.popleft()))
        finally:
            for request in under_way:  # of a batch that failed: they look at its pixels
                with contextlib.suppress(Exception):
                    request.wait()
        return torch.cat(found)

    return run


def _result(request: Any) -> torch.Tensor:
    request.wait()
    return torch.from_numpy(request.get_output_tensor().data.copy())


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
        "ENABLE_CPU_PINNING": False,  # others have the same cores, and two processes would be pinned to the same one
    }


def _check_numbers(model: Any, module: torch.nn.Module, size: tuple[int, int]) -> None:
    """Refuse a model whose numbers are not those of the module: a trace may hold for some batches alone."""
    compiled = _core().compile_model(model, "CPU", _settings("float32"))
    noise = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    ramp = torch.linspace(90, 160, size[1]).to(torch.uint8).expand_as(noise)
    for pixels in (noise, torch.cat([torch.full_like(noise, 255), noise, ramp])):
        with torch.inference_mode():
            expected = module(pixels)
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
