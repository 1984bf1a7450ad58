"""`python -m tests.faults.command ARGUMENTS...`: icm-bench on a cluster, with the faults that the environment names.

What it has still open at its end goes into the file that the environment names.
"""

import json
import os
import sys
import threading
from pathlib import Path

LEFT = "ICM_BENCH_TEST_LEFT"


def left() -> dict[str, int]:
    """Return how many files and threads this process has."""
    files = Path("/proc/self/fd")
    return {"files": len(list(files.iterdir())) if files.exists() else 0, "threads": threading.active_count()}


if __name__ == "__main__":
    import ray

    import reports.build
    from benchmark.backbones import describe
    from benchmark.cli import main
    from tests.described import Described
    from tests.faults import inject

    describe._start = Described  # type: ignore[assignment]
    # Drawing takes a third of a run's work, and no file of the store depends on it.
    reports.build.all_drawings = lambda *_: []  # type: ignore[attr-defined]

    hook = {}
    if inject.PLAN in os.environ:
        os.environ[inject.DRIVER] = str(os.getpid())
        inject.install()
        variables = {name: os.environ[name] for name in (inject.PLAN, inject.DRIVER, inject.HEAD)}
        above = os.environ.get("PYTHONPATH")  # workers look for the hook before they know where the driver looks
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, (str(Path.cwd()), above)))
        hook = {"runtime_env": {"worker_process_setup_hook": "tests.faults.inject.install", "env_vars": variables}}
    ray.init(os.environ["RAY_ADDRESS"], logging_level="ERROR", log_to_driver=False, **hook)
    exit_code = main(sys.argv[1:])
    Path(os.environ[LEFT]).write_text(json.dumps(left()))
    sys.exit(exit_code)
