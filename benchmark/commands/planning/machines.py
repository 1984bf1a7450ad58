"""The machines of a recipe: whether it fits those that there are, and what rented GPUs and object stores cost.

A GPU's speed with a backbone is that of runs that were measured, else of public figures, else unknown.
"""

import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.resources import files
from typing import Any

from benchmark.backbones.spec import BackboneSpec
from benchmark.commands.planning.estimate import EMBEDDING, REPORTING, Estimate, Known, embedding_kind, in_words
from benchmark.common.errors import IcmBenchError
from benchmark.common.ray.dashboard import nodes_of
from benchmark.store.costs import most_alike

# Counted at an S3 server, for a first run. What is read or written whole takes one request. Of images that are files of
# their own, and of parts, the machine that has read or written them keeps copies; images of shards are read once more.
# A view is listed in every stage, and says what it holds. Sums are the moments of a view and split: written, and read
# by trials and details. Rows are written, read once, and read in the index from then on.
OF_RUN, OF_IMAGE, OF_PART, OF_VIEW, OF_SUM, OF_TRIAL = 180, 1, 1.1, 11, 3, 3
# Workers of other machines have no copies: images are read again to be decoded, under each backbone, and parts of
# embeddings to be summed.
OF_PART_FROM_AFAR = 2.3
SWEEP = "sweep"  # from the start of the command on, with moments
UNKNOWN = "unknown: use --calibrate where there is such a GPU"
Range = tuple[float, float | None]  # at least and at most; None where nobody knows the most


@dataclass(frozen=True)
class Offer:
    """What somebody rents. Prices are of an hour of a machine with one GPU, in the reader's currency."""

    gpu: str | None = None  # kind of GPU, as `l4`
    gpus: int = 1
    price: float | None = None
    spot_price: float | None = None  # of a machine that may be taken away


@dataclass(frozen=True)
class GpuSpeed:
    """How many views/s one GPU makes with a backbone."""

    low: float  # 0 where nobody knows how few
    high: float
    where: str  # it was measured, in words
    public: bool  # whether it is a public figure, and nothing that this project measured


@dataclass(frozen=True)
class Charge:
    """The hours that one stage takes on all GPUs that are rented, at least and at most."""

    hours: float
    most: float | None


@dataclass(frozen=True)
class Bill:
    """What a recipe costs. A stage of which nothing is known has no charge, and without a price none has money."""

    offer: Offer
    charges: dict[str, Charge]
    speeds: dict[str, GpuSpeed | None]  # of each backbone
    cores: int  # that trials have in this
    money: dict[str, Range] = field(default_factory=dict)
    cheaper: list[str] = field(default_factory=list)  # what would be, in words

    def text(self) -> list[str]:
        """Return it in some lines."""
        lines = [self._embedding()] if self.speeds else []
        for stage in (SWEEP, REPORTING) if self.speeds else (EMBEDDING, SWEEP, REPORTING):
            if charge := self.charges.get(stage):
                lines.append(f"{stage}: {_time(charge)} on {self.cores} cores{self._paid(stage)}")
        if self.money:
            least, most = _sum(self.money.values())
            # Without embedding by GPUs, or with some of their speeds alone, it is a part.
            whole = span(least, None if None in self.speeds.values() else most)
            unknown = "" if EMBEDDING in self.money or not self.speeds else ", without embedding"
            lines.append(f"together: {whole} (in the currency of --price){unknown}; cheaper: {'; '.join(self.cheaper)}")
        return lines

    def _embedding(self) -> str:
        """Return the line on embedding: GPU hours, what they cost, and where the speeds are from."""
        charge, gpus = self.charges.get(EMBEDDING), self.offer.gpus
        card = f"{gpus} x {self.offer.gpu or 'GPU'}"
        if charge is None and self.offer.gpu is None:
            return "embedding on a GPU: no run on one is known: name its kind with --gpu"
        if charge is None:
            return f"embedding on {card}: {UNKNOWN}"
        unknown = [label for label, speed in self.speeds.items() if speed is None]
        without = f", without {', '.join(unknown)} ({UNKNOWN})" if unknown else ""
        sources = dict.fromkeys(f"{s.where}{', not measured' if s.public else ''}" for s in self.speeds.values() if s)
        return (
            f"embedding: {span(*_scaled((charge.hours, charge.most), gpus))} GPU hours, {_time(charge)} on {card}"
            f"{self._paid(EMBEDDING)}{without}; {'; '.join(sources)}"
        )

    def _paid(self, stage: str) -> str:
        kept = "" if stage == EMBEDDING else " while the GPUs stay"
        return f", {span(*self.money[stage])}{kept}" if stage in self.money else ""


def billed(offer: Offer, estimate: Estimate, speeds: Mapping[str, GpuSpeed | None], views: int) -> Bill:
    """Return what a recipe costs.

    Args:
        offer: what is rented.
        estimate: how long sweep and report take.
        speeds: backbone -> what one GPU makes; empty where nothing is embedded.
        views: how many each backbone embeds.
    """
    apart = {name: estimate.stages.get(name, 0.0) for name in (EMBEDDING, REPORTING)}
    hours = {n: s / 3600 for n, s in {**apart, SWEEP: estimate.seconds - sum(apart.values())}.items() if s}
    charges = {name: Charge(h, None if estimate.unknown else h) for name, h in hours.items()}
    known = [(views / s.high / 3600, views / s.low / 3600 if s.low else None) for s in speeds.values() if s]
    if known:
        least, most = _sum(known)
        charges[EMBEDDING] = Charge(least / offer.gpus, most and most / offer.gpus)
    if offer.price is None:
        return Bill(offer, charges, dict(speeds), estimate.cores)
    money = {n: _scaled((charge.hours, charge.most), offer.gpus * offer.price) for n, charge in charges.items()}
    return Bill(offer, charges, dict(speeds), estimate.cores, money, _cheaper(offer, money))


def _cheaper(offer: Offer, money: Mapping[str, Range]) -> list[str]:
    """Return what would be cheaper, in words."""
    said = []
    later = sum(low for name, (low, _) in money.items() if name != EMBEDDING)
    if EMBEDDING in money and later:
        said.append(f"sweep and report elsewhere, on machines without GPUs: {span(later, later)} less")
    lost = "when one is taken away, two chunks of an encoder and the trials under way are computed again"
    if offer.spot_price is None or not offer.price:
        return [*said, f"spot machines (--spot-price says what they cost): {lost}"]
    together = _scaled(_sum(money.values()), offer.spot_price / offer.price)
    return [*said, f"spot machines: {span(*together)} together; {lost}"]


def _sum(ranges: Iterable[Range]) -> Range:
    lows, highs = zip(*ranges, strict=True)
    return sum(lows), None if None in highs else sum(highs)


def _scaled(ends: Range, factor: float) -> Range:
    low, high = ends
    return low * factor, None if high is None else high * factor


def _time(charge: Charge) -> str:
    """Return a time in words; a range where its ends look different."""
    least = in_words(3600 * charge.hours)
    if charge.most is None:
        return f"at least {least}"
    most = in_words(3600 * charge.most)
    return least if least == most else f"{least} to {most}"


def span(low: float, high: float | None, digits: int = 2) -> str:
    """Return a range in words, as one number where both ends look alike; with `high` None nobody knows its end.

    A number that would have none but zeros behind the point has its first two digits.
    """
    least, *most = (
        f"{value:,.{digits}f}" if digits == 0 or not 0 < value < 0.1 else f"{value:.2g}"
        for value in (low, high)
        if value is not None
    )
    if not most:
        return f"at least {least}"
    return least if least == most[0] else f"{least} to {most[0]}"


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
    for where, costs in known.places.items():
        fitting = [c for c in costs if c.device == "cuda" and (gpu is None or is_named(gpu, c.gpu))]
        if cost := most_alike(fitting, embedding_kind(spec), views, least=4):
            rate = cost.work / cost.seconds / max(1, cost.actors)
            return GpuSpeed(rate, rate, f"measured {where}{f' on {cost.gpu}' if cost.gpu else ''}", public=False)
    return _public(spec, gpu) if gpu else None


def _public(spec: BackboneSpec, gpu: str) -> GpuSpeed | None:
    """Return the range of the public figures of an image tower; see `store/public_speeds.json`.

    They are of mixed precision. In single precision a GPU is slower, by how much is not public.
    """
    table = public_figures()
    meant = [card for card in table["cards"] if is_named(gpu, card)]
    if len(meant) > 1:
        raise IcmBenchError(f"--gpu {gpu} may be {' or '.join(meant)}: give its whole name.")
    names = {spec.name.removesuffix("-quickgelu"), spec.name.removeprefix("timm:").partition(".")[0]}
    figures = [
        speeds[card]
        for card in meant
        for tower, size, of_timm, speeds in table["figures"]
        if card in speeds and names & {tower, of_timm} and spec.image_size in (None, size)
    ]
    if not figures:
        return None
    single = spec.precision == "float32"
    slower = "; in float32, as here, it is slower" if single else ""
    source = f"public figures of timm on {meant[0]} (read {table['read']}; the bare model in mixed precision{slower})"
    return GpuSpeed(0.0 if single else min(figures), max(figures), source, public=True)


def is_named(asked: str, card: str) -> bool:
    """Return whether a name that a person gives means a card: all its words are among the card's (`l4` is no L40S)."""
    words, of_card = (
        set(re.findall(r"[a-z0-9]+", re.sub(r"(rtx|gtx)(?=[a-z0-9])", r"\1 ", name.lower()))) for name in (asked, card)
    )
    return bool(words) and words <= of_card


@lru_cache(maxsize=1)
def public_figures() -> dict[str, Any]:
    """Return the table of public figures that comes with the package: their source, cards and figures."""
    content: dict[str, Any] = json.loads((files("benchmark.store") / "public_speeds.json").read_bytes())
    return content


@dataclass(frozen=True)
class Requests:
    """Requests of a run that finds nothing done: of what it makes them."""

    images: int  # that lie in an object store; files of a disk are asked for by nobody
    parts: int  # of embeddings
    views: int  # under all backbones
    sums: int  # moments: of views, for each seed
    trials: int
    charged: bool  # whether the store is an object store, which counts requests
    from_afar: int = 0  # backbones under which other machines decode; 0 where one machine does it all

    @property
    def count(self) -> int:
        """All of them together; 0 where images and store lie on disks."""
        of_parts = (OF_PART_FROM_AFAR if self.from_afar else OF_PART) * self.parts + OF_VIEW * self.views
        of_store = OF_RUN + of_parts + OF_SUM * self.sums + OF_TRIAL * self.trials
        return (OF_IMAGE + self.from_afar) * self.images + round(of_store) * self.charged

    def text(self) -> str:
        """Return it in words."""
        if not self.images and not self.charged:
            return f"on s3:// or gs:// {replace(self, charged=True).count:,} requests"
        return f"{self.count:,} requests to storage"


@dataclass(frozen=True)
class Node:
    """What one machine has."""

    cores: float
    gib: float  # of memory
    gpus: int | None = None  # None where nobody looked, as on this machine without PyTorch


@dataclass(frozen=True)
class Room:
    """Where a recipe would run, and what does not fit there."""

    where: str  # which machines they are, in words
    nodes: list[Node]
    side_by_side: int  # trials that run at a time, on all of them
    trial_gib: float  # memory that a trial takes at most
    lacking: list[str] = field(default_factory=list)  # what does not fit, each with its remedy

    def text(self) -> str:
        """Return it in one line."""
        cores, gib = sum(node.cores for node in self.nodes), sum(node.gib for node in self.nodes)
        gpus = [node.gpus for node in self.nodes if node.gpus is not None]
        counted = f", {sum(gpus)} GPUs" if gpus else ""
        size = f"{self.where}: {cores:.0f} cores{counted}, {gib:.1f} GiB of memory"
        trials = f"{self.side_by_side} trials side by side take {self.side_by_side * self.trial_gib:.1f} GiB at most"
        return f"{size}; {trials}; {'; '.join(self.lacking) or 'every stage fits'}"


def room(address: str | None, cpus_per_trial: float, trial_gib: float, gpus: int | None) -> Room:
    """Return where a recipe would run, and what does not fit there.

    Args:
        address: of a cluster's dashboard, as `http://HOST:8265`. None for this machine.
        cpus_per_trial: cores that a trial reserves.
        trial_gib: memory that a trial takes at most, in GiB.
        gpus: how many are wanted for embedding; None where none are.

    Raises:
        IcmBenchError: no cluster answers there.
    """
    if address is None:
        here = Node(os.cpu_count() or 1, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
        return fitted("this machine", [here], cpus_per_trial, trial_gib, None)
    nodes = [
        Node(float(has.get("CPU", 0)), float(has.get("memory", 0)) / 2**30, int(has.get("GPU", 0)))
        for has in nodes_of(address)
    ]
    return fitted(f"{len(nodes)} nodes of {address}", nodes, cpus_per_trial, trial_gib, gpus)


def fitted(where: str, nodes: Sequence[Node], cpus_per_trial: float, trial_gib: float, gpus: int | None) -> Room:
    """Return what `room` does, for machines that are known, called `where`."""
    lacking, slots = [], [int(node.cores / cpus_per_trial) for node in nodes]
    there = sum(node.gpus or 0 for node in nodes)
    if gpus and there < gpus:
        slower = f"{there} of the {gpus} GPUs: it takes {gpus / there:.1f} times as long" if there else ""
        lacking.append(f"embedding has {slower or f'none of the {gpus} GPUs'}, unless nodes join")
    if not sum(slots):
        lacking.append(f"no node has the {cpus_per_trial:g} cores that a trial reserves: lower run.cpus_per_trial")
    full = [node for node, count in zip(nodes, slots, strict=True) if count * trial_gib > node.gib]
    if full:
        least = min(full, key=lambda node: node.gib)
        fewer = int(least.gib / trial_gib)
        remedy = (
            f"set run.cpus_per_trial to {math.ceil(least.cores / fewer)}"
            if fewer
            else "give it more memory, or the recipe fewer images"
        )
        lacking.append(f"the sweep does not fit a node of {least.cores:.0f} cores and {least.gib:.1f} GiB: {remedy}")
    return Room(where, list(nodes), max(1, sum(slots)), trial_gib, lacking)
