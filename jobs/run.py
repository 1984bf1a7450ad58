"""Entry point of a cluster job, equivalent to `icm-bench run`; `submission` in commands/cluster/submit.py names it.

ray job submit --working-dir . -- python -m jobs.run jobs/recipes/demo.yaml [--store s3://...] [--set KEY=VALUE]
"""

import sys

from benchmark.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
