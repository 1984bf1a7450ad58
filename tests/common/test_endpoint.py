"""The client against a real HTTP server on the loopback: patient where that helps, silent of its key everywhere."""

import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest

from benchmark.common import endpoint
from benchmark.common.endpoint import Answer, Endpoint, Pace, UnansweredError
from benchmark.common.errors import IcmBenchError
from tests.chat_server import KEY, ChatServer, Reply, answer

GOOD = answer("a dog in the snow")
BUSY: Reply = (429, {"Retry-After": "0.3"}, b'{"error": {"code": "rate_limit_exceeded", "message": "slow down"}}')


def scripted(*replies: Reply | Callable[[], Reply]) -> ChatServer:
    """A server that gives these replies in turn, and then a good one for ever."""

    def reply(server: ChatServer, _: dict[str, Any]) -> Reply:
        turn = len(server.bodies) - 1
        chosen = replies[turn] if turn < len(replies) else GOOD
        return chosen() if callable(chosen) else chosen

    return ChatServer(reply)


def client(server: ChatServer, retries: int = 6, timeout: float = 5.0, per_minute: float | None = None) -> Endpoint:
    return Endpoint(server.url, KEY, timeout, retries, Pace(per_minute))


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "FIRST_PAUSE", 0.01)


BODY = {"model": "m", "messages": [{"role": "user", "content": "a dog"}]}


def slow() -> Reply:
    time.sleep(0.6)
    return GOOD


@pytest.mark.parametrize(
    "reply",
    [
        (500, {}, b"oops"),
        (503, {}, b""),
        (429, {}, b"[" * 100_000),
        (200, {}, b"no JSON"),
        (200, {}, b'{"choices": []}'),
        (200, {}, b'{"choices": [{"message": null}]}'),
        (200, {}, b'{"choices": [{"message": {"content": 3}}]}'),
        (200, {}, b"[" * 100_000),
        (200, {"Content-Length": "99999"}, b'{"choices"'),
        slow,
        (200, {"Drip": "0.02"}, GOOD[2]),  # each byte comes in time, the whole does not
    ],
)
def test_what_fails_is_asked_again(reply: Reply) -> None:
    with scripted(reply).running() as server:
        assert client(server, timeout=0.3).ask(BODY) == Answer("a dog in the snow", "stop", False, 100, 20)
        assert server.bodies == [BODY, BODY]
        assert server.headers[0]["Authorization"] == f"Bearer {KEY}"


def test_a_pause_that_is_asked_for_is_kept_by_all_threads() -> None:
    with scripted(BUSY, (429, {"Retry-After": formatdate(time.time() + 2, usegmt=True)}, b"")).running() as server:
        asking, start = client(server), time.monotonic()
        asking.ask(BODY)  # 0.3 s, then until a moment that is given to the second
        assert 1.0 < time.monotonic() - start < 4.0
        assert len(server.bodies) == 3
    with scripted(BUSY).running() as server:
        asking, start = client(server), time.monotonic()
        first = threading.Thread(target=asking.ask, args=(BODY,))
        first.start()
        while not server.bodies or server.busy:
            time.sleep(0.01)
        time.sleep(0.05)
        asking.ask(BODY)
        assert time.monotonic() - start > 0.3
        first.join()


def test_requests_are_spaced() -> None:
    with scripted().running() as server:
        asking, start = client(server, per_minute=600), time.monotonic()
        threads = [threading.Thread(target=asking.ask, args=(BODY,)) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert 0.4 <= time.monotonic() - start < 2


def test_after_the_last_retry_the_last_reason_is_told() -> None:
    with scripted(*[(500, {}, b"oops")] * 9).running() as server:
        with pytest.raises(UnansweredError, match=r"HTTP 500 \(oops\)"):
            client(server, retries=2).ask(BODY)
        assert len(server.bodies) == 3
    with pytest.raises(UnansweredError, match="refused"):  # nobody listens there any more
        client(server, retries=1).ask(BODY)
    stopped = client(server)
    stopped.stop.set()
    with pytest.raises(UnansweredError, match="ended before"):
        stopped.ask(BODY)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((401, {}, f'{{"error": {{"message": "Incorrect key {KEY}."}}}}'.encode()), r"HTTP 401 \(Incorrect key \*\*\*\)"),
        ((404, {}, b'{"error": {"code": "model_not_found", "message": "no m"}}'), r"HTTP 404 \(model_not_found no m\)"),
        ((400, {}, b'{"error": "no seed here"}'), r"HTTP 400 \(no seed here\)"),
        ((302, {"Location": "http://127.0.0.1:9/elsewhere"}, b""), "HTTP 302"),
        ((429, {"Retry-After": "86400"}, b"quota"), r"HTTP 429 \(asks for a pause of 86400 s; quota\)"),
    ],
)  # fmt: skip
def test_what_waiting_does_not_mend_is_told_at_once_and_without_the_key(reply: Reply, message: str) -> None:
    with scripted(reply).running() as server:
        with pytest.raises(IcmBenchError, match=message) as caught:
            client(server).ask(BODY)
        assert len(server.bodies) == 1
        said = str(caught.value)
        assert said.endswith("what was answered is kept.")
        assert KEY not in said + repr(client(server)) + repr(caught.value.__cause__)


def test_refusals_are_answers() -> None:
    filtered = b'{"error": {"code": "content_filter", "message": "no"}}'
    with scripted(
        (400, {}, filtered), answer(None, finish_reason="content_filter"), answer(None, message={"refusal": "No."}),
        answer(f"the key is {KEY}"),
    ).running() as server:  # fmt: skip
        asking = client(server)
        assert [(a.finish, a.refused) for a in (asking.ask(BODY) for _ in range(3))] == [
            ("content_filter", True), ("content_filter", False), ("stop", True),
        ]  # fmt: skip
        assert asking.ask(BODY).text == "the key is ***"


@pytest.mark.parametrize("key", ["", "two\nlines", "schlüssel"])
def test_a_key_that_cannot_be_one_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(IcmBenchError, match="is empty, or not of plain printable") as caught:
        Endpoint("http://127.0.0.1:1/v1", key, 1, 0, Pace(None))
    assert not key or key not in str(caught.value)
