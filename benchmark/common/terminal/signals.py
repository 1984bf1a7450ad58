"""SIGTERM, and a terminal that closes, end a command as Ctrl-C does: what runs is stopped, what is finished is kept."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

OF_SIGNALS = 128  # exit codes of what a signal ended, less the number of the signal
_last = signal.SIGINT  # of the signals that interrupt


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt in the block, once: while it is cleaned up, further ones are not heard.

    So does SIGHUP, unless it is not to be heard, as below `nohup`.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone may set handlers
        yield
        return
    global _last
    heard = [signal.SIGTERM] + [signal.SIGHUP] * (signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN)
    _last, before = signal.SIGINT, {number: signal.signal(number, _terminate) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def own_handler() -> Iterator[None]:
    """Keep the handler of SIGTERM over a block that sets another."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def exit_code() -> int:
    """Return the exit code of a command that was interrupted, as a shell has it: 128 and the number of the signal."""
    return OF_SIGNALS + _last


def _terminate(number: int, *_: Any) -> None:
    global _last
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _last = signal.Signals(number)  # of an exception of its own, Ray's C++ would make a plain interrupt
    raise KeyboardInterrupt
