"""What measured speeds depend on beside what is run: processor, cores, versions of packages."""

import contextlib
import json
import os
import platform
import re
import sys
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmark.common.errors import IcmBenchError
from benchmark.common.plain import canonical_hash
from benchmark.common.storage.files import Storage
from benchmark.common.storage.places import cache_dir


def _cpuinfo() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")
    return ""


def processor() -> str:
    """Return the name of the processor, as far as the system knows it."""
    found = re.search(r"(?m)^model name[^:\n]*:(.*)$", _cpuinfo())
    return found[1].strip() if found else platform.processor() or platform.machine()


@cache
def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for products in bfloat16, as far as Linux knows."""
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(_cpuinfo().split())


def machine() -> list[str]:
    """Return processor, number of cores and the versions of what runs encoders."""
    return [processor(), str(os.cpu_count()), *encoder_versions()]


def encoder_versions() -> list[str]:
    """Return "package version" of what builds and runs encoders; packages that are not installed are left out."""
    found = []
    for name in ("torch", "open_clip_torch", "timm", "openvino"):
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return found


def visible_gpus() -> list[str]:
    """Return what tells, without any package, whether the GPUs have changed that a process may use."""
    visible = [f"{name}={os.environ.get(name)}" for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")]
    return [*gpu_devices(), *visible]


def gpu_devices() -> list[str]:
    """Return the devices by which Linux knows the GPUs of this machine, hidden ones too."""
    return sorted(str(device) for name in ("nvidia[0-9]*", "kfd") for device in Path("/dev").glob(name))


def gpu_name() -> str:
    """Return the name of the GPU of this process, as its driver calls it (`NVIDIA L4`)."""
    import torch

    return torch.cuda.get_device_name()


def peak_memory(device: str) -> int:
    """Return the bytes that this process took at most so far: on `cuda` what PyTorch allocated, else all of it."""
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else 1024 * peak)  # macOS counts bytes, Linux KiB


_GEMM_SECONDS = 0.5


def gemm_peak(device: str, precision: str) -> float:
    """Return the FLOP/s of a large matrix product on a device: what no encoder exceeds there.

    By PyTorch, on as many threads as it has; measured once in half a second, and remembered in the cache folder.
    """
    import torch

    gpu = gpu_name() if device == "cuda" else ""
    depends = [device, gpu, precision, torch.get_num_threads(), machine()]
    memory, name = Storage(str(cache_dir() / "engines")), f"gemm-{canonical_hash(depends)[:32]}.json"
    try:
        return float(json.loads(memory.read_bytes(name)))
    except (IcmBenchError, ValueError, TypeError):  # missing or damaged
        peak = _measured_gemm(device, precision)
        with contextlib.suppress(IcmBenchError):  # where it cannot be kept it is measured again
            memory.write_bytes(name, json.dumps(peak).encode())
        return peak


def _measured_gemm(device: str, precision: str) -> float:
    """Return the best of the products of square matrices that fit into the time."""
    import torch

    n = 8192 if device == "cuda" else 1024
    a = torch.ones((n, n), dtype=getattr(torch, precision), device=device)
    best, began = 0.0, time.perf_counter()
    while not best or time.perf_counter() - began < _GEMM_SECONDS:
        start = time.perf_counter()
        float((a @ a)[0, 0])  # a GPU is done when a number of the product is here
        best = max(best, 2 * n**3 / (time.perf_counter() - start))
    return best
