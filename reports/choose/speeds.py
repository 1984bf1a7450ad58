"""How fast backbones encode and what memory that takes, where it was measured alike for several of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Costs = Mapping[str, Sequence[Mapping[str, Any]]]
NOT_RECORDED = "no speed was recorded in this store"
_ELSEWHERE = "measured on another machine or with other encoders, so not to be compared"
_NO_MEMORY = "not recorded where the speed was"


@dataclass(frozen=True)
class Measured:
    """What was measured of one backbone.

    Attributes:
        images_per_second: views through decoding, interventions and encoder, start-up excluded; None where it was not
            measured alike.
        memory: bytes that an encoder took at most; None where that was not recorded.
        why: why there is no speed; empty where there is.
        why_no_memory: the same of the memory.
    """

    images_per_second: float | None = None
    memory: int | None = None
    why: str = NOT_RECORDED
    why_no_memory: str = NOT_RECORDED


@dataclass(frozen=True)
class Speeds:
    """What was measured of backbones that may be compared.

    Attributes:
        of: backbone -> what was measured.
        where: on what, in words; empty where nothing was.
        on_gpu: whether encoders ran on a GPU whose memory is counted.
    """

    of: Mapping[str, Measured]
    where: str = ""
    on_gpu: bool = False


def speeds_of(costs: Costs) -> Speeds:
    """Return speed and memory of each backbone where most of them were measured alike.

    That is: on one kind of processor and device, with as many encoders and threads. Of several runs that with most
    images counts, since it depends least on how it began and ended.

    Args:
        costs: backbone -> what its embeddings cost, as `benchmark.store.costs.Cost` has it; none where it is unknown.
    """
    by_place: dict[_Place, dict[str, Mapping[str, Any]]] = {}
    for backbone, every in costs.items():
        for cost in every:
            here = by_place.setdefault(_Place.of(cost), {})
            if backbone not in here or cost["work"] > here[backbone]["work"]:
                here[backbone] = cost
    if not by_place:
        return Speeds(dict.fromkeys(costs, Measured()))
    place, there = max(by_place.items(), key=lambda one: (len(one[1]), sum(cost["work"] for cost in one[1].values())))
    of = {name: _measured(there.get(name), bool(costs[name])) for name in costs}
    return Speeds(of, place.words, place.device == "cuda")


@dataclass(frozen=True)
class _Place:
    """What speeds must share to be compared; empty or 0 where it is not known."""

    machine: str
    device: str
    actors: int
    cores: int

    @classmethod
    def of(cls, cost: Mapping[str, Any]) -> "_Place":
        machine, device = (str(cost.get(name) or "") for name in ("machine", "device"))
        actors, cores = (int(cost.get(name) or 0) for name in ("actors", "cores"))
        return cls(machine, device, actors, cores)

    @property
    def words(self) -> str:
        """The place: "2 encoders on cpu with 4 threads each, AMD EPYC"."""
        threads = f" with {self.cores} thread{'s' if self.cores > 1 else ''} each" if self.cores else ""
        encoders = f"{self.actors} encoder{'s' if self.actors > 1 else ''} on {self.device}{threads}"
        return ", ".join(filter(None, [encoders if self.actors else "", self.machine])) or "an unknown machine"


def _measured(cost: Mapping[str, Any] | None, elsewhere: bool) -> Measured:
    if cost is None:
        why = _ELSEWHERE if elsewhere else NOT_RECORDED
        return Measured(why=why, why_no_memory=why)
    return Measured(cost["work"] / cost["seconds"], cost.get("memory") or None, "", _NO_MEMORY)
