"""Measured costs: seconds by kind and amount of work, for plans; kept in a store and in the cache of the machine.

A plan takes the cost of the most similar kind with the nearest amount of work, and scales it in proportion. A writer
merges all files into a new one, and then removes the files that it has read; so concurrent writers lose nothing.
"""

import json
import math
import time
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from itertools import takewhile
from typing import Any

from benchmark.common.errors import IcmBenchError
from benchmark.common.machine import machine, processor
from benchmark.common.plain import canonical_hash, from_json
from benchmark.common.storage.files import Storage
from benchmark.common.storage.places import cache_dir
from benchmark.store.sealed import GONE, DamagedError, read_json, sealed_json

ROOT = "costs"
# Kinds of cost: the start of a command until its first stage (work 1), and a report (work: see `report_work`).
START, REPORT = ("start",), ("report", "rows and more")
_BEFORE_ROWS = 8_000  # fixed work of a report, in rows
_KEPT = 24  # number of amounts of work that are kept per kind, the newest ones


@dataclass(frozen=True)
class Cost:
    """Measured cost of some work. A field with its default value is unknown.

    A new field needs a default, as older files lack the field.

    Attributes:
        kind: kind of work, from general to specific: `("trial", "zero_shot", "icm", ...)`.
        work: amount of work, above 0, in the unit of its kind.
        seconds: measured seconds.
        machine: name of the processor.
        device: device of the encoders: cuda, mps or cpu. This field and the next ones, up to `run`, are for embeddings.
        actors: number of encoders.
        cores: CPU threads per encoder; 0 on a GPU or if unknown.
        ceiling: views/s of the bare model in one encoder.
        memory: peak bytes of an encoder.
        gpu: GPU model of the encoders; empty without GPUs or if unknown.
        run: random name of the command that measured the cost.
        at: Unix time of the measurement.
    """

    kind: tuple[str, ...]
    work: float
    seconds: float
    machine: str = ""
    device: str = ""
    actors: int = 0
    cores: int = 0
    ceiling: float = 0.0
    memory: int = 0
    gpu: str = ""
    run: str = ""
    at: float = field(default=0.0, compare=False)

    @property
    def plain(self) -> list[Any]:
        """The cost as plain data for JSON."""
        more = {name: value for name in _MORE if (value := getattr(self, name))}
        return [list(self.kind), self.work, self.seconds, self.machine, *([more] if more else [])]


_MORE = tuple(field.name for field in fields(Cost))[4:]


def report_work(rows: int) -> float:
    """Return the amount of work of a report on `rows` rows: their number plus a constant."""
    return rows + _BEFORE_ROWS


def on_this_machine() -> Storage:
    """Return the folder in the cache for costs of this machine; its name depends on hardware and package versions."""
    return Storage(str(cache_dir() / "machines" / canonical_hash(machine())[:32]))


def remember(places: Iterable[Storage], costs: Sequence[Cost]) -> None:
    """Add costs to the files in `places`; a cost replaces an earlier cost of the same kind and amount of work."""
    new = [replace(c, machine=processor(), at=time.time()) for c in costs if c.work > 0 and c.seconds > 0]
    for place in places if new else ():
        with suppress(IcmBenchError, OSError):  # if a place is not writable, only estimates are lost
            names, known = _read(place)
            kept = [cost.plain for cost in _latest([*known, *new])]
            place.write_bytes(f"{ROOT}/measured-{uuid.uuid4().int}.json", sealed_json({"costs": kept}))
            for name in names:
                place.delete(name)


def _latest(costs: Sequence[Cost]) -> list[Cost]:
    """Return the latest cost for each kind and amount of work.

    Of each kind only the `_KEPT` newest costs are returned, oldest first.
    """
    oldest_first = sorted(costs, key=lambda cost: cost.at)
    latest = {(cost.kind, round(math.log2(cost.work), 1)): cost for cost in oldest_first}
    by_kind: dict[tuple[str, ...], list[Cost]] = {}
    for cost in sorted(latest.values(), key=lambda cost: cost.at):
        by_kind.setdefault(cost.kind, []).append(cost)
    return [cost for of_kind in by_kind.values() for cost in of_kind[-_KEPT:]]


def as_json(costs: Iterable[Cost]) -> bytes:
    """Return costs as JSON, one per line: the format of `reference_costs.json`, which the package ships."""
    return ("[\n" + ",\n".join(json.dumps(cost.plain) for cost in costs) + "\n]\n").encode()


def read(place: Storage) -> list[Cost]:
    """Return the costs in a place; an empty list if it cannot be read, since plans also work without costs."""
    try:
        return _latest(_read(place)[1])
    except (IcmBenchError, OSError):
        return []


def _read(place: Storage) -> tuple[list[str], list[Cost]]:
    """Return the names of the cost files in a place, and the costs in all of them."""
    names, costs = place.files(ROOT, ".json"), list[Cost]()
    for name in names:
        try:
            costs += check(place, name)
        except DamagedError as error:
            if error.problems[name] == GONE:
                return _read(place)  # another writer has just merged it into a newer file
    return names, costs


def check(place: Storage, name: str) -> list[Cost]:
    """Return the costs of a file. Raises DamagedError if it is damaged."""
    content = read_json(place, name)
    try:
        return _of_plain(content["costs"] if isinstance(content, dict) else content)
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError.of(place, {name: "is damaged"}) from error


def of_json(content: bytes) -> list[Cost]:
    """Return the costs from the output of `as_json`.

    Raises:
        IcmBenchError, ValueError, TypeError: `content` has another format.
    """
    return _of_plain(from_json(content, "The file of costs"))


def _of_plain(plain: Iterable[Any]) -> list[Cost]:
    """Return costs from plain data. Files of earlier versions lack the fields from `device` on."""
    types = {name: type(getattr(Cost((), 0.0, 0.0), name)) for name in _MORE}
    costs = []
    for kind, work, seconds, name, *more in plain:
        (further,) = more or [None]
        known = {key: types[key](value) for key, value in dict(further or {}).items() if key in types}
        costs.append(Cost(tuple(kind), float(work), float(seconds), str(name), **known))
    return [c for c in costs if c.work > 0 and c.seconds > 0 and math.isfinite(c.work * c.seconds)]


def most_alike(costs: Iterable[Cost], kind: tuple[str, ...], work: float, min_shared: int) -> Cost | None:
    """Return the cost whose kind has the longest common prefix with `kind`, at least `min_shared` words.

    Of several, return the cost with the nearest amount of work. None if there is none.
    """
    alike = [(words, cost) for cost in costs if (words := shared(cost.kind, kind)) >= min_shared]
    most = max((words for words, _ in alike), default=0)
    nearest = [cost for words, cost in alike if words == most]
    return min(nearest, key=lambda cost: abs(math.log(cost.work / work)), default=None)


def shared(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the number of words in the common prefix of two kinds."""
    return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))))
