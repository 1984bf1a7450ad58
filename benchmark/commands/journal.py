"""A journal of answers: one line for each, on disk before the next is asked for, so that nothing is asked twice."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage import reason


class Journal:
    """Answers by key, in a JSONL file that only grows; one process writes it at a time.

    The line that a killed process was writing is dropped. For a `with` block.

    Args:
        file: its place; made if it is not there.

    Raises:
        IcmBenchError: it cannot be written, another process writes it, or a line of it is damaged.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.answers = file, dict[str, dict[str, Any]]()
        self._lock = Lock()

    def __enter__(self) -> "Journal":
        import fcntl

        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self.file.open("a+b")
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._read()
        except BaseException as error:
            self._stream.close()
            if isinstance(error, BlockingIOError):
                raise IcmBenchError(f"{self.file} is being written by another run; wait for it, or end it.") from None
            raise self._unwritable(error) if isinstance(error, OSError) else error from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def _read(self) -> None:
        self._stream.seek(0)
        content = self._stream.read()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            self._stream.truncate(len(whole))
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                entry = json.loads(line)
                self.answers[entry.pop("key")] = entry
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
                raise IcmBenchError(f"{self.file}, line {number}: it is damaged; delete it and run again.") from None

    def add(self, answers: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Keep answers, each with its key; they are on disk when this returns. For any thread.

        Raises:
            IcmBenchError: the journal cannot be written.
        """
        entries = {key: dict(answer) for key, answer in answers}
        lines = b"".join(json.dumps({"key": key, **entry}).encode() + b"\n" for key, entry in entries.items())
        with self._lock:
            try:
                self._stream.write(lines)
                self._stream.flush()
                os.fsync(self._stream.fileno())
            except OSError as error:
                raise self._unwritable(error) from error
            self.answers.update(entries)

    def _unwritable(self, error: OSError) -> IcmBenchError:
        return IcmBenchError(f"{self.file} cannot be written ({reason(error)}); give another captions.to.")
