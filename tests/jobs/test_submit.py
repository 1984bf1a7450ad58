"""A real Ray head with token authentication: `ray job submit` gives the table that `icm-bench run` gives here."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmark.cli import main
from benchmark.common.cache import cache_dir
from tests.conftest import REPOSITORY, some_of

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
RAY = str(BIN / "ray")
SHRUNKEN = (
    "--set", "backbones.0.image_size=64", "--set", "interventions.kinds=[grayscale]", "--set", "sweep.seeds=[0]",
    "--set", "sweep.lambdas=[1]", "--set", "sweep.ranks=[32, 256]", "--set", "sweep.predictors=[zero_shot]",
    "--set", "sweep.grids={}", "--set", "sweep.protocols=[held_out]",
    "--set", "sweep.projections=[identity, icm, shrinkage]", "--set", "sweep.folds=3",
)  # fmt: skip


@dataclass(frozen=True)
class Head:
    """A running Ray head: address of its job server, and the environment of a client that holds the token."""

    address: str
    environment: dict[str, str]


def home(tmp_path: Path, name: str) -> Path:
    """Return an empty home folder."""
    folder = tmp_path / name
    folder.mkdir()
    return folder


def free_ports(n: int) -> list[int]:
    """Return ports on the loopback that nobody uses now."""
    sockets = [socket.socket() for _ in range(n)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


@pytest.fixture
def head(tmp_path: Path) -> Iterator[Head]:
    """Start a Ray head as the README says, on the loopback; end it by its process group."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment |= {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "HOME": str(home(tmp_path, "owner")),  # Ray keeps the token in ~/.ray/auth_token
        "ICM_BENCH_CACHE": str(cache_dir()),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    subprocess.run([RAY, "get-auth-token", "--generate"], env=environment, check=True, capture_output=True)
    # The agent that starts jobs has a fixed port by default, which another Ray on this machine may hold.
    gcs, dashboard, client, agent, metrics = free_ports(5)
    with (tmp_path / "head.log").open("w") as log:
        process = subprocess.Popen(
            [
                RAY, "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={gcs}",
                "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}",
                f"--dashboard-agent-listen-port={agent}", f"--metrics-export-port={metrics}",
                "--num-cpus=2", "--disable-usage-stats",
            ],
            env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        yield Head(f"http://127.0.0.1:{dashboard}", environment)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:  # Ray says goodbye to its dashboard for half a minute
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=60)


def submit(head: Head, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [RAY, "job", "submit", "--address", head.address, "--working-dir", ".", "--"]
    return subprocess.run(
        [*command, "python", "-m", "jobs.run", "jobs/recipes/demo.yaml", *arguments],
        cwd=REPOSITORY, env=head.environment, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip


def wait_until_up(head: Head) -> None:
    # The job server answers before the agent that starts jobs does: ask for a job that does nothing.
    command = [RAY, "job", "submit", "--address", head.address, "--", "true"]
    for _ in range(20):
        if not subprocess.run(command, env=head.environment, capture_output=True, check=False).returncode:
            return
        time.sleep(1)
    pytest.fail("the Ray head did not come up within a minute")


@pytest.mark.usefixtures("local_ray")
def test_a_submitted_job_gives_the_table_of_a_local_run(head: Head, demo_set: Path, tmp_path: Path) -> None:
    images = some_of(demo_set, 5, tmp_path / "images")
    shrunken = [*SHRUNKEN, "--set", f"datasets=[{{name: emoji, root: '{images}'}}]"]
    assert main(["demo", *shrunken, "--store", str(tmp_path / "here"), "--out", str(tmp_path / "here-out")]) == 0
    wait_until_up(head)

    stranger = Head(head.address, {**head.environment, "HOME": str(home(tmp_path, "stranger"))})
    refused = submit(stranger)
    assert refused.returncode != 0  # without the token nothing is accepted

    places = ("--store", str(tmp_path / "there"), "--out", str(tmp_path / "there-out"))
    job = submit(head, *shrunken, *places)
    assert job.returncode == 0, job.stdout + job.stderr
    assert f"Page: {tmp_path / 'there-out' / 'index.html'}" in job.stdout + job.stderr
    table = (tmp_path / "there-out" / "tables" / "accuracies.csv").read_bytes()
    for name in ("tables/accuracies.csv", "tables/metrics.csv", "tables/picks.csv", "index.html"):
        assert (tmp_path / "there-out" / name).read_bytes() == (tmp_path / "here-out" / name).read_bytes(), name
    assert table.count(b"\n") > 50
    assert list((tmp_path / "there" / "embeddings").iterdir())  # computed there, not found
