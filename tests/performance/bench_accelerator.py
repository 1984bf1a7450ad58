"""The share of a GPU's own best rate that the pipeline around it reaches. The device is SIMULATED; the rest is real.

    python -m tests.performance.bench_accelerator [--cases jpeg_8 l14_1_at_0] [--faults wait] [--repeats 1]
    python -m tests.performance.bench_accelerator --local

`tests/performance/simulated_device.py` plays a GPU that is declared to Ray. Reading, decoding, host draws of the
interventions, copies between processes, Ray and writing are real; view making is part of the device's time. The share is
(views asked / the device's best rate at 512 views) / seconds from the first launch to the end of the last batch.

jpeg_V: files of 500 x 375, V views, and a device with 0.8 of the rate at which the same pipeline feeds an instant
device. l14_V_at_MS and b32_V_at_MS: devices of the time of ViT-L/14 and ViT-B/32; the decoders take the pixels out of a
mapped file instead of decoding them, and the store waits so many ms before each write; b32x64: in chunks
of 64 images, as of sets of at most 16,384, which take more of the host's time. Decoders begin when the encoder is
ready, and have run before. At the end faults are planted; the benchmark fails where one lowers the share of no case
by more than 0.1.

`--local` drives the real `Encoder` through the device's thread, without Ray, beside the bare loop of its model.
"""

import os
import statistics
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray
from PIL import Image

from benchmark.backbones.facts import BackboneFacts
from benchmark.backbones.loading import Backbone, best_device
from benchmark.backbones.spec import BackboneSpec
from benchmark.datasets.manifest import Manifest, read_manifest
from benchmark.datasets.readers.base import Batch
from benchmark.datasets.spec import DatasetSpec
from benchmark.embedding import pipeline, pool
from benchmark.embedding.batching import Batcher, Limits
from benchmark.embedding.chunks import DecodedChunk
from benchmark.embedding.encoder import Encoder
from benchmark.embedding.images import model_input
from benchmark.method.interventions import INTERVENTIONS
from benchmark.recipe.specs import RunSpec
from benchmark.store import embeddings as store
from benchmark.store.embeddings import View, view_of
from tests.performance.bench_writing import SlowStorage
from tests.performance.figures import arguments, keep
from tests.performance.images import sample_folder
from tests.performance.made_up import MadeUpReader
from tests.performance.simulated_device import BATCH, INSTANT, VIT_B_32, VIT_L_14, Device, simulated
from tests.stand_in import DIM, FACTS, grey_levels

SIDE, PICTURES = 224, 256
DECODED_PER_S = 400  # images/s that two cores decode, about: for the number of images of a case
MODELS = {"l14": (VIT_L_14, 768), "b32": (VIT_B_32, 512), "b32x64": (VIT_B_32, 512)}
WANTED = {f"jpeg_{views}": 0.85 for views in (1, 2, 5, 8)}
WANTED |= {f"l14_{views}_at_{ms}": 0.85 for views in (1, 2, 5, 8) for ms in (0, 100)}
WANTED |= {"b32_8_at_0": 0.7, "b32_8_at_100": 0.7}
CASES = [*WANTED, "b32x64_8_at_0", "b32x64_8_at_100", "b32_1_at_0", "b32_2_at_0"]
FAULTS = {
    "wait": ["b32_8_at_0"],
    "writes": ["b32_8_at_100", "l14_8_at_100"],
    "padding": ["l14_1_at_0", "l14_2_at_0"],
    "unpinned": ["b32_8_at_0", "b32_5_at_0"],
}


class PictureReader(MadeUpReader):
    """Lists images that are made up; each is one of the JPEG files beside its root. Waits until the encoder is ready."""

    decode: ClassVar[Callable[..., Any]] = staticmethod(model_input)

    def pictures(self, batch: Batch) -> Iterator[int]:
        """Yield the number of each image's picture. Sets how this worker decodes: other cases have used it before."""
        setattr(pipeline, "model_input", self.decode)  # noqa: B010  it is imported there
        while not (Path(self.uri).parent / "ready").exists():
            time.sleep(0.01)
        yield from (zlib.crc32(path.encode()) % PICTURES for path in batch["path"])

    def read(self, batch: Batch) -> Iterator[bytes | str]:
        """Yield the files."""
        yield from ((Path(self.uri).parent / f"{number}.jpg").read_bytes() for number in self.pictures(batch))


class MappedReader(PictureReader):
    """Yields pixels of a mapped file, which nothing decodes."""

    decode: ClassVar[Callable[..., Any]] = staticmethod(lambda content, *_: content)

    def read(self, batch: Batch) -> Iterator[Any]:
        """Yield the pixels."""
        pixels = mapped(str(Path(self.uri).parent / "pixels.npy"))
        yield from (pixels[number] for number in self.pictures(batch))


@cache
def mapped(file: str) -> NDArray[np.uint8]:
    """Return the pixels in a file, mapped once by each worker."""
    return np.asarray(np.load(file, mmap_mode="r"))


def make_pictures(folder: Path) -> None:
    """Write the JPEG files, and other pixels at model-input size."""
    sample = sorted(sample_folder().rglob("*.jpg"))
    for number in range(PICTURES):
        with Image.open(sample[number * len(sample) // PICTURES]) as image:
            large = image.convert("RGB").resize((500, 375), Image.Resampling.BICUBIC)
        large.save(folder / f"{number}.jpg", quality=95)
    pixels = np.random.default_rng(0).integers(0, 256, (PICTURES, SIDE, SIDE, 3), np.uint8)
    np.save(folder / "pixels.npy", pixels)


def views_of(manifest: str, images: int, facts: BackboneFacts, count: int) -> tuple[View, ...]:
    """Return the original and views of the first interventions, `count` in all."""
    kinds = [None, *(INTERVENTIONS.create(name) for name in INTERVENTIONS.names() if name != "imported_view")]
    return tuple(view_of(manifest, images, facts.identity(), kind, 0) for kind in kinds[:count])


def one_chunk_written(*arguments: Any) -> Limits:
    """The planted fault of the limits: the parts of one chunk are written at a time."""
    (_, views), limits = arguments[0], pool.limits_on_gpus(*arguments)
    return replace(limits, writes=views, begun=limits.begun - limits.writes // views + 1)


def seconds_of(folder: Path, manifest: Manifest, device: Device, dim: int, count: int, delay: float) -> float:
    """Embed everything with so many views, and return the seconds from the first launch to the last batch's end."""
    preprocess = {**FACTS.preprocess, "size": [SIDE, SIDE], "interpolation": "bicubic"}
    facts = replace(FACTS, preprocess=preprocess, dim=dim, precision="bfloat16")
    images, log, ready = manifest.table.num_rows, folder / "log", folder / "ready"
    views = views_of(manifest.fingerprint, images, facts, count)
    log.unlink(missing_ok=True)
    ready.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        storage = SlowStorage(f"{place}/store", delay, Path(place) / "log")
        job = pipeline.EmbedJob(storage, manifest, BackboneSpec(name="simulated", pretrained="random"), facts, views)
        limits = one_chunk_written if device.fault == "writes" else pool.limits_on_gpus
        with patch.object(pipeline, "limits_on_gpus", limits):
            report = pipeline.embed(job, RunSpec(device="gpu"), simulated(device, folder))
        assert report.embedded == images * count
        check(folder, manifest, [store.read_parts(storage, view.directory, [0])[0][0] for view in views])
    batches = np.loadtxt(log, ndmin=2)
    return float(batches[:, 1].max() - batches[:, 0].min())


def check(folder: Path, manifest: Manifest, parts: list[pa.Table]) -> None:
    """Compare the embeddings of the first chunk with the pixels of the mapped file; of JPEG files, views with the first."""
    found = [np.array(part["embedding"].to_pylist(), np.float32)[:, :DIM] for part in parts]
    expected = found[0]
    if isinstance(manifest.reader, MappedReader):
        paths = manifest.table["path"].to_pylist()[: len(expected)]
        expected = grey_levels(np.load(folder / "pixels.npy")[[zlib.crc32(path.encode()) % PICTURES for path in paths]])
    for view, those in enumerate(found):
        assert np.array_equal(those, expected + view), f"view {view} has other embeddings"


def share(folder: Path, case: str, seconds: float, fault: str = "") -> float:
    """Return the share of a case; print what the decoders alone deliver where that sets the device's rate."""
    kind, count, *rest = case.split("_")
    views, delay = int(count), int(rest[-1]) / 1000 if rest else 0.0
    device, dim = MODELS.get(kind, (INSTANT, 512))
    images = round(seconds * (DECODED_PER_S if kind == "jpeg" else min(4500, device.best_rate / views)))
    (root := folder / str(images)).mkdir(exist_ok=True)
    layout = "tests.performance.bench_accelerator:" + ("PictureReader" if kind == "jpeg" else "MappedReader")
    manifest = read_manifest(DatasetSpec(name="made_up", root=str(root), layout=layout))
    if kind == "jpeg":
        rate = images / seconds_of(folder, manifest, INSTANT, dim, views, delay)
        device = Device(1 / (0.8 * rate * views) - VIT_B_32.call_s / BATCH)
        print(f"  {case}: the decoders alone deliver {rate:.0f} images/s", flush=True)
    size = 64 if kind.endswith("x64") else store.chunk_size(images)
    with patch.object(store, "chunk_size", lambda _: size):
        taken = seconds_of(folder, manifest, replace(device, fault=fault), dim, views, delay)
    found = images * views / device.best_rate / taken
    missed = f", wanted {WANTED[case]}" if not fault and found < WANTED.get(case, 0) else ""
    named = f"{case} with {fault}" if fault else case
    print(
        f"  {named}: {found:.3f} of {device.best_rate:.0f} views/s, {taken:.1f} s, {images} images{missed}", flush=True
    )
    return found


def warm_up(folder: Path) -> None:
    """Let the decoders' processes start, which later cases take over."""
    (root := folder / "2048").mkdir(exist_ok=True)
    layout = "tests.performance.bench_accelerator:MappedReader"
    manifest = read_manifest(DatasetSpec(name="made_up", root=str(root), layout=layout))
    seconds_of(folder, manifest, INSTANT, 512, 1, 0.0)


def plant(folder: Path, faults: list[str], shares: dict[str, float], seconds: float) -> dict[str, float]:
    """Plant faults; return how much each lowered the share of a case. Ends the program where one did not by 0.1."""
    figures, blind = {}, []
    for fault in faults:
        figures[f"lowered_by_{fault}"] = 0.0
        for case in FAULTS[fault]:
            sound = shares[case] if case in shares else shares.setdefault(case, share(folder, case, seconds))
            lowered = sound - share(folder, case, seconds, fault)
            figures[f"lowered_by_{fault}"] = max(lowered, figures[f"lowered_by_{fault}"])
            if lowered > 0.1:
                print(f"  the fault '{fault}' lowers {case} by {lowered:.3f}", flush=True)
                break
        else:
            blind.append(fault)
    if blind:
        raise SystemExit(f"blind: {', '.join(blind)} lowered the share of no case by more than 0.1")
    return figures


def local_share(name: str, precision: str, count: int, chunks: int) -> float:
    """Return the rate of `Encoder` through the device's thread, of that of its model alone; compiled on a GPU."""
    import torch

    on_gpu = best_device() == "cuda"
    spec = BackboneSpec(name=name, pretrained="random", precision=precision, engine="torch")
    backbone = Backbone(spec, compile_model=on_gpu)
    views = views_of("x", 64 * chunks, backbone.facts, count)
    part = 64 * backbone.facts.dim * 4
    of_gpu = pool.limits_on_gpus((64, count), BATCH, 64 * SIDE * SIDE * 3, part, chunks)
    limits = of_gpu if on_gpu else pool.CPU_LIMITS
    ids = [str(i) for i in range(64)]
    draws = [view.intervention.draws(ids, 0) if view.intervention else np.empty((64, 0)) for view in views]
    pixels = np.random.default_rng(0).integers(0, 256, (64, SIDE, SIDE, 3), np.uint8)
    given, bits = pa.record_batch({"image_id": ids}), 2**count - 1
    batcher = Batcher(lambda: Encoder(spec, backbone.facts, views, None, None, on_gpu), limits)
    batcher.wait_for_start()

    def call(number: int) -> int:
        chunk = DecodedChunk(number, bits, given, bits, [""] * 64, pixels, 0.0, draws=draws)
        size = batcher.encode(chunk)[1].batch_size
        batcher.release(chunk)
        return size

    with ThreadPoolExecutor(limits.calls) as threads:
        start = time.perf_counter()
        size = min(threads.map(call, range(chunks)))
        rate = 64 * count * chunks / (time.perf_counter() - start)
    batch = torch.zeros((size, 3, SIDE, SIDE), dtype=torch.uint8, device=backbone.device)
    backbone.embed(batch).cpu()
    start, calls = time.perf_counter(), max(2, 64 * count * chunks // size)
    for _ in range(calls):
        z = backbone.embed(batch)
    z.cpu()
    bare = size * calls / (time.perf_counter() - start)
    print(f"  {name} {precision}, {count} views: {rate:.1f} views/s, bare loop {bare:.1f}, share {rate / bare:.3f}")
    return rate / bare


def local() -> dict[str, float]:
    """Measure on this machine's device. RANDOM WEIGHTS."""
    if best_device() == "cuda":
        names = {"b32": "ViT-B-32", "l14": "ViT-L-14"}
        return {f"local_{short}": local_share(name, "bfloat16", 8, 200) for short, name in names.items()}
    print("This machine has no GPU: a short check on its CPU, which says nothing about GPUs.")
    return {"local_cpu": local_share("ViT-B-32", "float32", 1, 2)}


def main() -> None:
    """Print the shares."""
    parser = arguments(__doc__)
    parser.add_argument("--cases", nargs="*", default=CASES, choices=CASES, help="default: all")
    parser.add_argument("--faults", nargs="*", default=list(FAULTS), choices=[*FAULTS], help="default: all")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10.0, help="of a case, about")
    parser.add_argument("--local", action="store_true", help="the real encoder on this machine's device instead")
    args = parser.parse_args()
    if args.local:
        keep(args.json, local())
        return
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_idle_worker_killing_time_threshold_ms": "60000"}
    print(
        f"SIMULATED: a GPU that is declared; all around it is real, on {os.cpu_count()} cores; {args.repeats} repeats"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["ICM_BENCH_CACHE"] = str(folder / "cache")
        make_pictures(folder)
        ray.init("local", num_gpus=1, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
        try:
            warm_up(folder)
            rounds = [{case: share(folder, case, args.seconds) for case in args.cases} for _ in range(args.repeats)]
            shares = {case: statistics.median(those[case] for those in rounds) for case in args.cases}
            lowered = plant(folder, args.faults, dict(shares), args.seconds)
        finally:
            ray.shutdown()
    keep(args.json, {f"share_{case}": found for case, found in shares.items()} | lowered)


if __name__ == "__main__":
    main()
