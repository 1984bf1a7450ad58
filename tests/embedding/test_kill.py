"""SIGKILL at random moments, then a rerun: the store is that of an undisturbed run. `make soak` has two writers.

ICM_BENCH_KILLS sets the number of kills (default 2: the driver, an encoder actor; then another Ray worker).
"""

import os
import random
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.common.storage.files import Storage
from benchmark.datasets.manifest import read_manifest
from benchmark.datasets.spec import DatasetSpec
from benchmark.embedding.images import Geometry
from benchmark.store import embeddings as store
from benchmark.store import upkeep
from benchmark.store.made import read_made
from tests.conftest import Fork, make_toy
from tests.forks import Forked
from tests.processes import workers_of
from tests.stand_in import FACTS, encoded, grey_levels

IMAGES = 2 * 2 * 240  # fifteen chunks
KILLED_RUN = ("tests.forked", "tests.embedding.killed_run")  # with a Ray whose workers are forks
KILLS = int(os.environ.get("ICM_BENCH_KILLS", "2"))

pytestmark = [
    pytest.mark.long("a kill leaves half a part that a second run takes for whole"),
    pytest.mark.timeout(60 * (KILLS + 3)),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found through /proc"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy(tmp_path_factory.mktemp("kill") / "toy", environments=2, classes=2, images=IMAGES // 4)


def finish(process: Forked) -> tuple[int, int]:
    """Wait for a run that must succeed; return (embedded, reused)."""
    exit_code, said = process.wait(timeout=120)
    assert exit_code == 0, said
    [(embedded, reused)] = re.findall(r"^(\d+) (\d+)$", said, re.MULTILINE)
    return int(embedded), int(reused)


def assert_same(place: Path, undisturbed: dict[str, np.ndarray]) -> None:
    """Both views hold every image once, in the manifest's order, with its own embedding."""
    storage = Storage(str(place))
    found = [directory for directory in upkeep.verify(storage) if directory.name.startswith(store.ROOT)]
    assert [d.state for d in found] == ["complete"] * 2
    for directory in found:
        tables = [storage.read_table(name) for name in store.parts(storage, directory.name).values()]
        assert [i for table in tables for i in table["image_id"].to_pylist()] == list(undisturbed)
        vectors = np.concatenate([store.vectors(table) for table in tables])
        np.testing.assert_array_equal(vectors, np.stack(list(undisturbed.values())))


@pytest.fixture(scope="module")
def undisturbed(root: Path) -> dict[str, np.ndarray]:
    return embeddings_of(root)


def embeddings_of(root: Path) -> dict[str, np.ndarray]:
    """Image id -> embedding by a plain loop over the files: what a store must hold whatever happened to its writers."""
    table = read_manifest(DatasetSpec(name="toy", root=str(root))).table
    geometry = Geometry.of(FACTS.preprocess)
    pixels = [np.asarray(geometry(Image.open(root / path).convert("RGB"))) for path in table["path"].to_pylist()]
    return dict(zip(table["image_id"].to_pylist(), grey_levels(np.stack(pixels)), strict=True))


def victim(kind: str, run: Forked) -> int:
    """Return the process that is to be killed, as soon as there is one."""
    while kind != "driver" and run.is_running:
        if found := [pid for pid, title in workers_of(run.pid) if (kind == "actor") == ("MapWorker" in title)]:
            return random.choice(found)
        time.sleep(0.01)
    assert run.is_running, "the run has ended before the kill"
    return run.pid


def test_killed_at_random_moments(fork: Fork, root: Path, undisturbed: dict[str, np.ndarray], tmp_path: Path) -> None:
    for number in range(KILLS):
        random.seed(number)
        kind = ("driver", "actor", "worker")[number % 3]
        place, log = tmp_path / f"store{number}", tmp_path / f"log{number}"
        run = fork(*KILLED_RUN, root, place, log)
        after = random.randrange(12)  # chunks encoded before the kill
        while run.is_running and (len(encoded(log)) if log.exists() else -1) < after:
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.3))
        os.kill(victim(kind, run), signal.SIGKILL)
        exit_code, _ = run.wait(timeout=120)
        kept = {p: p.stat().st_mtime_ns for p in place.rglob("part-*.parquet")}
        if exit_code:  # Ray starts a killed actor or worker again, and the run goes on
            embedded, reused = finish(fork(*KILLED_RUN, root, place, log))
            assert embedded + reused == 2 * IMAGES
            assert reused >= 64 * len(kept)  # the actor outlives its driver for a moment
        assert all(p.stat().st_mtime_ns == changed for p, changed in kept.items()), "what was there was written again"
        assert_same(place, undisturbed)
        chunks = [image for image, _ in encoded(log)]
        again = len(chunks) - len(set(chunks))
        end = "rerun" if exit_code else "went on"
        print(
            f"kill {number}: {kind} after {after} chunks, {end}: {len(kept)} parts kept, {again} chunks encoded twice"
        )
        assert again <= 2  # one actor: a chunk that is written and one that is encoded


def test_an_encoder_that_is_stopped_for_good_is_replaced(
    fork: Fork, root: Path, undisturbed: dict[str, np.ndarray], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    run = fork(*KILLED_RUN, root, tmp_path / "store", log, '{"chunk_timeout": 3}')
    while run.is_running and len(encoded(log)) < 4:
        time.sleep(0.01)
    os.kill(victim("actor", run), signal.SIGSTOP)
    exit_code, said = run.wait(timeout=120)
    assert exit_code == 0, said
    assert_same(tmp_path / "store", undisturbed)
    [made] = read_made(Storage(str(tmp_path / "store")))
    replaced, other = made.encoders
    assert (made.ended, replaced.device, other.silent) == (True, "cpu", 0.0)
    assert 2.5 < replaced.silent < 60
    # A chunk that was written, and not told yet, when the encoder was stopped is counted by neither.
    assert IMAGES / 64 - 1 <= replaced.chunks + other.chunks <= IMAGES / 64
    assert made.embedded + made.lost == made.total == 2 * IMAGES
    assert "the encoder on cpu of" in said
    again = made.chunks.filter(made.chunks["again"])["chunk"].to_pylist()
    assert set(again) <= set(replaced.under_way)
    assert made.lost == 2 * 64 * len(again)
    print("\n".join(made.text()))
