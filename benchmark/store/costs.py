"""What work cost: seconds by kind and amount of work, in a store and, for stores to come, in the cache of the machine.

Whoever plans finds the kind that is most alike, of it the amount that is nearest, and takes the rest to be in
proportion.
"""

import json
import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import Any

from benchmark.common.cache import cache_dir
from benchmark.common.errors import IcmBenchError
from benchmark.common.hashing import canonical_hash
from benchmark.common.machine import machine, processor
from benchmark.common.plain import from_json
from benchmark.common.storage import Storage

ROOT = "costs"
_FILE = f"{ROOT}/measured-1.json"  # the number is to be raised when the work of a kind is counted otherwise
# Kinds: from the start of a command to its first stage (the work is 1), a report (see `report_work`).
START, REPORT = ("start",), ("report", "rows and more")
_BEFORE_ROWS = 8_000  # rows that take as long as what a report does whatever it is about
_KEPT = 24  # amounts of one kind, the newest


@dataclass(frozen=True)
class Cost:
    """What some work cost.

    Attributes:
        kind: what was done, from the general to the particular: `("trial", "zero_shot", "icm", ...)`.
        work: how much of it, above 0, in a unit of the kind's own.
        seconds: that it took.
        machine: name of the processor.
        device: of embeddings, where encoders ran: cuda, mps or cpu; empty where that is not known.
        actors: of embeddings, number of encoders; 0 where it is not known.
        cores: CPU threads of each encoder; 0 on a GPU, and where it is not known.
        ceiling: views/s of the bare model in one encoder; 0 where it is not known.
        memory: bytes that an encoder took at most; 0 where it is not known.
        gpu: kind of GPU that each encoder had; empty without GPUs, and where it is not known.
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

    @property
    def of_encoders(self) -> dict[str, Any]:
        """What is known of the encoders, field -> value; nothing of other work."""
        return {name: value for name in _OF_ENCODERS if (value := getattr(self, name))}


_OF_ENCODERS = tuple(field.name for field in fields(Cost))[4:]


def report_work(rows: int) -> float:
    """Return how much work a report on so many rows is, in rows."""
    return rows + _BEFORE_ROWS


def on_this_machine() -> Storage:
    """Return where the costs of this machine lie, in the cache folder; another machine or version has another place."""
    return Storage(str(cache_dir() / "machines" / canonical_hash(machine())[:32]))


def remember(places: Iterable[Storage], costs: Sequence[Cost]) -> None:
    """Add costs to those of some places. The same work again takes the place of what it cost before.

    Args:
        places: a store, this machine.
        costs: what was measured here; those without work or time are left out.
    """
    new = [replace(c, machine=processor()) for c in costs if c.work > 0 and c.seconds > 0]
    if not new:
        return
    fresh = {(c.kind, round(math.log2(c.work), 1)): c for c in new}
    for place in places:
        merged = {(c.kind, round(math.log2(c.work), 1)): c for c in read(place)}
        merged = {key: cost for key, cost in merged.items() if key not in fresh} | fresh
        by_kind: dict[tuple[str, ...], list[Cost]] = {}
        for cost in merged.values():
            by_kind.setdefault(cost.kind, []).append(cost)
        kept = [cost for of_kind in by_kind.values() for cost in of_kind[-_KEPT:]]
        with suppress(IcmBenchError):  # a place that cannot be written to learns nothing, and no work is lost for it
            place.write_bytes(_FILE, as_json(kept))


def as_json(costs: Iterable[Cost]) -> bytes:
    """Return costs as they stand in a file, a line for each."""
    lines = (json.dumps([list(c.kind), c.work, c.seconds, c.machine, *filter(None, [c.of_encoders])]) for c in costs)
    return ("[\n" + ",\n".join(lines) + "\n]\n").encode()


def read(place: Storage) -> list[Cost]:
    """Return the costs that a place knows; none where the file is missing or damaged: work is done without them too."""
    try:
        return of_json(place.read_bytes(_FILE))
    except (IcmBenchError, ValueError, TypeError):
        return []


def problem_of(place: Storage, name: str) -> str:
    """Return what is wrong with a file of costs; nothing where it is sound."""
    content = place.read_bytes(name)
    try:
        of_json(content)
    except (IcmBenchError, ValueError, TypeError):
        return "is damaged"
    return ""


def of_json(content: bytes) -> list[Cost]:
    """Return the costs of a file; those of an earlier version know nothing of encoders.

    Raises:
        IcmBenchError, ValueError, TypeError: it is none.
    """
    costs = [
        Cost(tuple(kind), float(work), float(seconds), str(name), **_of_encoders(*more))
        for kind, work, seconds, name, *more in from_json(content, "The file of costs")
    ]
    return [c for c in costs if c.work > 0 and c.seconds > 0 and math.isfinite(c.work * c.seconds)]


def _of_encoders(known: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the fields of a cost that are about encoders, of their own types; what is none of them is left out."""
    types = {name: type(getattr(Cost((), 0.0, 0.0), name)) for name in _OF_ENCODERS}
    return {name: types[name](value) for name, value in dict(known or {}).items() if name in types}


def most_alike(costs: Iterable[Cost], kind: tuple[str, ...], work: float, least: int) -> Cost | None:
    """Return the cost of the kind that shares most words from the first on, and of it that of the nearest work.

    Args:
        costs: among which is looked, those that count most first.
        kind: what is to be done.
        work: how much of it, above 0.
        least: number of words that must be shared.
    """
    alike = [(words, cost) for cost in costs if (words := shared(cost.kind, kind)) >= least]
    most = max((words for words, _ in alike), default=0)
    nearest = [cost for words, cost in alike if words == most]
    return min(nearest, key=lambda cost: abs(math.log(cost.work / work)), default=None)


def shared(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many words two kinds share, from the first on."""
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count
