"""A cluster of several nodes on this machine, as `ray start` brings it up; each of them can be killed."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import REPOSITORY, free_ports
from tests.forked_worker import ADDRESS
from tests.processes import descendants

RAY = str(Path(sys.executable).parent / "ray")
WAITS_FOR_HEAD = 16  # seconds that Ray waits for a head that died; 60 by default
# A node that is silent is lost after some 14 s in place of 66, and what was asked of it is given up after 30 s in place
# of seven minutes.
_HEALTH = {
    "RAY_health_check_period_ms": "2000",
    "RAY_health_check_timeout_ms": "6000",
    "RAY_health_check_failure_threshold": "2",
    "RAY_grpc_client_keepalive_time_ms": "20000",
    "RAY_grpc_client_keepalive_timeout_ms": "10000",
}


class Nodes:
    """The nodes of a cluster, the head first.

    Args:
        folder: for logs.
        cores: of each node.
        head_cores: of the head.
        forks: address of the process that forks, see `tests.forks`. Default: nodes start workers as Ray does.

    Attributes:
        environment: of a driver.
    """

    def __init__(self, folder: Path, cores: int, head_cores: int, forks: str | None = None) -> None:
        plain = {k: v for k, v in os.environ.items() if not k.startswith("RAY_") or k == "RAY_TMPDIR"}
        self.environment = {
            **plain, **_HEALTH, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled",
            "RAY_gcs_rpc_server_reconnect_timeout_s": str(WAITS_FOR_HEAD),
        }  # fmt: skip
        self._program = [RAY]
        if forks:
            self.environment[ADDRESS] = forks
            self._program = [sys.executable, "-m", "tests.forked", "ray.scripts.scripts"]
        self._folder, self._cores, self._head_cores = folder, cores, head_cores
        self._started: list[subprocess.Popen[bytes]] = []
        self._ended: set[int] = set()

    def add(self) -> None:
        """Start a node, and wait until it is up."""
        number = len(self._started)
        port, agent, metrics = free_ports(3)
        options, cores = [f"--address={self.environment.get('RAY_ADDRESS')}"], self._cores
        if not number:
            cores = self._head_cores
            self.environment["RAY_ADDRESS"] = f"127.0.0.1:{port}"
            options = ["--head", f"--port={port}", "--include-dashboard=false"]
        log = self._folder / f"node{number}.log"
        with log.open("wb") as file:
            node = subprocess.Popen(
                [
                    *self._program, "start", "--block", *options, "--node-ip-address=127.0.0.1", f"--num-cpus={cores}",
                    f"--node-name=node{number}", "--object-store-memory=150000000", f"--dashboard-agent-listen-port={agent}",
                    f"--metrics-export-port={metrics}", "--disable-usage-stats",
                ],
                env=self.environment, cwd=REPOSITORY, stdout=file, stderr=file, start_new_session=True,
            )  # fmt: skip
        self._started.append(node)
        until = time.monotonic() + 90
        while "runtime started" not in log.read_text():
            assert time.monotonic() < until, log.read_text()
            assert node.poll() is None, log.read_text()
            time.sleep(0.1)

    def pid(self, number: int, process: str) -> int | None:
        """Return the id of a process of a node, `raylet` or the head's `gcs_server`; None where there is none."""
        found = [pid for pid, title in descendants(self._started[number].pid) if f"/{process} " in title]
        return found[0] if found else None

    def kill(self, number: int, process: str) -> None:
        """Send SIGKILL to a process of a node, see `pid`."""
        pid = self.pid(number, process)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    def id(self, number: int) -> str:
        """Return the id that Ray gives a node."""
        titles = [title for _, title in descendants(self._started[number].pid) if "/raylet " in title]
        return re.findall(r"--node_id=(\w+)", titles[0])[0]

    @property
    def newest(self) -> int:
        """The number of the node that came last, of those that were not ended."""
        return max(set(range(len(self._started))) - self._ended)

    def replace_lost(self) -> int:
        """End the nodes that are dead or silent, but for the head, start others, and return how many."""
        lost = [
            number for number in range(1, len(self._started)) if number not in self._ended and self._is_lost(number)
        ]
        for number in lost:
            self._end([self._started[number]])
            self._ended.add(number)
        for _ in lost:
            self.add()
        return len(lost)

    def _is_lost(self, number: int) -> bool:
        raylet = self.pid(number, "raylet")
        try:
            return raylet is None or Path(f"/proc/{raylet}/stat").read_text().rsplit(")", 1)[1].split()[0] in "TZ"
        except FileNotFoundError:  # it has ended meanwhile
            return True

    def end(self) -> None:
        """End all nodes."""
        self._end(self._started)

    def _end(self, started: list[subprocess.Popen[bytes]]) -> None:
        ours = [pid for node in started for pid, _ in descendants(node.pid)]
        for pid in [*ours, *(node.pid for node in started)]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for node in started:
            node.wait(timeout=60)


@contextmanager
def nodes(folder: Path, count: int, cores: int = 1, head_cores: int = 1, forks: str | None = None) -> Iterator[Nodes]:
    """Start a cluster of so many nodes, see `Nodes`."""
    cluster = Nodes(folder, cores, head_cores, forks)
    try:
        for _ in range(count):
            cluster.add()
        yield cluster
    finally:
        cluster.end()
