"""Processes of one core each that call functions for this one, for work of seconds that is not worth a start of Ray.

`python -m benchmark.common.workers MODULE` is such a process: calls come in, answers and errors go out, as pickles. It
knows nothing of the caller's main module, which `multiprocessing` would import again.
"""

import importlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Self, TypeVar

from benchmark.common.code import environment
from benchmark.common.errors import IcmBenchError
from benchmark.common.failing import outcome_of

T = TypeVar("T")
_Reply = tuple[Any, Exception | None, bool]  # an answer or an error, and whether it is the last reply to a call
_Calls = SimpleQueue[tuple[int, bytes] | None]  # the number of a call, and its pickle; None: no more will come
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # one each, as trials of one core have


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Workers:
    """Some processes, started when the block begins and ended with it. With none it is this one that calls.

    Args:
        count: number of processes beside this one.
        module: name of a module that they import at once, while this one goes on. Default: none.
    """

    def __init__(self, count: int, module: str = "benchmark.common.workers") -> None:
        self._count, self._module = count, module
        self._processes: list[subprocess.Popen[bytes]] = []
        self._threads: list[Thread] = []
        self._driven: list[_Calls] = []

    def __enter__(self) -> Self:
        if self._count > 0:
            self._processes = [_start(self._module) for _ in range(self._count)]
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
        """Begin calls, and return what waits for their answers: it makes here what no process has begun by then.

        Args:
            function: as of `call_all`.
            calls: the arguments of each call; their answers come in this order.
        """
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
                    number, (answer, error, is_last) = answers.get()
                    if error is not None:
                        raise error from None
                    left -= is_last
                    found[number] += [] if is_last else [answer]
            self._end(waiting)
            return [answer for of_call in found for answer in of_call]

        return answers_of_all

    def call_all(self, function: Callable[..., Iterable[T]], calls: Iterable[Sequence[Any]]) -> Iterator[tuple[int, T]]:
        """Yield (number of a call, one of its answers) as answers come; those of one call come in order.

        Args:
            function: at the top of a module, so that the processes find it; returns or yields any number of answers.
            calls: the arguments of each call; begun in this order, and taken as they are begun.

        Raises:
            Exception: the first that a call raised; what is not done by then is left, and the processes end.
        """
        if not self._processes:
            for number, arguments in enumerate(calls):
                yield from ((number, answer) for answer in function(*arguments))
            return
        waiting, answers = self._drive()
        # Pickled here, as what is pickled may change while another thread does it; few ahead, as each may be large.
        pickled = ((number, pickle.dumps((function, arguments))) for number, arguments in enumerate(calls))
        begun = 0
        for call in islice(pickled, 2 * len(self._processes)):
            waiting.put(call)
            begun += 1
        while begun:
            number, (answer, error, is_last) = answers.get()
            if error is not None:
                raise error
            if not is_last:
                yield number, answer
                continue
            begun -= 1
            for call in islice(pickled, 1):
                waiting.put(call)
                begun += 1
        self._end(waiting)

    def _drive(self) -> "tuple[_Calls, SimpleQueue[tuple[int, _Reply]]]":
        """Let all processes make the calls that will wait in a queue; return it, and that of the replies."""
        waiting: _Calls = SimpleQueue()
        answers: SimpleQueue[tuple[int, _Reply]] = SimpleQueue()
        for process in self._processes:
            self._threads.append(Thread(target=_drive, args=(process, waiting, answers)))
            self._threads[-1].start()
        self._driven.append(waiting)
        return waiting, answers

    def _end(self, waiting: "_Calls") -> None:
        """Tell who makes the calls that wait in a queue that no more will."""
        for _ in self._processes:
            waiting.put(None)


def _drive(process: "subprocess.Popen[bytes]", waiting: "_Calls", answers: "SimpleQueue[tuple[int, _Reply]]") -> None:
    """Let a process make calls that wait, one after the other, until no more will or one ends with an error."""
    while call := waiting.get():
        number, pickled = call
        for reply in _replies(process, pickled):
            answers.put((number, reply))
            if reply[1] is not None:
                return


def _start(module: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "benchmark.common.workers", module],  # -P: see `backbones.describe`
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**environment(), **dict.fromkeys(_THREADS, "1")},
        start_new_session=True,  # an interrupt is for who started it, and that ends it
    )


def _replies(process: "subprocess.Popen[bytes]", call: bytes) -> "Iterator[_Reply]":
    """Yield what a process replies to a call, a pickle, up to the last reply."""
    assert process.stdin
    assert process.stdout
    is_last = False
    try:
        process.stdin.write(call)
        process.stdin.flush()
        while not is_last:
            reply: _Reply = pickle.load(process.stdout)  # noqa: S301  it comes from a process of this very code
            is_last = reply[2]
            yield reply
    except (OSError, EOFError, pickle.UnpicklingError):
        yield None, IcmBenchError("A process ended without a word: it was killed, or ran out of memory."), True
    except Exception as error:  # whatever making an answer again raises: who waits for it must hear of it
        yield None, error, True


def main() -> None:
    """Answer calls until the input ends."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a call prints is no answer
    importlib.import_module(sys.argv[1])
    while True:
        try:
            function, arguments = pickle.load(sys.stdin.buffer)  # noqa: S301
        except EOFError:
            return None
        except Exception as error:  # whatever making the arguments raises; what is left of them cannot be told apart
            out.write(pickle.dumps((None, outcome_of(error), True)))
            return out.close()
        for reply in _made(function, arguments):
            out.write(reply)
            out.flush()


def _made(function: Callable[..., Iterable[Any]], arguments: Sequence[Any]) -> Iterator[bytes]:
    """Yield the replies to a call, as pickles."""
    try:
        for answer in function(*arguments):
            yield pickle.dumps((answer, None, False))
    except Exception as error:
        yield pickle.dumps((None, outcome_of(error), True))
    else:
        yield pickle.dumps((None, None, True))


if __name__ == "__main__":
    main()
