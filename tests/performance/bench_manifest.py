"""Millions of images: seconds and memory of the driver, from listing to the chunks that are to be embedded.

    python -m tests.performance.bench_manifest [--images 2000000] [--real DIR]

The list is made up, and so are the images: nothing is read for their hashes. --real DIR hashes the images of a data set
that is there (DomainBed's layout), which says what reading adds. Caches are new ones.
"""

import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmark.datasets.spec import DatasetSpec
from tests.performance.figures import arguments, keep

GIB = 2.0**20  # KiB, as Linux counts memory


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--images", type=int, default=2_000_000)
    parser.add_argument("--real", type=Path, metavar="DIR")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ICM_BENCH_CACHE"] = str(Path(folder) / "cache")
        if args.real:
            spec, what = DatasetSpec(name=args.real.name, root=str(args.real.parent)), "images of a real data set"
        else:
            place = Path(folder) / str(args.images)
            place.mkdir()
            layout = "tests.performance.made_up:MadeUpReader"
            spec, what = DatasetSpec(name="made_up", root=str(place), layout=layout), "images that are MADE UP"
        measure(spec, Path(folder) / "store", what, args.json)


def measure(spec: DatasetSpec, store: Path, what: str, file: Path | None) -> None:
    """Go through the stages of the driver, and print what each took and the most memory by then."""
    from benchmark.backbones.spec import BackboneSpec
    from benchmark.common.storage.files import Storage
    from benchmark.datasets.manifest import read_manifest
    from benchmark.embedding.pipeline import EmbedJob, _missing_chunks
    from tests.stand_in import FACTS, views

    figures: dict[str, float] = {}

    def stage(name: str, work: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        done = work()
        figures[f"{name}_s"] = time.perf_counter() - began
        figures[f"{name}_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIB
        return done

    manifest = stage("identify", lambda: read_manifest(spec))
    stage("look", lambda: (manifest.fingerprint, manifest.counts, manifest.classes, manifest.notes()))
    del manifest
    manifest = stage("again", lambda: read_manifest(spec))
    job = EmbedJob(Storage(str(store)), manifest, BackboneSpec(name="none"), FACTS, views(manifest, 1))
    chunks = stage("chunks", lambda: (chunks := _missing_chunks(job)[0]).rows() and chunks)
    count = manifest.table.num_rows
    print(f"{count} {what}, {len(chunks)} chunks, {os.cpu_count()} cores")
    for name in ("identify", "look", "again", "chunks"):
        seconds, memory = figures[f"{name}_s"], figures[f"{name}_gib"]
        print(f"  {name:10} {seconds:8.1f} s {count / seconds:10.0f} images/s   {memory:.2f} GiB at most so far")
    keep(file, {"images_per_s": count / figures["identify_s"], "gib": figures["chunks_gib"]})


if __name__ == "__main__":
    main()
