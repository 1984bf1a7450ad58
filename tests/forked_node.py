"""`python -m tests.forked_node start ...`: `ray start`, of a node whose workers are forks, see `tests/forks.py`."""

from typing import Any

from ray._private.parameter import RayParams
from ray.scripts.scripts import main

from tests.forked_worker import FORKED_WORKER

_init = RayParams.__init__


def _with_forks(self: RayParams, *args: Any, **kwargs: Any) -> None:
    _init(self, *args, **kwargs)
    self.setup_worker_path = FORKED_WORKER


if __name__ == "__main__":
    RayParams.__init__ = _with_forks
    main()
