"""The embedding stage on Ray Data: decode on CPUs, all views of an image in one visit of an encoder actor, Parquet out.

Blocks and batches follow from the manifest alone, so a rerun on the same machine gives the same bytes. A block's
parts are written as soon as it is encoded: what a killed run leaves behind is kept, and only the rest is computed.
"""

import functools
import json
import logging
import math
import os
import platform
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data

from benchmark.backbones import Backbone, BackboneFacts, best_device, geometry
from benchmark.cluster import cpu_nodes, gpu_count
from benchmark.datasets.manifest import Manifest
from benchmark.datasets.sources import ImageSource
from benchmark.embedding import store
from benchmark.embedding.images import UnreadableImage, decode_image
from benchmark.embedding.store import View
from benchmark.errors import IcmBenchError
from benchmark.progress import Progress
from benchmark.recipe import BackboneSpec, RunSpec
from benchmark.storage import Storage

Batch = dict[str, Any]


@dataclass
class EmbedReport:
    """What an embedding run did.

    Attributes:
        images: of the data set, rejected ones included.
        embedded: (image, view) pairs computed now.
        reused: (image, view) pairs that were there.
        rejected: path -> reason, in manifest order.
        seconds: wall time of the pipeline.
        decode_rate, encode_rate: images/s of one decoding core, and (image, view) pairs/s of one encoder.
    """

    images: int
    embedded: int = 0
    reused: int = 0
    rejected: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    decode_rate: float = 0.0
    encode_rate: float = 0.0


def embed(
    storage: Storage,
    manifest: Manifest,
    spec: BackboneSpec,
    facts: BackboneFacts,
    views: list[View],
    run: RunSpec,
) -> EmbedReport:
    """Embed what the store lacks of `views` and return what was done. Needs a connection to Ray.

    Raises:
        IcmBenchError: the share of unreadable images exceeds `run.max_bad_images` (everything else is kept), or the
            store cannot be written.
    """
    todo, reused = _todo(storage, manifest, views)
    report = EmbedReport(images=manifest.table.num_rows, reused=reused)
    rows = manifest.table.append_column("todo", pa.array(todo)).filter(pa.array(todo > 0))
    if rows.num_rows:
        _stream(storage, manifest, rows, spec, facts, views, run, report)
    _collect_rejected(storage, manifest, views, run, report)
    return report


def _todo(storage: Storage, manifest: Manifest, views: list[View]) -> tuple[np.ndarray, int]:
    """Return, for each image, the views it lacks as bits of an integer, and the number of pairs that exist."""
    ids = manifest.table["image_id"].to_pylist()
    todo = np.zeros(len(ids), dtype=np.int64)
    first = {image_id: i for i, image_id in reversed(list(enumerate(ids)))}  # repeated bytes are embedded once
    unique = np.array(sorted(first.values()))
    reused = 0
    for bit, view in enumerate(views):
        there = store.present(storage, view)
        lacking = [i for i in unique if ids[i] not in there]
        todo[lacking] |= 1 << bit
        reused += len(unique) - len(lacking)
    return todo, reused


def _stream(
    storage: Storage,
    manifest: Manifest,
    rows: pa.Table,
    spec: BackboneSpec,
    facts: BackboneFacts,
    views: list[View],
    run: RunSpec,
    report: EmbedReport,
) -> None:
    """Run the pipeline over `rows` and count what comes out at its end."""
    gpus = gpu_count()
    nodes, cores = cpu_nodes()
    actors = run.actors or gpus or nodes
    per_node = math.ceil(actors / nodes)
    resources = _actor_resources(actors, gpus, max(0.4, cores - 1) / per_node)
    threads = None if gpus else max(1, cores // per_node)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False

    block = min(512, max(32, math.ceil(rows.num_rows / (16 * actors))))
    blocks = [rows.slice(start, block) for start in range(0, rows.num_rows, block)]
    # batch_size=None hands over whole blocks: a batch never mixes blocks, whatever order they arrive in.
    dataset = (
        ray.data.from_arrow(blocks)
        .map_batches(
            _decode_block,
            fn_args=(manifest.source, facts.preprocess),
            batch_size=None,
            num_cpus=1 if gpus else 0.5,
        )
        .map_batches(
            Encoder,
            fn_constructor_args=(spec, facts, views, run.batch_size or (128 if gpus else 16), threads),
            compute=ray.data.ActorPoolStrategy(size=actors),
            batch_size=None,
            **resources,
        )
        .map_batches(_write_block, fn_args=(storage, views, facts.precision), batch_size=None, num_cpus=0.1)
    )
    pairs = int(sum(int(bits).bit_count() for bits in rows["todo"].to_pylist()))
    progress = Progress(f"embedding {manifest.name} with {facts.label}", pairs, "views")
    decode_seconds = encode_seconds = 0.0
    images = 0
    for done in dataset.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
        report.embedded += int(done["pairs"].sum())
        images += int(done["images"].sum())
        decode_seconds += float(done["decode_s"].sum())
        encode_seconds += float(done["encode_s"].sum())
        progress.update(int(done["pairs"].sum()), note=f"{images} images")
    report.seconds = progress.close()
    report.decode_rate = images / decode_seconds if decode_seconds else 0.0
    report.encode_rate = report.embedded / encode_seconds if encode_seconds else 0.0
    for view in views:
        store.write_about(storage, view, _about(manifest, facts, report, gpus))


_geometry = functools.lru_cache(maxsize=4)(lambda preprocess: geometry(json.loads(preprocess)))


def _actor_resources(actors: int, gpus: int, share: float) -> dict[str, float]:
    """Return what one encoder actor reserves: a GPU, or its share of a node's cores but the one left for decoding.

    Parts may be fractions, so that more actors than GPUs or cores start all the same; above 1 Ray wants whole numbers.
    """
    if gpus:
        return {"num_gpus": min(1.0, gpus / actors)}
    return {"num_cpus": math.floor(share) if share >= 1 else math.floor(100 * share) / 100}


def _decode_block(batch: Batch, source: ImageSource, preprocess: dict[str, Any]) -> Batch:
    """Read, decode, resize and crop images; a bad one becomes a reason, not an exception."""
    start = time.perf_counter()
    resize_and_crop = _geometry(json.dumps(preprocess))
    pixels = np.zeros((len(batch["path"]), *preprocess["size"], 3), dtype=np.uint8)
    reasons = [""] * len(pixels)
    for i, content in enumerate(source.read(batch)):
        if isinstance(content, str):
            reasons[i] = content
            continue
        try:
            pixels[i] = decode_image(content, Path(batch["path"][i]).name, resize_and_crop)
        except UnreadableImage as error:
            reasons[i] = str(error)
    seconds = (time.perf_counter() - start) / len(pixels)
    return {**batch, "pixels": pixels, "reason": np.array(reasons), "decode_s": np.full(len(pixels), seconds)}


class Encoder:
    """An encoder actor: makes every view of an image and encodes it. Pixels end here."""

    def __init__(
        self,
        spec: BackboneSpec,
        facts: BackboneFacts,
        views: list[View],
        batch_size: int,
        threads: int | None,
    ) -> None:
        import torch

        if threads:
            torch.set_num_threads(threads)
        self._backbone = Backbone(spec)
        if self._backbone.facts.fingerprint != facts.fingerprint:
            raise IcmBenchError(
                f"The weights of '{facts.label}' on {platform.node()} are not those the run was planned with; "
                f"put the checkpoint on shared storage."
            )
        self._views, self._batch_size, self._dim = views, batch_size, facts.dim

    def __call__(self, batch: Batch) -> Batch:
        start = time.perf_counter()
        pixels = batch.pop("pixels")
        embeddings = np.zeros((len(pixels), len(self._views), self._dim), dtype=np.float32)
        readable = np.array([reason == "" for reason in batch["reason"]])
        for first in range(0, len(pixels), self._batch_size):
            rows = slice(first, first + self._batch_size)
            self._encode(pixels[rows], batch["image_id"][rows], batch["todo"][rows], readable[rows], embeddings[rows])
        seconds = (time.perf_counter() - start) / len(pixels)
        return {**batch, "embeddings": embeddings, "encode_s": np.full(len(pixels), seconds)}

    def _encode(
        self,
        pixels: np.ndarray,
        image_ids: np.ndarray,
        todo: np.ndarray,
        readable: np.ndarray,
        out: np.ndarray,
    ) -> None:
        """Fill `out`, shape (batch, views, D), for the views that each image lacks."""
        import torch

        # Ray's batches are read-only views, which torch must not be given.
        images = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
        for bit, view in enumerate(self._views):
            chosen = np.flatnonzero(readable & ((todo >> bit) & 1).astype(bool))
            if not len(chosen):
                continue
            batch = images[chosen]
            if view.intervention is not None:
                batch = view.intervention.views(batch, [image_ids[i] for i in chosen], view.seed)
            out[chosen, bit] = self._backbone.encode_images(batch)


def _write_block(batch: Batch, storage: Storage, views: list[View], precision: str) -> Batch:
    """Write a block's parts, one for each view, and return its counts."""
    bad = np.array([reason != "" for reason in batch["reason"]])
    value_type = pa.float16() if precision == "float16" else pa.float32()
    pairs = 0
    for bit, view in enumerate(views):
        wanted = ((batch["todo"] >> bit) & 1).astype(bool)
        if (good := np.flatnonzero(wanted & ~bad)).size:
            part = _columns(batch, good, ["image_id", "environment", "class_name", "label"])
            part = part.append_column("view", pa.array([view.label] * len(good)))
            values = batch["embeddings"][good, bit].astype(value_type.to_pandas_dtype())
            column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel(), value_type), values.shape[1])
            store.write_part(storage, view, part.append_column("embedding", column))
            pairs += len(good)
        if (unreadable := np.flatnonzero(wanted & bad)).size:
            store.write_rejected(storage, view, _columns(batch, unreadable, ["image_id", "path", "reason"]))
    seconds = {name: np.array([batch[name].sum()]) for name in ("decode_s", "encode_s")}
    return {"pairs": np.array([pairs]), "images": np.array([len(bad)]), **seconds}


def _columns(batch: Batch, rows: np.ndarray, names: list[str]) -> pa.Table:
    return pa.table({name: pa.array(batch[name][rows].tolist()) for name in names})


def _collect_rejected(
    storage: Storage, manifest: Manifest, views: list[View], run: RunSpec, report: EmbedReport
) -> None:
    """Read which images were rejected, now or before, and fail if they are too many."""
    found = store.rejected(storage, views)
    ids = manifest.table["image_id"].to_pylist()
    paths = manifest.table["path"].to_pylist()
    report.rejected = {path: found[i][1] for i, path in zip(ids, paths, strict=True) if i in found}
    if len(report.rejected) > run.max_bad_images * report.images:
        path, reason = next(iter(report.rejected.items()))
        raise IcmBenchError(
            f"{len(report.rejected)} of {report.images} images of {manifest.name} cannot be read, more than "
            f"{run.max_bad_images:.0%}; the first is {manifest.place(path)} ({reason}): replace them, or raise "
            f"run.max_bad_images."
        )


def _about(manifest: Manifest, facts: BackboneFacts, report: EmbedReport, gpus: int) -> dict[str, Any]:
    return {
        "dataset": manifest.name,
        "backbone": facts.label,
        "random_weights": facts.random_weights,
        "dim": facts.dim,
        "device": "cuda" if gpus else best_device(),
        "cores": os.cpu_count(),
        "views_per_second": round(report.embedded / report.seconds, 1) if report.seconds else None,
        "versions": {
            name: version(name) for name in ("torch", "open_clip_torch", "torchvision", "pillow", "ray", "numpy")
        },
    }
