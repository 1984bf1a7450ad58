"""`python -m tests.forked_node start ...`: `ray start`, of a node whose workers are forks, see `tests/forks.py`."""

from ray.scripts.scripts import main

from tests.forks import forked_workers

if __name__ == "__main__":
    with forked_workers():
        main()
