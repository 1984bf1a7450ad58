"""Processes of one core each that call functions for this one, for work of seconds that is not worth a start of Ray.

`python -m benchmark.common.workers` is such a process: calls come in, answers and errors go out, as pickles. It knows
nothing of the caller's main module, which `multiprocessing` would import again.
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # one each, as trials of one core have


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def call_all(function: Callable[..., T], calls: Sequence[Sequence[Any]], count: int) -> Iterator[tuple[int, T]]:
    """Yield (number of a call, answer) as answers come. With one process or none it is this one that calls.

    Args:
        function: at the top of a module, so that the processes find it.
        calls: the arguments of each call; begun in this order.
        count: number of processes.

    Raises:
        Exception: the first that a call raised; what has not begun by then is left.
    """
    if count < 2:
        for number, arguments in enumerate(calls):
            yield number, function(*arguments)
        return
    idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
    started = [_start() for _ in range(count)]
    for process in started:
        idle.put(process)

    def called(arguments: Sequence[Any]) -> T:
        process = idle.get()
        answer: T
        answer, error = _ask(process, (function, tuple(arguments)))
        idle.put(process)
        if error is not None:
            raise error
        return answer

    threads = ThreadPoolExecutor(count)
    try:
        numbers = {threads.submit(called, arguments): number for number, arguments in enumerate(calls)}
        for done in as_completed(numbers):
            yield numbers[done], done.result()
    finally:
        for process in started:
            process.kill()  # what is under way ends with an error that nobody reads
        threads.shutdown(cancel_futures=True)
        for process in started:
            process.communicate()


def _start() -> "subprocess.Popen[bytes]":
    places = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(
        [sys.executable, "-m", "benchmark.common.workers"],
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
