"""A place that cannot be written to: the remedy fits the reason, and names the variable that named the place."""

import errno
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark.cli import main
from benchmark.common.errors import UnwritableError
from benchmark.common.failing import meant_for_user
from benchmark.common.ray.cluster import _not_started
from benchmark.common.storage.files import Storage
from benchmark.common.storage.places import remedy, unusable_variable, unwritable


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A file system that is read-only; needs the right to mount one."""
    folder = tmp_path / "closed"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ((errno.ENOSPC, errno.EDQUOT), "free some space, or give another --store or --out"),
        ((errno.EROFS, errno.EACCES), "let this user write there, or give another --store or --out"),
        ((errno.ENOTDIR,), "give another --store or --out"),
    ],
)
def test_the_remedy_goes_by_the_reason(numbers: tuple[int, ...], said: str) -> None:
    for number in numbers:
        for place in ("/data/store/x", "s3://bucket/x"):
            assert remedy(OSError(number, "why"), place, "--store or --out") == said


def test_the_remedy_names_the_variable_that_named_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ICM_BENCH_CACHE", "HF_HOME", "RAY_TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "TMPDIR"))
    for name in ("ICM_BENCH_CACHE", "HF_HOME", "TMPDIR", "RAY_TMPDIR"):
        place = str(tmp_path / name / "a" / "file")
        said = remedy(OSError(errno.EROFS, "why"), place)
        assert said.startswith(f"let this user write there, or let the environment variable {name} name a folder")
        full = unwritable(OSError(errno.ENOSPC, "No space left on device", place))
        assert f"let the environment variable {name} name a folder on a disk with more" in full
        denied = meant_for_user(PermissionError(errno.EACCES, "Permission denied", place))
        assert isinstance(denied, UnwritableError)
        assert name in str(denied)
    elsewhere = PermissionError(errno.EACCES, "Permission denied", "/data/labels.csv")
    assert meant_for_user(elsewhere) is None  # who opened it knows what it is


def test_a_program_that_may_not_be_executed_is_no_place_to_write_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\n")
    monkeypatch.setenv("ICM_BENCH_CACHE", str(tmp_path))  # where a place that is closed would be told
    with pytest.raises(PermissionError) as raised:
        subprocess.run([str(python)], check=False)
    for told in (meant_for_user(raised.value), _not_started(raised.value)):
        assert f"{python} may not be executed by this user (Permission denied); let them read and execute" in str(told)


def test_a_variable_that_names_no_folder_is_told_before_ray_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("A_FOLDER", str(tmp_path / "file" / "below"))
    assert f"A_FOLDER names {tmp_path}/file/below, which cannot be created" in unusable_variable("UNSET", "A_FOLDER")
    monkeypatch.setenv("A_FOLDER", str(tmp_path / "to be made"))
    assert unusable_variable("A_FOLDER") == ""


def test_a_closed_store_cache_and_folder_of_ray(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnwritableError, match=r"\(Read-only file system\); let this user write there, or give another"):
        Storage(str(closed / "store")).check_writable()
    monkeypatch.setenv("ICM_BENCH_CACHE", str(closed))
    with pytest.raises(UnwritableError, match="or let the environment variable ICM_BENCH_CACHE name a folder"):
        Storage(str(closed / "store")).check_writable()
    monkeypatch.setenv("A_FOLDER", str(closed))
    assert "is not writable; name another folder" in unusable_variable("A_FOLDER")


def test_a_plan_needs_no_writable_cache(
    closed: Path, toy_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"name: toy\ndatasets: [{{name: toy, root: '{toy_root}'}}]\nbackbones: [MiniLiT]\n")
    monkeypatch.setenv("ICM_BENCH_CACHE", str(closed))
    assert main(["plan", str(recipe), "--store", str(tmp_path / "store")]) == 0
    assert "result rows" in capsys.readouterr().out
    assert list(closed.iterdir()) == []


def test_a_working_directory_that_was_removed_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main(["datasets"]) == 2
    assert "was removed; change to another one" in capsys.readouterr().err
