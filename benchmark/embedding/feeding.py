"""How many CPU cores must decode so that a GPU does not wait: from what the last run on this machine measured."""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass

from benchmark.common.errors import IcmBenchError
from benchmark.common.hashing import canonical_hash
from benchmark.common.machine import machine
from benchmark.common.storage.cache import cache_dir
from benchmark.common.storage.files import Storage


@dataclass(frozen=True)
class DecodingCost:
    """What it takes to read and decode an image; with interventions where they are made on the source image.

    Attributes:
        core_ms: milliseconds of one core for an image.
        images: name of the data set.
        size: height and width of what comes out.
    """

    core_ms: float
    images: str
    size: tuple[int, int]

    def cores(self, views_per_s: float, views: int) -> float:
        """Return how many cores feed encoders that take so many views/s, with so many views of each image.

        Interventions at model-input size are not in it: a GPU makes them itself.
        """
        return views_per_s / views * self.core_ms / 1e3


def remember(cost: DecodingCost) -> None:
    """Keep what a run on this machine measured, in place of what an earlier one did."""
    memory, name = _place()
    with suppress(IcmBenchError):  # a cache that cannot be written to learns nothing, and no work is lost for it
        memory.write_bytes(name, json.dumps(asdict(cost)).encode())


def remembered() -> DecodingCost | None:
    """Return what the last run on this machine measured; None where there was none."""
    memory, name = _place()
    try:
        content = json.loads(memory.read_bytes(name))
        return DecodingCost(**{**content, "size": tuple(content["size"])})
    except (IcmBenchError, ValueError, TypeError, KeyError):  # missing or damaged
        return None


def _place() -> tuple[Storage, str]:
    return Storage(str(cache_dir() / "engines")), f"decoding-{canonical_hash(machine())[:32]}.json"
