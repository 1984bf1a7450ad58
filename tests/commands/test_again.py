"""A recipe that was run, run again: where all is computed, neither Ray nor a backbone is started."""

import subprocess
from pathlib import Path
from unittest.mock import Mock

import pytest
import ray

from benchmark.backbones.loading import Backbone
from benchmark.cli import main
from tests.conftest import Swept


@pytest.fixture
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Ray runs, and neither it, a backbone nor another process can be started."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    for place, name in ((ray, "init"), (Backbone, "__init__"), (subprocess, "Popen")):
        monkeypatch.setattr(place, name, Mock(side_effect=AssertionError(f"{name} of {place} was called")))


@pytest.mark.usefixtures("nothing_starts")
def test_a_second_run_starts_nothing_and_writes_the_same_report(swept_toy: Swept, tmp_path: Path) -> None:
    [report] = (swept_toy.store / "reports").rglob("report.md")
    assert main(["run", str(swept_toy.file), "--out", str(tmp_path)]) == 0
    assert contents(tmp_path) == contents(report.parent)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize("lost", ["embeddings", "texts", "rows"])
def test_where_something_is_lost_ray_is_asked_for(
    swept_toy: Swept, tmp_path: Path, lost: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in swept_toy.store.iterdir():
        if folder.name != lost:
            (tmp_path / folder.name).symlink_to(folder)
    assert main(["run", str(swept_toy.file), "--store", str(tmp_path), "--out", str(tmp_path / "report")]) == 2
    assert "Ray does not start on this machine: AssertionError (init of" in capsys.readouterr().err


def test_a_report_that_goes_elsewhere_needs_no_writable_store(
    swept_toy: Swept, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    closed, out = tmp_path / "closed", tmp_path / "out"
    closed.mkdir()
    for options in (["--bind", str(swept_toy.store), str(closed)], ["-o", "remount,ro,bind", str(closed)]):
        if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
            pytest.skip("this user may not mount a file system")
    try:
        assert main(["report", str(swept_toy.file), "--store", str(closed), "--out", str(out)]) == 0
        assert (out / "report.md").is_file()
        capsys.readouterr()
        assert main(["report", str(swept_toy.file), "--store", str(closed)]) == 2
        assert "(Read-only file system); let this user write there, or give another --store" in capsys.readouterr().err
    finally:
        subprocess.run(["umount", "-l", str(closed)], check=False)
