"""A head that does not answer is waited for, then named in one sentence; nothing here starts Ray."""

import socket
import threading
import time

import pytest

from benchmark.common.ray import joining as head


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(head, "SAY_SECONDS", 0.2)


def watched(address: str, limit: float) -> tuple[threading.Thread, threading.Event, threading.Event]:
    """Watch a head; return who does, whether the cluster is joined, and whether the process was ended."""
    joined, ended = threading.Event(), threading.Event()
    joined.set()
    thread = threading.Thread(target=head._watch, args=(address, limit, joined.is_set, ended.set), daemon=True)
    thread.start()
    return thread, joined, ended


def test_a_head_that_is_gone_ends_the_process_with_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        thread, _, ended = watched(address, 1.0)
        assert not ended.wait(1.5)  # for as long as it answers
        assert not capsys.readouterr().err
    assert ended.wait(20)
    thread.join(10)
    waiting, sentence = capsys.readouterr().err.splitlines()
    assert f"{address} does not answer; waiting for up to 1 s" in waiting
    assert f"{address} has not answered for " in sentence


def test_nobody_is_watched_once_the_cluster_is_left() -> None:
    thread, joined, ended = watched("127.0.0.1:1", 30.0)
    time.sleep(0.2)
    joined.clear()
    thread.join(10)
    assert not thread.is_alive()
    assert not ended.is_set()
