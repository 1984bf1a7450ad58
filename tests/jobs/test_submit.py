"""A real Ray head with token authentication: what is submitted gives the tables that `icm-bench run` gives here."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmark.cli import main
from benchmark.common.storage.places import cache_dir
from tests.conftest import REPOSITORY, Fork, free_ports, make_toy
from tests.forked_worker import ADDRESS

pytestmark = pytest.mark.long("a job lacks a file of the recipe, or its tables are not those of a local run")

BIN = Path(sys.executable).parent
RAY = str(BIN / "ray")
SHRUNKEN = (
    "--set", "interventions.kinds=[grayscale]", "--set", "sweep.seeds=[0]",
    "--set", "sweep.lambdas=[1]", "--set", "sweep.ranks=[4, 16]", "--set", "sweep.predictors=[zero_shot]",
    "--set", "sweep.grids={}", "--set", "sweep.protocols=[held_out]",
    "--set", "sweep.projections=[identity, icm, shrinkage]", "--set", "sweep.folds=3",
)  # fmt: skip


@dataclass(frozen=True)
class Head:
    """A running Ray head: addresses of its job server and of itself; the environment of a client that has the token."""

    address: str
    environment: dict[str, str]
    cluster: str = ""


def home(tmp_path: Path, name: str) -> Path:
    """Return an empty home folder."""
    folder = tmp_path / name
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory, fork_server: Callable[[], str]) -> Iterator[Head]:
    """A Ray head that takes jobs."""
    with started_head(tmp_path_factory.mktemp("head"), fork_server(), free_ports(1)[0]) as started:
        wait_until_up(started)
        yield started


@contextmanager
def started_head(tmp_path: Path, forks: str, agent: int) -> Iterator[Head]:
    """Start a Ray head as docs/clusters.md says, on the loopback; end it by its process group.

    `agent` is the port of the agent that starts jobs; by default it is fixed, and another Ray on this machine may hold it.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment |= {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "HOME": str(home(tmp_path, "owner")),  # Ray keeps the token in ~/.ray/auth_token
        "ICM_BENCH_CACHE": str(cache_dir()),
        "RAY_USAGE_STATS_ENABLED": "0",
        ADDRESS: forks,
    }
    subprocess.run([RAY, "get-auth-token", "--generate"], env=environment, check=True, capture_output=True)
    gcs, dashboard, client, metrics = free_ports(4)
    # In its folder Ray writes down which cluster a job is to join: that of another test would be joined in the common
    # one. What sockets are called has a limit.
    folder = tempfile.mkdtemp(prefix="r-", dir="/tmp")
    with (tmp_path / "head.log").open("w") as log:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "tests.forked", "ray.scripts.scripts", "start", "--head", "--block",
                "--node-ip-address=127.0.0.1", f"--port={gcs}",
                "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}",
                f"--dashboard-agent-listen-port={agent}", f"--metrics-export-port={metrics}",
                "--num-cpus=2", "--disable-usage-stats", f"--temp-dir={folder}",
            ],
            env=environment, cwd=REPOSITORY, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        yield Head(f"http://127.0.0.1:{dashboard}", environment, f"127.0.0.1:{gcs}")
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:  # Ray says goodbye to its dashboard for half a minute
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


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
def test_a_submitted_job_gives_the_table_of_a_local_run(
    head: Head, tiny_random: dict[str, Any], tmp_path: Path
) -> None:
    images = make_toy(tmp_path / "images", images=10)
    shrunken = [*SHRUNKEN, "--set", f"datasets=[{{name: emoji, root: '{images}'}}]"]
    shrunken += ["--set", f"backbones={json.dumps([tiny_random])}"]
    assert main(["demo", *shrunken, "--store", str(tmp_path / "here"), "--out", str(tmp_path / "here-out")]) == 0

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


OWN = """
import os
import time
from pathlib import Path
from typing import ClassVar
from benchmark import Projection
from benchmark.method.subspace.basis import eigenbasis
from {module}_helper import ORDER

if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:  # in the job
    print("FILES", sorted(str(p) for p in Path().rglob("*") if p.is_file() and "__pycache__" not in str(p)), flush=True)
    time.sleep({seconds})

class Mine(Projection):
    uses_interventions: ClassVar[bool] = True

    def fit(self, sources):
        return eigenbasis(sources.c_d(), largest_first=ORDER)
"""


def a_folder(folder: Path, backbone: dict[str, Any], root: Path, module: str, seconds: int = 0) -> Path:
    """Write a recipe with a projection of its own and pairs of texts, and secrets and a large file beside them."""
    (folder / "recipes").mkdir(parents=True)
    (folder / "recipes" / f"{module}.py").write_text(OWN.format(module=module, seconds=seconds))
    (folder / "recipes" / f"{module}_helper.py").write_text("ORDER = False\n")
    pairs = [{"caption": f"a {name}", "rewrite": f"a {name} at night", "class_name": name} for name in ("cat", "dog")]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    (folder / ".env").write_text("SECRET=1")
    with (folder / "large.bin").open("wb") as file:
        file.truncate(2**30)  # sparse
    content = {
        "name": module,
        "datasets": [{"name": "toy", "root": str(root)}],
        "backbones": [backbone],
        "interventions": {"kinds": ["grayscale"], "text": {"pairs": "pairs.jsonl"}},
        "sweep": {"projections": ["identity", f"{module}:Mine"], "predictors": ["zero_shot"], "seeds": [0]},
    }
    (folder / "recipes" / "my.yaml").write_text(json.dumps(content))
    return folder


def command(head: Head, *arguments: str) -> dict[str, Any]:
    """Return what a process of `icm-bench submit` is started with, in a folder that `a_folder` wrote."""
    words = ["submit", "recipes/my.yaml", *arguments]
    return {"args": [sys.executable, "-m", "benchmark.cli", *words], "text": True,
            "env": {**head.environment, "PYTHONPATH": str(REPOSITORY), "RAY_API_SERVER_ADDRESS": head.address}}  # fmt: skip


def icm_submit(head: Head, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    asked = command(head, *arguments)
    return subprocess.run(**asked, cwd=folder, capture_output=True, timeout=300, check=False)


def test_a_recipe_goes_with_its_files_alone_and_gives_the_tables_of_a_local_run(
    head: Head, fork: Fork, tiny_random: dict[str, Any], tmp_path: Path
) -> None:
    folder = a_folder(tmp_path / "work", tiny_random, make_toy(tmp_path / "toy"), "submitted_a")
    here = ["--store", str(tmp_path / "here"), "--out", str(tmp_path / "here-out")]
    words = ("tests.forked", "benchmark.cli", "run", "recipes/my.yaml", *here)
    local = fork(*words, environment={**os.environ, "PYTHONPATH": str(folder / "recipes")}, folder=folder)
    exit_code, said = local.wait(timeout=300)
    assert exit_code == 0, said

    there = ["--store", str(tmp_path / "there"), "--out", str(tmp_path / "there-out")]
    job = icm_submit(head, folder, *there)
    assert job.returncode == 0, job.stdout + job.stderr
    files = ["my.yaml", "pairs.jsonl", "submitted_a.py", "submitted_a_helper.py"]
    assert f"FILES {files}" in job.stdout  # as the job finds them: no .env, nothing large
    page = tmp_path / "there-out" / "index.html"
    assert f"Page: {page}\n" in job.stdout
    for name in ("tables/accuracies.csv", "tables/metrics.csv", "tables/picks.csv", "index.html"):
        assert (tmp_path / "there-out" / name).read_bytes() == (tmp_path / "here-out" / name).read_bytes(), name
    assert "submitted_a:Mine" in (tmp_path / "there-out" / "tables" / "accuracies.csv").read_text()
    assert "max_restarts" not in job.stdout  # Ray's words on arguments of actors
    assert re.fullmatch(r"(\S+): 4 files, [\d,]+ bytes go to \S+\nicm-bench: \1 has succeeded\.\n", job.stderr)

    before = page.stat().st_mtime_ns
    again = icm_submit(head, folder, *there, "--json")
    outcome = json.loads(again.stdout)
    assert (again.returncode, outcome["status"], outcome["exit_code"]) == (0, "succeeded", 0)
    assert f"{outcome['id']} has succeeded already: {page}; " in outcome["text"]
    assert f"--out {tmp_path / 'there-out'} --again` repeats it" in outcome["text"]
    assert page.stat().st_mtime_ns == before

    # What Ray writes down of the job has no secret in it.
    token = (Path(head.environment["HOME"]) / ".ray" / "auth_token").read_text().strip()
    listed = subprocess.run([RAY, "job", "list", "--address", head.address], env=head.environment, capture_output=True,
                            text=True, check=True).stdout  # fmt: skip
    assert outcome["id"] in listed
    assert "_ray_pkg_" in listed
    assert token not in listed + job.stdout + job.stderr


def test_a_job_that_fails_is_submitted_again_under_a_number(
    head: Head, tiny_random: dict[str, Any], tmp_path: Path
) -> None:
    folder = a_folder(tmp_path / "work", tiny_random, tmp_path / "nowhere", "submitted_b")
    ids = []
    for _ in range(2):
        job = icm_submit(head, folder, "--store", str(tmp_path / "store"))
        assert job.returncode == 2, job.stdout + job.stderr  # the job's own
        assert re.search(rf"icm-bench: .*{tmp_path / 'nowhere'}", job.stdout)  # and its sentence
        said = re.search(r"icm-bench: (\S+) has failed with exit code 2; finished work is kept", job.stderr)
        assert said
        ids.append(said[1])
    assert ids[1] == f"{ids[0]}-2"


def test_a_job_is_left_and_followed_again_and_stopped(head: Head, tiny_random: dict[str, Any], tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "work", tiny_random, tmp_path, "submitted_c", seconds=300)

    def started() -> subprocess.Popen[str]:
        """Start a process that follows the job, and wait until the job has printed."""
        process = subprocess.Popen(
            **command(head), cwd=folder, stdout=subprocess.PIPE, stderr=(folder / "err").open("w")
        )
        assert process.stdout
        assert any(line.startswith("FILES ") for line in process.stdout)
        return process

    first = started()
    first.send_signal(signal.SIGINT)
    assert first.wait(timeout=30) == 130
    said = (folder / "err").read_text().splitlines()[-1]
    named = re.fullmatch(r"icm-bench: (\S+) still runs; follow it again with `(.*)`, stop it with `(.*)`\.", said)
    assert named, said
    assert named.groups()[1:] == ("icm-bench submit recipes/my.yaml", "icm-bench submit recipes/my.yaml --stop")

    second = started()
    assert f"{named[1]} runs already" in (folder / "err").read_text()
    stopped = icm_submit(head, folder, "--stop")
    assert stopped.returncode == 0, stopped.stderr
    assert f"{named[1]} is stopped" in stopped.stderr
    assert second.wait(timeout=60) == 2
    assert f"icm-bench: {named[1]} was stopped; " in (folder / "err").read_text()
    none = icm_submit(head, folder, "--stop")
    assert none.returncode == 2
    assert f"{named[1]} does not run at {head.address}: it has stopped." in none.stderr


def test_a_wrong_token_or_address_is_a_sentence_within_seconds(
    head: Head, tiny_random: dict[str, Any], tmp_path: Path
) -> None:
    folder = a_folder(tmp_path / "work", tiny_random, tmp_path, "submitted_d")
    port = head.address.rpartition(":")[2]
    stranger = {**head.environment, "HOME": str(home(tmp_path, "stranger"))}
    cases: tuple[tuple[dict[str, str], list[str], str], ...] = (
        (head.environment, ["--address", f"127.0.0.1:{free_ports(1)[0]}"], "Nothing answers at http://127.0.0.1:"),
        (stranger, [], f"asks for a token and there is none in {tmp_path / 'stranger' / '.ray' / 'auth_token'}"),
        ({**stranger, "RAY_AUTH_TOKEN": "f" * 64}, [], f"http://127.0.0.1:{port} refuses the token of RAY_AUTH_TOKEN"),
    )
    for environment, arguments, sentence in cases:
        began = time.monotonic()
        refused = icm_submit(Head(head.address, environment), folder, *arguments)
        assert time.monotonic() - began < 15
        assert (refused.returncode, refused.stdout) == (2, "")
        assert re.fullmatch(rf"icm-bench: .*{re.escape(sentence)}.*\n", refused.stderr), refused.stderr


def test_a_driver_without_the_token_is_refused_in_a_sentence_within_seconds(head: Head, tmp_path: Path) -> None:
    stranger = {**head.environment, "HOME": str(home(tmp_path, "stranger")), "PYTHONPATH": str(REPOSITORY)}
    kept = tmp_path / "stranger" / ".ray" / "auth_token"
    for environment, sentence in (
        ({"RAY_AUTH_MODE": ""}, "asks for a token: set RAY_AUTH_MODE=token, with the head's ~/.ray/auth_token in"),
        ({}, f"RAY_AUTH_MODE asks for a token and there is none in {kept}: copy the head's ~/.ray/auth_token there."),
        ({"RAY_AUTH_TOKEN": "f" * 64}, f"at RAY_ADDRESS={head.cluster} refuses the token of RAY_AUTH_TOKEN: put that"),
    ):
        began = time.monotonic()
        refused = subprocess.run(
            [sys.executable, "-m", "benchmark.cli", "doctor", "--address", head.cluster],
            env={**stranger, **environment}, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert time.monotonic() - began < 15
        assert (refused.returncode, refused.stdout) == (2, "")
        assert re.fullmatch(rf"icm-bench: .*{re.escape(sentence)}.*\n", refused.stderr), refused.stderr


def test_a_check_by_the_dashboards_address_runs_as_a_job(
    head: Head, tiny_random: dict[str, Any], tmp_path: Path
) -> None:
    folder = a_folder(tmp_path / "work", tiny_random, make_toy(tmp_path / "toy"), "submitted_e")
    asked = [
        sys.executable,
        "-m",
        "benchmark.cli",
        "doctor",
        "recipes/my.yaml",
        "--plugins",
        "--store",
        str(tmp_path / "s"),
    ]
    environment = {**head.environment, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([*asked, "--address", head.address], cwd=folder, env=environment, capture_output=True,
                          text=True, timeout=120, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"node +CPUs +GPUs +icm-bench +torch +GiB free\n", done.stdout)


def test_a_head_whose_agents_port_is_taken_is_named_by_submit_and_doctor(
    fork_server: Callable[[], str], tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_ports(1)[0]))
        taken.listen()
        with started_head(tmp_path, fork_server(), taken.getsockname()[1]) as lame:
            environment = {**lame.environment, "PYTHONPATH": str(REPOSITORY)}
            for address in (lame.address, lame.cluster):
                end = time.monotonic() + 90
                while time.monotonic() < end:
                    done = subprocess.run(
                        [sys.executable, "-m", "benchmark.cli", "doctor", "--address", address],
                        env=environment, capture_output=True, text=True, check=False,
                    )  # fmt: skip
                    if "Nothing answers" not in done.stderr:
                        break
                assert done.returncode == 2, done.stderr
                assert "--dashboard-agent-listen-port=N" in done.stderr
