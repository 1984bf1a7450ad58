"""SIGKILL at random moments, then a rerun: the store is that of an undisturbed run. Two writers at once, likewise.

ICM_BENCH_KILLS sets the number of kills (default 3: the driver, an encoder actor, another Ray worker).
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmark.embedding import store, upkeep
from benchmark.storage import Storage
from tests.conftest import REPOSITORY, make_toy

IMAGES = 2 * 2 * 240  # fifteen chunks
KILLS = int(os.environ.get("ICM_BENCH_KILLS", "3"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(60 * (KILLS + 3)),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found through /proc"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy(tmp_path_factory.mktemp("kill") / "toy", environments=2, classes=2, images=IMAGES // 4)


def start(root: Path, place: Path, log: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.embedding.killed_run", str(root), str(place), str(log)],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> list[int]:
    """Wait for a run that must succeed; return (embedded, reused)."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return [int(number) for number in out.split()[-2:]]


def content(place: Path) -> dict[str, tuple[list[str], np.ndarray]]:
    """Return part -> (image ids, embeddings) of a store, after verifying it."""
    storage = Storage(str(place))
    assert [d.state for d in upkeep.verify(storage)] == ["complete"] * 2
    found = {}
    for directory in upkeep.directories(storage):
        for name in store.parts(storage, directory.name).values():
            table = storage.read_table(name)
            found[name] = (table["image_id"].to_pylist(), store.vectors(table))
    return found


def assert_same(a: Path, b: Path) -> None:
    ours, theirs = content(a), content(b)
    assert list(ours) == list(theirs)
    for name, (ids, vectors) in ours.items():
        assert ids == theirs[name][0]
        np.testing.assert_array_equal(vectors, theirs[name][1])


@pytest.fixture(scope="module")
def undisturbed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("undisturbed")
    assert finish(start(root, place / "store", place / "log")) == [2 * IMAGES, 0]
    return place / "store"


def descendants(pid: int) -> Iterator[tuple[int, str]]:
    """Yield (pid, title) of all processes below `pid`; Ray's workers have titles like `ray::MapBatches(_decode)`."""
    parents, titles = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                titles[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except OSError:
                continue
    for candidate in parents:
        above = candidate
        while above in parents and above != pid:
            above = parents[above]
        if above == pid and candidate != pid:
            yield candidate, titles[candidate]


def victim(kind: str, driver: int) -> int | None:
    if kind == "driver":
        return driver
    wanted = "MapWorker" if kind == "actor" else "ray::"
    found = [p for p, title in descendants(driver) if wanted in title and (kind == "actor") == ("MapWorker" in title)]
    return random.choice(found) if found else None


def test_killed_at_random_moments(root: Path, undisturbed: Path, tmp_path: Path) -> None:
    for number in range(KILLS):
        random.seed(number)
        kind = ("driver", "actor", "worker")[number % 3]
        place, log = tmp_path / f"store{number}", tmp_path / f"log{number}"
        run = start(root, place, log)
        after = random.randrange(12)  # chunks encoded before the kill
        while run.poll() is None and (len(log.read_text().split()) if log.exists() else -1) < after:
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.3))
        if (pid := victim(kind, run.pid)) is not None:
            os.kill(pid, signal.SIGKILL)
        run.wait(timeout=120)
        kept = {p: p.stat().st_mtime_ns for p in place.rglob("part-*.parquet")}
        embedded, reused = finish(start(root, place, log))
        assert embedded + reused == 2 * IMAGES
        assert all(p.stat().st_mtime_ns == changed for p, changed in kept.items()), "what was there was written again"
        assert_same(place, undisturbed)
        encoded = log.read_text().split()
        again = len(encoded) - len(set(encoded))
        print(f"kill {number}: {kind} after {after} chunks; {len(kept)} parts kept, {again} chunks encoded twice")
        assert again <= 1  # one actor, one block


def test_two_processes_fill_one_store(root: Path, undisturbed: Path, tmp_path: Path) -> None:
    runs = [start(root, tmp_path / "store", tmp_path / f"log{i}") for i in range(2)]
    (a, _), (b, _) = (finish(run) for run in runs)
    assert a <= 2 * IMAGES
    assert b <= 2 * IMAGES
    assert_same(tmp_path / "store", undisturbed)
    print(f"{a} and {b} of {2 * IMAGES} views were embedded by each")
