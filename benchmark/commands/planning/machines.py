"""Machines for a recipe: whether it fits this machine or a cluster, and the cost of rented GPUs."""

import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from benchmark.backbones.spec import BackboneSpec, Precision, precision_on
from benchmark.commands.planning.estimate import EMBEDDING, REPORTING, Estimate, Known, embedding_kind, in_words
from benchmark.common.errors import IcmBenchError
from benchmark.common.machine import gpu_devices, torch_gpus
from benchmark.common.ray.dashboard import nodes_of
from benchmark.recipe.recipe import Recipe
from benchmark.store.costs import most_alike

SWEEP, TOGETHER = "sweep", "together"  # the sweep includes start-up and moments
# Words in the names of GPUs with compute capability 8 or more: A100, L4, H100, GB200, 4090 ...
_RECENT = re.compile(r"(?:a|l|g?h|g?b)\d+[gs]?|[345]0[5-9]0(?:ti)?|ada")
Range = tuple[float, float | None]  # lower and upper bound, see `span`; None if the upper bound is unknown


@dataclass(frozen=True)
class Offer:
    """Rented GPUs. Prices are for an hour of a machine with one GPU."""

    # Fields are options of `icm-bench plan` with the same names; `_plan` in benchmark/cli.py lists them.
    gpu: str | None = None  # kind of GPU, such as `l4`
    gpus: int = 1
    price: float | None = None
    currency: str = ""  # only printed


@dataclass(frozen=True)
class GpuSpeed:
    """Throughput of one GPU with a backbone, in views/s."""

    low: float  # lower bound; 0 if none is known
    high: float
    where: str  # source of the measurement, in words
    public: bool  # whether it is a public figure, not measured by this project


@dataclass(frozen=True)
class Bill:
    """Hours and price of a recipe. Stages of unknown time are absent; without a price, `money` is empty."""

    offer: Offer
    hours: dict[str, Range]  # stage -> hours on all rented GPUs; `TOGETHER` -> hours of all stages
    speeds: dict[str, GpuSpeed | None]  # label of a backbone that runs on GPUs -> speed
    money: dict[str, Range]  # stage -> price of these hours

    def text(self) -> list[str]:
        """Return the bill as lines of text."""
        parts = []
        for stage, hours in self.hours.items():
            paid = f" for {span(*self.money[stage])} {self.offer.currency}".rstrip() if self.money else ""
            parts.append(f"{stage} {span(*times(hours, 3600), in_words)}{paid}")
        rented = f"rented, {self.offer.gpus} x {self.offer.gpu or 'GPU'}: {', '.join(parts)}"
        return [rented, *dict.fromkeys(f"GPUs: {speed.where}" for speed in self.speeds.values() if speed)]


def billed(offer: Offer, estimate: Estimate, speeds: dict[str, GpuSpeed | None], views: int) -> Bill:
    """Return the cost of a recipe on rented GPUs, on which each backbone in `speeds` embeds `views` views."""
    known = dict.fromkeys((EMBEDDING, SWEEP, REPORTING), 0.0)
    for name, seconds in estimate.stages.items():
        known[name if name in known else SWEEP] += seconds / 3600
    unsure = {"embedding" in name for name in estimate.unknown}  # has True if embedding is unsure, False if others are
    hours: dict[str, Range] = {s: (h, None if (s == EMBEDDING) in unsure else h) for s, h in known.items()}
    if rates := [speed for speed in speeds.values() if speed]:
        each = views / offer.gpus / 3600
        bounded = all(speed and speed.low for speed in speeds.values())
        most = sum(each / speed.low for speed in rates) if bounded else None
        hours[EMBEDDING] = sum(each / speed.high for speed in rates), most
    hours = {stage: bounds for stage, bounds in hours.items() if bounds[0]}
    ends = [most for _, most in hours.values() if most is not None]
    is_whole = len(ends) == len(hours) and not estimate.unknown
    hours[TOGETHER] = sum(least for least, _ in hours.values()), sum(ends) if is_whole else None
    money = {} if offer.price is None else {s: times(h, offer.gpus * offer.price) for s, h in hours.items()}
    return Bill(offer, hours, speeds, money)


def times(bounds: Range, factor: float) -> Range:
    """Return both bounds times a factor."""
    low, high = bounds
    return low * factor, None if high is None else high * factor


def amount(value: float) -> str:
    """Return a number with two decimals; below 0.1, with two significant digits."""
    return f"{value:.2g}" if 0 < value < 0.1 else f"{value:,.2f}"


def span(low: float, high: float | None, words: Callable[[float], str] = amount) -> str:
    """Return a range in words, or one number if both bounds read the same. `high` None means no upper bound."""
    if high is None:
        return f"at least {words(low)}"
    return words(low) if words(low) == words(high) else f"{words(low)} to {words(high)}"


def gpu_speed(spec: BackboneSpec, known: Known, gpu: str, views: float) -> GpuSpeed | None:
    """Return the speed of a backbone on one GPU; None if it is unknown.

    `gpu` is the user's name of the GPU, such as `l4`. Of the runs that were measured on such a GPU, the one with the
    nearest number of views is used. Without such a run, public figures are used. They are for mixed precision. Single
    precision is slower by an unknown factor, so its lower bound is then 0.
    """
    for where, costs in known.items():
        fitting = [c for c in costs if c.device == "cuda" and is_named(gpu, c.gpu)]
        if cost := most_alike(fitting, embedding_kind(spec), views, min_shared=4):
            rate = cost.work / cost.seconds / max(1, cost.actors)
            return GpuSpeed(rate, rate, f"measured {where} on {cost.gpu}", public=False)
    table = public_figures()
    meant = [card for card in table["cards"] if is_named(gpu, card)]
    if len(meant) > 1:
        raise IcmBenchError(f"--gpu {gpu} may be {' or '.join(meant)}; give the full name.")
    names = {spec.name.removesuffix("-quickgelu"), spec.name.removeprefix("timm:").partition(".")[0]}
    figures = [
        speeds[card]
        for card in meant
        for tower, size, of_timm, speeds in table["figures"]
        if card in speeds and names & {tower, of_timm} and spec.image_size in (None, size)
    ]
    if not figures:
        return None
    source = f"public figures of timm on {meant[0]} (read {table['read']}; the bare model in mixed precision)"
    return GpuSpeed(0.0 if spec.precision in ("float32", "tf32") else min(figures), max(figures), source, public=True)


def automatic_precision(recipe: Recipe, gpu: str | None, address: str | None) -> Precision:
    """Return what the precision `auto` is on a rented GPU, else in the cluster at `address`, else on this machine.

    It is float32 if the GPUs are not known, and if no backbone has `auto`.
    """
    if recipe.run.device == "cpu" or recipe.is_imported or all(spec.precision != "auto" for spec in recipe.backbones):
        return "float32"
    if gpu or address:
        nodes = [] if gpu else [node for node in nodes_of(str(address)) if node.get("GPU")]
        types = [" ".join(key for key in node if key.startswith("accelerator_type:")) for node in nodes] or [gpu or ""]
        return precision_on([8 * any(map(_RECENT.fullmatch, _words(name))) for name in types])
    return precision_on([major for _, major in torch_gpus()] if gpu_devices() else [])


def is_named(asked: str, card: str) -> bool:
    """Return whether all words of a user's name are words of the card's name (`l4` does not match L40S)."""
    return bool(_words(asked)) and _words(asked) <= _words(card)


def _words(name: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", re.sub(r"(rtx|gtx)(?=[a-z0-9])", r"\1 ", name.lower())))


def public_figures() -> dict[str, Any]:
    """Return the packaged table of published GPU speeds: source, names of GPUs, and views/s by model and size."""
    content: dict[str, Any] = json.loads((files("benchmark.store") / "public_speeds.json").read_bytes())
    return content


@dataclass(frozen=True)
class Room:
    """The machines for a recipe, and the resources that the recipe needs but the machines lack."""

    where: str  # description of the machines
    cores: float  # total number of cores
    gib: float  # total memory in GiB
    gpus: int | None  # total number of GPUs; None for this machine, where GPUs are not counted
    side_by_side: int  # number of concurrent trials
    trial_gib: float  # maximum memory of a trial in GiB
    lacking: list[str]  # missing resources, each with its remedy

    def text(self) -> str:
        """Return the summary in one line."""
        gpus = "" if self.gpus is None else f", {self.gpus} GPUs"
        trials = f"{self.side_by_side} trials side by side take {self.side_by_side * self.trial_gib:.1f} GiB at most"
        fits = "; ".join(self.lacking) or "every stage fits"
        return f"{self.where}: {self.cores:.0f} cores{gpus}, {self.gib:.1f} GiB of memory; {trials}; {fits}"


def room_at(address: str | None, cpus_per_trial: float, trial_gib: float, gpus: int) -> Room:
    """Return the machines of the cluster at `address`, and what they lack for trials and for embedding on GPUs.

    For `address` None, the only machine is this one. `gpus` is the number of GPUs for embedding.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = nodes_of(address) if address else [{"CPU": os.cpu_count() or 1, "memory": memory}]
    nodes = [(node.get("memory", 0) / 2**30, node.get("CPU", 0)) for node in found]
    slots = [int(cores / cpus_per_trial) for _, cores in nodes]
    there, lacking = sum(int(node.get("GPU", 0)) for node in found) if address else None, []
    if there is not None and there < gpus:
        lacking.append(f"embedding gets {there} of the {gpus} GPUs, unless nodes join")
    if not sum(slots):
        lacking.append(f"no node has the {cpus_per_trial:g} cores that a trial reserves: lower run.cpus_per_trial")
    if full := [node for node, count in zip(nodes, slots, strict=True) if count * trial_gib > node[0]]:
        gib, cores = min(full)
        remedy = "give it more memory, or the recipe fewer images"
        if fewer := int(gib / trial_gib):
            remedy = f"set run.cpus_per_trial to {math.ceil(cores / fewer)}"
        lacking.append(f"the sweep does not fit a node of {cores:.0f} cores and {gib:.1f} GiB: {remedy}")
    where = f"{len(nodes)} nodes of {address}" if address else "this machine"
    sizes = sum(cores for _, cores in nodes), sum(gib for gib, _ in nodes), there, max(1, sum(slots))
    return Room(where, *sizes, trial_gib, lacking)
