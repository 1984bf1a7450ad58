"""Where downloads and what is built from them live: outside every repository, safe to delete."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """Return the cache folder: $ICM_BENCH_CACHE, else $XDG_CACHE_HOME/icm-bench, else ~/.cache/icm-bench."""
    if folder := os.environ.get("ICM_BENCH_CACHE"):
        return Path(folder).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "icm-bench"
