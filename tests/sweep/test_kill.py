"""SIGKILL at random moments of a sweep, then the same command again: the rows of an undisturbed run, none twice.

ICM_BENCH_SWEEP_KILLS sets the number of kills (default 1: the driver; then a trial's process, another Ray worker, ...).
"""

import os
import random
import re
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from benchmark.cli import main
from tests.conftest import Fork, toy_in
from tests.forks import Forked
from tests.nodes import WAITS_FOR_HEAD, nodes
from tests.processes import workers_of

KILLS = int(os.environ.get("ICM_BENCH_SWEEP_KILLS", "1"))
TRIALS = 14

pytestmark = [
    pytest.mark.long("a kill leaves half the rows of a trial, or a lost head counts as the failure of a trial"),
    pytest.mark.timeout(60 * (KILLS + 6)),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found through /proc"),
]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory, tiny_random: dict[str, Any], embedded_toy: Path) -> Path:
    """A folder with a recipe and a store that holds its embeddings, and the rows of an undisturbed sweep."""
    folder = tmp_path_factory.mktemp("sweep-kill")
    content = {
        "name": "killed",
        "datasets": [toy_in(folder, embedded_toy)],
        "backbones": [tiny_random],
        "interventions": {"kinds": ["grayscale"]},
        "sweep": {
            "seeds": list(range(7)),
            "projections": ["pca", "icm"],
            "lambdas": [1],
            "predictors": ["tests.broken:Slow"],
        },
        "run": {"store": str(folder / "store")},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content))
    shutil.copytree(folder / "store", folder / "fresh")
    assert main(["sweep", str(folder / "recipe.yaml")]) == 0
    assert len(rows_in(folder / "store")) == TRIALS
    return folder


def rows_in(store: Path) -> dict[str, str]:
    """Trial -> its rows in full, as text: NaN equals NaN there."""
    return {p.stem: str(pq.read_table(p).to_pylist()) for p in sorted((store / "rows").glob("*.parquet"))}


def start(fork: Fork, folder: Path, store: Path, environment: Mapping[str, str] = os.environ) -> Forked:
    """Start a sweep into a store, with a Ray whose workers are forks."""
    words = ("sweep", folder / "recipe.yaml", "--store", store)
    return fork("tests.forked", "benchmark.cli", *words, environment=environment)


def wait_for_rows(run: Forked, store: Path, count: int) -> None:
    """Wait until so many trials have rows, or the run has ended."""
    while run.is_running and len(list((store / "rows").glob("*.parquet"))) < count:
        time.sleep(0.02)


def victim(kind: str, run: Forked) -> int:
    """Return the process that is to be killed, as soon as there is one."""
    while kind != "driver" and run.is_running:
        workers = workers_of(run.pid)
        trials = [pid for pid, title in workers if "_train" in title or "ImplicitFunc" in title]
        if found := trials if kind == "trial" else [pid for pid, _ in workers if pid not in trials]:
            return random.choice(found)
        time.sleep(0.01)
    assert run.is_running, "the run has ended before the kill"
    return run.pid


def test_killed_at_random_moments(embedded: Path, fork: Fork, tmp_path: Path) -> None:
    undisturbed = rows_in(embedded / "store")
    for number in range(KILLS):
        random.seed(number)
        kind = ("driver", "trial", "worker")[number % 3]
        store = tmp_path / f"store{number}"
        shutil.copytree(embedded / "fresh", store)
        run, after = start(fork, embedded, store), random.randrange(TRIALS - 2)  # trials finished before the kill
        wait_for_rows(run, store, after)
        time.sleep(random.uniform(0, 0.5))
        os.kill(victim(kind, run), signal.SIGKILL)
        killed, _ = run.wait(timeout=120)
        kept = {p: p.stat().st_mtime_ns for p in (store / "rows").glob("*.parquet")}
        exit_code, said = start(fork, embedded, store).wait(timeout=120)
        assert exit_code == 0, said
        (done_before,) = re.findall(rf"sweep: {TRIALS} trials, (\d+) of them done before", said)
        print(f"kill {number}: {kind} after {after} trials, exit {killed}: {done_before} of {TRIALS} kept")
        assert int(done_before) >= len(kept) >= after  # a trial may end a moment after its driver
        assert all(p.stat().st_mtime_ns == changed for p, changed in kept.items()), "finished work was done again"
        assert rows_in(store) == undisturbed


def test_the_head_is_lost(embedded: Path, fork: Fork, fork_server: Callable[[], str], tmp_path: Path) -> None:
    store, (first, second) = tmp_path / "store", (tmp_path / "first", tmp_path / "second")
    shutil.copytree(embedded / "fresh", store)
    first.mkdir()
    second.mkdir()
    with nodes(first, 2, forks=fork_server()) as cluster:
        run = start(fork, embedded, store, cluster.environment)
        wait_for_rows(run, store, 3)
        assert run.is_running, run.wait(timeout=1)
        killed_at = time.monotonic()
        cluster.kill(0, "gcs_server")
        exit_code, said = run.wait(timeout=120)
        took = time.monotonic() - killed_at
    assert exit_code == 2, said
    (sentence,) = re.findall(r"icm-bench: (the head of the Ray cluster at .*)", said)
    assert f":{cluster.environment['RAY_ADDRESS'].rpartition(':')[2]} has not answered for" in sentence
    assert "run the same command again on another cluster" in sentence
    assert "Traceback" not in said
    kept = {p: p.stat().st_mtime_ns for p in (store / "rows").glob("*.parquet")}
    assert not (store / "failed").exists()  # the loss is no failure of a trial
    with nodes(second, 1, forks=fork_server()) as cluster:
        exit_code, said = start(fork, embedded, store, cluster.environment).wait(timeout=240)
    assert exit_code == 0, said
    assert all(p.stat().st_mtime_ns == changed for p, changed in kept.items()), "finished work was done again"
    assert rows_in(store) == rows_in(embedded / "store")
    print(f"{len(kept)} of {TRIALS} kept; the sentence after {took:.0f} s where Ray waits for {WAITS_FOR_HEAD}")
