"""`python -m tests.faults.command ARGUMENTS...`: icm-bench on a cluster, with the faults that the environment names."""

import os
import sys

if __name__ == "__main__":
    import ray

    from benchmark.cli import main
    from tests.faults import inject

    hook = {}
    if inject.PLAN in os.environ:
        os.environ[inject.DRIVER] = str(os.getpid())
        inject.install()
        variables = {name: os.environ[name] for name in (inject.PLAN, inject.DRIVER)}
        hook = {"runtime_env": {"worker_process_setup_hook": "tests.faults.inject.install", "env_vars": variables}}
    ray.init(os.environ["RAY_ADDRESS"], logging_level="ERROR", log_to_driver=False, **hook)
    sys.exit(main(sys.argv[1:]))
