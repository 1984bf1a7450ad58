"""How much is said to the person who watches, beside results and errors: `-q` nothing, `-v` more than by default.

An environment variable carries it, so that processes that are started from here keep to it.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Speech = Literal["quiet", "normal", "verbose"]
_VARIABLE = "ICM_BENCH_SPEECH"


@contextmanager
def speaking(speech: Speech) -> Iterator[None]:
    """Let the block, and processes that it starts, say so much.

    Args:
        speech: `quiet` (results and errors alone), `normal`, or `verbose`.
    """
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = speech
    try:
        yield
    finally:
        if before is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = before


def is_quiet() -> bool:
    """Return whether nothing but results and errors is said."""
    return os.environ.get(_VARIABLE) == "quiet"


def is_verbose() -> bool:
    """Return whether more is said than by default."""
    return os.environ.get(_VARIABLE) == "verbose"


def tell(line: str) -> None:
    """Print a line for the person who watches, apart from the output that a script reads."""
    if not is_quiet():
        print(f"{time.strftime('%H:%M:%S')} {line}" if is_verbose() else line, file=sys.stderr, flush=True)
