"""Four GPU nodes that Ray's autoscaler brings from none, against one: chunks a second while all of them encode.

    python -m tests.performance.bench_elastic [--nodes 4]

SIMULATED: the GPUs are declared, the encoders sleep, and all nodes share this machine's cores. The autoscaler, the
nodes, reading, decoding, scheduling and the store are real. Nodes come one after the other, as a cloud brings them;
the record of the run says which of them made which chunk, and the time of its file says when.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmark.common.storage.files import Storage
from benchmark.store.made import read_made
from tests.conftest import REPOSITORY, make_toy
from tests.embedding.elastic_cluster import autoscaling
from tests.performance.figures import arguments, keep, rate_of_all

CHUNK = 64


def written(folder: Path, root: Path, nodes: int, seconds: float) -> dict[str, list[float]]:
    """Embed with at most so many nodes; return when each of them wrote its chunks, in seconds since the start."""
    place, began = folder / "store", time.time()
    place.mkdir()
    with autoscaling(folder, most=nodes) as environment:
        command = [sys.executable, "-m", "tests.embedding.killed_run", str(root), str(place), str(folder / "log"), "{}"]
        subprocess.run([*command, str(seconds)], cwd=REPOSITORY, env=environment, check=True, stdout=subprocess.DEVNULL)
    [made] = read_made(Storage(str(place)))
    times: dict[str, list[float]] = {}
    for chunk in made.chunks.to_pylist():
        part = next(place.rglob(f"part-{chunk['chunk']:05}.parquet"))
        times.setdefault(chunk["host"], []).append(part.stat().st_mtime - began)
    return {host: sorted(those) for host, those in times.items()}


def rate(times: dict[str, list[float]]) -> float:
    """Return chunks/s while all nodes encode: from the first chunk of the last that came to the end of the first."""
    begin, end = max(min(those) for those in times.values()), min(max(those) for those in times.values())
    return rate_of_all(times.values(), begin, end)


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=2.0, help="that an encoder sleeps for a chunk")
    parser.add_argument("--chunks", type=int, default=40, help="for each node")
    args = parser.parse_args()
    rates = {}
    print(f"SIMULATED: encoders that sleep {args.seconds} s for each chunk, on {os.cpu_count()} cores")
    for nodes in (1, args.nodes):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            root = make_toy(folder / "toy", environments=2, classes=2, images=nodes * args.chunks * CHUNK // 4)
            times = written(folder, root, nodes, args.seconds)
        assert len(times) == nodes, f"{len(times)} of {nodes} nodes encoded"
        rates[nodes] = rate(times)
        first = np.sort([min(those) for those in times.values()])
        came = ", ".join(f"{moment:.0f}" for moment in first)
        print(
            f"  {nodes} nodes, whose first chunks were written after {came} s: {rates[nodes]:.3f} chunks/s", flush=True
        )
    share = rates[args.nodes] / (args.nodes * rates[1])
    print(f"  throughput with {args.nodes}: {share:.3f} of {args.nodes} times one")
    keep(args.json, {"share_of_all": share})


if __name__ == "__main__":
    main()
