"""Distinct image files for measurements, made from the images of a folder in DomainBed's layout."""

import os
from pathlib import Path

from tests.conftest import REPOSITORY


def sample_folder() -> Path:
    """Return the folder of the 700 real PACS images; ends the program with a sentence where it is absent."""
    folder = Path(os.environ.get("ICM_BENCH_SHARED", REPOSITORY.parent / "shared")) / "pacs_sample" / "PACS"
    if not folder.is_dir():
        raise SystemExit(f"{folder} is absent: set ICM_BENCH_SHARED to the folder that holds pacs_sample.")
    return folder


def distinct_copies(count: int, root: Path) -> Path:
    """Write `count` files below `root`, the sample's images in turn with some bytes behind their end; return `root`.

    Decoders stop at the end of the image, so the pixels are real and the files are distinct.
    """
    source = sample_folder()
    files = sorted(path for path in source.rglob("*") if path.suffix in (".jpg", ".png"))
    for number in range(count):
        file = files[number % len(files)]
        target = root / file.parent.relative_to(source) / f"{number // len(files):04d}_{file.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes() + f"copy {number}".encode())
    return root
