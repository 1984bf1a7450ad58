"""What a driver says of its encoders, and what it writes down: every pair once, whoever was lost."""

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage import Storage
from benchmark.embedding import watch
from benchmark.embedding.chunks import ChunkCounts
from benchmark.embedding.ledger import EncoderState, Ledger
from benchmark.embedding.pool import ASK_SECONDS, Pool
from benchmark.embedding.watch import Watch
from benchmark.store.made import Made, read_made, take_over
from benchmark.store.upkeep import clean

VIEWS = ("embeddings/a", "embeddings/b")


def counts(number: int, tries: int = 1, views: int = 128, before: int = 0, others: int = 0) -> ChunkCounts:
    return ChunkCounts(
        encode_s=1.0, views_s=0.0, ceiling=1.0, ready=1.0, first=1.0, batch_size=1, number=number, encoder=0, host="a",
        device="L4", tries=tries, images=64, decoded=64, views=views, before=before, others=others, unreadable=0,
        finished=128, decode_s=1.0,
    )  # fmt: skip


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let the main thread hear of interrupts: what is started in the background does not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


@pytest.fixture
def watching(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[EncoderState], list[str]], Watch]:
    """Return a function that makes a watch of some encoders, which says into a list."""

    def make(encoders: list[EncoderState], said: list[str]) -> Watch:
        monkeypatch.setattr(Watch, "_encoders", lambda _: encoders)
        made = Made("20260101T000000Z-0", "driver", "toy", "STAND-IN", VIEWS, reused=100, total=100 + 4 * 128)
        pool = Pool(4, 4, 1, on_gpus=True, asked=True)
        return Watch(made, storage, None, pool, 4, said.append, said=True)

    return make


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
    storage: Storage, watching: Callable[[list[EncoderState], list[str]], Watch], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(watch, "ask_for_gpus", asked.append)
    said: list[str] = []
    with watching(told().state(), said) as one:
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
    assert said[0].endswith("what it had begun comes again: chunks 1")
    assert said[1] == "encoders: 1 on L4 of a, 1 on T4 of b; 1 work now"
    assert any("L4 of a: replaced" in line and line.endswith("it left the chunks 1") for line in made.text())
    assert made.text()[-1] == "  computed again: the chunks 1"
    assert clean(storage, dry_run=True).names == [f"made/{made.name}.parquet"]  # there is no such view


def test_a_stall_is_said_and_said_again(watching: Callable[[list[EncoderState], list[str]], Watch]) -> None:
    encoder = EncoderState("actor", "a", "L4", 0.0, 0.0, ready=1.0, under_way={7: 1.0, 5: 2.0})
    said: list[str] = []
    one, start = watching([encoder], said), 1e6
    one._came = one._spoke = start
    for seconds in (29, 31, 40, 62):
        one._say_stall([encoder], start + seconds)
    assert said == [
        f"no chunk for {seconds} s; 1 encoders work, 0 start; chunk 7 has been under way on a the longest"
        for seconds in (31, 62)
    ]
    one._gaps.extend([30.0, 20.0, 25.0])
    one._came = one._spoke = start
    for seconds in (40, 74):  # not yet three times as long as usual
        one._say_stall([encoder], start + seconds)
    assert len(said) == 2
    one._say_stall([encoder], start + 76)
    assert len(said) == 3


def test_what_a_killed_driver_had_under_way_is_known_to_the_next_run_and_no_other(
    storage: Storage, watching: Callable[[list[EncoderState], list[str]], Watch]
) -> None:
    encoder = EncoderState("actor", "a", "L4", 0.0, 0.0, ready=1.0, under_way={7: 1.0})
    one = watching([encoder], [])
    one.came(counts(2))
    one._record([encoder], ended=False)
    assert take_over(storage, ["embeddings/other"]) == {}
    assert take_over(storage, VIEWS[1:]) == {7: 1}
    assert take_over(storage, VIEWS) == {}
    [made] = read_made(storage)
    assert made.text()[0].endswith("128 views embedded, 100 reused; it did not end")


@pytest.mark.usefixtures("interruptible")
def test_where_nothing_comes_from_encoders_that_work_the_run_ends_in_a_sentence(
    watching: Callable[[list[EncoderState], list[str]], Watch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(watch, "STALL_SECONDS", 0.2)

    def stalled(*ready: float, chunks: int = 1) -> Watch:
        one = watching([EncoderState("", "a", "L4", 0.0, 0.0, ready=at) for at in ready], [])
        one._timeout = 0.01
        for number in range(chunks):
            one.came(counts(number))
        return one

    said = r"No chunk came for .* though 2 encoders work: .* run the same command to go on\."
    with pytest.raises(IcmBenchError, match=said), stalled(1.0, 1.0):
        time.sleep(30)
    for ready, chunks in (((1.0, 0.0), 1), ((), 1), ((1.0,), 0)):  # one starts; none is there; a first chunk
        with stalled(*ready, chunks=chunks):
            time.sleep(0.5)


@pytest.mark.usefixtures("interruptible")
def test_where_the_block_cannot_be_left_the_process_ends(
    watching: Callable[[list[EncoderState], list[str]], Watch],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(watch, "STALL_SECONDS", 0.2)
    monkeypatch.setattr(watch, "STALL_GRACE", 0.1)
    monkeypatch.setattr("os._exit", ended.append)
    one = watching([EncoderState("", "a", "L4", 0.0, 0.0, ready=1.0)], [])
    one._timeout = 0.01
    one.came(counts(0))

    def waits_twice() -> None:
        try:
            time.sleep(30)
        except KeyboardInterrupt:
            time.sleep(1)

    with pytest.raises(IcmBenchError, match=r"though 1 encoders work"), one:
        waits_twice()
    assert ended == [2]
    assert "icm-bench: No chunk came for 0 s, though 1 encoders work" in capsys.readouterr().err
