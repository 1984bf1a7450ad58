"""The faults of a plan, in a process of a run: its storage is stopped, or fails, at the points that the plan names."""

import errno
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from benchmark.common.storage import files as storage
from benchmark.common.storage.files import Storage
from tests.faults.plan import Fault

PLAN, DRIVER, HEAD = "ICM_BENCH_TEST_FAULTS", "ICM_BENCH_TEST_DRIVER", "ICM_BENCH_TEST_HEAD"
HANG_SECONDS = 3.0


class Faults:
    """The faults of a plan file; calls are counted beside it, over all processes of the run."""

    def __init__(self, plan: Path) -> None:
        self._plan = plan
        self._faults = [Fault(**fault) for fault in json.loads(plan.read_text())]

    def meet(self, place: str, point: str) -> None:
        """Let happen what the plan has for this call, if anything.

        Args:
            place: path of the file.
            point: see `tests.faults.plan.POINTS`.
        """
        folders = set(PurePosixPath(place).parts[:-1])
        for number, fault in enumerate(self._faults):
            if fault.point == point and fault.folder in folders and self._counted(number) == fault.nth:
                _act(fault, place)

    def _counted(self, number: int) -> int:
        """Return the how manieth call this is of those that a fault counts."""
        file = os.open(f"{self._plan}.{number}", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        try:
            os.write(file, b".")
            return os.lseek(file, 0, os.SEEK_CUR)
        finally:
            os.close(file)


def _act(fault: Fault, place: str) -> None:
    if fault.act == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault.act == "term":
        os.kill(int(os.environ[DRIVER]), signal.SIGTERM)
    elif fault.act in ("node", "silence"):
        raylet = int(os.environ.get("RAY_RAYLET_PID", os.getpid()))  # Ray tells its workers
        if raylet == int(os.environ[HEAD]):
            raylet = os.getpid()
        os.kill(raylet, signal.SIGSTOP if fault.act == "silence" and raylet != os.getpid() else signal.SIGKILL)
    elif fault.act == "hang":
        time.sleep(HANG_SECONDS)
    else:
        number = errno.ENOSPC if fault.act == "full" else errno.EIO
        raise OSError(number, os.strerror(number), place)


def install() -> None:
    """Put the faults of the plan that the environment names into the storage of this process; Ray calls it in each."""
    faults = Faults(Path(os.environ[PLAN]))

    class FaultyPath(type(Path())):  # type: ignore[misc]  # the class of this system
        """A path whose file is written in three steps, between which something happens."""

        def replace(self, target: str) -> Any:
            content = self.read_bytes()
            self.write_bytes(content[: len(content) // 2])
            faults.meet(target, "torn")
            self.write_bytes(content)
            faults.meet(target, "written")
            result = super().replace(target)
            faults.meet(target, "named")
            return result

    write, content, with_retries = Storage._write, Storage._content, Storage._with_retries
    reading = threading.local()  # the file that a thread is about to read

    def _write(self: Storage, name: str, what: bytes, first: bool = False) -> bool | None:
        faults.meet(self.path(name), "begin")
        is_first = write(self, name, what, first)
        if not self.is_local:
            faults.meet(self.path(name), "named")
        return is_first

    def _content(self: Storage, name: str, offset: int, length: int | None) -> bytes:
        reading.place = self.path(name)
        try:
            return content(self, name, offset, length)
        finally:
            reading.__dict__.pop("place", None)  # where a copy was read, nothing was asked for

    def _with_retries(self: Storage, call: Callable[[], Any]) -> Any:
        """Let what goes wrong with a read go wrong where a read does: in the call that is made again, and told of."""
        place = reading.__dict__.pop("place", None)

        def faulty() -> Any:
            if place:
                faults.meet(place, "read")
            return call()

        return with_retries(self, faulty)

    for owner, name, faulty in (
        (storage, "Path", FaultyPath),
        (Storage, "_write", _write),
        (Storage, "_content", _content),
        (Storage, "_with_retries", _with_retries),
    ):
        setattr(owner, name, faulty)
