"""Test reads of untrusted Parquet files in a child process, since damaged files can crash Arrow.

`python -m benchmark.common.storage.parquet_check` is the child. It receives pickled sources of files, reads each file,
and then writes a line. One child reads all files of its parent. Exceptions are ignored here: the next reader of the
file raises and reports them.
"""

import os
import pickle
import signal
import subprocess
import sys
from contextlib import suppress
from functools import lru_cache
from threading import Lock

import pyarrow as pa
import pyarrow.parquet as pq

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage

ENDS = "is damaged and crashes Arrow"
_Source = bytes | tuple[Storage, str]
_FATAL = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
_MAX_MEMORY = 8 * 2**30  # bytes of address space of the child; a file that needs more passes the check
_ROWS = 1024  # rows per batch
_lock = Lock()


def check_tried(storage: Storage, name: str) -> None:
    """Raise IcmBenchError for a user's Parquet file that would crash this process.

    Columns of plain bytes (images) are not read.
    """
    if ends_process((storage, name)):
        raise IcmBenchError(f"{storage.path(name)} {ENDS}; download or write it again.")


def ends_process(source: _Source) -> bool:
    """Return whether reading a Parquet file, given as bytes or as (storage, name), crashes a process."""
    with _lock:
        process = _reader(os.getpid())
        assert process.stdin
        assert process.stdout
        with suppress(OSError):  # the child has already ended
            process.stdin.write(pickle.dumps(source))
            process.stdin.flush()
            if process.stdout.readline():
                return False
        _reader.cache_clear()
        with suppress(OSError):
            process.communicate()
        return -process.wait() in _FATAL


@lru_cache(maxsize=1)
def _reader(owner: int) -> "subprocess.Popen[bytes]":  # noqa: ARG001  each fork has its own child
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "benchmark.common.storage.parquet_check"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # error output of the C++ runtime
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        start_new_session=True,  # Ctrl-C goes to the parent; the child ends with its input
    )


def main() -> None:
    """Read the files whose sources arrive on standard input, until it ends."""
    with suppress(ImportError, ValueError, OSError):  # systems without such limits
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    while True:
        try:
            source: _Source = pickle.load(sys.stdin.buffer)  # noqa: S301  written by this module
        except EOFError:
            return
        with suppress(Exception):  # the next reader gets the same exception
            _read(source)
        sys.stdout.buffer.write(b"\n")
        sys.stdout.buffer.flush()


def _read(source: _Source) -> None:
    opened = pa.BufferReader(source) if isinstance(source, bytes) else source[0].open(source[1])
    with opened, pq.ParquetFile(opened, buffer_size=2**20, pre_buffer=False) as file:
        groups = [file.metadata.row_group(group) for group in range(file.metadata.num_row_groups)]
        for column in (group.column(i) for group in groups for i in range(group.num_columns)):
            with suppress(Exception):
                _ = column.statistics and (column.statistics.min, column.statistics.max)
        leaves = [file.schema.column(i) for i in range(len(file.schema.names))]
        if not isinstance(source, bytes):  # images are plain bytes, and slow to read
            leaves = [leaf for leaf in leaves if (leaf.physical_type, leaf.logical_type.type) != ("BYTE_ARRAY", "NONE")]
        for _ in file.iter_batches(_ROWS, columns=[leaf.path for leaf in leaves], use_threads=False):
            pass


if __name__ == "__main__":
    main()
