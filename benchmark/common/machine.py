"""Properties of this machine that measured speeds depend on: processor, cores, GPUs, package versions.

These properties are part of the keys of measured costs, cached facts of backbones and converted towers. They are not
part of the keys of embeddings and result rows.
"""

import contextlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmark.common.errors import IcmBenchError

_GPUS = """import json, torch, torch.cuda as c
found = [(p.name, p.major) for p in map(c.get_device_properties, range(c.device_count()))]
print(json.dumps(found or [("Apple GPU", 0)] * torch.backends.mps.is_available()))"""
_DRIVER = Path("/proc/driver/nvidia/version")


def _cpuinfo() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")
    return ""


def processor() -> str:
    """Return the name of the processor, as reported by the system."""
    found = re.search(r"(?m)^model name[^:\n]*:(.*)$", _cpuinfo())
    return found[1].strip() if found else platform.processor() or platform.machine()


@cache
def multiplies_bfloat16() -> bool:
    """Return whether the processor has instructions for bfloat16 products, according to Linux."""
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(_cpuinfo().split())


def machine() -> list[str]:
    """Return processor, number of cores and versions of the packages that run encoders."""
    return [processor(), str(os.cpu_count()), *encoder_versions()]


def encoder_versions() -> list[str]:
    """Return "package version" of the installed packages that build and run encoders."""
    found = []
    for name in ("torch", "open_clip_torch", "timm", "openvino"):
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return found


def visible_gpus() -> list[str]:
    """Return the GPU device files, then the variables that hide GPUs as "NAME=VALUE". No package is imported."""
    visible = [f"{name}={os.environ.get(name)}" for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")]
    return [*gpu_devices(), *visible]


def gpu_devices() -> list[str]:
    """Return the Linux device files of the GPUs of this machine, including hidden GPUs."""
    return sorted(str(device) for name in ("nvidia[0-9]*", "kfd") for device in Path("/dev").glob(name))


def torch_gpus(timeout: float = 60, hidden: bool = False) -> list[tuple[str, int]]:
    """Return name and major compute capability of the GPUs that PyTorch sees in a new process.

    With `hidden`, GPUs that environment variables hide from this process are included: Ray hides GPUs from a task that
    reserves none.
    """
    variables = {k: v for k, v in os.environ.items() if not (hidden and k.endswith("_VISIBLE_DEVICES"))}
    words = [sys.executable, "-P", "-c", _GPUS]
    try:
        listed = subprocess.run(words, env=variables, capture_output=True, text=True, check=True, timeout=timeout)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        why = (str(error.stderr or "").strip().splitlines() or [f"no answer within {timeout:.0f} s"])[-1].rstrip(".")
        raise IcmBenchError(f"PyTorch does not load ({why}); reinstall it.") from error
    return [(name, major) for name, major in json.loads(listed.stdout.splitlines()[-1])]


def unusable_gpus(declared: int, seen: int = 0) -> str:
    """Return a sentence on GPUs that Ray declares and PyTorch cannot use: its build, the GPU driver and the remedy."""
    import torch

    build = (
        f"PyTorch {torch.__version__} ({f'for CUDA {torch.version.cuda}' if torch.version.cuda else 'without CUDA'})"
    )
    return (
        f"Ray declares {declared} GPU{'s' * (declared != 1)} and {build} sees {seen}, with {gpu_driver()}: install a "
        f"PyTorch for this driver, start Ray with --num-gpus={seen}, or set run.device: cpu in the recipe."
    )


def gpu_driver() -> str:
    """Return "NVIDIA driver VERSION", or "no NVIDIA driver found"."""
    said = ""
    with contextlib.suppress(OSError):
        said = _DRIVER.read_text(encoding="utf-8")
    if not said:
        words = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=10).stdout
    found = re.search(r"\b\d+\.\d+(\.\d+)?\b", said)
    return f"NVIDIA driver {found[0]}" if found else "no NVIDIA driver found"


def dtype_name(precision: str) -> str:
    """Return the name of a precision's torch dtype: `tf32` has float32 numbers."""
    return "float32" if precision == "tf32" else precision


@contextlib.contextmanager
def float32_products(device: str, tf32: bool) -> Iterator[None]:
    """Make float32 products on `cuda` IEEE float32 or TF32 inside the block; PyTorch's default mixes both.

    The setting is global to the process. The attributes `allow_tf32` are used, since setting `fp32_precision` makes
    them, and compilers that read them, fail.
    """
    import torch

    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    if device == "cuda":
        products.allow_tf32 = convolutions.allow_tf32 = tf32
    try:
        yield
    finally:
        if device == "cuda":
            products.allow_tf32, convolutions.allow_tf32 = before


def peak_memory(device: str) -> int:
    """Return the peak memory of this process in bytes: on `cuda` what PyTorch allocated, else the resident memory."""
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else 1024 * peak)  # macOS counts bytes, Linux KiB
