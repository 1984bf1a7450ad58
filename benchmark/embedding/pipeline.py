"""The embedding stage on Ray Data: decode on CPUs, all views of an image in one visit of an encoder actor, Parquet out.

The parts of a chunk are written as soon as it is encoded, while the next one is: what a killed run leaves behind is
kept, and of each encoder two chunks at most are computed again.
"""

import os
import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from threading import Event, Semaphore
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from benchmark.backbones.facts import BackboneFacts
from benchmark.backbones.spec import BackboneSpec
from benchmark.common.errors import IcmBenchError
from benchmark.common.failing import during
from benchmark.common.ray.cluster import alive_nodes, connect
from benchmark.common.storage import retries as patience
from benchmark.common.storage.files import Storage
from benchmark.common.terminal.progress import Progress
from benchmark.datasets.manifest import Manifest
from benchmark.datasets.readers import ImageReader
from benchmark.embedding.chunks import (
    COUNTS,
    DECODED,
    IMAGE_COLUMNS,
    Chunk,
    ChunkCounts,
    Chunks,
    DecodedChunk,
    EncoderFigures,
)
from benchmark.embedding.counters import IMAGES, LOST, VIEWS, count
from benchmark.embedding.encoder import Encoder
from benchmark.embedding.images import Geometry, model_input, model_input_views
from benchmark.embedding.ledger import Member, open_ledger
from benchmark.embedding.opening import UnreadableImage
from benchmark.embedding.pool import (
    DECODER_CORES,
    LAST,
    TOGETHER,
    bounded_memory,
    decoders,
    device_without_gpus,
    pool_for,
)
from benchmark.embedding.speed import EmbedReport, Speed, Tally
from benchmark.embedding.stages import results, staged
from benchmark.embedding.watch import Watch
from benchmark.embedding.watchdog import Watchdog
from benchmark.recipe.specs import RunSpec
from benchmark.store import embeddings as store
from benchmark.store.embeddings import DEFAULT_DECODING, Decoding, View
from benchmark.store.made import Made, new_name, take_over
from benchmark.store.sealed import problem_by, read_json

LOOKED = 60.0  # seconds for which an object store is not asked once more whether a chunk is done
LOOKED_FOR = 16  # of so many chunks one is looked for in an object store, where no other writer was met


@dataclass(frozen=True)
class EmbedJob:
    """What is to be embedded, how, and where to.

    Attributes:
        storage: the store that the embeddings are written to.
        manifest: the images.
        spec: which backbone, as a recipe names it.
        facts: what is known of its weights; those that workers load must be the same.
        views: the views to make of every image; what the store has of them is not made again.
        decoding: how images become pixels; that which the keys of `views` were made with.
    """

    storage: Storage
    manifest: Manifest
    spec: BackboneSpec
    facts: BackboneFacts
    views: tuple[View, ...]
    decoding: Decoding = DEFAULT_DECODING


@dataclass(frozen=True)
class Work:
    """What travels to the workers: all that the stages need of a job beside the rows."""

    storage: Storage
    reader: ImageReader
    views: tuple[View, ...]
    geometry: Geometry
    precision: str
    engine: str
    decoding: Decoding


def embed(job: EmbedJob, run: RunSpec, encoder: type = Encoder, began: float | None = None) -> EmbedReport:
    """Embed what the store lacks of a job's views and return what was done. In a block of `connected`.

    Args:
        job: what is to be embedded.
        run: number of actors, batch size and the largest share of unreadable images that is put up with.
        encoder: class of the encoder actor; another one serves measurements of the pipeline alone.
        began: time of day, in seconds since 1970, from which `Speed.first_embedding` counts; by default now.

    Raises:
        IcmBenchError: the share of unreadable images exceeds `run.max_bad_images` (everything else is kept), or the
            store cannot be written, or a worker failed: the sentence is its own.
    """
    began = began or time.time()
    report = EmbedReport(images=job.manifest.table.num_rows)
    chunks, reused = _lacking_chunks(job)
    report.reused = report.total = reused
    for view in job.views:  # views that do not say what they are would be cleaned away
        if chunks or problem_by(read_json, job.storage, store.about_file(view.directory)):
            store.write_about(job.storage, view, _about(job.manifest, job.facts))
    if chunks:
        connect()
        report.speed, made = _stream(chunks, reused, job, run, encoder)
        report.speed.first_embedding -= began
        for name in ("embedded", "reused", "lost", "unreadable", "total"):
            setattr(report, name, getattr(made, name))
        for view in job.views:
            store.write_speed(job.storage, view, {**asdict(report.speed), **_machine()})
    _collect_rejected(job, run, report)
    return report


def _lacking_chunks(job: EmbedJob) -> tuple[Chunks, int]:
    """Return the chunks that lack views, and the number of (image, view) pairs that exist."""
    distinct, first = job.manifest.table.select(IMAGE_COLUMNS), store.distinct(job.manifest.table["image_id"])
    distinct = distinct if len(first) == len(distinct) else distinct.take(first)
    size, count = store.chunk_size(len(distinct)), store.chunk_count(len(distinct))
    todo = np.zeros(count, dtype=np.int64)
    reused = 0
    for bit, view in enumerate(job.views):
        there = store.parts(job.storage, view.directory)
        for chunk in range(count):
            if chunk in there:
                reused += min(size, len(distinct) - chunk * size)
            else:
                todo[chunk] |= 1 << bit
    numbers = np.flatnonzero(todo)
    return Chunks(distinct, size, numbers, todo[numbers]), reused


def _stream(chunks: Chunks, reused: int, job: EmbedJob, run: RunSpec, encoder: type) -> tuple[Speed, Made]:
    """Run the pipeline over `chunks`; return its speed, `first_embedding` a time of day still, and what was made."""
    import ray
    import ray.data  # takes a second, which a run that embeds nothing need not wait

    began = time.time()
    geometry = Geometry.of(job.facts.preprocess)
    work = Work(
        job.storage, job.manifest.reader, job.views, geometry, job.facts.precision, job.facts.engine, job.decoding
    )
    progress = Progress(f"embedding {job.manifest.name} with {job.facts.label}", chunks.pairs, "views")
    pool = pool_for(run, len(chunks), progress.notify)
    directories = tuple(view.directory for view in job.views)
    made = Made(
        new_name(),
        platform.node(),
        job.manifest.name,
        job.facts.label,
        directories,
        reused=reused,
        total=reused + chunks.pairs,
    )
    ledger = open_ledger(made.name, take_over(job.storage, directories))
    # Where another process fills the same store, the two should not do the same chunks at the same time.
    rows = chunks.rows(first=os.getpid() % len(chunks), together=TOGETHER, alone=LAST * decoders())
    images = ray.put(chunks.images)  # once on each node, where tasks read it in place
    timeout = None if run.chunk_timeout == "auto" else run.chunk_timeout
    with bounded_memory(pool, _block(work, min(chunks.size, len(chunks.images)))):
        done = (
            ray.data.from_arrow(rows)
            .map_batches(
                _decode,
                fn_args=(work, images, chunks.size),
                batch_size=1,
                batch_format="pyarrow",
                num_cpus=DECODER_CORES,
            )
            .map_batches(
                _EncodeAndWrite,
                fn_constructor_args=(
                    work,
                    encoder,
                    (job.spec, job.facts, job.views, run.batch_size, pool.threads, run.compile),
                    ledger,
                    made.name,
                    timeout,
                ),
                compute=pool.strategy,
                batch_size=1,
                batch_format="pyarrow",
                **pool.options,
            )
        )
        speed = Speed(cores=pool.threads or 0, device="cuda" if pool.on_gpus else device_without_gpus())
        tally = Tally(speed, progress)
        said = pool.on_gpus or len(alive_nodes()) > 1
        with (
            Watch(made, job.storage, ledger, pool, len(chunks), progress.notify, said, timeout) as watch,
            closing(results(done)) as tables,
        ):
            for counts in (counts for table in tables for counts in ChunkCounts.from_rows(table)):
                tally.add(counts)
                watch.came(counts)
                patience.count(patience.Retries(counts.retries, counts.waited_s))
    tally.close(sum(bool(by.chunks) and not by.silent for by in watch.made.encoders))
    speed.start_up -= began
    progress.close()
    return speed, watch.made


def _block(work: Work, images: int) -> int:
    """Return the bytes of a decoded chunk."""
    high, wide = work.geometry.size
    return images * (len(work.views) if work.decoding.at_source else 1) * high * wide * 3


def _decode(table: pa.Table, work: Work, images: Any, size: int) -> pa.Table:
    """Read, decode, resize and crop the images of a chunk; a bad one becomes a reason, not an exception.

    Args:
        table: a row of `Chunks.rows`.
        work: of the job.
        images: reference to the table of all images, see `Chunks`.
        size: number of images in a chunk.
    """
    import ray

    return staged(lambda row: _decoded(Chunk.cut(row, ray.get(images), size), work).to_row(), table, DECODED)


def _decoded(chunk: Chunk, work: Work) -> DecodedChunk:
    start = time.perf_counter()
    looked, images, lacking = time.time(), chunk.images.to_pydict(), _still_lacking(chunk, work)
    missing = _views_in(lacking, work)
    at_source, formats = work.decoding.at_source, work.reader.formats
    views_made_here = (len(missing),) if at_source else ()
    pixels = np.zeros((len(chunk.images), *views_made_here, *work.geometry.size, 3), dtype=np.uint8)
    reasons = [""] * len(chunk.images)
    for i, content in enumerate(work.reader.read(images) if missing else ()):
        try:
            if isinstance(content, str):
                raise UnreadableImage(content)
            with during(f"reading {images['path'][i]}"):
                if at_source:
                    kinds = [(view.intervention, view.seed) for view in missing]
                    pixels[i] = model_input_views(content, work.geometry, images["image_id"][i], kinds, formats)
                else:
                    pixels[i] = model_input(content, work.geometry, work.decoding.reduced, formats)
        except UnreadableImage as error:
            reasons[i] = str(error)
    seconds, again = time.perf_counter() - start, patience.taken()
    count(IMAGES, len(chunk.images) if missing else 0)
    return DecodedChunk(
        chunk.number, chunk.todo, chunk.images, lacking, reasons, pixels, seconds,
        looked=looked, retries=again.count, waited_s=again.seconds,
    )  # fmt: skip


# Set once this process has met a chunk that another one has made: from then on all are looked for.
_met_others = Event()


def _still_lacking(chunk: Chunk, work: Work) -> int:
    """Return the views that the chunk lacks by now, as bits: another process may have filled in some.

    In an object store, where each look takes a request, some chunks are looked for until one of another process is met:
    what two have made is written once. Of a chunk one part is looked for, and the others where it is there.
    """
    local, bits = work.storage.is_local, chunk.todo
    # Others for each process, so that none of them gets all or none.
    if not (local or _met_others.is_set() or (chunk.number + os.getpid()) % LOOKED_FOR == 0):
        return bits
    for i, view in enumerate(work.views):
        if not bits >> i & 1:
            continue
        if work.storage.exists(store.part_name(view.directory, chunk.number)):
            bits &= ~(1 << i)
        elif not local:
            break
    if bits != chunk.todo:
        _met_others.set()
    return bits


def _views_in(bits: int, work: Work) -> list[View]:
    return [view for i, view in enumerate(work.views) if bits >> i & 1]


class _EncodeAndWrite:
    """The actor: while a chunk is written the next is encoded, and none after it, so that a kill costs two at most.

    Ray calls from several threads, of which one writes, another waits for the encoder and a third fetches. The encoder
    lives in a thread of its own: torch keeps a team of cores for each thread that computes, and two teams would be in
    each other's way.
    """

    def __init__(
        self, work: Work, encoder: type, arguments: tuple[Any, ...], ledger: Any, run: str, timeout: float | None
    ) -> None:
        self._watchdog, self._member = Watchdog(timeout), Member(ledger, run)
        self._work, self._thread = work, ThreadPoolExecutor(max_workers=1)
        self._writers = ThreadPoolExecutor(max_workers=len(work.views))
        self._writing = Semaphore()  # held from the moment at which a chunk is encoded until it is written
        self._encoder = self._thread.submit(encoder, *arguments)
        self._encoder.exception()  # waits until it is there; why it could not start is told where a chunk comes
        self._member.ready()
        self._watchdog.started()

    def __call__(self, table: pa.Table) -> pa.Table:
        return staged(self._embedded, table, COUNTS)

    def _embedded(self, table: pa.Table) -> pa.Table:
        chunk = DecodedChunk.from_row(table)
        with during(f"embedding chunk {chunk.number}, from {chunk.images['path'][0]} on"):
            return self._made_of(chunk)

    def _made_of(self, chunk: DecodedChunk) -> pa.Table:
        # It comes again where an actor died after writing it.
        if self._is_stale(chunk) and not _still_lacking(chunk, self._work):
            chunk = replace(chunk, lacking=0)
        embeddings, figures, tries = self._thread.submit(self._encode, chunk).result()
        self._write(chunk, embeddings)
        if chunk.lacking:
            self._member.written(chunk.number)
        images, readable, again = len(chunk.images), len(chunk.readable), patience.taken()
        made, todo = chunk.lacking.bit_count(), chunk.todo.bit_count()
        there = readable * (todo - made)
        ours = tries > (made > 0)  # an encoder of this run had begun it before
        count(VIEWS, readable * made, self._member.device)
        count(LOST, readable * made if made and ours else 0, self._member.device)
        return ChunkCounts(
            number=chunk.number,
            encoder=self._member.number,
            host=self._member.host,
            device=self._member.device,
            tries=tries,
            images=images,
            decoded=images if chunk.lacking else 0,
            views=readable * made,
            before=there if ours else 0,
            others=0 if ours else there,
            unreadable=(images - readable) * todo,
            finished=images * todo,
            decode_s=chunk.decode_s,
            retries=chunk.retries + again.count,
            waited_s=chunk.waited_s + again.seconds,
            **asdict(figures),
        ).to_row()

    def _is_stale(self, chunk: DecodedChunk) -> bool:
        return self._work.storage.is_local or _met_others.is_set() or time.time() - chunk.looked > LOOKED

    def _encode(self, chunk: DecodedChunk) -> tuple[NDArray[np.float32], EncoderFigures, int]:
        """Encode a chunk, and do not return, nor begin the next, before the one before it is written."""
        import ray

        encoder = self._encoder.result()
        tries = (self._member.begin if chunk.lacking else self._member.begun)(chunk.number)
        with self._watchdog.chunk():
            embeddings, figures = encoder(chunk)
        self._writing.acquire()
        return embeddings, figures, ray.get(tries)

    def _write(self, chunk: DecodedChunk, embeddings: NDArray[np.float32]) -> None:
        """Write all parts of a chunk at once: on an object store each takes a round trip."""
        try:
            for written in [self._writers.submit(write) for write in _parts(chunk, embeddings, self._work)]:
                if not written.result():
                    _met_others.set()
        finally:
            self._writing.release()


def _parts(chunk: DecodedChunk, embeddings: NDArray[np.float32], work: Work) -> Iterator[Callable[[], bool]]:
    """Yield what writes a chunk's parts, one for each view that it lacked."""
    unreadable = np.setdiff1d(np.arange(len(chunk.images)), chunk.readable)
    images = chunk.images.to_pydict()
    rejected = [(images["image_id"][i], images["path"][i], chunk.reasons[i]) for i in unreadable]
    readable = pa.Table.from_batches([chunk.images]).take(chunk.readable)
    columns = {name: readable[name] for name in ("image_id", "environment", "class_name", "label")}
    value_type = pa.float16() if work.precision == "float16" else pa.float32()
    for position, view in enumerate(_views_in(chunk.lacking, work)):
        values = embeddings[chunk.readable, position].astype(value_type.to_pandas_dtype())
        embedding = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel(), value_type), embeddings.shape[-1])
        table = pa.table(
            {**columns, "view": pa.array([view.label] * len(values), pa.string()), "embedding": embedding},
            metadata={"engine": work.engine},
        )
        yield partial(store.write_part, work.storage, view, chunk.number, table, rejected)


def _collect_rejected(job: EmbedJob, run: RunSpec, report: EmbedReport) -> None:
    """Read which images were rejected, now or before, and fail if they are too many."""
    rejected, manifest = store.rejected(job.storage, job.views), job.manifest
    named = manifest.table.select(["image_id", "path"])
    named = named.filter(pc.is_in(named["image_id"], value_set=pa.array([*rejected], pa.string())))
    report.rejected = {row["path"]: rejected[row["image_id"]][1] for row in named.to_pylist()}
    if len(report.rejected) > run.max_bad_images * report.images:
        path, reason = next(iter(report.rejected.items()))
        raise IcmBenchError(
            f"{len(report.rejected)} of {report.images} images of {manifest.name} cannot be read, more than "
            f"{run.max_bad_images:.0%}; the first is {manifest.place(path)} ({reason}): replace them, or raise "
            f"run.max_bad_images."
        )


def _about(manifest: Manifest, facts: BackboneFacts) -> dict[str, Any]:
    return {
        "dataset": manifest.name,
        "backbone": facts.label,
        "random_weights": facts.random_weights,
        "dim": facts.dim,
        "precision": facts.precision,
    }


def _machine() -> dict[str, Any]:
    names = ("torch", "open_clip_torch", "torchvision", "pillow", "ray", "numpy")
    return {"machine_cores": os.cpu_count(), "versions": {name: version(name) for name in names}}
