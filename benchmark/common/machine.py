"""What measured speeds depend on beside what is run: processor, cores, versions of packages."""

import contextlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def processor() -> str:
    """Return the name of the processor, as far as the system knows it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


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


def gpus_in_sight() -> list[str]:
    """Return what tells, without any package, whether the GPUs have changed that a process may use."""
    devices = [*Path("/dev").glob("nvidia[0-9]*"), *Path("/dev").glob("kfd")]
    visible = [f"{name}={os.environ.get(name)}" for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")]
    return [*sorted(map(str, devices)), *visible]
