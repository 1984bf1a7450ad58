"""Processes that begin with everything imported: forks of one that has done nothing else.

A process of Ray that computes spends seconds of a core on imports before it does anything; of a run of a few images
that is nearly all. `python -m tests.forks SOCKET` imports once, and forks for whoever asks at the socket:
`Forked` for a program, `tests/forked_worker.py` for a worker of Ray.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from tests.forked_worker import ADDRESS, FORKED_WORKER, ask

# All that is heavy but Ray, which reads the environment of its workers when it is imported.
IMPORTED = (
    "boto3", "fsspec", "google.protobuf.json_format", "jinja2", "jsonschema", "matplotlib.figure", "open_clip",
    "pandas", "pyarrow.dataset", "pyarrow.parquet", "pydantic", "requests", "rich.console", "safetensors.torch",
    "scipy.optimize", "sklearn.linear_model", "torch", "torchvision", "yaml",
)  # fmt: skip
REPOSITORY = Path(__file__).parents[1]


class Forked:
    """A program in a fork; what it says goes into a file.

    Args:
        address: of the socket at which forks are asked for.
        module: of the program, run as by `python -m`.
        arguments: of the program.
        environment: of the program.
        said: gets what it prints.
        folder: in which it works.

    Attributes:
        pid: of the process.
    """

    def __init__(
        self, address: str, module: str, arguments: Sequence[str], environment: Mapping[str, str], said: Path,
        folder: Path = REPOSITORY,
    ) -> None:  # fmt: skip
        with said.open("wb") as file:
            self.pid, self._connection = ask(
                address, module, [module, *arguments], {**environment}, str(folder), file.fileno()
            )
        self._said = said
        self._exit_code: int | None = None

    def wait(self, timeout: float) -> tuple[int, str]:
        """Wait for its end; give its exit code (minus a signal's number) and what it has said.

        Raises:
            TimeoutError: it did not end within so many seconds.
        """
        if self._exit_code is None:
            self._connection.settimeout(timeout)
            self._exit_code = int(self._connection.recv(16))
            self._connection.close()
        return self._exit_code, self._said.read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        with suppress(TimeoutError, BlockingIOError):
            self.wait(timeout=0)
        return self._exit_code is None

    def kill(self) -> None:
        """Send SIGKILL, unless it has ended, and wait for its end."""
        with suppress(ProcessLookupError):
            if self._exit_code is None:
                os.kill(self.pid, signal.SIGKILL)
        self.wait(timeout=60)


@contextmanager
def forks(folder: Path) -> Iterator[str]:
    """Start the process that forks; give the address of its socket.

    Args:
        folder: for the socket.
    """
    address = str(folder / "forks")
    with subprocess.Popen(
        [sys.executable, "-m", "tests.forks", address],
        stdin=subprocess.PIPE, cwd=REPOSITORY, start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as server:  # fmt: skip
        until = time.monotonic() + 120
        while not Path(address).exists():
            assert time.monotonic() < until
            assert server.poll() is None
            time.sleep(0.05)
        try:
            yield address
        finally:
            assert server.stdin is not None
            server.stdin.close()


@contextmanager
def forked_workers(folder: Path | None = None) -> Iterator[Callable[[], str]]:
    """Let workers of a Ray that this process starts be forks; give a function that returns the address of the process that forks.

    Args:
        folder: for the socket; the process that forks starts when it is first asked for. Default: the environment names
            one.
    """
    from ray._private.parameter import RayParams

    init = RayParams.__init__

    def address() -> str:
        if folder and ADDRESS not in os.environ:
            os.environ[ADDRESS] = started.enter_context(forks(folder))
        return os.environ[ADDRESS]

    def with_forks(self: RayParams, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        address()
        self.setup_worker_path = FORKED_WORKER

    with ExitStack() as started:
        RayParams.__init__ = with_forks
        try:
            yield address
        finally:
            RayParams.__init__ = init
            os.environ.pop(ADDRESS, None)


def _serve(address: str) -> NoReturn:
    for name in IMPORTED:
        importlib.import_module(name)
    from benchmark.common.code import Source, code_of

    for file in (REPOSITORY / "benchmark").rglob("*.py"):
        code_of(Source.of(file))  # kept by path and time: whoever changes a file has its own
    assert "ray" not in sys.modules
    gc.collect()
    gc.freeze()  # what is common stays common
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that fork
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{address}.begun")
    listener.listen(64)
    Path(f"{address}.begun").rename(address)
    if not os.fork():
        _end_all_with_input()
    while True:
        connection, _ = listener.accept()
        if not os.fork():
            listener.close()
            _guard(connection)
        connection.close()


def _end_all_with_input() -> NoReturn:
    """Kill all forks, and who makes them, when whoever has started that closes its input or has ended.

    They are found by the leader that the system gives to what was started together; it is who makes them.
    """
    sys.stdin.read()
    leader = os.getsid(0)
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(ProcessLookupError):
            if os.getsid(int(process.name)) == leader != int(process.name) != os.getpid():
                os.kill(int(process.name), signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.kill(leader, signal.SIGKILL)
    os._exit(0)


def _guard(connection: socket.socket) -> NoReturn:
    """Fork the program, and tell its id and then its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    asked, files, _, _ = socket.recv_fds(connection, 1 << 20, 2)
    while not asked.endswith(b"\n"):
        asked += connection.recv(1 << 20)
    wanted = json.loads(asked)
    pid = os.fork()
    if not pid:
        connection.close()
        _become(wanted, files)
    for file in files:
        os.close(file)
    try:
        connection.send(f"{pid:<16}".encode())
        _, status = os.waitpid(pid, 0)
        connection.send(f"{os.waitstatus_to_exitcode(status):<16}".encode())
    except OSError:  # nobody listens any more
        pass
    os._exit(0)


def _become(wanted: dict[str, Any], files: list[int]) -> NoReturn:
    """Be the program."""
    os.setpgid(0, 0)  # Ray ends the whole group of a worker
    nothing = os.open(os.devnull, os.O_RDONLY)
    for file, number in zip([nothing, files[0], files[-1]], range(3), strict=True):
        os.dup2(file, number)
    for file in {nothing, *files}:
        os.close(file)
    os.environ.clear()
    os.environ.update(wanted["environment"])
    os.chdir(wanted["folder"])
    sys.path[:0] = [
        path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path not in sys.path
    ]
    sys.path += os.environ.get("ICM_BENCH_OWN_PATH", "").splitlines()  # `benchmark`, which looks there, is imported
    sys.argv = wanted["arguments"]
    exit_code: object = 0
    try:
        runpy.run_module(wanted["module"], run_name="__main__", alter_sys=True)
    except SystemExit as exit_:
        exit_code = exit_.code
    except BaseException:  # as the interpreter does
        traceback.print_exc()
        exit_code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # as the interpreter, which then takes all down: a second
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(exit_code if isinstance(exit_code, int) else int(exit_code is not None))


if __name__ == "__main__":
    _serve(sys.argv[1])
