"""Ray's own autoscaler on this machine, from no GPU on: encoders come, are replaced and go with the nodes.

The GPUs are declared, and the encoders sleep; the autoscaler, the nodes, the pipeline and the store are real.
"""

import os
import re
import signal
from pathlib import Path

import pytest

from benchmark.common.storage.files import Storage
from benchmark.store.made import read_made
from tests.conftest import Fork, make_toy
from tests.embedding.elastic_cluster import autoscaling
from tests.embedding.test_kill import assert_same, embeddings_of
from tests.forks import Forked
from tests.processes import descendants
from tests.stand_in import encoded, wait_for

CHUNKS = 40
# Seconds of a chunk while the test waits for nodes, so that one that comes late on a slow machine finds work.
SECONDS = 10.0

pytestmark = [
    pytest.mark.long("the autoscaler is not asked for nodes, or what it brings late gets no work"),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found through /proc"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy(tmp_path_factory.mktemp("elastic") / "toy", environments=2, classes=2, images=16 * CHUNKS)


def start(
    fork: Fork, environment: dict[str, str], root: Path, place: Path, run: str = "{}", seconds: float = 0.0
) -> Forked:
    """Start a run of two views, whose chunks take so long until there is a file `quick`; see `killed_run`."""
    place.mkdir()
    arguments = root, place, place / "log", run, seconds, place / "quick"
    return fork("tests.embedding.killed_run", *arguments, environment=environment)


def raylets(environment: dict[str, str]) -> dict[str, int]:
    """Return the nodes that the autoscaler started, last digits of the id -> process, in the order of their start."""
    monitor = next(pid for pid, title in descendants(int(environment["HEAD"])) if "monitor.py" in title)
    found = (
        (pid, re.search(r"f{40,}(\d{5})", title)) for pid, title in descendants(monitor) if "raylet/raylet --" in title
    )
    return {match[1]: pid for pid, match in found if match}


def test_encoders_come_are_replaced_and_go_with_the_nodes(root: Path, fork: Fork, tmp_path: Path) -> None:
    place = tmp_path / "store"

    def encoders_on(count: int) -> list[str]:
        """Wait until so many nodes have encoded a chunk; return them, by their last digits, in this order."""
        wait_for(lambda: len({node for _, node in encoded(place / "log")}) >= count or not run.is_running, 150)
        return list(dict.fromkeys(node[-5:] for _, node in encoded(place / "log")))

    with autoscaling(tmp_path, most=2) as environment:
        run = start(fork, environment, root, place, seconds=SECONDS)
        first = encoders_on(2)
        if len(first) == 2:
            os.kill(raylets(environment)[first[0]], signal.SIGKILL)
        nodes = encoders_on(3)
        (place / "quick").touch()
        exit_code, said = run.wait(timeout=200)
        assert exit_code == 0, said
        assert len(nodes) == 3, said
        assert wait_for(lambda: not raylets(environment), 40)  # given back
    assert_same(place, embeddings_of(root))
    [made] = read_made(Storage(str(place)))
    print(said, *made.text(), sep="\n")
    assert "requested 2 GPUs; waiting up to" in said
    assert re.search(r"encoders started: [12] on gpu of ", said), said  # both, if nodes join together
    lost = next(encoder for encoder in made.encoders if encoder.silent)
    assert first[0] in lost.host
    assert any(encoder.chunks and nodes[2] in encoder.host for encoder in made.encoders), made.text()
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
