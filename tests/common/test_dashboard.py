"""Who answers at the address of a cluster is known within seconds, and told in a sentence."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmark.common.errors import IcmBenchError
from benchmark.common.ray.dashboard import dashboard_address, job_server, nodes_of


@contextmanager
def serving(body: str, token: str | None = None) -> Iterator[tuple[str, list[str | None]]]:
    """Answer every request on the loopback with a text; give the address, and the tokens that come in."""
    tokens: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            tokens.append(self.headers["Authorization"])
            allowed = token is None or tokens[-1] == f"Bearer {token}"
            self.send_response(200 if allowed else 403 if tokens[-1] else 401)
            self.end_headers()
            self.wfile.write(body.encode() if allowed else b"Unauthorized")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", tokens
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def _no_address_and_no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")  # restored afterwards
    monkeypatch.setenv("HOME", str(tmp_path))


def refusal(address: str) -> str:
    began = time.monotonic()
    with pytest.raises(IcmBenchError) as caught:
        job_server(address)
    assert time.monotonic() - began < 15
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_port_where_nothing_is_or_nothing_answers() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        assert "Connection refused" in refusal(address)
        listening.listen()  # and never answers
        assert "is no Ray dashboard" in refusal(address)
    assert "Nothing answers at http://no-such-host.invalid:8265" in refusal("no-such-host.invalid:8265")


@pytest.mark.parametrize("body", ["<html>hello</html>", "[]", '{"version": 3}', ""])
def test_another_server(body: str) -> None:
    with serving(body) as (address, _):
        assert "answers, but is no Ray dashboard" in refusal(address)


def test_another_version_of_ray() -> None:
    with serving('{"ray_version": "2.9.3"}') as (address, tokens):
        said = refusal(address)
        assert f"The cluster at {address} has Ray 2.9.3" in said
        assert "install ray==2.9.3" in said
        assert tokens == [None]  # nobody asked for one


def test_a_token_is_sent_where_one_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving('{"ray_version": "2.9.3"}', token="right") as (address, tokens):
        said = refusal(address)
        assert f"asks for a token and there is none in {tmp_path / '.ray' / 'auth_token'}" in said
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray" / "auth_token").write_text("wrong\n")
        said = refusal(address)
        assert "refuses the token of" in said
        assert "wrong" not in said
        monkeypatch.setenv("RAY_AUTH_TOKEN", "right")
        assert "has Ray 2.9.3" in refusal(address)
        assert tokens == [None, None, "Bearer wrong", None, "Bearer right"]


def test_the_nodes_of_a_cluster_are_those_that_live() -> None:
    import ray

    small, large = {"CPU": 4.0, "memory": 2.0**33}, {"CPU": 48.0, "GPU": 2.0}
    states = (("ALIVE", small), ("DEAD", large), ("ALIVE", large))
    nodes = [{"state": state, "resources_total": resources} for state, resources in states]
    version = {"ray_version": ray.__version__, "version": "4"}
    with serving(json.dumps({**version, "data": {"result": {"result": nodes}}})) as (address, _):
        assert nodes_of(address) == [small, large]
    with serving(json.dumps(version)) as (address, _), pytest.raises(IcmBenchError, match="does not tell of its nodes"):
        nodes_of(address)


def test_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    assert dashboard_address() == "http://127.0.0.1:8265"
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265/")
    assert dashboard_address() == "http://head:8265"
    assert dashboard_address("10.0.0.1:8266") == "http://10.0.0.1:8266"
    assert dashboard_address("https://ray.example/") == "https://ray.example"
    for wrong in ("auto", "ray://head:10001", "http://", "http://me:hush@head:8265", "head:port"):
        with pytest.raises(IcmBenchError, match="is no address of a Ray dashboard") as caught:
            dashboard_address(wrong)
        assert "hush" not in str(caught.value)
