"""Short parallel work without Ray: processes with one core each call functions, and threads read small files.

`python -m benchmark.common.workers MODULE` is a worker process: it reads pickled calls and writes pickled answers and
errors. Unlike a worker of `multiprocessing`, it does not import the caller's main module again.
"""

import importlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Self, TypeVar

from benchmark.common.code import environment
from benchmark.common.errors import IcmBenchError
from benchmark.common.failing import outcome_of
from benchmark.common.terminal.progress import Progress

T = TypeVar("T")
Given = TypeVar("Given")
_Reply = tuple[int, Any, Exception | None, bool]  # number of the call, answer or error, whether it is the last reply
_Calls = SimpleQueue[tuple[int, bytes] | None]  # number and pickle of a call; None ends the queue
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # all set to 1, as in trials on one core
_READERS = 32  # maximum number of threads


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Workers:
    """Context manager with `count` worker processes. With `count` 0, this process makes the calls itself.

    The workers import `module` at their start, while this process continues.
    """

    def __init__(self, count: int, module: str = "benchmark.common.workers") -> None:
        self._count, self._module = count, module
        self._processes: list[subprocess.Popen[bytes]] = []
        self._threads: list[Thread] = []
        self._queues: list[_Calls] = []

    def __enter__(self) -> Self:
        for _ in range(self._count):
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "benchmark.common.workers", self._module],  # -P: see `backbones.describe`
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**environment(), **dict.fromkeys(_THREADS, "1")},
                start_new_session=True,  # Ctrl-C goes to the parent, which ends the worker
            )
            self._processes.append(process)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()  # errors of unfinished calls are discarded
        for waiting in self._queues:
            self._end_queue(waiting)
        for thread in self._threads:
            thread.join()
        for process in self._processes:
            process.communicate()

    def begin(self, function: Callable[..., Iterable[T]], calls: Sequence[Sequence[Any]]) -> Callable[[], list[T]]:
        """Start calls, and return a function that waits for all answers, in the order of the calls.

        Until all calls have begun, the returned function makes calls itself instead of waiting.
        """
        waiting, answers = self._new_queues()
        for number, arguments in enumerate(calls):
            waiting.put((number, pickle.dumps((function, arguments)) if self._processes else b""))

        def answers_of_all() -> list[T]:
            found: list[list[T]] = [[] for _ in calls]
            left = len(calls)
            while left:
                try:
                    call = waiting.get_nowait()
                    assert call  # None comes only after all answers
                    found[call[0]] = list(function(*calls[call[0]]))
                    left -= 1
                except Empty:
                    number, answer, error, is_last = answers.get()
                    if error is not None:
                        raise error from None
                    left -= is_last
                    found[number] += [] if is_last else [answer]
            self._end_queue(waiting)
            return [answer for of_call in found for answer in of_call]

        return answers_of_all

    def call_all(self, function: Callable[..., Iterable[T]], calls: Iterable[Sequence[Any]]) -> Iterator[tuple[int, T]]:
        """Yield (number of a call, one of its answers) as answers arrive, in order within each call.

        Calls start in their order, and `calls` is read lazily. The first error is raised and ends all calls.
        `function` returns or yields any number of answers. It must be defined at the top of a module, so that workers
        can import it.
        """
        if not self._processes:
            for number, arguments in enumerate(calls):
                yield from ((number, answer) for answer in function(*arguments))
            return
        waiting, answers = self._new_queues()
        # Calls are pickled in this thread, since arguments may change later; few in advance, since they may be large.
        pickled = ((number, pickle.dumps((function, arguments))) for number, arguments in enumerate(calls))
        in_flight, room = 0, 2 * len(self._processes)
        while True:
            for call in islice(pickled, room):
                waiting.put(call)
                in_flight += 1
            if not in_flight:
                return self._end_queue(waiting)
            number, answer, error, is_last = answers.get()
            if error is not None:
                raise error
            in_flight, room = in_flight - is_last, int(is_last)
            if not is_last:
                yield number, answer

    def _new_queues(self) -> "tuple[_Calls, SimpleQueue[_Reply]]":
        """Return a new queue of calls, which all workers process from now on, and the queue of their replies."""
        waiting: _Calls = SimpleQueue()
        answers: SimpleQueue[_Reply] = SimpleQueue()
        for process in self._processes:
            self._threads.append(Thread(target=_run_calls, args=(process, waiting, answers)))
            self._threads[-1].start()
        self._queues.append(waiting)
        return waiting, answers

    def _end_queue(self, waiting: _Calls) -> None:
        """Tell all workers that a queue of calls has ended."""
        for _ in self._processes:
            waiting.put(None)


def _run_calls(process: "subprocess.Popen[bytes]", waiting: _Calls, answers: "SimpleQueue[_Reply]") -> None:
    """Let a worker make the calls in a queue, until the queue ends or a call raises an error."""
    assert process.stdin
    assert process.stdout
    error: Exception | None = None
    while error is None and (call := waiting.get()):
        number, pickled = call
        is_last = False
        try:
            process.stdin.write(pickled)
            process.stdin.flush()
            while not is_last:
                answer, error, is_last = pickle.load(process.stdout)  # noqa: S301  written by this module
                answers.put((number, answer, error, is_last))
            continue
        except (OSError, EOFError, pickle.UnpicklingError):
            error = IcmBenchError("A worker process ended without an error: it was killed, or ran out of memory.")
        except Exception as raised:  # unpickling an answer can raise anything; pass it to the caller
            error = raised
        answers.put((number, None, error, True))


def main() -> None:
    """Make the calls on standard input until it ends."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output of calls goes to standard error
    importlib.import_module(sys.argv[1])

    def reply(answer: Any, error: Exception | None, is_last: bool) -> None:
        out.write(pickle.dumps((answer, error, is_last)))
        out.flush()

    while True:
        try:
            function, arguments = pickle.load(sys.stdin.buffer)  # noqa: S301
        except EOFError:
            return
        except Exception as error:  # unpickling can raise anything; later calls cannot be separated
            reply(None, outcome_of(error), True)
            return
        try:
            for answer in function(*arguments):
                reply(answer, None, False)
        except Exception as error:
            reply(None, outcome_of(error), True)
        else:
            reply(None, None, True)


def at_once(
    read: Callable[[Given], T], given: Sequence[Given], progress: Progress, units: int = 1, local: bool = True
) -> Iterator[T]:
    """Yield `read(item)` for all items of `given` in order, computed by threads; the first error is raised.

    Each item counts as `units` of `progress`, which is closed at the end. A single item is read without progress.
    `local` says that files are on a local disk; for other files more threads are used, since waiting for a network
    needs no core.
    """
    threads = min(_READERS, 2 * (os.cpu_count() or 1) if local else _READERS, len(given))
    if threads < 2:
        yield from map(read, given)
        return
    with ThreadPoolExecutor(threads) as pool:
        try:
            for found in pool.map(read, given):
                progress.update(min(units, progress.total - progress.done))
                yield found
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    progress.close()


if __name__ == "__main__":
    main()
