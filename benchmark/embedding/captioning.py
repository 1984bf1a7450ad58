"""Captions of images, and rewrites by a local model, on Ray Data: actors on all nodes, answers as they come."""

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any

import pyarrow as pa

from benchmark.common.cluster import connect, cpu_nodes, gpu_count
from benchmark.common.errors import IcmBenchError
from benchmark.datasets.readers import ImageReader
from benchmark.embedding.captioners import TransformersRewriter, captioner_class
from benchmark.embedding.images import Geometry, decode
from benchmark.embedding.opening import UnreadableImage
from benchmark.embedding.pool import actor_options
from benchmark.embedding.stages import results, staged
from benchmark.recipe.specs import RunSpec

BATCH = 16  # images or prompts that an actor is given at a time, unless `run.batch_size` says otherwise
# What a captioner sees of a large JPEG: at least twice this side, which is that of the largest input of the usual ones.
_GEOMETRY = Geometry((384, 384), "shortest", bilinear=False, fill=0)


@dataclass(frozen=True)
class Said:
    """What an actor said of a row.

    Attributes:
        key: of the row.
        text: a caption or an answer.
        finish: why it ended: `stop`, or `length` where it was cut off.
        problem: why the image could not be read; empty if it could.
    """

    key: str
    text: str = ""
    finish: str = "stop"
    problem: str = ""


_SAID = pa.schema([(field.name, pa.string()) for field in fields(Said)])
Work = Callable[[dict[str, list[Any]]], list[Said]]


class Describing:
    """Reads, decodes and captions images.

    Args:
        reader: where they lie.
        captioner: as the recipe names it.
    """

    def __init__(self, reader: ImageReader, captioner: str) -> None:
        self._reader, self._name = reader, captioner
        cls, arguments = captioner_class(captioner)
        self._captioner = cls(*arguments)

    def __call__(self, rows: dict[str, list[Any]]) -> list[Said]:
        """Return captions of images, given by `key` and what their reader needs."""
        images, said = {}, {}
        for key, content in zip(rows["key"], self._reader.read(rows), strict=True):
            try:
                if isinstance(content, str):
                    raise UnreadableImage(content)
                images[key] = decode(content, _GEOMETRY, True, self._reader.formats)
            except UnreadableImage as error:
                said[key] = Said(key, problem=str(error))
        captions = self._captions(list(images.values())) if images else []
        said |= {key: Said(key, caption) for key, caption in zip(images, captions, strict=True)}
        return [said[key] for key in rows["key"]]

    def _captions(self, images: list[Any]) -> Sequence[str]:
        captions = self._captioner.captions(images)
        if len(captions) != len(images) or not all(isinstance(caption, str) for caption in captions):
            raise IcmBenchError(
                f"The captioner '{self._name}' gave {len(captions)} captions for {len(images)} images; it must give a "
                f"text for each."
            )
        return captions


class Rewriting:
    """Answers prompts, given by `key`, `prompt` and `seed`, with a local model, which its arguments make."""

    def __init__(self, *arguments: Any) -> None:
        self._model = TransformersRewriter(*arguments)

    def __call__(self, rows: dict[str, list[Any]]) -> list[Said]:
        """Return the answers."""
        asked = zip(rows["key"], rows["prompt"], rows["seed"], strict=True)
        return [Said(key, *self._model.answer(prompt, seed)) for key, prompt, seed in asked]


def stream(rows: pa.Table, work: type, arguments: tuple[Any, ...], run: RunSpec) -> Iterator[list[Said]]:
    """Yield what actors on all nodes say of rows, batch by batch as they come. In a block of `connected`.

    Args:
        rows: with a column `key`, one row or more.
        work: class of what is done with a batch, `Describing` or `Rewriting`; made once in each actor.
        arguments: that it is made with.
        run: number of actors, and of rows in a batch.

    Raises:
        IcmBenchError: an actor cannot do it; the sentence is its own.
    """
    import ray.data

    connect()
    size = run.batch_size or BATCH
    batches = [rows.slice(start, size).combine_chunks() for start in range(0, rows.num_rows, size)]
    gpus, (nodes, cores) = 0 if run.device == "cpu" else gpu_count(), cpu_nodes()
    most = min(gpus, gpus if run.gpus == "auto" else run.gpus)
    actors = min(most or run.actors or nodes, len(batches))
    threads = None if gpus else max(1, cores // math.ceil(actors / nodes))
    with _quiet():
        done = ray.data.from_arrow(batches).map_batches(
            _Actor,
            fn_constructor_args=(work, arguments, threads),
            compute=ray.data.ActorPoolStrategy(size=actors),
            batch_size=size,
            batch_format="pyarrow",
            **actor_options(on_gpus=gpus > 0),
        )
        with closing(results(done)) as tables:
            for table in tables:
                yield [Said(**answer) for answer in table.to_pylist()]


class _Actor:
    """Makes what does the work when it is first needed, and runs it."""

    def __init__(self, work: Callable[..., Work], arguments: tuple[Any, ...], threads: int | None) -> None:
        self._make, self._threads = lambda: work(*arguments), threads
        self._work: Work | None = None

    def __call__(self, table: pa.Table) -> pa.Table:
        return staged(self._said, table, _SAID)

    def _said(self, table: pa.Table) -> pa.Table:
        return pa.Table.from_pylist([asdict(said) for said in self._made()(table.to_pydict())], schema=_SAID)

    def _made(self) -> Work:
        if self._work is None:
            if self._threads:
                import torch

                torch.set_num_threads(self._threads)
            self._work = self._make()
        return self._work


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray Data's own bars, and its word on an argument that it has no other name for, from the terminal."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
        yield
