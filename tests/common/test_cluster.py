"""Ray starts where it is asked for, and a cluster that is named is joined at once; nothing here starts one."""

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import Mock

import pytest
import ray

from benchmark.common.code import OWN_PATH, find_own_code, importable_from
from benchmark.common.errors import IcmBenchError
from benchmark.common.ray import cluster
from benchmark.common.ray.cluster import connect, connected, gpu_count
from benchmark.common.terminal.progress import verbosity
from tests.conftest import REPOSITORY


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """Stands for `ray.init`; nothing runs before it is called."""
    init, over = Mock(), Mock()
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(cluster, "private", nullcontext)  # it would leave Ray's core in token mode, without a token
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", over)
    monkeypatch.setattr(ray, "is_initialized", lambda: init.call_count > over.call_count)
    return init


def test_a_block_without_work_starts_nothing(started: Mock) -> None:
    with connected():
        assert gpu_count() == 0
    assert not started.called
    assert not cluster.ray.shutdown.called  # type: ignore[attr-defined]


def test_ray_reports_nothing_to_its_maker(started: Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED")
    with connected():
        connect()
    assert started.called
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_what_has_work_starts_it_once_and_the_block_ends_it(started: Mock) -> None:
    with connected():
        connect()
        with connected():
            connect()
        assert ray.is_initialized()
    assert started.call_count == 1
    assert not ray.is_initialized()


@pytest.mark.parametrize("address", ["", "10.0.0.1:6379"])
def test_folders_of_code_of_the_users_own_come_last_and_only_where_it_is_asked_for(
    address: str, started: Mock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.delenv(OWN_PATH, raising=False)
    monkeypatch.setattr(cluster, "check_cluster", lambda _: None)
    monkeypatch.setattr(cluster, "watch_head", Mock())
    before = list(sys.path)
    for asked in (False, True):
        with importable_from(tmp_path, Path(before[-1])):
            if asked:
                find_own_code()
            assert sys.path == [*before, *([str(tmp_path)] if asked else [])]
            told = os.environ.get(OWN_PATH, "").splitlines()
            assert told[-1:] == ([str(tmp_path)] if asked else [])
            assert not any(place.endswith("site-packages") for place in told)  # a node has its own
            with connected():
                connect()
        given = started.call_args.kwargs
        assert given["job_config"]._py_driver_sys_path == [str(REPOSITORY)]
        assert given["job_config"]._runtime_env_has_working_dir()  # else Ray adds the working directory, as the first
        assert bool(given.get("runtime_env")) == (asked and bool(address))
        assert sys.path == before
        assert OWN_PATH not in os.environ


def test_a_lost_node_is_told_once_in_our_words_and_the_rest_of_rays_where_more_is_asked_for(  # poor-cluster-1
    started: Mock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ray._private.worker, "print_to_stdstream", ray._private.worker.print_to_stdstream)
    with connected():
        connect()
    assert started.called
    long = "Raylet is terminated. " + "word " * 100
    said = {"lines": [f"{long}\n  [state-dump] one\n  [state-dump] another"], "pid": "raylet", "is_err": False}
    dead = (
        "The node with node id: 3f9fc9d842aa4eb4 and address: 192.0.2.2 and node name: node1 has been marked dead "
        "because the detector has missed too many heartbeats from it. This can happen when a \t(1) raylet crashes\n"
    )
    for lines in (said["lines"], [dead]):
        ray._private.worker.print_to_stdstream({**said, "lines": lines}, ignore_prefix=False)
    told = "The node 3f9fc9 at 192.0.2.2 is lost; its unfinished work is computed again.\n"
    assert capsys.readouterr() == ("", told)
    with verbosity("verbose"):
        ray._private.worker.print_to_stdstream(said, ignore_prefix=False)
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert " Ray: Raylet is terminated. word" in line
    assert len(line) <= 215


def test_a_named_cluster_is_joined_at_once(started: Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    watched = Mock()
    monkeypatch.setattr(cluster, "check_cluster", lambda _: None)
    monkeypatch.setattr(cluster, "watch_head", watched)
    with connected():
        assert started.call_args.kwargs["address"] == "10.0.0.1:6379"
        assert watched.call_count == 1
    started.side_effect = ConnectionError("refused")
    with pytest.raises(IcmBenchError, match=r"No Ray cluster answers at RAY_ADDRESS=10\.0\.0\.1:6379"), connected():
        pass
