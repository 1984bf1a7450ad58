"""An encoder that returns at once: what the pipeline around it delivers, against cores that do nothing but decode.

    python -m tests.performance.bench_decoding [--images 14000] [--repeats 3] [--sizes]

JPEG files of 500 x 375, made to 224 pixels; the encoder is a stand-in, and no intervention is made. The bare rate is
that of plain processes, one for each core, which read and decode all at once while nothing else runs, before and after
each run of the pipeline. Reading, decoding, Ray and writing (one part for each view) are in the pipeline's time. Chunks
that were decoded before the encoder was ready do not count: the rate is that of the parts behind the first third.

With `--sizes` there is no pipeline: images/s of one core for JPEGs of four sizes, decoded at full and at reduced scale,
resized by Pillow and by torch. The pictures of both are mosaics of the sample's photographs.
"""

import io
import os
import shutil
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.backbones.spec import BackboneSpec
from benchmark.common.ray.cluster import connected
from benchmark.common.storage.files import Storage
from benchmark.datasets.manifest import Manifest, read_manifest
from benchmark.datasets.spec import DatasetSpec
from benchmark.embedding.images import Geometry, model_input
from benchmark.embedding.pipeline import EmbedJob, embed
from benchmark.recipe.specs import RunSpec
from benchmark.store import embeddings as store
from tests.performance.figures import arguments, keep
from tests.performance.images import sample_folder
from tests.stand_in import FACTS, stand_in, views

LARGE = replace(FACTS, preprocess={**FACTS.preprocess, "size": [224, 224], "interpolation": "bicubic"})


def decoded_per_s(files: list[Path], seconds: float = 8.0) -> float:
    """Return images/s of a loop that reads and decodes these files in turn for so long."""
    geometry, start, count, endless = Geometry.of(LARGE.preprocess), time.perf_counter(), 0, cycle(files)
    while (passed := time.perf_counter() - start) < seconds:
        model_input(next(endless).read_bytes(), geometry, store.DEFAULT_DECODING)
        count += 1
    return count / passed


def mosaics(count: int, root: Path) -> Path:
    """Write so many distinct files of 500 x 375 below `root`: 64 pictures with other bytes behind their end."""
    pictures = [mosaic(500, 375, first) for first in range(64)]
    for number in range(count):
        environment, of_class = f"environment_{number % 2}", f"class_{number // 2 % 2}"
        target = root / environment / of_class / f"{number:06d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(pictures[number % len(pictures)] + f"copy {number}".encode())
    return root


def mosaic(width: int, height: int, first: int = 0) -> bytes:
    """Return a JPEG of this size, in which photographs of the sample from the `first` on lie side by side."""
    photos = sorted((sample_folder() / "photo").rglob("*.jpg"))
    made = Image.new("RGB", (width, height))
    places = [(left, top) for top in range(0, height, 227) for left in range(0, width, 227)]
    for number, place in enumerate(places):
        made.paste(Image.open(photos[(first + number) % len(photos)]), place)
    content = io.BytesIO()
    made.save(content, "JPEG", quality=90)
    return content.getvalue()


def core_rate(content: bytes, decoding: store.Decoding, seconds: float = 2.0) -> float:
    """Return images/s of one core for one image: the best of runs that take so many seconds of CPU time."""
    geometry, times = Geometry.of(LARGE.preprocess), list[float]()
    while sum(times) < seconds:
        start = time.thread_time()
        model_input(content, geometry, decoding)
        times.append(time.thread_time() - start)
    return 1 / float(np.quantile(times, 0.1))


def rates_of_sizes() -> None:
    """Print images/s of one core for each size, scale and resize."""
    import torch

    torch.set_num_threads(1)
    np.ones(
        2**24, np.uint8
    )  # freed at once: the allocator then keeps memory, as after a decoder's first block of pixels
    print(f"{'images/s of one core':22}{'pillow':>10}{'torch':>10}")
    for width, height in ((227, 227), (500, 375), (1024, 768), (4000, 3000)):
        content = mosaic(width, height)
        for draft in (False, True):
            rates = [core_rate(content, store.Decoding(draft=draft, resize=by)) for by in ("pillow", "torch")]
            name = f"{width} x {height}{', reduced' if draft else ''}"
            print(f"{name:22}" + "".join(f"{rate:10.1f}" for rate in rates), flush=True)


def pipeline_rate(manifest: Manifest, count: int) -> float:
    """Return images/s of the pipeline with so many views of each."""
    place = tempfile.mkdtemp()
    try:
        storage = Storage(place)
        made = views(manifest, count)
        job = EmbedJob(storage, manifest, BackboneSpec(name="stand-in", pretrained="random"), LARGE, made)
        report = embed(job, RunSpec(), stand_in(1e-9))
        assert report.embedded == count * manifest.table.num_rows
        written = np.sort([at for name, _, at in storage.details(store.ROOT) if store.part_number(name) is not None])
    finally:
        shutil.rmtree(place)
    first = len(written) // 3
    per_part = report.embedded / len(written)
    return float((len(written) - first) * per_part / count / (written[-1] - written[first]))


def main() -> None:
    """Print the shares."""
    parser = arguments(__doc__)
    parser.add_argument("--images", type=int, default=14000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sizes", action="store_true")
    args = parser.parse_args()
    if args.sizes:
        rates_of_sizes()
        return
    cores, figures = len(os.sched_getaffinity(0)), {}
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as plain,
        connected(),
    ):
        root = mosaics(args.images, Path(folder) / "images")
        manifest = read_manifest(DatasetSpec(name="mosaics", root=str(root)))
        shares: dict[int, list[float]] = {1: [], 8: []}
        of_each = [sorted(root.rglob("*.jpg"))[core::cores] for core in range(cores)]
        list(plain.map(decoded_per_s, of_each))  # starts the processes
        bare = [sum(plain.map(decoded_per_s, of_each))]
        for _ in range(args.repeats):
            for count, found in shares.items():
                rate = pipeline_rate(manifest, count)
                bare.append(sum(plain.map(decoded_per_s, of_each)))
                found.append(rate / statistics.mean(bare[-2:]))
                print(
                    f"  {count} views: plain processes {bare[-1]:.0f} images/s, {rate:.0f} through the pipeline",
                    flush=True,
                )
    print(f"an encoder that returns at once, {cores} cores, medians of {args.repeats}")
    print(f"  reading and decoding alone in {cores} processes {statistics.median(bare):8.1f} images/s")
    for count, found in shares.items():
        share = statistics.median(found)
        figures["of_cores_one_view" if count == 1 else "of_cores_eight_views"] = share
        print(f"  through the pipeline, {count} views: {share:.3f} of that")
    keep(args.json, figures | {"bare": statistics.median(bare)})


if __name__ == "__main__":
    main()
