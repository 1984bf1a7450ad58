"""Seeds of faults, one after another: `make soak SEEDS=200` goes on where it stopped, `make soak SEED=17` repeats one.

python -m tests.faults [--seeds N] [--first K] [--seed K] [--state FILE]
"""

import argparse
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmark.common.storage.places import cache_dir
from tests.faults.harness import BrokenPromiseError, harness

BUCKET = "faults"


@contextmanager
def bucket() -> Iterator[tuple[str, dict[str, str]]]:
    """Start an S3 server with an empty bucket; give its URI and what a client needs in its environment."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    variables = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_EC2_METADATA_DISABLED": "true", "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    client = boto3.client(
        "s3", endpoint_url=variables["AWS_ENDPOINT_URL"], region_name="us-east-1", aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )  # fmt: skip
    client.create_bucket(Bucket=BUCKET)
    try:
        yield f"s3://{BUCKET}", variables
    finally:
        server.stop()


def main() -> int:
    """Run the seeds, print a line for each, and return how many broke a promise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="how many; default: %(default)s")
    parser.add_argument("--first", type=int, default=0, help="of the seeds, so that several can run side by side")
    parser.add_argument("--seed", type=int, help="this one alone, whether it was run before or not")
    parser.add_argument("--state", type=Path, default=cache_dir() / "soak.txt", help="where plans that held are kept")
    args = parser.parse_args()
    args.state.parent.mkdir(parents=True, exist_ok=True)
    done = set(args.state.read_text().splitlines()) if args.state.exists() else set()
    broken, began = 0, time.monotonic()
    with bucket() as objects, harness(objects) as faulty:
        plans = [
            faulty.plan(seed)
            for seed in (range(args.first, args.first + args.seeds) if args.seed is None else [args.seed])
        ]
        todo = [plan for plan in plans if args.seed is not None or str(plan) not in done]
        before = f", {len(plans) - len(todo)} held before: see {args.state}" if len(todo) < len(plans) else ""
        print(f"{len(todo)} seeds to run{before}", flush=True)
        for plan in todo:
            try:
                print(faulty.run(plan), flush=True)
            except BrokenPromiseError as error:
                broken += 1
                print(f"BROKEN {error}", flush=True)
                continue
            with args.state.open("a") as file:
                file.write(f"{plan}\n")
        each = (time.monotonic() - began) / max(1, len(todo))
        print(f"{len(todo) - broken} of {len(todo)} seeds held, {each:.0f} s each")
    return broken


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(min(1, main()))
