"""Processes of one core each that call functions for this one, for work of seconds that is not worth a start of Ray.

`python -m benchmark.common.workers MODULE` is such a process: calls come in, answers and errors go out, as pickles. It
knows nothing of the caller's main module, which `multiprocessing` would import again.
"""

import importlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from queue import SimpleQueue
from typing import Any, Self, TypeVar

T = TypeVar("T")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # one each, as trials of one core have


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Workers:
    """Some processes, started when the block begins and ended with it. With one or none it is this one that calls.

    Args:
        count: number of processes.
        module: name of a module that they import at once, while this one goes on. Default: none.
    """

    def __init__(self, count: int, module: str = "benchmark.common.workers") -> None:
        self._count, self._module = count, module
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        if self._count > 1:
            self._processes = [_start(self._module) for _ in range(self._count)]
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()

    def call_all(self, function: Callable[..., T], calls: Sequence[Sequence[Any]]) -> Iterator[tuple[int, T]]:
        """Yield (number of a call, answer) as answers come.

        Args:
            function: at the top of a module, so that the processes find it.
            calls: the arguments of each call; begun in this order.

        Raises:
            Exception: the first that a call raised; what has not begun by then is left.
        """
        if not self._processes:
            for number, arguments in enumerate(calls):
                yield number, function(*arguments)
            return
        idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        for process in self._processes:
            idle.put(process)

        def called(arguments: Sequence[Any]) -> T:
            process = idle.get()
            answer: T
            answer, error = _ask(process, (function, tuple(arguments)))
            idle.put(process)
            if error is not None:
                raise error
            return answer

        threads = ThreadPoolExecutor(len(self._processes))
        numbers = {threads.submit(called, arguments): number for number, arguments in enumerate(calls)}
        try:
            for done in as_completed(numbers):
                yield numbers[done], done.result()
        finally:
            if not all(future.done() for future in numbers):
                for process in self._processes:
                    process.kill()  # what is under way ends with an error that nobody reads
            threads.shutdown(cancel_futures=True)


def _start(module: str) -> "subprocess.Popen[bytes]":
    places = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(
        [sys.executable, "-m", "benchmark.common.workers", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **dict.fromkeys(_THREADS, "1"), **places},
        start_new_session=True,  # an interrupt is for who started it, and that ends it
    )


def _ask(process: "subprocess.Popen[bytes]", call: Any) -> Any:
    assert process.stdin
    assert process.stdout
    try:
        pickle.dump(call, process.stdin)
        process.stdin.flush()
        return pickle.load(process.stdout)  # noqa: S301  it comes from a process of this very code
    except (OSError, EOFError, pickle.UnpicklingError) as error:
        raise RuntimeError("A process ended without a word: it was killed, or ran out of memory.") from error


def main() -> None:
    """Answer calls until the input ends."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a call prints is no answer
    importlib.import_module(sys.argv[1])
    while True:
        try:
            function, arguments = pickle.load(sys.stdin.buffer)  # noqa: S301
        except EOFError:
            return
        try:
            answer = pickle.dumps((function(*arguments), None))
        except Exception as error:
            answer = pickle.dumps((None, error))
        out.write(answer)
        out.flush()


if __name__ == "__main__":
    main()
