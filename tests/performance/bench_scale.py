"""Throughput as encoder actors are added, with encoders that sleep: the pipeline's own limit, simulated.

    python -m tests.performance.bench_scale [--images 1000000] [--actors 1 16 32 64] [--seconds 3]

A list of images that is MADE UP, all of them one small JPEG. An encoder sleeps a fixed time for each chunk, as a GPU
would leave the CPU alone; GPUs are declared to Ray that this machine does not have. Decoding, scheduling, writing and
the store are real, and all of it shares this machine's cores, so the largest pools say more about these than about Ray.
Workers are forks (`tests/forks.py`): the imports of dozens of them, on two cores, are no part of a cluster's time.

A rate is that of the chunks which come while all encoders work, for so many seconds; then the run is interrupted.

With `--whole` one encoder that returns at once embeds all images, at one view and a width of 64, to the last row.
"""

import io
import os
import resource
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import ray
from numpy.typing import NDArray
from PIL import Image
from ray._private.internal_api import memory_summary

from benchmark.backbones.spec import BackboneSpec
from benchmark.common.ray.cluster import connected
from benchmark.common.storage.files import Storage
from benchmark.datasets.manifest import Manifest, read_manifest
from benchmark.datasets.readers.base import Batch
from benchmark.datasets.spec import DatasetSpec
from benchmark.embedding.batching import Part
from benchmark.embedding.chunks import DecodedChunk
from benchmark.embedding.pipeline import EmbedJob, embed
from benchmark.recipe.specs import RunSpec
from benchmark.store import embeddings as store
from tests.forks import forked_workers
from tests.performance.figures import arguments, keep, rate_of_all
from tests.performance.made_up import MadeUpReader
from tests.stand_in import FACTS, stand_in, views

GIB = 2.0**20  # KiB, as Linux counts memory
START = 300.0  # seconds within which all encoders are at work


class OneImageReader(MadeUpReader):
    """Lists images that are made up; each of them is the same picture."""

    def read(self, batch: Batch) -> Iterator[bytes | str]:
        """Yield a small JPEG for each image."""
        file = io.BytesIO()
        Image.linear_gradient("L").convert("RGB").resize((48, 48)).save(file, "JPEG")
        yield from (file.getvalue() for _ in batch["path"])


def telling(seconds: float, log: Path) -> type:
    """Return an encoder that sleeps so many seconds for each chunk, and writes its process and the time into `log`."""

    class Telling(stand_in(seconds)):  # type: ignore[misc]
        def ended(self, _: Part) -> None:
            with log.open("a") as file:
                file.write(f"{os.getpid()} {time.time()}\n")

    return Telling


def chunks_of(log: Path) -> dict[str, list[float]]:
    """Return the times at which each encoder ended its chunks."""
    times: dict[str, list[float]] = {}
    for line in log.read_text().splitlines() if log.exists() else []:
        process, moment = line.split()
        times.setdefault(process, []).append(float(moment))
    return times


def rate(manifest: Manifest, actors: int, seconds: float, window: float) -> tuple[float, bool]:
    """Return the rate of so many encoders in chunks/s, and whether Ray spilled anything."""
    with tempfile.TemporaryDirectory() as place:
        log, main = Path(place) / "log", threading.get_ident()
        began = {"all": 0.0}

        def interrupt() -> None:
            end = time.monotonic() + START
            while len(chunks_of(log)) < actors and time.monotonic() < end:
                time.sleep(0.2)
            began["all"] = time.time()
            time.sleep(window)
            signal.pthread_kill(main, signal.SIGINT)

        ray.init(
            "local", num_cpus=8, num_gpus=actors, include_dashboard=False, logging_level="ERROR", log_to_driver=False
        )
        spilled = ""
        try:
            address = ray.get_runtime_context().gcs_address
            job = EmbedJob(
                Storage(place), manifest, BackboneSpec(name="stand-in", pretrained="random"), FACTS, views(manifest, 1)
            )
            threading.Thread(target=interrupt, daemon=True).start()
            embed(job, RunSpec(), telling(seconds, log))
            raise AssertionError("all was embedded before the time was over: give more --images")
        except KeyboardInterrupt:
            spilled = memory_summary(address, stats_only=True)
        finally:
            ray.shutdown()
        times = chunks_of(log)
        assert len(times) == actors, f"{len(times)} of {actors} encoders were at work after {START:.0f} s"
        found = rate_of_all(times.values(), began["all"], began["all"] + window)
    return found, "Spilled" in spilled


def whole(manifest: Manifest) -> dict[str, float]:
    """Embed all images by an encoder that returns at once; print and return images/s and the driver's memory."""

    class Wide(stand_in(1e-9)):  # type: ignore[misc]
        dim = 64

        def stage(self, chunk: DecodedChunk) -> NDArray[np.float32]:
            return np.repeat(super().stage(chunk), self.dim // FACTS.dim, axis=1)

    facts = replace(FACTS, dim=Wide.dim)
    with tempfile.TemporaryDirectory() as place, connected():
        spec = BackboneSpec(name="stand-in", pretrained="random")
        began = time.time()
        report = embed(EmbedJob(Storage(place), manifest, spec, facts, views(manifest, 1)), RunSpec(), Wide)
        seconds = time.time() - began
    assert report.embedded == manifest.table.num_rows
    figures = {"whole_rate": report.embedded / seconds}
    figures["whole_driver_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIB
    rate, memory = figures.values()
    print(f"{report.embedded} rows of width 64 in {seconds:.0f} s: {rate:.0f} images/s, driver {memory:.2f} GiB")
    return figures


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 16, 32, 64])
    parser.add_argument("--seconds", type=float, default=3.0, help="that an encoder sleeps for a chunk")
    parser.add_argument("--whole", action="store_true", help="embed all images, and take no rates")
    parser.add_argument("--window", type=float, default=60.0, help="seconds over which a rate is taken")
    args = parser.parse_args()
    figures: dict[str, float] = {}
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ICM_BENCH_CACHE"] = str(Path(folder) / "cache")
        (root := Path(folder) / str(args.images)).mkdir()
        layout = "tests.performance.bench_scale:OneImageReader"
        manifest = read_manifest(DatasetSpec(name="made_up", root=str(root), layout=layout))
        if args.whole:
            print(
                f"SIMULATED: {args.images} images that are MADE UP, an encoder that returns at once, {os.cpu_count()} cores"
            )
            keep(args.json, whole(manifest))
            return
        size = store.chunk_size(args.images)
        encoders = f"encoders that sleep {args.seconds} s for each chunk of {size}, on {os.cpu_count()} cores"
        print(f"SIMULATED: {args.images} images that are MADE UP, and {encoders}")
        print("  actors   images/s   ideal   share   driver, GiB   spilled")
        with forked_workers(Path(folder)):
            for actors in args.actors:
                (found, spilled), ideal = rate(manifest, actors, args.seconds, args.window), actors / args.seconds
                share, memory = found / ideal, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIB
                counted = f"  {actors:6}   {size * found:8.1f}   {size * ideal:5.0f}   {share:.3f}"
                print(f"{counted}   {memory:11.2f}   {'yes' if spilled else 'no'}", flush=True)
                figures |= {f"share_of_{actors}": share, "driver_gib": memory}
    keep(args.json, figures)


if __name__ == "__main__":
    main()
