"""Copies of objects on this machine: what a command has read or written it does not ask for again, nor leave behind."""

import errno
import fcntl
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage import object_store
from benchmark.common.storage.files import Storage
from benchmark.common.storage.object_store import COPIES_LIMIT, LocalCopies, current_copies, local_copies
from benchmark.datasets.readers.folder import FolderReader
from tests.conftest import S3
from tests.faulty_s3 import Proxy


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which copies lie."""
    monkeypatch.setenv("ICM_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "kept"


@pytest.fixture
def remote(faulty_s3: tuple[S3, Proxy], cache: Path, tmp_path: Path) -> Iterator[tuple[Storage, Proxy]]:  # noqa: ARG001
    """A storage at a server that counts requests, while copies are kept."""
    with local_copies():
        yield Storage(f"s3://bucket/{tmp_path.name}/files"), faulty_s3[1]


def asked(proxy: Proxy) -> int:
    """Return how many requests came since this was last asked."""
    count = sum(proxy.faults.counts.values())
    proxy.faults.counts.clear()
    return count


def test_copies_are_private_and_gone_with_the_command(cache: Path) -> None:
    with local_copies():
        copies = current_copies()
        assert copies
        copies.put("s3://a/b", b"content")
        with local_copies():  # inside another one nothing new begins, and nothing ends
            assert current_copies() is copies
        (folder,) = cache.iterdir()
        assert folder.stat().st_mode & 0o077 == 0
        assert pickle.loads(pickle.dumps(copies)).get("s3://a/b") == b"content"
        assert copies.get("s3://a/c") is None
        copies.drop("s3://a/b")
        assert copies.get("s3://a/b") is None
    assert current_copies() is None
    assert list(cache.iterdir()) == []
    with local_copies(wanted=False):
        assert current_copies() is None


def test_a_disk_is_not_filled_and_another_machine_finds_and_keeps_nothing(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    full, elsewhere = LocalCopies(str(tmp_path), 2 * free), LocalCopies(str(tmp_path / "absent"), 0)
    for copies in (full, elsewhere):
        copies.put("s3://a/b", b"content")
        assert copies.get("s3://a/b") is None
    assert list(tmp_path.iterdir()) == []


BEGUN = """
import os, sys
from benchmark.common.storage.object_store import current_copies, local_copies
with local_copies():
    current_copies().put('a', b'b')
"""


def test_what_a_killed_command_left_is_removed_and_what_another_one_uses_is_not(cache: Path) -> None:
    subprocess.run([sys.executable, "-c", f"{BEGUN}    os._exit(0)"], check=True)
    (left,) = cache.iterdir()
    assert any(file.read_bytes() == b"b" for file in left.rglob("*") if file.is_file())
    command = [sys.executable, "-c", f"{BEGUN}    print('ready', flush=True)\n    sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        assert other.stdin
        assert other.stdout.readline() == b"ready\n"
        assert not left.exists()
        (used,) = cache.iterdir()
        with local_copies():
            assert len(list(cache.iterdir())) == 2
        assert list(cache.iterdir()) == [used]
        other.stdin.close()
        assert other.wait() == 0
    assert list(cache.iterdir()) == []


def test_what_was_removed_by_halves_goes_too_and_by_any_command(cache: Path) -> None:
    halved, new = cache / "halved" / "copies", cache / "new"
    for folder in (halved, new):
        folder.mkdir(parents=True)
        (folder / "copy").write_bytes(b"an image")
    os.utime(halved.parent, (0, 0))
    with local_copies(wanted=False):
        assert list(cache.iterdir()) == [new]  # which may be about to be used


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(("said", "kept_then"), [("0", False), ("1e-9", False), ("2", True), ("", True)])
def test_a_variable_limits_copies(said: str, kept_then: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COPIES_LIMIT, said)
    with local_copies():
        if copies := current_copies():
            copies.put("s3://a/b", b"content")
        assert ((copies.get("s3://a/b") if copies else None) == b"content") == kept_then
    monkeypatch.setenv(COPIES_LIMIT, "much")
    with pytest.raises(IcmBenchError, match="ICM_BENCH_COPIES_GIB is 'much'"), local_copies():
        pass


def test_where_nothing_can_be_locked_nothing_is_kept_or_left(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refused)
    with local_copies():
        assert current_copies() is None
    assert list(cache.iterdir()) == []


def test_an_image_that_was_identified_is_decoded_without_another_request(remote: tuple[Storage, Proxy]) -> None:
    storage, proxy = remote
    storage.write_bytes("env/dog/1.png", b"an image")
    reader = FolderReader(storage.uri)
    (entry,) = reader.entries()
    batch = {name: [getattr(entry, name)] for name in entry.__slots__}
    asked(proxy)
    assert [b"".join(pieces) for pieces in reader.pieces(batch)] == [b"an image"]
    assert asked(proxy) == 1
    sent = pickle.dumps(reader)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(object_store, "_current", None)  # as it is in a worker
        at_worker: FolderReader = pickle.loads(sent)
        assert list(at_worker.read(batch)) == list(at_worker.read(batch)) == [b"an image"]
    assert asked(proxy) == 0


def test_what_is_written_first_stays_and_only_its_writer_has_a_copy(remote: tuple[Storage, Proxy]) -> None:
    storage, proxy = remote
    first, second = Storage(storage.uri), pickle.loads(pickle.dumps(storage))
    assert first.write_first("part", b"first")
    assert asked(proxy) == 1
    assert second.read_range("part", 1, 3) == b"irs"
    assert asked(proxy) == 0
    other = Storage(storage.uri.replace("/files", ""))  # under another name, as if from a machine without the copy
    assert not other.write_first("files/part", b"second")
    assert other.read_bytes("files/part") == b"first"
    asked(proxy)
    for change in (lambda: storage.write_bytes("part", b"changed"), lambda: storage.delete("part")):
        change()
        asked(proxy)
        storage.exists("part")
        assert asked(proxy) == 1
        assert storage.read_if_there("part") in (b"changed", None)
        assert asked(proxy) == 1
    assert first.write_first("part", b"anew")


@pytest.mark.parametrize("status", [400, 405, 501])
def test_a_service_without_conditional_writes_is_written_to_and_nothing_kept_of_it(
    remote: tuple[Storage, Proxy], status: int
) -> None:
    storage, proxy = remote
    proxy.faults.on_condition = status
    for content in (b"one", b"another"):
        assert storage.write_first("part", content)
        asked(proxy)
        assert storage.read_bytes("part") == content
        assert asked(proxy) == 1


def test_an_old_minio_says_otherwise_that_there_is_a_file(remote: tuple[Storage, Proxy]) -> None:
    storage, proxy = remote
    proxy.faults.on_condition = 304
    assert not storage.write_first("part", b"one")


def test_files_of_a_folder_have_no_copies(cache: Path, tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "files"))
    with local_copies():
        assert storage.write_first("part", b"one")
        storage.keep("part", b"other")
        assert storage.read_bytes("part") == b"one"
        assert [file.name for file in cache.rglob("*") if file.is_file()] == ["in-use"]
