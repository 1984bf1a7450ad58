"""A recipe that was run, run again: where all is computed, neither Ray nor a backbone is started."""

import shutil
import subprocess
from pathlib import Path
from unittest.mock import Mock

import pytest
import ray

from benchmark.backbones.loading import Backbone
from tests.commands.conftest import Command
from tests.conftest import Swept


@pytest.fixture
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Ray runs, and neither it, a backbone nor another process can be started."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    for place, name in ((ray, "init"), (Backbone, "__init__"), (subprocess, "Popen")):
        monkeypatch.setattr(place, name, Mock(side_effect=AssertionError(f"{name} of {place} was called")))


@pytest.mark.usefixtures("nothing_starts")
def test_a_second_run_starts_nothing(swept_toy: Swept, tmp_path: Path, command: Command) -> None:
    store = shutil.copytree(swept_toy.store, tmp_path / "store")
    one_protocol = ["--set", "sweep.protocols=[held_out]"]  # a report of all of them takes seconds more
    command("run", swept_toy.file, "--store", store, "--out", tmp_path / "out", *one_protocol)
    assert (tmp_path / "out" / "report.md").is_file()


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize("lost", ["embeddings", "texts", "rows"])
def test_where_something_is_lost_ray_is_asked_for(
    swept_toy: Swept, tmp_path: Path, lost: str, command: Command
) -> None:
    store = shutil.copytree(swept_toy.store, tmp_path / "store", ignore=shutil.ignore_patterns(lost))
    said = command.refused("run", swept_toy.file, "--store", store, "--out", tmp_path / "report")
    assert "Ray does not start on this machine: AssertionError (init of" in said


def test_a_report_that_goes_elsewhere_needs_no_writable_store(
    swept_toy: Swept, tmp_path: Path, command: Command
) -> None:
    closed, out = tmp_path / "closed", tmp_path / "out"
    closed.mkdir()
    for options in (["--bind", str(swept_toy.store), str(closed)], ["-o", "remount,ro,bind", str(closed)]):
        if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
            pytest.skip("this user may not mount a file system")
    try:
        report = ["report", "--store", closed, "--where", "protocol=held_out"]
        command(*report, "--out", out)
        assert (out / "report.md").is_file()
        assert "(Read-only file system); let this user write there" in command.refused(*report)
    finally:
        subprocess.run(["umount", "-l", str(closed)], check=False)
