"""Throughput as encoder actors are added, with encoders that sleep: the pipeline's own limit, simulated.

    python -m tests.performance.bench_scale [--actors 1 2 4 8 16 32]

A stand-in encoder sleeps a fixed time for each chunk of images, as a GPU would leave the CPU alone. GPUs are
declared to Ray as resources that this machine does not have. Reading, decoding, scheduling and writing are real, on
small images, and all of it shares this machine's cores, so the largest pools say more about these than about Ray.
Workers are forks (`tests/forks.py`): the imports of dozens of them, on two cores, are no part of a cluster's time.
"""

import os
import shutil
import tempfile
from pathlib import Path

import ray

from benchmark.backbones.spec import BackboneSpec
from benchmark.common.storage import Storage
from benchmark.datasets.manifest import read_manifest
from benchmark.datasets.spec import DatasetSpec
from benchmark.embedding.pipeline import EmbedJob, embed
from benchmark.recipe.specs import RunSpec
from benchmark.store import embeddings as store
from tests.conftest import make_toy
from tests.forks import forked_workers
from tests.performance.figures import arguments, keep
from tests.stand_in import FACTS, stand_in, views

CHUNK = 64


def rate(root: Path, actors: int, seconds: float) -> float:
    """Return images/s with so many actors."""
    place = tempfile.mkdtemp()
    manifest = read_manifest(DatasetSpec(name="toy", root=str(root)))
    ray.init("local", num_cpus=8, num_gpus=actors, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    try:
        spec = BackboneSpec(name="stand-in", pretrained="random")
        job = EmbedJob(Storage(place), manifest, spec, FACTS, views(manifest, 1))
        report = embed(job, RunSpec(), stand_in(seconds))
    finally:
        ray.shutdown()
        shutil.rmtree(place)
    assert report.speed
    assert report.speed.actors == actors
    return report.speed.end_to_end


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--seconds", type=float, default=3.0, help="that an encoder sleeps for a chunk")
    parser.add_argument("--chunks", type=int, default=16, help="for each actor")
    args = parser.parse_args()
    figures: dict[str, float] = {}
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    print(f"SIMULATED: encoders that sleep {args.seconds} s for each chunk, on {os.cpu_count()} cores")
    print("  actors   images/s   ideal   share")
    with tempfile.TemporaryDirectory() as folder, forked_workers(Path(folder)):
        for actors in args.actors:
            images = max(args.chunks * actors, 2) * CHUNK
            root = make_toy(Path(folder) / f"{actors}", environments=2, classes=2, images=images // 4)
            found, ideal = rate(root, actors, args.seconds), actors * store.chunk_size(images) / args.seconds
            print(f"  {actors:6}   {found:8.1f}   {ideal:5.0f}   {found / ideal:.3f}", flush=True)
            figures[f"share_of_{actors}"] = found / ideal
            shutil.rmtree(root)
    keep(args.json, figures)


if __name__ == "__main__":
    main()
