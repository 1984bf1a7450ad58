"""Work of seconds done side by side without Ray: processes of one core each call functions, threads read small files.

`python -m benchmark.common.workers MODULE` is such a process: calls come in, answers and errors go out, as pickles. It
knows nothing of the caller's main module, which `multiprocessing` would import again.
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
_Reply = tuple[int, Any, Exception | None, bool]  # number of a call, an answer or error, whether it is the last reply
_Calls = SimpleQueue[tuple[int, bytes] | None]  # the number of a call, and its pickle; None: no more will come
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # one each, as trials of one core have
_READERS = 32  # threads at most


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Workers:
    """Some processes, started when the block begins and ended with it. With none it is this one that calls.

    They import a module at once, while this process goes on.
    """

    def __init__(self, count: int, module: str = "benchmark.common.workers") -> None:
        self._count, self._module = count, module
        self._processes: list[subprocess.Popen[bytes]] = []
        self._threads: list[Thread] = []
        self._driven: list[_Calls] = []

    def __enter__(self) -> Self:
        for _ in range(self._count):
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "benchmark.common.workers", self._module],  # -P: see `backbones.describe`
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**environment(), **dict.fromkeys(_THREADS, "1")},
                start_new_session=True,  # an interrupt is for who started it, and that ends it
            )
            self._processes.append(process)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()  # what is under way ends with an error that nobody reads
        for waiting in self._driven:
            self._end(waiting)
        for thread in self._threads:
            thread.join()
        for process in self._processes:
            process.communicate()

    def begin(self, function: Callable[..., Iterable[T]], calls: Sequence[Sequence[Any]]) -> Callable[[], list[T]]:
        """Begin calls, and return what waits for all their answers: it makes here what no process has begun by then."""
        waiting, answers = self._drive()
        for number, arguments in enumerate(calls):
            waiting.put((number, pickle.dumps((function, arguments)) if self._processes else b""))

        def answers_of_all() -> list[T]:
            found: list[list[T]] = [[] for _ in calls]
            left = len(calls)
            while left:
                try:
                    call = waiting.get_nowait()
                    assert call  # no end of them is said before all are answered
                    found[call[0]] = list(function(*calls[call[0]]))
                    left -= 1
                except Empty:
                    number, answer, error, is_last = answers.get()
                    if error is not None:
                        raise error from None
                    left -= is_last
                    found[number] += [] if is_last else [answer]
            self._end(waiting)
            return [answer for of_call in found for answer in of_call]

        return answers_of_all

    def call_all(self, function: Callable[..., Iterable[T]], calls: Iterable[Sequence[Any]]) -> Iterator[tuple[int, T]]:
        """Yield (number of a call, one of its answers) as answers come; those of one call come in order.

        The function stands at the top of a module, so that the processes find it, and returns or yields any number of
        answers. Calls are begun in their order, and taken as they are begun. The first error of a call is raised; what
        is not done by then is left.
        """
        if not self._processes:
            for number, arguments in enumerate(calls):
                yield from ((number, answer) for answer in function(*arguments))
            return
        waiting, answers = self._drive()
        # Pickled here, as what is pickled may change while another thread does it; few ahead, as each may be large.
        pickled = ((number, pickle.dumps((function, arguments))) for number, arguments in enumerate(calls))
        begun, room = 0, 2 * len(self._processes)
        while True:
            for call in islice(pickled, room):
                waiting.put(call)
                begun += 1
            if not begun:
                return self._end(waiting)
            number, answer, error, is_last = answers.get()
            if error is not None:
                raise error
            begun, room = begun - is_last, int(is_last)
            if not is_last:
                yield number, answer

    def _drive(self) -> "tuple[_Calls, SimpleQueue[_Reply]]":
        """Let all processes make the calls that will wait in a queue; return it, and that of the replies."""
        waiting: _Calls = SimpleQueue()
        answers: SimpleQueue[_Reply] = SimpleQueue()
        for process in self._processes:
            self._threads.append(Thread(target=_drive, args=(process, waiting, answers)))
            self._threads[-1].start()
        self._driven.append(waiting)
        return waiting, answers

    def _end(self, waiting: _Calls) -> None:
        """Tell who makes the calls that wait in a queue that no more will."""
        for _ in self._processes:
            waiting.put(None)


def _drive(process: "subprocess.Popen[bytes]", waiting: _Calls, answers: "SimpleQueue[_Reply]") -> None:
    """Let a process make calls that wait, one after the other, until no more will or one ends with an error."""
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
                answer, error, is_last = pickle.load(process.stdout)  # noqa: S301  it comes from this very code
                answers.put((number, answer, error, is_last))
            continue
        except (OSError, EOFError, pickle.UnpicklingError):
            error = IcmBenchError("A process ended without a word: it was killed, or ran out of memory.")
        except Exception as raised:  # whatever making an answer again raises: who waits for it must hear of it
            error = raised
        answers.put((number, None, error, True))


def main() -> None:
    """Answer calls until the input ends."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a call prints is no answer
    importlib.import_module(sys.argv[1])

    def reply(answer: Any, error: Exception | None, is_last: bool) -> None:
        out.write(pickle.dumps((answer, error, is_last)))
        out.flush()

    while True:
        try:
            function, arguments = pickle.load(sys.stdin.buffer)  # noqa: S301
        except EOFError:
            return
        except Exception as error:  # whatever making the arguments raises; what is left of them cannot be told apart
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
    """Yield what threads read of each of many things, in their order; the first error ends it.

    Each counts some units of progress, which is closed in the end. Where files do not lie on a local disk more are read
    at a time: what waits for a network needs no core.
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
