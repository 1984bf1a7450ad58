"""A storage that workers use is looked at by the process that a person watches: what workers print, nobody reads."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage

SECONDS = 10.0  # between two looks


@contextmanager
def watched(storage: Storage) -> Iterator[None]:
    """Say, for as long as the block lasts, where a storage does not answer, once for all workers; see `patiently`.

    Args:
        storage: which workers use; a folder is not looked at.
    """
    if storage.is_local:
        yield
        return
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(SECONDS):
            with suppress(IcmBenchError, OSError):  # a worker will say what is wrong
                storage.exists(".watched")

    threading.Thread(target=look, daemon=True).start()
    try:
        yield
    finally:
        ended.set()
