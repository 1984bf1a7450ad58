"""The autoscaler of the connected cluster: how many GPUs it may bring, and asking it for some."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray

from benchmark.common.ray.cluster import alive_nodes, gpu_count

_HEAD = "node:__internal_head__"  # a resource of the head's node alone
_SECONDS = 30.0  # that the head's node is waited for


def gpus_in_reach() -> int:
    """Return how many GPUs the connected cluster has or may get, as far as that is known; 0 without a connection."""
    return max(gpu_count(), autoscaled_gpus() or 0)


def autoscaled_gpus() -> int | None:
    """Return how many GPUs the nodes have together that the autoscaler may bring; None where nobody knows.

    Ray tells no driver how its autoscaler is configured, but for platforms that report it. So the file is read that the
    autoscaler was started with, on the head's node. Of one that runs elsewhere, as beside KubeRay's head, nothing is
    known. A Ray of this process alone has none.
    """
    if not os.environ.get("RAY_ADDRESS"):
        return 0
    head = next((node["NodeID"] for node in alive_nodes() if _HEAD in node["Resources"]), None)
    if head is None:
        return None
    with suppress(Exception):  # private to Ray
        if reported := ray._private.state.state.get_max_resources_from_cluster_config():
            return int(reported.get("GPU", 0))
    address = ray.get_runtime_context().gcs_address
    if head == ray.get_runtime_context().get_node_id():
        return _configured_gpus(address)
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    on_head = NodeAffinitySchedulingStrategy(head, soft=False)
    there = ray.remote(_configured_gpus).options(num_cpus=0, scheduling_strategy=on_head)
    with suppress(ray.exceptions.RayError):
        return ray.get(there.remote(address), timeout=_SECONDS)
    return None


def ask_for_gpus(count: int) -> None:
    """Ask the autoscaler to have so many GPUs, in use or not; 0 takes back what was asked for before.

    It is one wish for the whole cluster. Ray Data states its own in the same place, every 20 s while a data set runs:
    so ours is to be stated again and again for as long as it holds.
    """
    from ray.autoscaler.sdk import request_resources

    request_resources(bundles=[{"GPU": 1}] * count)


def _configured_gpus(address: str) -> int | None:
    """Return what `autoscaled_gpus` does, on the head's node; other heads than that of the address may run there."""
    import psutil  # Ray brings it along
    import yaml

    option = "--autoscaling-config="
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if f"--gcs-address={address}" not in words or not any(Path(word).name == "monitor.py" for word in words):
            continue
        file = next((word.removeprefix(option) for word in words if word.startswith(option)), None)
        if file is None:
            return 0  # it only shows what there is
        with suppress(OSError, ValueError, TypeError, AttributeError, yaml.YAMLError):
            return most_gpus(yaml.safe_load(Path(file).read_text(encoding="utf-8")))
        return None
    return None


def most_gpus(config: dict[str, Any]) -> int:
    """Return how many GPUs the workers have together that a configuration of Ray's autoscaler allows."""
    nodes, total = int(config.get("max_workers", 0)), 0
    every: Iterable[dict[str, Any]] = config.get("available_node_types", {}).values()
    kinds = [(int(kind.get("resources", {}).get("GPU", 0)), int(kind.get("max_workers", nodes))) for kind in every]
    for gpus, most in sorted(kinds, reverse=True):  # those with most GPUs first: all kinds share the bound on nodes
        total += gpus * min(most, nodes)
        nodes -= min(most, nodes) if gpus else 0
    return total
