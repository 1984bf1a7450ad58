"""Whether the stages of a recipe fit the machines that there are: this one, or the nodes of a cluster."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmark.common.ray.dashboard import nodes_of


@dataclass(frozen=True)
class Node:
    """What one machine has.

    Attributes:
        cores: CPU cores.
        gib: memory in GiB.
        gpus: GPUs; None where nobody looked, as on this machine without PyTorch.
    """

    cores: float
    gib: float
    gpus: int | None = None


@dataclass(frozen=True)
class Room:
    """Where a recipe would run, and what does not fit there.

    Attributes:
        where: which machines they are, in words.
        nodes: the machines.
        side_by_side: trials that run at a time, on all of them.
        trial_gib: memory that a trial takes at most, in GiB.
        lacking: what does not fit, each with its remedy; empty where every stage fits.
    """

    where: str
    nodes: list[Node]
    side_by_side: int
    trial_gib: float
    lacking: list[str] = field(default_factory=list)

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
        return fitted("this machine", [this_machine()], cpus_per_trial, trial_gib, None)
    nodes = [
        Node(float(has.get("CPU", 0)), float(has.get("memory", 0)) / 2**30, int(has.get("GPU", 0)))
        for has in nodes_of(address)
    ]
    return fitted(f"{len(nodes)} nodes of {address}", nodes, cpus_per_trial, trial_gib, gpus)


def this_machine() -> Node:
    """Return what this machine has."""
    return Node(os.cpu_count() or 1, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)


def fitted(where: str, nodes: Sequence[Node], cpus_per_trial: float, trial_gib: float, gpus: int | None) -> Room:
    """Return what `room` does, for machines that are known.

    Args:
        where: which machines they are, in words.
        nodes: the machines.
        cpus_per_trial: cores that a trial reserves.
        trial_gib: memory that a trial takes at most, in GiB.
        gpus: how many are wanted for embedding; None where none are.
    """
    lacking, slots = [], [int(node.cores / cpus_per_trial) for node in nodes]
    there = sum(node.gpus or 0 for node in nodes)
    if gpus and there < gpus:
        lacking.append(
            f"embedding has {there} of the {gpus} GPUs: it takes {gpus / there:.1f} times as long, unless nodes join"
            if there
            else f"embedding has none of the {gpus} GPUs, unless nodes join"
        )
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
