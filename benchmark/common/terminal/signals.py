"""Handlers that make SIGTERM and SIGHUP end a command as Ctrl-C does: work stops, and finished work is kept."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNAL_BASE = 128  # the exit code of a command that a signal ended is this number plus the signal's number
_last = signal.SIGINT  # the signal that interrupted the command


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """Make the first SIGTERM or SIGHUP raise KeyboardInterrupt in the block; later ones are ignored during cleanup.

    SIGHUP is not handled if the process ignores it, as under `nohup`.
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
    """Restore the handler of SIGTERM after the block, which may set another one."""
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
