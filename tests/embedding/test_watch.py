"""What a driver says of its encoders, and what it writes down: every pair once, whoever was lost."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.common.storage.files import Storage
from benchmark.embedding import watch, watchdog
from benchmark.embedding.ledger import EncoderState, Ledger
from benchmark.embedding.pool import ASK_SECONDS
from benchmark.store.made import read_made, take_over
from benchmark.store.upkeep import clean
from tests.conftest import REPOSITORY
from tests.embedding.stalled_run import LEFT_BY_AN_ERROR, VIEWS, WatchOf, counts


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


def told() -> Ledger:
    """A ledger of two encoders, of which the first was lost with chunk 1 under way, and began chunk 0 before."""
    ledger = Ledger()
    ledger.open("run", {})
    first = ledger.enter("run", "actor", "a", "L4")
    ledger.ready("run", first)
    for chunk in (0, 1):
        assert ledger.begin("run", first, chunk) == 1
    ledger.written("run", first, 0)
    second = ledger.enter("run", "actor", "b", "T4")
    ledger.ready("run", second)
    assert ledger.begin("run", second, 1) == 2
    ledger.written("run", second, 1)
    assert ledger.begin("another run", second, 1) == 2  # of which nothing is counted
    assert (ledger.begun("run", 0), ledger.begun("run", 7)) == (1, 0)
    return ledger


def test_every_pair_is_counted_once_and_who_was_lost_is_named(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(watch, "ask_for_gpus", asked.append)
    said: list[str] = []
    with WatchOf(storage, said.append, told().state(), asked=True) as one:
        one.came(counts(0, tries=1, views=0, before=128))  # written by the first, who could not say so
        one.came(counts(1, tries=2))
        one.came(counts(2))
        one.came(counts(3, tries=0, views=0, others=128))  # by another process
        one._asked -= ASK_SECONDS
        one._look()
    [made] = read_made(storage)
    assert (made.embedded, made.lost, made.reused) == (256, 128, 228)
    assert made.embedded + made.lost + made.reused + made.unreadable == made.total
    assert made.chunks["again"].to_pylist() == [False, True, False]
    assert asked == [0, 0]  # no chunk is left: nothing is asked for any more
    assert "the encoder on L4 of a is replaced" in said[0]
    assert "1 on L4 of a, 1 on T4 of b" in said[1]
    assert any("L4 of a: replaced" in line and line.endswith("it left the chunks 1") for line in made.text())
    assert clean(storage, dry_run=True).names == [f"made/{made.name}.parquet"]  # there is no such view


def test_a_stall_is_said_and_said_again(storage: Storage) -> None:
    encoder = EncoderState("actor", "a", "L4", 0.0, 0.0, ready=1.0, under_way={7: 1.0, 5: 2.0})
    said: list[str] = []
    one, start = WatchOf(storage, said.append, [encoder]), 1e6
    one._came = one._spoke = start
    for seconds in (29, 31, 40, 62):
        one._say_stall([encoder], start + seconds)
    assert said == [
        f"no chunk for {seconds} s; 1 encoders work, 0 start; chunk 7 has been under way on a the longest"
        for seconds in (31, 62)
    ]
    one._gaps.extend([30.0, 20.0, 25.0])
    one._came = one._spoke = start
    for seconds, words in ((40, 2), (74, 2), (76, 3)):  # said after three times as long as usual
        one._say_stall([encoder], start + seconds)
        assert len(said) == words


def test_what_a_killed_driver_had_under_way_is_known_to_the_next_run_and_no_other(storage: Storage) -> None:
    encoder = EncoderState("actor", "a", "L4", 0.0, 0.0, ready=1.0, under_way={7: 1.0})
    one = WatchOf(storage, print, [encoder])
    one.came(counts(2))
    one._record([encoder], ended=False)
    assert take_over(storage, ["embeddings/other"]) == {}
    assert take_over(storage, VIEWS[1:]) == {7: 1}
    assert take_over(storage, VIEWS) == {}


def test_only_where_all_that_are_there_work_nothing_coming_ends_the_run(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupts: list[int] = []

    def ends(*ready: float, chunks: int = 1) -> bool:
        one = WatchOf(storage, print, [EncoderState("", "a", "L4", 0.0, 0.0, ready=at) for at in ready])
        for number in range(chunks):
            one.came(counts(number))

        def interrupt(_: int, number: int) -> None:
            interrupts.append(number)
            one._end.set()  # as the block does that is left

        monkeypatch.setattr("signal.pthread_kill", interrupt)
        one._end_stall(one.encoders, one._came + 5 * watchdog.MIN_SECONDS + 1)
        return bool(one._stall)

    assert ends(1.0, 1.0)
    assert interrupts == [signal.SIGINT]
    assert not ends(1.0, 0.0)  # one starts
    assert not ends()
    assert not ends(1.0, chunks=0)  # a first chunk may take longer
    assert interrupts == [signal.SIGINT]


@pytest.mark.parametrize(("hearing", "code", "where"), [("hears", LEFT_BY_AN_ERROR, "said"), ("deaf", 2, "icm-bench")])
def test_where_nothing_comes_the_block_is_left_or_the_process_ended(
    hearing: str, code: int, where: str, tmp_path: Path
) -> None:
    module = [sys.executable, "-m", "tests.embedding.stalled_run", hearing, str(tmp_path)]
    run = subprocess.run(module, cwd=REPOSITORY, capture_output=True, text=True, timeout=50, check=False)
    said = r"No chunk came for \d+ s, though 2 encoders work: .* run the same command to go on\."
    assert re.search(f"^{where}: {said}$", run.stdout + run.stderr, re.MULTILINE), run.stderr
    assert run.returncode == code
