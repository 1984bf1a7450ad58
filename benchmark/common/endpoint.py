"""A client of OpenAI-compatible endpoints: one question, one answer; patient, at a bounded rate, silent of its key."""

import http.client
import json
import random
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from threading import Event, Lock
from typing import Any

from benchmark.common.errors import IcmBenchError
from benchmark.common.secrets import HIDDEN
from benchmark.common.storage import reason

MAX_BYTES = 2**22  # of an answer: no caption comes near
FIRST_PAUSE, MAX_PAUSE = 0.5, 60.0  # seconds; the pause doubles from retry to retry
MAX_ASKED_PAUSE = 900.0  # seconds; an endpoint that asks for more has no more to give today
_AGAIN = {408, 409, 425, 429}  # and all from 500 on
_FILTERED = ("content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation")


@dataclass(frozen=True)
class Answer:
    """What an endpoint answered.

    Attributes:
        text: of the answer; empty where there is none.
        finish: why it ended, as OpenAI's protocol has it: `stop`, `length`, `content_filter` ...
        refused: whether the endpoint says that the model refused.
        tokens_in: number of tokens that were sent, as the endpoint counts; None where it does not say.
        tokens_out: number of tokens that were answered, likewise.
    """

    text: str
    finish: str = "stop"
    refused: bool = False
    tokens_in: int | None = None
    tokens_out: int | None = None


class UnansweredError(Exception):
    """A question without an answer after all retries, or at the end of the work; the message is the last reason."""


class _FailedError(Exception):
    """A request that may be sent again, after so many seconds at least."""

    def __init__(self, why: str, after: float = 0.0) -> None:
        super().__init__(why)
        self.after = after


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the question, if not the key, to another host: it is told instead of followed."""

    def redirect_request(self, *_: Any) -> None:
        """Follow nothing."""


class Pace:
    """Spaces requests evenly, for all threads together.

    Args:
        per_minute: most requests in a minute; None for no bound.
    """

    def __init__(self, per_minute: float | None) -> None:
        self._gap = 60.0 / per_minute if per_minute else 0.0
        self._next, self._lock = 0.0, Lock()

    def wait(self, stop: Event) -> None:
        """Wait for a turn, or until `stop`."""
        with self._lock:
            turn = max(self._next, time.monotonic())
            self._next = turn + self._gap
        stop.wait(max(0.0, turn - time.monotonic()))

    def pause(self, seconds: float) -> None:
        """Give nobody a turn for so long."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


@dataclass(frozen=True)
class Endpoint:
    """An endpoint that speaks OpenAI's protocol.

    Attributes:
        base_url: its address, without secrets.
        key: the key, or None for none.
        timeout: seconds that a whole answer may take.
        retries: how often a failed request is sent again.
        pace: how fast requests go out.
        stop: set by whoever wants no more requests: those that wait end as unanswered.

    Raises:
        IcmBenchError: the key cannot be one.
    """

    base_url: str
    key: str | None = field(repr=False)
    timeout: float
    retries: int
    pace: Pace = field(repr=False)
    stop: Event = field(default_factory=Event, repr=False)

    def __post_init__(self) -> None:
        if self.key is not None and not (self.key and self.key.isascii() and self.key.isprintable()):
            raise IcmBenchError(f"The key for {self.base_url} is empty, or not of plain printable characters.")

    def ask(self, body: dict[str, Any]) -> Answer:
        """Return the answer to a chat request.

        Args:
            body: the request, as OpenAI's protocol has it.

        Raises:
            UnansweredError: it failed as often as is put up with, or `stop` was set.
            IcmBenchError: the endpoint refuses requests such as this one: key, model or a parameter is wrong.
        """
        pause = FIRST_PAUSE
        for attempt in range(self.retries + 1):
            self.pace.wait(self.stop)
            if self.stop.is_set():
                raise UnansweredError("the work ended before it was asked")
            try:
                return self._answer(body)
            except _FailedError as failed:
                if attempt == self.retries:
                    raise UnansweredError(str(failed)) from None
                if failed.after:  # the endpoint has had enough, and not of this question alone
                    self.pace.pause(failed.after)
                self.stop.wait(max(failed.after, random.uniform(0.5, 1.0) * pause))
                pause = min(2 * pause, MAX_PAUSE)
        raise AssertionError("unreachable")

    def _answer(self, body: dict[str, Any]) -> Answer:
        headers = {"Content-Type": "application/json", "User-Agent": "icm-bench"}
        request = urllib.request.Request(f"{self.base_url}/chat/completions", json.dumps(body).encode(), headers)
        if self.key is not None:
            request.add_unredirected_header("Authorization", f"Bearer {self.key}")
        try:
            with _OPENER.open(request, timeout=self.timeout) as response:
                return self._parsed(self._content(response))
        except urllib.error.HTTPError as error:
            with error:
                return self._refused(error)
        except (OSError, http.client.HTTPException) as error:  # URLError is an OSError, a timeout too
            why = getattr(error, "reason", error)
            raise _FailedError(self.hidden(reason(why) if isinstance(why, Exception) else str(why))) from None

    def _content(self, response: Any) -> bytes:
        """Return the body of a response, if it comes in time: a socket's own timeout counts from byte to byte."""
        until, content = time.monotonic() + self.timeout, b""
        while block := response.read1(2**16):
            content += block
            if time.monotonic() > until:
                raise _FailedError(f"no whole answer within {self.timeout:g} s")
            if len(content) > MAX_BYTES:
                raise _FailedError(f"an answer of more than {MAX_BYTES} bytes")
        return content

    def _parsed(self, content: bytes) -> Answer:
        try:
            answer = json.loads(content)
            choice = answer["choices"][0]
            message, usage = choice["message"], answer.get("usage") or {}
            text, refusal = message.get("content"), message.get("refusal")
            if not isinstance(text, str | None):
                raise TypeError
            return Answer(
                self.hidden(text or refusal or ""),
                str(choice.get("finish_reason") or "stop"),
                bool(refusal),
                _count(usage.get("prompt_tokens")),
                _count(usage.get("completion_tokens")),
            )
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise _FailedError("an answer that is not OpenAI's protocol") from None

    def _refused(self, error: urllib.error.HTTPError) -> Answer:
        """Return the answer that an error stands for, or raise what it means."""
        said = self.hidden(_message(error))
        if error.code in _AGAIN or error.code >= 500:
            after = _seconds(error.headers.get("Retry-After"))
            if after <= MAX_ASKED_PAUSE:
                raise _FailedError(f"HTTP {error.code} ({said})", after)
            said = f"asks for a pause of {after:.0f} s; {said}"
        if any(word in said for word in _FILTERED):
            return Answer(said, "content_filter", refused=True)
        raise IcmBenchError(
            f"{self.base_url} refuses requests with HTTP {error.code} ({said}); put base_url, model, key or body of "
            f"captions.rewriter right and run again: what was answered is kept."
        )

    def hidden(self, text: str) -> str:
        """Return a text without the key, which an endpoint may repeat."""
        return text.replace(self.key, HIDDEN) if self.key else text


_OPENER = urllib.request.build_opener(_NoRedirect)


def _message(error: urllib.error.HTTPError) -> str:
    """Return what the body of an error says, in one short line."""
    try:
        content = error.read(2**16)
    except (OSError, http.client.HTTPException):
        return str(error.reason)
    try:
        found = json.loads(content)["error"]
        text = f"{found.get('code') or ''} {found.get('message') or ''}" if isinstance(found, dict) else str(found)
    except (ValueError, LookupError, TypeError, RecursionError):
        text = content.decode("utf-8", "replace")
    return " ".join(text.split())[:300].rstrip(".") or str(error.reason)


def _seconds(asked: str | None) -> float:
    """Return the pause that `Retry-After` asks for, a number of seconds or a date; 0 where it cannot be read."""
    try:
        return max(0.0, float(asked or 0))
    except ValueError:
        try:
            return max(0.0, parsedate_to_datetime(asked or "").timestamp() - time.time())
        except (ValueError, OverflowError):
            return 0.0


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
