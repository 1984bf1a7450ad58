"""Nobody waits for a cluster that is not there, or is another; one sentence says what it is."""

import json
import platform
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray._private.services import canonicalize_bootstrap_address

from benchmark.common.errors import IcmBenchError
from benchmark.common.ray import joining
from benchmark.common.ray.joining import check_cluster


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of something that listens and never says a word, where Ray would look for it."""
    host = canonicalize_bootstrap_address("127.0.0.1:1").rpartition(":")[0]
    with socket.create_server((host, 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def refused(address: str, seconds: float = 60.0) -> str:
    began = time.monotonic()
    with pytest.raises(IcmBenchError) as error:
        check_cluster(address)
    assert time.monotonic() - began < seconds
    return str(error.value)


def test_a_port_at_which_nobody_listens(silent: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        assert refused(address).startswith(f"Nothing answers at RAY_ADDRESS={address} (Connection refused): start a")
        assert refused(f"ray://{address}").startswith(f"Nothing answers at RAY_ADDRESS=ray://{address}")
    assert refused(silent).startswith(f"No Ray cluster answers at RAY_ADDRESS={silent}, although another")


@pytest.mark.parametrize("address", ["nowhere", "http://127.0.0.1:8265", "http://me:secret@127.0.0.1:8265", "a:b"])
def test_what_is_no_address_of_a_cluster(address: str) -> None:
    said = refused(address)
    assert "is no address of a cluster: give HOST:PORT, as `ray start` prints it" in said
    assert "secret" not in said


def test_a_token_that_is_asked_for_and_not_there(silent: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")  # with which Ray's core would end this process
    assert f"there is none in {tmp_path / '.ray' / 'auth_token'}: copy the head's" in refused(silent)


@pytest.mark.parametrize(
    ("what", "remedy"), [("Ray", "install Ray 1.2.3 here"), ("Python", "install Python 1.2.3 here")]
)
def test_another_version(silent: str, monkeypatch: pytest.MonkeyPatch, what: str, remedy: str) -> None:
    same = {"ray_version": ray.__version__, "python_version": platform.python_version()}

    def ask(_: str, found: list[dict[str, str] | Exception], **other: str) -> None:
        found.append(json.loads(json.dumps({**same, **other})))

    monkeypatch.setattr(joining, "_ask", ask)
    check_cluster(silent)
    monkeypatch.setattr(joining, "_ask", lambda a, f: ask(a, f, **{f"{what.lower()}_version": "1.2.3"}))
    said = refused(silent)
    assert f"has {what} 1.2.3, and this machine " in said
    assert remedy in said
