"""Calls to storage that fail for now are made again, with pauses that grow, for as long as a recipe has patience.

What is for now: an object store that answers with an error of its own, hangs up or does not answer at all, and a mount
that lost its server. What a person has to put right is raised at once: an absent bucket, a wrong key, a full disk.
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
PATIENCE = 120.0  # seconds, where a recipe says nothing else
FIRST_CONTACT = 5.0  # seconds: an address that never answered is wrong more often than down
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds between two tries
_QUIET, _BETWEEN_LINES = 2.0, 30.0  # seconds: before the first line on an outage, and between two
# Of a mount whose server does not answer. EIO is what a mounted bucket says of every failure behind it.
_OF_MOUNTS = {
    errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED,
    errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.ENOTCONN,
}  # fmt: skip
# As Arrow tells of S3, by name or by status, and of Google's storage.
_OF_ARROW = re.compile(
    r"AWS Error (NETWORK_CONNECTION|INTERNAL_FAILURE|SERVICE_UNAVAILABLE|SLOW_DOWN|THROTTLING|REQUEST_TIMEOUT)\b"
    r"|HTTP status (408|429|5\d\d)\b|google::cloud::Status\((UNAVAILABLE|INTERNAL|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED)"
)


class UnansweredError(OSError):
    """An object store did not do what it was asked, and may do so when it is asked again."""


class OutOfPatienceError(UnwritableError):
    """A storage did not answer for as long as it was waited for."""


@dataclass
class Retries:
    """How many calls were made again, and the seconds that they waited, added up."""

    count: int = 0
    seconds: float = 0.0

    def text(self) -> str:
        """Return it in words."""
        return f"{self.count} calls to storage were made again; they waited {self.seconds:.0f} s in all"


_lock = threading.Lock()
_retries = Retries()
_outages: dict[str, float] = {}  # place that this process waits for -> time of the last line on that


def patiently(call: Callable[[], T], place: str, seconds: float) -> T:
    """Return what a call returns; one that fails for now is made again.

    While it waits, a line on standard error says so, and one every 30 seconds.

    Args:
        call: reads or writes; may be made any number of times.
        place: what it reads or writes, as a person would write it.
        seconds: for which it is made again, at most, but once in any case; the last try may take longer.

    Raises:
        OutOfPatienceError: it still failed for now after so many seconds.
        OSError: it failed for good.
    """
    began, pause, tries = time.monotonic(), _FIRST_PAUSE, 0
    while True:
        try:
            result = call()
        except OSError as error:
            now = time.monotonic()
            if not is_for_now(error) or seconds <= 0:
                raise
            why = (str(error.strerror or error).splitlines() or [type(error).__name__])[0][:160].rstrip(".")
            if now - began >= seconds and tries:
                raise OutOfPatienceError(
                    f"{place} did not answer for {now - began:.0f} s ({why}); run again when it does, or "
                    f"give it longer by run.storage_patience."
                ) from error
            tries += 1
            if now - began >= _QUIET and _is_to_be_said(place):
                tell(f"storage: {place} does not answer ({why}); waiting, {now - began:.0f} s of {seconds:g} s")
            time.sleep(min(pause * random.uniform(0.5, 1.0), max(0.0, seconds - (now - began))))
            pause = min(2 * pause, _LONGEST_PAUSE)
            count(Retries(1, time.monotonic() - now))
        else:
            if tries and _outages.pop(place, None) is not None:
                tell(f"storage: {place} answers again after {time.monotonic() - began:.0f} s")
            return result


def _is_to_be_said(place: str) -> bool:
    """Return whether nobody has said a moment ago, of any file of a place, that it is waited for; this call says it."""
    now = time.monotonic()
    with _lock:
        is_due = now - _outages.get(place, -_BETWEEN_LINES) >= _BETWEEN_LINES
        if is_due:
            _outages[place] = now
    return is_due


def is_for_now(error: OSError) -> bool:
    """Return whether an error may be gone when the same is asked again."""
    return isinstance(error, UnansweredError) or error.errno in _OF_MOUNTS or bool(_OF_ARROW.search(str(error)))


def count(retries: Retries) -> None:
    """Add retries to those of this process, such as those of a worker."""
    with _lock:
        _retries.count += retries.count
        _retries.seconds += retries.seconds


def taken() -> Retries:
    """Return the retries of this process since this was asked last."""
    global _retries
    with _lock:
        retries, _retries = _retries, Retries()
        return retries
