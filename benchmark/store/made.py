"""Records of embedding runs: one file per run that embedded something, with one row per chunk.

A long run rewrites its record regularly under the suffix `.open.parquet` until it ends. If its driver is killed, this
open record lists the chunks in flight.
"""

import json
import time
import uuid
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from benchmark.common.errors import IcmBenchError
from benchmark.common.plain import from_json
from benchmark.common.storage.files import Storage
from benchmark.store.sealed import DamagedError, open_parquet, sealed_parquet

ROOT = "made"
_OPEN = ".open.parquet"
_KEY = b"icm_bench_made"
_WORD, _WHOLE = pa.dictionary(pa.int32(), pa.string()), pa.int64()
CHUNKS = pa.schema(
    {"chunk": _WHOLE, "host": _WORD, "device": _WORD, "seconds": pa.float64(), "tries": _WHOLE, "again": pa.bool_()}
)


@dataclass(frozen=True)
class MadeBy:
    """An encoder of a run.

    Attributes:
        host: name of its node.
        device: model of its GPU, `gpu` if unknown, or `cpu`.
        chunks: number of chunks it wrote.
        silent: seconds without a message before it was replaced; 0 if it was not replaced.
        under_way: chunks it had begun but not written.
    """

    host: str
    device: str
    chunks: int
    silent: float = 0.0
    under_way: tuple[int, ...] = ()


@dataclass(frozen=True)
class Made:
    """Record of an embedding run. Pairs are (image, view) pairs.

    Attributes:
        name: unique name of the run: its start (UTC) and a random number.
        driver: host name of the driver.
        views: directories of the views written to.
        embedded: number of pairs computed once.
        reused: number of pairs already in the store.
        lost: number of pairs computed twice because the encoder that began them was lost.
        unreadable: number of pairs of unreadable images.
        total: number of pairs of distinct images: the sum of the four counts above once the run has ended.
        encoders: encoders in the order of their start.
        chunks: one row per chunk, columns as in `CHUNKS`: `seconds` of encoding, `tries` (times begun), `again`
            (computed twice).
        ended: whether the run ended normally.
    """

    name: str
    driver: str
    dataset: str
    backbone: str
    views: tuple[str, ...]
    embedded: int = 0
    reused: int = 0
    lost: int = 0
    unreadable: int = 0
    total: int = 0
    encoders: tuple[MadeBy, ...] = ()
    chunks: pa.Table = field(default_factory=CHUNKS.empty_table, compare=False)
    ended: bool = False

    def text(self) -> list[str]:
        """Return the record as lines of text: counts, encoders, lost encoders, recomputed chunks."""
        rare = {"computed again": self.lost, "unreadable": self.unreadable}
        others = "".join(f", {count} {name}" for name, count in rare.items() if count)
        counts = f"{self.embedded} views embedded, {self.reused} reused{others}"
        end = f" = {self.total}" if self.ended else "; it did not end"
        lines = [f"{self.name} from {self.driver}: {self.dataset}  {self.backbone}: {counts}{end}"]
        seconds = self.chunks.group_by(["host", "device"]).aggregate([("seconds", "mean")]).to_pylist()
        mean = {(row["host"], row["device"]): row["seconds_mean"] for row in seconds}
        for place in dict.fromkeys((encoder.host, encoder.device) for encoder in self.encoders):
            here = [encoder for encoder in self.encoders if (encoder.host, encoder.device) == place]
            each = f", {mean[place]:.2f} s each" if place in mean else ""
            chunks = sum(encoder.chunks for encoder in here)
            lines.append(f"  {len(here)} on {place[1]} of {place[0]}: {chunks} chunks{each}")
        for encoder in self.encoders:
            if encoder.silent or encoder.under_way:
                why = f"replaced after {encoder.silent:.0f} s without a message" if encoder.silent else "lost"
                left = f"; unfinished chunks: {_listed(encoder.under_way)}" if encoder.under_way else ""
                lines.append(f"  {encoder.device} of {encoder.host}: {why}{left}")
        again = self.chunks.filter(self.chunks["again"])["chunk"].to_pylist()
        return [*lines, *([f"  chunks computed again: {_listed(sorted(again))}"] if again else [])]

    def in_plain_data(self) -> dict[str, Any]:
        """Return the record without the rows, for JSON."""
        plain = {name: value for name, value in vars(self).items() if name not in ("chunks", "encoders")}
        return {**plain, "views": list(self.views), "encoders": [asdict(encoder) for encoder in self.encoders]}


def _listed(chunks: Sequence[int]) -> str:
    """Return up to twelve chunk numbers as text."""
    more = f" and {len(chunks) - 12} more" if len(chunks) > 12 else ""
    return ", ".join(map(str, chunks[:12])) + more


def new_name() -> str:
    """Return a unique name for a run that starts now."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{uuid.uuid4().hex[:8]}"


def write_made(storage: Storage, made: Made, closed: bool = False) -> None:
    """Write the record of a run; `closed` (default False) marks the last version."""
    metadata = {_KEY: json.dumps(made.in_plain_data()).encode()}
    suffix = ".parquet" if closed else _OPEN
    content = sealed_parquet(made.chunks.replace_schema_metadata(metadata))
    storage.write_bytes(f"{ROOT}/{made.name}{suffix}", content)


def drop_open(storage: Storage, made: Made) -> None:
    """Remove the open record of a run."""
    storage.delete(f"{ROOT}/{made.name}{_OPEN}")


def read_made(storage: Storage) -> list[Made]:
    """Return the records of all runs, oldest first, without damaged ones, on which nothing depends."""
    return _read(storage, storage.files(ROOT, ".parquet"))


def take_over(storage: Storage, views: Sequence[str]) -> dict[int, int]:
    """Return chunk -> number of unfinished runs on any of the views that had the chunk in flight.

    Their records are closed, so that later runs do not count them again. A chunk may exist all the same if it was
    written after the last record.
    """
    begun: dict[int, int] = {}
    for made in _read(storage, storage.files(ROOT, _OPEN)):
        if set(made.views) & set(views):
            for chunk in {chunk for encoder in made.encoders for chunk in encoder.under_way}:
                begun[chunk] = begun.get(chunk, 0) + 1
            write_made(storage, made, closed=True)
            drop_open(storage, made)
    return begun


def check(storage: Storage, name: str) -> None:
    """Verify the record of a run, unless the run has just ended. Raises DamagedError if it is damaged."""
    if storage.read_if_there(name) is not None and not _read(storage, [name]):  # a network failure is no damage
        raise DamagedError.of(storage, {name: "is damaged"})


def obsolete(storage: Storage, directories: Collection[str]) -> list[str]:
    """Return the names of damaged records, and of records of runs that wrote to none of the directories."""
    every = ((name, _read(storage, [name])) for name in storage.files(ROOT, ".parquet"))
    return [name for name, read in every if not read or not set(read[0].views) & set(directories)]


def _read(storage: Storage, names: Sequence[str]) -> list[Made]:
    records = []
    for name in sorted(names):
        with suppress(IcmBenchError, OSError, ValueError, KeyError, TypeError, pa.ArrowException):
            with open_parquet(storage, name) as file:
                table = file.read()
            content = from_json(table.schema.metadata[_KEY], storage.path(name))
            encoders = tuple(MadeBy(**{**e, "under_way": tuple(e["under_way"])}) for e in content.pop("encoders"))
            views = tuple(content.pop("views"))
            records.append(Made(**content, views=views, encoders=encoders, chunks=table))
    return records
