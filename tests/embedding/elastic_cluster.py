"""A cluster of Ray's own autoscaler on this machine, with nodes that declare GPUs which nobody has."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import free_ports
from tests.processes import descendants
from tests.stand_in import wait_for

HEAD = f"{0:056x}".replace("0", "f", 51)  # the id that Ray's own provider of such nodes gives to the head
PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
RAY = str(Path(sys.executable).parent / "ray")


@contextmanager
def autoscaling(folder: Path, most: int, idle_seconds: float = 6.0) -> Iterator[dict[str, str]]:
    """Start a head of one core, whose autoscaler may bring so many nodes of one GPU; give the environment of a driver.

    As `ray.cluster_utils.AutoscalingCluster` does, whose configuration no wheel has, and whose start ends every other
    Ray of this machine.
    """
    gcs, client, agent, metrics = free_ports(4)
    gpu = {"resources": {"CPU": 1, "GPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": most}
    head_node = {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 0}
    config = {
        "cluster_name": "fake", "max_workers": most, "upscaling_speed": 1.0, "idle_timeout_minutes": idle_seconds / 60,
        "provider": {
            "type": "external", "module": PROVIDER, "gcs_address": f"127.0.0.1:{gcs}", "disable_node_updaters": True,
            "disable_launch_config_check": True, "launch_multiple": True, "head_node_id": HEAD,
        },
        "auth": {}, "docker": {},
        "available_node_types": {"gpu": gpu, "ray.head.default": head_node}, "head_node_type": "ray.head.default",
        "head_node": {}, "worker_nodes": {}, "file_mounts": {}, "cluster_synced_files": [], "rsync_exclude": [],
        "file_mounts_sync_continuously": False, "rsync_filter": [], "initialization_commands": [],
        "setup_commands": [], "head_setup_commands": [], "worker_setup_commands": [], "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
    }  # fmt: skip
    file = folder / "autoscaler.json"
    file.write_text(json.dumps(config))
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_") or name == "RAY_TMPDIR"}
    environment = {
        **plain, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "RAY_FAKE_CLUSTER": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_enable_autoscaler_v2": "1", "RAY_CLOUD_INSTANCE_ID": HEAD,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD,
    }  # fmt: skip
    with (folder / "head.log").open("w") as log:
        head = subprocess.Popen(
            [
                RAY, "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={gcs}", "--num-cpus=1",
                f"--autoscaling-config={file}", "--include-dashboard=false", f"--ray-client-server-port={client}",
                f"--dashboard-agent-listen-port={agent}", f"--metrics-export-port={metrics}", "--disable-usage-stats",
                "--object-store-memory=200000000",
            ],
            env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        assert wait_for(lambda: "runtime started" in (folder / "head.log").read_text(), 60), (
            folder / "head.log"
        ).read_text()
        yield {**environment, "RAY_ADDRESS": f"127.0.0.1:{gcs}", "HEAD": str(head.pid)}
    finally:
        ours = [pid for pid, _ in descendants(head.pid)]
        os.killpg(head.pid, signal.SIGTERM)
        try:
            head.wait(timeout=5)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, signal.SIGKILL)
            head.wait(timeout=60)
        for pid in ours:  # those that left the group
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
