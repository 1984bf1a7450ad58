"""Ray on this machine can be reached from this machine alone, with a token that only its user can read."""

import contextlib
import ipaddress
import os
import stat
from pathlib import Path

import pytest
import ray

from benchmark.common.ray import cluster as private_ray
from benchmark.common.ray.dashboard import token


def test_all_processes_of_a_local_ray_listen_on_the_loopback_and_ask_for_a_token(local_ray: None) -> None:  # noqa: ARG001
    import psutil  # which Ray brings

    assert ray.get(ray.remote(lambda: os.environ["RAY_AUTH_MODE"]).remote()) == "token"
    assert [node["NodeManagerAddress"] for node in ray.nodes()] == ["127.0.0.1"]
    ours = psutil.Process()
    sockets = []
    for process in (ours, *ours.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):  # an idle worker may end meanwhile
            sockets += process.net_connections(kind="inet")
    listening = [ipaddress.ip_address(c.laddr.ip) for c in sockets if c.status == psutil.CONN_LISTEN]
    plain = [(a.ipv4_mapped or a) if isinstance(a, ipaddress.IPv6Address) else a for a in listening]
    assert len(plain) > 3
    assert [address for address in plain if not address.is_loopback] == []


@pytest.mark.parametrize("before", ["", "a token that was there"])
def test_the_file_of_the_token_is_its_owners_alone(
    before: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "home" / ".ray" / "auth_token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    if before:
        file.parent.mkdir(parents=True)
        file.write_text(before)
        file.chmod(0o644)
    private_ray._keep_token()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert token() == (file.read_text(), str(file))
    assert file.read_text() == before or (not before and len(file.read_text()) == 64)


def test_without_a_home_the_token_stays_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "file" / "auth_token"))
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")
    private_ray._keep_token()
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
