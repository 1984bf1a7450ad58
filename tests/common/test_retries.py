"""Transient errors are retried, with a message and until a timeout; all others are raised at once."""

import errno
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmark.common.errors import UnwritableError
from benchmark.common.storage import object_store, retries
from benchmark.common.storage.files import Storage
from benchmark.common.storage.retries import StorageTimeoutError, UnansweredError, take_retries, with_retries
from tests.conftest import S3
from tests.faulty_s3 import Faults, Proxy


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "_QUIET", 0.5)
    monkeypatch.setattr(retries, "_LONGEST_PAUSE", 0.3)
    monkeypatch.setattr(object_store, "ANSWER_SECONDS", 1)
    take_retries()


def test_a_storage_that_fails_at_times_is_read_and_written_whole(faulty_s3: tuple[S3, Proxy], tmp_path: Path) -> None:
    server, proxy = faulty_s3
    storage = Storage(f"s3://bucket/{tmp_path.name}/store")
    proxy.faults = Faults(failing=0.15, hangs=100, hang_s=60)
    contents = {f"{i}.bin": bytes([i]) * (1000 + i) for i in range(100)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(storage.write_bytes, contents, contents.values()))
        assert dict(zip(contents, pool.map(storage.read_bytes, contents), strict=True)) == contents
        assert all(pool.map(storage.exists, contents))
    assert storage.files("", ".bin") == sorted(contents)
    storage.delete("0.bin")
    failed = Counter({fault: n for fault, n in proxy.faults.faults.items() if fault})
    assert set(failed) == {"500", "503", "reset", "hang"}
    assert take_retries().count >= failed.total()  # all are counted, and answers that came late on a busy machine
    proxy.faults = Faults()
    kept = server.client.list_objects_v2(Bucket="bucket", Prefix=tmp_path.name)["Contents"]
    assert {item["Key"].rsplit("/", 1)[-1]: item["Size"] for item in kept} == {
        name: len(content) for name, content in contents.items() if name != "0.bin"
    }
    assert "Uploads" not in server.client.list_multipart_uploads(Bucket="bucket", Prefix=tmp_path.name)


def test_an_outage_is_waited_out_with_one_line_for_all_who_wait(
    faulty_s3: tuple[S3, Proxy], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, proxy = faulty_s3
    storage = Storage(f"s3://bucket/{tmp_path.name}/store")
    proxy.faults = Faults(outage_at="/store/", outage_s=1.5)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: storage.write_bytes(name, b"x"), "abcd"))
    begins, ends = capsys.readouterr().err.splitlines()
    assert f"s3://bucket/{tmp_path.name}/store does not answer (" in begins
    assert f"s3://bucket/{tmp_path.name}/store answers again after " in ends
    found = take_retries()
    assert found.count >= proxy.faults.faults["down"]
    assert found.seconds > 4  # four that waited for 1.5 s each


def test_the_timeout_ends_in_a_sentence(faulty_s3: tuple[S3, Proxy], tmp_path: Path) -> None:
    _, proxy = faulty_s3
    storage = Storage(f"s3://bucket/{tmp_path.name}/store", timeout=1.0)
    proxy.faults = Faults(down_until=time.monotonic() + 60)
    began = time.monotonic()
    with pytest.raises(StorageTimeoutError, match=r"store did not answer for \d+ s .*storage_timeout"):
        storage.write_bytes("a", b"x")
    assert time.monotonic() - began < 15
    with pytest.raises(StorageTimeoutError, match="did not answer"):
        storage.files("", "")
    with pytest.raises(UnwritableError, match=r"does not answer .* check its address"):
        storage.check_writable()


@pytest.mark.usefixtures("s3")
def test_what_fails_for_good_is_raised_at_once() -> None:
    calls: list[int] = []

    def fails() -> None:
        calls.append(1)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        with_retries(fails, "here", 60)
    storage = Storage("s3://bucket/absent?region=us-east-1")
    assert storage.read_if_there("nothing") is None
    assert (len(calls), take_retries().count) == (1, 0)


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (UnansweredError("503"), True),
        (OSError(errno.ESTALE, "Stale file handle"), True),
        (OSError("AWS Error NETWORK_CONNECTION during ListObjectsV2 operation: curlCode: 28"), True),
        (OSError("AWS Error UNKNOWN (HTTP status 503) during ListObjectsV2 operation: No response body."), True),
        (OSError("AWS Error ACCESS_DENIED during ListObjectsV2 operation: No response body."), False),
        (OSError("AWS Error UNKNOWN (HTTP status 400) during HeadObject operation"), False),
        (OSError(errno.EROFS, "Read-only file system"), False),
        (PermissionError(errno.EACCES, "Permission denied"), False),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), False),
    ],
)
def test_what_may_be_gone_when_it_is_asked_again(error: OSError, transient: bool) -> None:
    assert retries.is_transient(error) is transient
