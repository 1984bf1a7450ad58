"""A store whose every write takes its time, and an encoder that must not wait for it: the pipeline alone, simulated.

    python -m tests.performance.bench_writing [--delays 0 0.1 0.15] [--seconds 0.15] [--chunks 60]

A stand-in encoder sleeps a fixed time for each chunk, and the store, a folder, sleeps before each write as an object
store across a network would. Reading, decoding and writing are real, on small images.
"""

import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmark.backbones.spec import BackboneSpec
from benchmark.common.cluster import connected
from benchmark.common.storage import Storage
from benchmark.datasets.manifest import read_manifest
from benchmark.datasets.spec import DatasetSpec
from benchmark.embedding.pipeline import EmbedJob, embed
from benchmark.recipe.specs import RunSpec
from benchmark.store import embeddings as store
from tests.conftest import make_toy
from tests.performance.figures import arguments, keep
from tests.stand_in import FACTS, stand_in, views


class SlowStorage(Storage):
    """A store whose writes of tables take so many seconds more."""

    def __init__(self, uri: str, delay: float) -> None:
        super().__init__(uri)
        self._delay = delay

    def write_table(self, *args: Any, **options: Any) -> None:
        """Write as `Storage` does, after the delay."""
        time.sleep(self._delay)
        super().write_table(*args, **options)

    def __reduce__(self) -> Any:
        """Travel with the delay."""
        return SlowStorage, (self.path(""), self._delay)


def share(root: Path, delay: float, seconds: float) -> float:
    """Return what the pipeline delivers, of what the encoder alone would."""
    place = tempfile.mkdtemp()
    manifest = read_manifest(DatasetSpec(name="toy", root=str(root)))
    try:
        spec = BackboneSpec(name="stand-in", pretrained="random")
        job = EmbedJob(SlowStorage(place, delay), manifest, spec, FACTS, views(manifest, 2))
        speed = embed(job, RunSpec(), stand_in(seconds)).speed
    finally:
        shutil.rmtree(place)
    assert speed
    chunks = store.chunk_count(manifest.table.num_rows)
    return chunks * seconds / speed.seconds


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--delays", type=float, nargs="+", default=[0.0, 0.1, 0.15], help="seconds before each write")
    parser.add_argument("--seconds", type=float, default=0.15, help="that an encoder sleeps for a chunk")
    parser.add_argument("--chunks", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    figures: dict[str, float] = {}
    print(f"SIMULATED: an encoder that sleeps {args.seconds} s for each of {args.chunks} chunks, two views")
    with tempfile.TemporaryDirectory() as folder, connected():
        root = make_toy(Path(folder) / "toy", environments=2, classes=2, images=args.chunks * 16)
        found: dict[float, list[float]] = {delay: [] for delay in args.delays}
        for _ in range(args.repeats):
            for delay in args.delays:
                found[delay].append(share(root, delay, args.seconds))
        for delay, shares in found.items():
            figures[f"share_at_{1000 * delay:.0f}_ms"] = statistics.median(shares)
            print(f"  writes of {1000 * delay:4.0f} ms: {statistics.median(shares):.3f} of the encoder's rate")
    keep(args.json, figures)


if __name__ == "__main__":
    main()
