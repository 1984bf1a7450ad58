"""Ray's own autoscaler on this machine, from no GPU on: encoders come, are replaced and go with the nodes.

The GPUs are declared, and the encoders sleep; the autoscaler, the nodes, the pipeline and the store are real.
"""

import os
import re
import signal
import time
from pathlib import Path

import pytest

from benchmark.common.storage.files import Storage
from benchmark.store.made import read_made
from tests.conftest import Fork, make_toy
from tests.embedding.elastic_cluster import autoscaling, wait_for
from tests.embedding.test_kill import assert_same, embeddings_of
from tests.forks import Forked
from tests.processes import descendants

CHUNKS, SECONDS = 40, 2.5  # so that a node that comes late on a busy machine finds work

pytestmark = [
    pytest.mark.long("the autoscaler is not asked for nodes, or what it brings late gets no work"),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found through /proc"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy(tmp_path_factory.mktemp("elastic") / "toy", environments=2, classes=2, images=16 * CHUNKS)


def start(fork: Fork, environment: dict[str, str], root: Path, place: Path, run: str = "{}") -> Forked:
    """Start a run of two views; see `killed_run`."""
    place.mkdir()
    return fork("tests.embedding.killed_run", root, place, place / "log", run, SECONDS, environment=environment)


def parts(place: Path) -> int:
    return len(list(place.rglob("part-*.parquet")))


def raylets(environment: dict[str, str]) -> dict[str, int]:
    """Return the nodes that the autoscaler started, last digits of the id -> process, in the order of their start."""
    monitor = next(pid for pid, title in descendants(int(environment["HEAD"])) if "monitor.py" in title)
    found = (
        (pid, re.search(r"f{40,}(\d{5})", title)) for pid, title in descendants(monitor) if "raylet/raylet --" in title
    )
    return {match[1]: pid for pid, match in found if match}


def test_encoders_come_are_replaced_and_go_with_the_nodes(root: Path, fork: Fork, tmp_path: Path) -> None:
    place = tmp_path / "store"
    with autoscaling(tmp_path, most=2) as environment:
        run = start(fork, environment, root, place)
        both = wait_for(
            lambda: parts(place) > CHUNKS / 2 and len(raylets(environment)) == 2, 120
        )  # a quarter, of two views
        first = raylets(environment)
        if both:
            os.kill(next(iter(first.values())), signal.SIGKILL)
            wait_for(lambda: len(raylets(environment).keys() - first.keys()) > 0, 100)
        came = time.time()
        exit_code, said = run.wait(timeout=200)
        assert exit_code == 0, said
        assert both, said
        assert wait_for(lambda: not raylets(environment), 40)  # given back
    assert_same(place, embeddings_of(root))
    [made] = read_made(Storage(str(place)))
    print(said, *made.text(), sep="\n")
    assert "requested 2 GPUs; waiting up to" in said
    assert re.search(r"encoders started: [12] on gpu of ", said), said  # both, if nodes join together
    lost = next(encoder for encoder in made.encoders if encoder.silent)
    assert next(iter(first)) in lost.host
    new = [encoder for encoder in made.encoders if not any(node in encoder.host for node in first)]
    assert sum(encoder.chunks for encoder in new) > 0, made.text()
    its_chunks = [c["chunk"] for c in made.chunks.to_pylist() if c["host"] in {encoder.host for encoder in new}]
    waited = (
        min(part.stat().st_mtime for chunk in its_chunks for part in place.rglob(f"part-{chunk:05}.parquet")) - came
    )
    print(f"the node that came late had its first part after {waited:.0f} s")
    assert waited < 60
    assert made.embedded + made.lost == made.total == 2 * 64 * CHUNKS
    # One that was written, and not told yet, when its node died is counted by no encoder.
    assert CHUNKS - 1 <= sum(encoder.chunks for encoder in made.encoders) <= CHUNKS


def test_with_a_maximum_of_no_gpus_cpus_do_it_and_that_is_said(fork: Fork, tmp_path: Path) -> None:
    root = make_toy(tmp_path / "toy", environments=2, classes=2, images=16)
    with autoscaling(tmp_path, most=0) as environment:
        _, said = start(fork, environment, root, tmp_path / "insisting", '{"device": "gpu"}').wait(timeout=100)
        assert "IcmBenchError: run.device is gpu: no node has a GPU, and no autoscaler can add one" in said
        _, said = start(fork, environment, root, tmp_path / "auto").wait(timeout=100)
    assert "encoding on CPUs: no node has a GPU, and no autoscaler can add one (run.device: gpu requires one)" in said
    [made] = read_made(Storage(str(tmp_path / "auto")))
    assert [encoder.device for encoder in made.encoders] == ["cpu"]
