"""What work cost: seconds by kind and amount of work, in a store and, for stores to come, in the cache of the machine.

A plan takes the kind that is most alike, of it the amount that is nearest, and the rest in proportion. Whoever adds
costs writes a new file with all that are known and removes those that it read: several writers lose nothing.
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
        run: of embeddings, the command that measured it, by a random name; empty where that is not known.
        at: time of day when it was measured, in seconds since 1970; 0 where it is not known.
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
        """All of it as plain data."""
        more = {name: value for name in _MORE if (value := getattr(self, name))}
        return [list(self.kind), self.work, self.seconds, self.machine, *([more] if more else [])]


_MORE = tuple(field.name for field in fields(Cost))[4:]


def report_work(rows: int) -> float:
    """Return how much work a report on so many rows is, in rows."""
    return rows + _BEFORE_ROWS


def on_this_machine() -> Storage:
    """Return where the costs of this machine lie, in the cache folder; another machine or version has another place."""
    return Storage(str(cache_dir() / "machines" / canonical_hash(machine())[:32]))


def remember(places: Iterable[Storage], costs: Sequence[Cost]) -> None:
    """Add costs to those of some places. The same work again takes the place of what it cost before."""
    new = [replace(c, machine=processor(), at=time.time()) for c in costs if c.work > 0 and c.seconds > 0]
    for place in places if new else ():
        with suppress(IcmBenchError, OSError):  # what cannot be written to learns nothing, and no work is lost for it
            names, known = _read(place)
            kept = [cost.plain for cost in _latest([*known, *new])]
            place.write_bytes(f"{ROOT}/measured-{uuid.uuid4().int}.json", sealed_json({"costs": kept}))
            for name in names:
                place.delete(name)


def _latest(costs: Sequence[Cost]) -> list[Cost]:
    """Return costs without those that were measured anew, of each kind the newest amounts; the oldest first."""
    oldest_first = sorted(costs, key=lambda cost: cost.at)
    latest = {(cost.kind, round(math.log2(cost.work), 1)): cost for cost in oldest_first}
    by_kind: dict[tuple[str, ...], list[Cost]] = {}
    for cost in sorted(latest.values(), key=lambda cost: cost.at):
        by_kind.setdefault(cost.kind, []).append(cost)
    return [cost for of_kind in by_kind.values() for cost in of_kind[-_KEPT:]]


def as_json(costs: Iterable[Cost]) -> bytes:
    """Return costs as they stand in a file of measurements that comes with the package, a line for each."""
    return ("[\n" + ",\n".join(json.dumps(cost.plain) for cost in costs) + "\n]\n").encode()


def read(place: Storage) -> list[Cost]:
    """Return the costs that a place knows, without those that damaged files hold: work is done without them too."""
    try:
        return _latest(_read(place)[1])
    except (IcmBenchError, OSError):
        return []


def _read(place: Storage) -> tuple[list[str], list[Cost]]:
    """Return the names of the files of costs, and what they hold together."""
    names, costs = place.files(ROOT, ".json"), list[Cost]()
    for name in names:
        try:
            costs += check(place, name)
        except DamagedError as error:
            if error.problems[name] == GONE:
                return _read(place)  # another writer removed it just now: what it held stands in a newer file
    return names, costs


def check(place: Storage, name: str) -> list[Cost]:
    """Return the costs of a file. Raises DamagedError where it is not what was written."""
    said = read_json(place, name)
    try:
        return _of_plain(said["costs"] if isinstance(said, dict) else said)
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError.of(place, {name: "is damaged"}) from error


def of_json(content: bytes) -> list[Cost]:
    """Return the costs of a file that `as_json` made.

    Raises:
        IcmBenchError, ValueError, TypeError: it is none.
    """
    return _of_plain(from_json(content, "The file of costs"))


def _of_plain(plain: Iterable[Any]) -> list[Cost]:
    """Return costs from plain data; those of an earlier version know nothing of encoders, or of their time."""
    types = {name: type(getattr(Cost((), 0.0, 0.0), name)) for name in _MORE}
    costs = []
    for kind, work, seconds, name, *more in plain:
        (further,) = more or [None]
        known = {key: types[key](value) for key, value in dict(further or {}).items() if key in types}
        costs.append(Cost(tuple(kind), float(work), float(seconds), str(name), **known))
    return [c for c in costs if c.work > 0 and c.seconds > 0 and math.isfinite(c.work * c.seconds)]


def most_alike(costs: Iterable[Cost], kind: tuple[str, ...], work: float, least: int) -> Cost | None:
    """Return the cost of the kind that shares most words, `least` or more, and of it that of the nearest work."""
    alike = [(words, cost) for cost in costs if (words := shared(cost.kind, kind)) >= least]
    most = max((words for words, _ in alike), default=0)
    nearest = [cost for words, cost in alike if words == most]
    return min(nearest, key=lambda cost: abs(math.log(cost.work / work)), default=None)


def shared(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many words two kinds share, from the first on."""
    return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))))
