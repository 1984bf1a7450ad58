"""The watchdog kills stopped and hanging encoders, spares live ones, and adapts its timeout to the chunks."""

import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from benchmark.embedding import watchdog
from benchmark.embedding.watchdog import MIN_SECONDS, Watchdog

PROGRAM = """
import os, signal, sys, time
from benchmark.embedding.watchdog import Watchdog
dog = Watchdog(3.0)
dog.idle()
with dog.batch():
    pass
print(dog._child.pid, flush=True)
{then}
"""
# One stopped process, one that hangs in a chunk.
ENDED = ("os.kill(os.getpid(), signal.SIGSTOP)", "with dog.batch(): time.sleep(60)")


def run(then: str) -> tuple[subprocess.Popen[str], int]:
    """Start a watched process; return it and the process of its watchdog."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(then=then)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout
    return process, int(process.stdout.readline())


def test_unresponsive_encoders_are_killed_and_idle_ones_live_and_end_their_watchdog() -> None:
    silent = [run(how)[0] for how in ENDED]
    process, dog = run("time.sleep(6)")
    assert [one.wait(timeout=30) for one in silent] == [-signal.SIGKILL] * len(ENDED)
    assert process.wait(timeout=30) == 0
    deadline = time.monotonic() + 20
    while subprocess.run(["ps", "-p", str(dog)], capture_output=True, check=False).returncode == 0:
        assert time.monotonic() < deadline, "the watchdog outlives its encoder"
        time.sleep(0.1)


def test_a_chunk_may_take_ten_times_the_median_and_two_minutes_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: None)
    monkeypatch.setattr(Watchdog, "_allow_silence", lambda _, seconds: allowed.append(seconds))
    monkeypatch.setattr(Watchdog, "_send_heartbeats", lambda _: None)
    clock = iter([0.0, 1.0, 1.0, 31.0, 31.0, 51.0])
    # A time of the module's own: other threads of this process look at the real one.
    monkeypatch.setattr(watchdog, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    allowed: list[float] = []
    dog = Watchdog(None)
    for _ in range(3):  # of 1, 30 and 20 seconds
        with dog.batch():
            pass
    first = watchdog.FIRST_SECONDS
    assert allowed == [first, first, MIN_SECONDS, MIN_SECONDS, 155.0, 155.0, 200.0]
    assert Watchdog(7.0).seconds == 7.0
