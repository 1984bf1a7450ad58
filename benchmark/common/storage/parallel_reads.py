"""Reading many small files at the same time: what they wait for is the disk, a network or Arrow, not Python."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from benchmark.common.terminal.progress import Progress

Given = TypeVar("Given")
Found = TypeVar("Found")
_THREADS = 32  # at most


def at_once(
    read: Callable[[Given], Found],
    given: Sequence[Given],
    progress: Progress,
    units: int = 1,
    local: bool = True,
) -> Iterator[Found]:
    """Yield what is read of each of many things, in their order; the first error ends it.

    Args:
        read: reads one, in a thread.
        given: the things.
        progress: told of each that is done, and closed in the end.
        units: units of progress that each counts; those of the last one may be fewer.
        local: whether the files lie on a disk; what waits for a network needs no core, so that more are read at a time.
    """
    threads = min(_THREADS, 2 * (os.cpu_count() or 1) if local else _THREADS, len(given))
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
