"""Every benchmark in a short form, one after the other, into one JSON file; an error where a figure is below its floor.

    python -m tests.performance [NAME ...] [--out bench.json]

Fifty minutes on two cores that do nothing else. `controls.py` and `domainnet.py` are left out: they take half an hour.
Benchmarks of embedding need the 700 images that tests/performance/images.py names. Floors are ratios: floors.yaml.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from benchmark.common.machine import processor
from tests.conftest import REPOSITORY

# Benchmark -> arguments of its short form.
BENCHMARKS = {
    "interventions": ["--repeats", "3"],
    "probe": ["--repeats", "1", "--classes", "7", "--lengths", "1"],
    "subspace": ["--grids", "large"],
    "rank_curve": ["--ranks", "4"],
    "sweep": ["--seeds", "2", "--repeats", "1"],
    "small_trials": ["--trials", "400"],
    "manifest": ["--images", "200000"],
    "embedding": ["--images", "1050", "--bare-images", "128", "--repeats", "1"],
    "writing": ["--delays", "0", "0.1", "--repeats", "3"],
    "decoding": ["--images", "4000", "--repeats", "1"],
    "parts": ["--images", "700", "--repeats", "1"],
    "views": ["--images", "140"],
    "memory": ["--images", "1000", "4000", "--repeats", "1"],
    "environments": ["--environments", "30", "240", "--seconds", "90"],
    "scale": ["--images", "100000", "--actors", "1", "16", "--window", "24"],
    "accelerator": [],
    "elastic": ["--chunks", "16"],
    "inference": ["--environments", "4", "--seeds", "1", "3"],
    "credit": ["--worlds", "500"],
    "board": [],
    "report": ["--sets", "16", "--seeds", "100", "--stores", "sets", "seeds"],
}
FLOORS = Path(__file__).with_name("floors.yaml")
PACKAGES = ("torch", "ray", "numpy", "scikit-learn", "open_clip_torch", "pyarrow")


def measured(name: str) -> dict[str, Any]:
    """Run one benchmark in a process of its own and return its arguments, seconds and figures, or its error."""
    environment = {key: value for key, value in os.environ.items() if key != "OPENBLAS_CORETYPE"}  # it slows NumPy
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        command = [sys.executable, "-m", f"tests.performance.bench_{name}", *BENCHMARKS[name], "--json", str(file)]
        done = subprocess.run(command, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True, check=False)
        about = {"arguments": " ".join(BENCHMARKS[name]), "seconds": round(time.perf_counter() - start, 1)}
        if done.returncode:
            return {**about, "error": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]}
        return {**about, "figures": json.loads(file.read_text())}


def machine() -> dict[str, Any]:
    """Return what the figures depend on beside the code: cores, memory and processor, without the machine's name."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory, 1),
        "processor": processor(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def commit() -> str:
    """Return the commit that was measured, with a + where files differ from it."""
    git = ["git", "-C", str(REPOSITORY)]
    head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=False)
    return (head.stdout.strip() or "unknown") + ("+" if changed.stdout.strip() else "")


def below_floor(benchmarks: dict[str, Any], floors: dict[str, Any]) -> list[str]:
    """Return a sentence for every figure of these benchmarks that its floor does not allow, or that was not measured."""
    sentences = []
    for name, result in benchmarks.items():
        if "error" in result:
            sentences.append(f"{name} failed: {result['error']}")
            continue
        for figure, about in floors[name]["figures"].items():
            value, bounds = result["figures"].get(figure), {key: bound for key, bound in about.items() if key != "is"}
            if value is None:
                sentences.append(f"{name}.{figure} was not measured.")
            elif value < bounds.get("at_least", value) or value > bounds.get("at_most", value):
                words = " and ".join(f"{key.replace('_', ' ')} {bound:g}" for key, bound in bounds.items())
                sentences.append(f"{name}.{figure} is {value:g}, and must be {words}.")
    return sentences


def main() -> int:
    """Run the benchmarks, write the file and return 1 where something is below its floor or failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(BENCHMARKS)}")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "bench.json")
    args = parser.parse_args()
    if unknown := [name for name in args.names if name not in BENCHMARKS]:
        parser.error(f"there is no benchmark '{unknown[0]}'; there are {', '.join(BENCHMARKS)}.")
    benchmarks: dict[str, Any] = {}
    for name in args.names or BENCHMARKS:
        print(f"== {name}", flush=True)
        benchmarks[name] = measured(name)
        print(f"   {benchmarks[name].get('error', '')} {benchmarks[name]['seconds']} s", flush=True)
    versions = {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}
    content = {"commit": commit(), "machine": machine(), "versions": versions, "benchmarks": benchmarks}
    args.out.write_text(json.dumps(content, indent=2) + "\n")
    sentences = below_floor(benchmarks, yaml.safe_load(FLOORS.read_text()))
    print("\n".join(sentences) or f"Every figure is within its floor: {args.out}")
    return int(bool(sentences))


if __name__ == "__main__":
    sys.exit(main())
