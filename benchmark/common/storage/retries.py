"""Retries of storage calls that fail with a transient error, with growing pauses, until a timeout.

An error is transient if an object store answers with a server error, closes the connection or does not answer, or if a
mount has lost its server. Errors that a person must fix (no such bucket, a wrong key, a full disk) are raised at once.
"""

import errno
import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from benchmark.common.errors import UnwritableError
from benchmark.common.terminal.progress import tell

T = TypeVar("T")
TIMEOUT = 120.0  # seconds; the default of `run.storage_timeout`. The docstrings of Storage and ImageReader state it.
FIRST_CONTACT = 5.0  # seconds for a storage that has never answered: its address is probably wrong
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds between two tries
_QUIET, _BETWEEN_LINES = 2.0, 30.0  # seconds before the first message about an outage, and between two messages
# Errors of a mount whose server does not answer. A mounted bucket reports every failure of its server as EIO.
_OF_MOUNTS = {
    errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED,
    errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.ENOTCONN,
}  # fmt: skip
# Arrow's messages about S3, with the name or the HTTP status of an error, and about Google's storage.
_OF_ARROW = re.compile(
    r"AWS Error (NETWORK_CONNECTION|INTERNAL_FAILURE|SERVICE_UNAVAILABLE|SLOW_DOWN|THROTTLING|REQUEST_TIMEOUT)\b"
    r"|HTTP status (408|429|5\d\d)\b|google::cloud::Status\((UNAVAILABLE|INTERNAL|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED)"
)


class UnansweredError(OSError):
    """A call to an object store failed with a transient error."""


class StorageTimeoutError(UnwritableError):
    """A storage did not answer before the timeout."""


@dataclass
class Retries:
    """Number of retries, and the seconds spent on them."""

    count: int = 0
    seconds: float = 0.0

    def text(self) -> str:
        """Return the numbers as a sentence."""
        return f"{self.count} calls to storage were retried, which took {self.seconds:.0f} s in all"


_lock = threading.Lock()
_retries = Retries()
_outages: dict[str, float] = {}  # place that does not answer -> time of the last message about it


def with_retries(call: Callable[[], T], place: str, seconds: float) -> T:
    """Return the result of `call`, which is retried after transient errors.

    After two seconds, and then every 30 seconds, a message on standard error says that the storage does not answer.

    Args:
        call: function that reads or writes, and that may be repeated.
        place: path or URI that the function reads or writes, for messages.
        seconds: timeout, after which there is no further try. If it is above 0, there is at least one retry.

    Raises:
        StorageTimeoutError: the error was still transient at the timeout.
        OSError: the error is not transient.
    """
    began, pause, tries = time.monotonic(), _FIRST_PAUSE, 0
    while True:
        try:
            result = call()
        except OSError as error:
            now = time.monotonic()
            if not is_transient(error) or seconds <= 0:
                raise
            why = (str(error.strerror or error).splitlines() or [type(error).__name__])[0][:160].rstrip(".")
            if now - began >= seconds and tries:
                raise StorageTimeoutError(
                    f"{place} did not answer for {now - began:.0f} s ({why}); run again when it does, or "
                    f"set a longer run.storage_timeout."
                ) from error
            tries += 1
            if now - began >= _QUIET and _is_message_due(place):
                tell(f"storage: {place} does not answer ({why}); waiting, {now - began:.0f} s of {seconds:g} s")
            time.sleep(min(pause * random.uniform(0.5, 1.0), max(0.0, seconds - (now - began))))
            pause = min(2 * pause, _LONGEST_PAUSE)
            count(Retries(1, time.monotonic() - now))
        else:
            if tries and _outages.pop(place, None) is not None:
                tell(f"storage: {place} answers again after {time.monotonic() - began:.0f} s")
            return result


def _is_message_due(place: str) -> bool:
    """Return whether a message about a place is due, and if so record the current time as the last message's time."""
    now = time.monotonic()
    with _lock:
        is_due = now - _outages.get(place, -_BETWEEN_LINES) >= _BETWEEN_LINES
        if is_due:
            _outages[place] = now
    return is_due


def is_transient(error: OSError) -> bool:
    """Return whether a call that raised `error` may succeed if it is repeated."""
    return isinstance(error, UnansweredError) or error.errno in _OF_MOUNTS or bool(_OF_ARROW.search(str(error)))


def count(retries: Retries) -> None:
    """Add retries, such as the retries of a worker, to the counts of this process."""
    with _lock:
        _retries.count += retries.count
        _retries.seconds += retries.seconds


def take_retries() -> Retries:
    """Return the counts of this process since the last call of this function, and reset them."""
    global _retries
    with _lock:
        retries, _retries = _retries, Retries()
        return retries
