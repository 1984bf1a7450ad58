"""A cluster of several nodes on this machine, as `ray start` brings it up; each of them can be killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import free_ports
from tests.embedding.test_kill import descendants

RAY = str(Path(sys.executable).parent / "ray")
WAITS_FOR_HEAD = 16  # seconds that Ray waits for a head that died; 60 by default


class Nodes:
    """The nodes of a cluster, the head first.

    Attributes:
        environment: of a driver.
    """

    def __init__(self, folder: Path, cores: int) -> None:
        plain = {k: v for k, v in os.environ.items() if not k.startswith("RAY_") or k == "RAY_TMPDIR"}
        self.environment = {
            **plain, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled",
            "RAY_gcs_rpc_server_reconnect_timeout_s": str(WAITS_FOR_HEAD),
        }  # fmt: skip
        self._folder, self._cores = folder, cores
        self._started: list[subprocess.Popen[bytes]] = []

    def add(self) -> None:
        """Start a node, and wait until it is up."""
        number = len(self._started)
        port, agent, metrics = free_ports(3)
        options = [f"--address={self.environment.get('RAY_ADDRESS')}"]
        if not number:
            self.environment["RAY_ADDRESS"] = f"127.0.0.1:{port}"
            options = ["--head", f"--port={port}", "--include-dashboard=false"]
        log = self._folder / f"node{number}.log"
        with log.open("wb") as file:
            node = subprocess.Popen(
                [
                    RAY, "start", "--block", *options, "--node-ip-address=127.0.0.1", f"--num-cpus={self._cores}",
                    "--object-store-memory=150000000", f"--dashboard-agent-listen-port={agent}",
                    f"--metrics-export-port={metrics}", "--disable-usage-stats",
                ],
                env=self.environment, stdout=file, stderr=file, start_new_session=True,
            )  # fmt: skip
        self._started.append(node)
        until = time.monotonic() + 90
        while "runtime started" not in log.read_text():
            assert time.monotonic() < until, log.read_text()
            assert node.poll() is None, log.read_text()
            time.sleep(0.1)

    def kill(self, number: int, process: str) -> None:
        """Send SIGKILL to a process of a node: `raylet`, or the head's `gcs_server`."""
        [pid] = [pid for pid, title in descendants(self._started[number].pid) if f"/{process} " in title]
        os.kill(pid, signal.SIGKILL)

    def end(self) -> None:
        """End all nodes."""
        ours = [pid for node in self._started for pid, _ in descendants(node.pid)]
        for pid in [*ours, *(node.pid for node in self._started)]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for node in self._started:
            node.wait(timeout=60)


@contextmanager
def nodes(folder: Path, count: int, cores: int = 1) -> Iterator[Nodes]:
    """Start a cluster of so many nodes, each of so many cores; its logs go into a folder."""
    cluster = Nodes(folder, cores)
    try:
        for _ in range(count):
            cluster.add()
        yield cluster
    finally:
        cluster.end()
