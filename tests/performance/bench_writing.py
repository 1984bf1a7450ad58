"""A store whose every write takes its time, and encoders that must not wait for it: the pipeline alone, simulated.

    python -m tests.performance.bench_writing [--delays 0 0.1 0.15] [--chunks 60]

A stand-in encoder sleeps a fixed time for each chunk, and the store, a folder, sleeps before each write as an object
store across a network would. Reading, decoding and writing are real, on small images. Ends with an error where no part of
a view went through such a write: then nothing was measured.
"""

import statistics
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

from benchmark.backbones.spec import BackboneSpec
from benchmark.common.ray.cluster import connected
from benchmark.common.storage.files import Storage
from benchmark.datasets.manifest import Manifest, read_manifest
from benchmark.datasets.spec import DatasetSpec
from benchmark.embedding.pipeline import EmbedJob, embed
from benchmark.recipe.specs import RunSpec
from benchmark.store import embeddings as store
from tests.conftest import make_toy
from tests.performance.figures import arguments, keep
from tests.stand_in import FACTS, stand_in, views

ENCODERS = {
    0.15: "share",
    0.03: "share_of_30_ms_encoder",
}  # seconds a chunk, as on a CPU and on a GPU; name of the figure


class SlowStorage(Storage):
    """A folder in which each file is written so many seconds later; `log` gets a line for each part of a view."""

    def __init__(self, uri: str, delay: float, log: Path) -> None:
        super().__init__(uri)
        self._delay, self._log = delay, log

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write as `Storage` does, after the delay: in a folder every file is written by this."""
        time.sleep(self._delay)
        super().write_bytes(name, content)
        if store.part_number(name) is not None:
            with self._log.open("a") as file:
                file.write(f"{name}\n")

    def __reduce__(self) -> Any:
        """Travel with the delay."""
        return SlowStorage, (self.path(""), self._delay, self._log)


def share(manifest: Manifest, delay: float, seconds: float) -> float:
    """Return what the pipeline delivers, of what the encoder alone would."""
    with tempfile.TemporaryDirectory() as place:
        storage = SlowStorage(f"{place}/store", delay, log := Path(place) / "log")
        spec = BackboneSpec(name="stand-in", pretrained="random")
        job = EmbedJob(storage, manifest, spec, FACTS, views(manifest, 2))
        speed = embed(job, RunSpec(), stand_in(seconds)).speed
        if not log.exists():
            raise SystemExit(
                "No part of a view was written late: the pipeline writes otherwise, and nothing was measured."
            )
    assert speed
    return store.chunk_count(manifest.table.num_rows) * seconds / speed.seconds


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--delays", type=float, nargs="+", default=[0.0, 0.1, 0.15], help="seconds before each write")
    parser.add_argument("--chunks", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    print(f"SIMULATED: encoders that sleep for each of {args.chunks} chunks, two views; medians of {args.repeats}")
    cases = list(product(ENCODERS, args.delays))
    with tempfile.TemporaryDirectory() as folder, connected():
        root = make_toy(Path(folder) / "toy", environments=2, classes=2, images=args.chunks * 16)
        manifest = read_manifest(DatasetSpec(name="toy", root=str(root)))
        rounds = [[share(manifest, delay, seconds) for seconds, delay in cases] for _ in range(args.repeats)]
    figures: dict[str, float] = {}
    for (seconds, delay), shares in zip(cases, zip(*rounds, strict=True), strict=True):
        figures[f"{ENCODERS[seconds]}_at_{1000 * delay:.0f}_ms"] = statistics.median(shares)
        words = f"encoder of {1000 * seconds:.0f} ms, writes of {1000 * delay:.0f} ms"
        print(f"  {words}: {statistics.median(shares):.3f} of its rate")
    keep(args.json, figures)


if __name__ == "__main__":
    main()
