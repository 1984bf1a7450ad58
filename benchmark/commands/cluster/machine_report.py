"""`icm-bench doctor --report`: versions and hardware of this machine, for a bug report.

It has no names of users or hosts, no paths and no values of variables other than numbers, so that it can be published.
"""

import os
import platform
import re
import shutil
import subprocess
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmark.common.errors import IcmBenchError
from benchmark.common.machine import processor, torch_gpus
from benchmark.common.storage.places import cache_dir

PACKAGES = (
    "ray", "torch", "torchvision", "open_clip_torch", "timm", "transformers", "openvino", "numpy", "scipy",
    "scikit-learn", "pandas", "pyarrow", "pydantic", "pillow",
)  # fmt: skip
THREADS = tuple(f"{name}_NUM_THREADS" for name in ("OMP", "OPENBLAS", "MKL", "VECLIB", "NUMEXPR"))
_TIMEOUT = 20.0  # seconds until a GPU driver or PyTorch must have answered


def machine_report() -> dict[str, Any]:
    """Return the report as plain data; no Ray is started and nothing is written but a temporary file in the cache."""
    return {
        "icm-bench": version("icm-bench"),
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "system": _system(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB",
        "gpus": _gpus(),
        "gpu_driver": _gpu_driver(),
        "packages": {name: _installed(name) for name in PACKAGES},
        "threads": {name: _number(os.environ[name]) for name in THREADS if name in os.environ},
        "cache": _cache(),
    }


def as_text(report: dict[str, Any]) -> str:
    """Return the report as lines "name: value"."""

    def words(value: Any) -> str:
        if isinstance(value, dict):
            return ", ".join(f"{name} {one}" for name, one in value.items()) or "none set"
        return ", ".join(value) or "none" if isinstance(value, list) else str(value)

    return "\n".join(f"{name.replace('_', ' ')}: {words(value)}" for name, value in report.items())


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _system() -> str:
    """Return system, kernel and architecture. Of the kernel's version only the numbers: its builder chose the rest."""
    try:
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        system = platform.system()
    kernel = re.match(r"[\d.]*", platform.release())
    subsystem = " (WSL)" if "microsoft" in platform.release().lower() else ""
    return f"{system}, kernel {kernel[0] if kernel else ''}{subsystem}, {platform.machine()}"


def _gpus() -> list[str]:
    """Return the names of the GPUs that PyTorch sees."""
    try:
        return [name for name, _ in torch_gpus(_TIMEOUT)]
    except IcmBenchError:  # its message may have paths
        return ["PyTorch does not load"]


def _gpu_driver() -> str:
    words = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(words, capture_output=True, text=True, timeout=_TIMEOUT, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return "none found"
    return ", ".join(sorted(set(re.findall(r"(?m)^[\d.]+$", said)))) or "none found"


def _number(value: str) -> str:
    return value if re.fullmatch(r"\d{1,6}(,\d{1,6})*", value) else "not a number"


def _cache() -> str:
    """Return whether the cache, or the nearest folder above it that exists, is writable, and its free space."""
    try:
        folder: Path = cache_dir()
        while not folder.exists():
            folder = folder.parent
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
        return f"writable, {shutil.disk_usage(folder).free / 2**30:.0f} GiB free"
    except OSError as error:
        return f"not writable ({error.strerror})"
