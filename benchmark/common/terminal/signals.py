"""SIGTERM and SIGHUP end a command as Ctrl-C does: running work is stopped, finished work is kept."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNAL_BASE = 128  # plus the number of a signal: exit code of a command that it ended
_last = signal.SIGINT  # last signal that interrupted


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """Make SIGTERM raise KeyboardInterrupt in the block, once: further ones are ignored during cleanup.

    The same holds for SIGHUP, unless it is ignored, as under `nohup`.
    """
    if threading.current_thread() is not threading.main_thread():  # other threads cannot set handlers
        yield
        return
    global _last
    handled = [signal.SIGTERM] + [signal.SIGHUP] * (signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN)
    _last, before = signal.SIGINT, {number: signal.signal(number, _terminate) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def sigterm_handler_kept() -> Iterator[None]:
    """Restore the handler of SIGTERM after a block that sets another."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def exit_code() -> int:
    """Return the exit code of an interrupted command, as in a shell: 128 plus the number of the signal."""
    return SIGNAL_BASE + _last


def _terminate(number: int, *_: Any) -> None:
    global _last
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _last = signal.Signals(number)  # Ray's C++ code turns custom exceptions into a plain interrupt
    raise KeyboardInterrupt
