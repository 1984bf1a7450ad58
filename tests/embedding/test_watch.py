"""Messages and records of a driver about its encoders: every pair is counted once, also when encoders are lost."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.common.storage.files import Storage
from benchmark.embedding import watch, watchdog
from benchmark.embedding.ledger import EncoderState, Ledger
from benchmark.embedding.pool import REQUEST_SECONDS
from benchmark.store.made import read_made, take_over
from benchmark.store.upkeep import clean
from tests.conftest import REPOSITORY
from tests.embedding.stalled_run import LEFT_BY_AN_ERROR, VIEWS, WatchOf, counts


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


def ledger_of_two() -> Ledger:
    """A ledger of two encoders: the first wrote chunk 0 and was lost with chunk 1 in flight."""
    ledger = Ledger()
    ledger.open("run", {})
    first = ledger.register("run", "actor", "a", "L4")
    ledger.mark_ready("run", first)
    for chunk in (0, 1):
        assert ledger.begin_chunk("run", first, chunk) == 1
    ledger.mark_written("run", first, 0)
    second = ledger.register("run", "actor", "b", "T4")
    ledger.mark_ready("run", second)
    assert ledger.begin_chunk("run", second, 1) == 2
    ledger.mark_written("run", second, 1)
    assert ledger.begin_chunk("another run", second, 1) == 2  # which counts nothing
    assert (ledger.times_begun("run", 0), ledger.times_begun("run", 7)) == (1, 0)
    return ledger


def test_every_pair_is_counted_once_and_lost_encoders_are_named(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(watch, "request_gpus", asked.append)
    said: list[str] = []
    with WatchOf(storage, said.append, ledger_of_two().encoders(), autoscaled=True) as one:
        one.add(counts(0, tries=1, views=0, by_lost=128))  # written by the first, which was lost before it reported it
        one.add(counts(1, tries=2))
        one.add(counts(2))
        one.add(counts(3, tries=0, views=0, by_others=128))  # by another process
        one._requested_at -= REQUEST_SECONDS
        one._check()
    [made] = read_made(storage)
    assert (made.embedded, made.lost, made.reused) == (256, 128, 228)
    assert made.embedded + made.lost + made.reused + made.unreadable == made.total
    assert made.chunks["again"].to_pylist() == [False, True, False]
    assert asked == [0, 0]  # no chunk is left: no GPU is requested
    assert "the encoder on L4 of a was replaced" in said[0]
    assert "1 on L4 of a, 1 on T4 of b" in said[1]
    assert any("L4 of a: replaced" in line and line.endswith("unfinished chunks: 1") for line in made.text())
    assert clean(storage, dry_run=True).names == [f"made/{made.name}.parquet"]  # there is no such view


def test_a_stall_is_reported_repeatedly(storage: Storage) -> None:
    encoder = EncoderState("actor", "a", "L4", 0.0, 0.0, ready_at=1.0, in_flight={7: 1.0, 5: 2.0})
    said: list[str] = []
    one, start = WatchOf(storage, said.append, [encoder]), 1e6
    one._last_chunk_at = one._stall_reported_at = start
    for seconds in (29, 31, 40, 62):
        one._report_stall([encoder], start + seconds)
    assert said == [
        f"no chunk for {seconds} s; 1 encoders active, 0 starting; oldest in flight: chunk 7 on a"
        for seconds in (31, 62)
    ]
    one._intervals.extend([30.0, 20.0, 25.0])
    one._last_chunk_at = one._stall_reported_at = start
    for seconds, words in ((40, 2), (74, 2), (76, 3)):  # reported after three times the median
        one._report_stall([encoder], start + seconds)
        assert len(said) == words


def test_chunks_in_flight_of_a_killed_driver_are_known_to_the_next_run_only(storage: Storage) -> None:
    encoder = EncoderState("actor", "a", "L4", 0.0, 0.0, ready_at=1.0, in_flight={7: 1.0})
    one = WatchOf(storage, print, [encoder])
    one.add(counts(2))
    one._record([encoder], ended=False)
    assert take_over(storage, ["embeddings/other"]) == {}
    assert take_over(storage, VIEWS[1:]) == {7: 1}
    assert take_over(storage, VIEWS) == {}


def test_a_stall_ends_the_run_only_if_all_encoders_are_active(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupts: list[int] = []

    def ends(*ready: float, chunks: int = 1) -> bool:
        one = WatchOf(storage, print, [EncoderState("", "a", "L4", 0.0, 0.0, ready_at=at) for at in ready])
        for number in range(chunks):
            one.add(counts(number))

        def interrupt(_: int, number: int) -> None:
            interrupts.append(number)
            one._end.set()  # as the end of the block does

        monkeypatch.setattr("signal.pthread_kill", interrupt)
        one._end_stall(one.encoders, one._last_chunk_at + 5 * watchdog.MIN_SECONDS + 1)
        return bool(one._stall_error)

    assert ends(1.0, 1.0)
    assert interrupts == [signal.SIGINT]
    assert not ends(1.0, 0.0)  # one starts
    assert not ends()
    assert not ends(1.0, chunks=0)  # a first chunk may take longer
    assert interrupts == [signal.SIGINT]


@pytest.mark.parametrize(
    ("main_thread", "code", "prefix"), [("interruptible", LEFT_BY_AN_ERROR, "error"), ("ignoring", 2, "icm-bench")]
)
def test_a_stall_ends_the_block_or_the_process(main_thread: str, code: int, prefix: str, tmp_path: Path) -> None:
    module = [sys.executable, "-m", "tests.embedding.stalled_run", main_thread, str(tmp_path)]
    run = subprocess.run(module, cwd=REPOSITORY, capture_output=True, text=True, timeout=50, check=False)
    sentence = r"No chunk for \d+ s from 2 active encoders: .* run the same command to go on\."
    assert re.search(f"^{prefix}: {sentence}$", run.stdout + run.stderr, re.MULTILINE), run.stderr
    assert run.returncode == code
