"""`python -m tests.forked MODULE ...`: a program; workers of a Ray that it starts are forks, see `tests/forks.py`."""

import runpy
import sys

from tests.forks import forked_workers

if __name__ == "__main__":
    del sys.argv[0]
    with forked_workers():
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
