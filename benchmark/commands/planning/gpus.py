"""How many views/s one GPU makes with a backbone: by runs that were measured, else by public figures, else unknown."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

from benchmark.backbones.spec import BackboneSpec
from benchmark.commands.planning.estimate import Known
from benchmark.commands.planning.kinds import embedding_kind
from benchmark.common.errors import IcmBenchError
from benchmark.store.costs import most_alike

UNKNOWN = "unknown: use --calibrate where there is such a GPU"
_CUDA = "cuda"


@dataclass(frozen=True)
class GpuSpeed:
    """What one GPU makes with a backbone.

    Attributes:
        low: views/s at least; 0 where nobody knows how few.
        high: views/s at most.
        where: where that was measured, in words.
        public: whether it is a public figure, and nothing that this project measured.
    """

    low: float
    high: float
    where: str
    public: bool

    def hours(self, views: float) -> tuple[float, float | None]:
        """Return the hours that one GPU takes for some views, at least and at most; None where no most is known."""
        return views / self.high / 3600, views / self.low / 3600 if self.low else None

    @property
    def rate(self) -> str:
        """The views/s in words."""
        return f"{span(self.low, self.high, 0) if self.low else f'at most {self.high:,.0f}'} views/s"


def span(low: float, high: float | None, digits: int = 2) -> str:
    """Return a range in words, as one number where both ends look alike.

    Args:
        low: its lower end.
        high: its upper end; None where nobody knows it.
        digits: behind the point; a number that would have none but zeros has its first two.
    """
    if high is None:
        return f"at least {_number(low, digits)}"
    ends = _number(low, digits), _number(high, digits)
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def _number(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}" if digits == 0 or not 0 < value < 0.1 else f"{value:.2g}"


def gpu_speed(spec: BackboneSpec, known: Known, gpu: str | None, views: float) -> GpuSpeed | None:
    """Return what one GPU makes with a backbone; None where nobody knows, or the backbone is built for CPUs.

    Args:
        spec: the backbone.
        known: what was measured; runs on GPUs come before public figures.
        gpu: kind of GPU, as a person writes it (`l4`, `RTX 4090`). None takes any that was measured, and no public
            figure.
        views: how many are to be embedded, above 0: the run with the nearest number counts.
    """
    if spec.is_built:
        return None
    return _measured(spec, known, gpu, views) or (_public(spec, gpu) if gpu else None)


def _measured(spec: BackboneSpec, known: Known, gpu: str | None, views: float) -> GpuSpeed | None:
    for where, costs in known.places.items():
        fitting = [c for c in costs if c.device == _CUDA and (gpu is None or is_named(gpu, c.gpu))]
        if cost := most_alike(fitting, embedding_kind(spec), views, least=4):
            rate = cost.work / cost.seconds / max(1, cost.actors)
            return GpuSpeed(rate, rate, f"measured {where}{f' on {cost.gpu}' if cost.gpu else ''}", public=False)
    return None


def _public(spec: BackboneSpec, gpu: str) -> GpuSpeed | None:
    """Return the range of the public figures of an image tower; see `store/public_speeds.json`.

    They are of mixed precision. In single precision a GPU is slower, by how much is not public.
    """
    table = public_figures()
    card = _card(gpu, list(table["cards"]))
    names = {spec.name.removesuffix("-quickgelu"), spec.name.removeprefix("timm:").partition(".")[0]}
    figures = [
        speeds[card]
        for tower, size, of_timm, speeds in table["figures"]
        if card in speeds and names & {tower, of_timm} and spec.image_size in (None, size)
    ]
    if card is None or not figures:
        return None
    single = spec.precision == "float32"
    slower = "; in float32, as here, it is slower" if single else ""
    source = f"public figures of timm on {card} (read {table['read']}; the bare model in mixed precision{slower})"
    return GpuSpeed(0.0 if single else min(figures), max(figures), source, public=True)


def _card(gpu: str, cards: Sequence[str]) -> str | None:
    """Return the one of some cards that a name means; None where it is none of them.

    Raises:
        IcmBenchError: it may be several.
    """
    meant = [card for card in cards if is_named(gpu, card)]
    if len(meant) > 1:
        raise IcmBenchError(f"--gpu {gpu} may be {' or '.join(meant)}: give its whole name.")
    return meant[0] if meant else None


def is_named(asked: str, card: str) -> bool:
    """Return whether a name that a person gives means a card: all its words are among the card's (`l4` is no L40S)."""
    words = _words(asked)
    return bool(words) and words <= _words(card)


def _words(name: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", re.sub(r"(rtx|gtx)(?=[a-z0-9])", r"\1 ", name.lower())))


@lru_cache(maxsize=1)
def public_figures() -> dict[str, Any]:
    """Return the table of public figures that comes with the package: their source, cards and figures."""
    content: dict[str, Any] = json.loads((files("benchmark.store") / "public_speeds.json").read_bytes())
    return content
