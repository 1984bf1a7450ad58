"""The autoscaler of the connected Ray cluster: the number of GPUs that it may add, and requests for GPUs."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray

from benchmark.common.ray.cluster import alive_nodes, gpu_count

_HEAD = "node:__internal_head__"  # a resource that only the head node has
_SECONDS = 30.0  # timeout for an answer of the head node


def available_gpus() -> int:
    """Return the number of GPUs that the connected cluster has or may add, as far as known; 0 without a connection."""
    return max(gpu_count(), autoscaled_gpus() or 0)


def autoscaled_gpus() -> int | None:
    """Return the number of GPUs of all nodes that the autoscaler may add; None if unknown, 0 for a local Ray.

    Some platforms report the configuration of the autoscaler. On others its file is read on the head node. The number
    is unknown if the autoscaler runs on another machine, as with KubeRay.
    """
    if not os.environ.get("RAY_ADDRESS"):
        return 0
    head = next((node["NodeID"] for node in alive_nodes() if _HEAD in node["Resources"]), None)
    if head is None:
        return None
    with suppress(Exception):  # a private function of Ray, which may change
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


def request_gpus(count: int) -> None:
    """Request `count` GPUs in total from the autoscaler, GPUs in use included; 0 cancels an earlier request.

    There is one request per cluster. While a data set of Ray Data runs, Ray Data overwrites the request every 20 s, so
    it must be repeated.
    """
    from ray.autoscaler.sdk import request_resources

    request_resources(bundles=[{"GPU": 1}] * count)


def _configured_gpus(address: str) -> int | None:
    """Return `autoscaled_gpus`, computed on the head node of the cluster at `address`."""
    import psutil  # Ray brings it along
    import yaml

    option = "--autoscaling-config="
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if f"--gcs-address={address}" not in words or not any(Path(word).name == "monitor.py" for word in words):
            continue
        file = next((word.removeprefix(option) for word in words if word.startswith(option)), None)
        if file is None:
            return 0  # without a configuration it adds no nodes
        with suppress(OSError, ValueError, TypeError, AttributeError, yaml.YAMLError):
            return max_gpus(yaml.safe_load(Path(file).read_text(encoding="utf-8")))
        return None
    return None


def max_gpus(config: dict[str, Any]) -> int:
    """Return the largest number of GPUs of all workers together that a configuration of Ray's autoscaler allows."""
    nodes, total = int(config.get("max_workers", 0)), 0
    every: Iterable[dict[str, Any]] = config.get("available_node_types", {}).values()
    kinds = [(int(kind.get("resources", {}).get("GPU", 0)), int(kind.get("max_workers", nodes))) for kind in every]
    for gpus, most in sorted(kinds, reverse=True):  # all kinds share the limit on nodes, so most GPUs come first
        total += gpus * min(most, nodes)
        nodes -= min(most, nodes) if gpus else 0
    return total
