"""Peak memory of all processes together, and of the driver, as the number of images grows.

    python -m tests.performance.bench_memory [--images 2000 20000] [--repeats 2]

Runs `icm-bench embed` on distinct copies of real images with a small encoder (a tiny CLIP with random weights at 224
pixels) and adds up the proportional set size (PSS: shared pages counted once) of the command and all its descendants
ten times a second. Linux only.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from tests.conftest import REPOSITORY, TINY_CLIP
from tests.performance.figures import arguments, keep
from tests.performance.images import distinct_copies
from tests.processes import descendants


def proportional_bytes(pid: int) -> int:
    """Return the proportional set size of a process, 0 once it is gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def peaks(recipe: Path, store: Path) -> tuple[int, int]:
    """Return the peak of all processes together and of the command itself, in bytes."""
    command = [sys.executable, "-m", "benchmark.cli", "embed", str(recipe), "--store", str(store)]
    run = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
    together = alone = 0
    while run.poll() is None:
        driver = proportional_bytes(run.pid)
        together = max(together, driver + sum(proportional_bytes(pid) for pid, _ in descendants(run.pid)))
        alone = max(alone, driver)
        time.sleep(0.1)
    assert run.returncode == 0, run.stderr.read() if run.stderr else ""
    return together, alone


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--images", type=int, nargs=2, default=[2000, 20000])
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args()
    found: dict[int, list[tuple[int, int]]] = {count: [] for count in args.images}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        tiny = {**TINY_CLIP, "vision_cfg": {**TINY_CLIP["vision_cfg"], "image_size": 224, "patch_size": 32}}
        (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": tiny, "preprocess_cfg": {}}))
        for count in args.images:
            recipe = {
                "name": "memory",
                "datasets": [{"name": "copies", "root": str(distinct_copies(count, folder / f"images{count}"))}],
                "backbones": [{"name": "tiny", "folder": str(folder), "pretrained": "random"}],
                "interventions": {"kinds": ["invert"]},
            }
            (folder / f"{count}.yaml").write_text(yaml.safe_dump(recipe))
        for repeat in range(args.repeats):
            for count in args.images:
                found[count].append(peaks(folder / f"{count}.yaml", folder / f"store{count}-{repeat}"))
                print(
                    f"  {count} images: {found[count][-1][0] / 2**20:.0f} MiB, driver {found[count][-1][1] / 2**20:.0f} MiB",
                    flush=True,
                )
    print(f"RANDOM WEIGHTS (a tiny CLIP at 224 pixels), 2 views, medians of {args.repeats}")
    few, many = (statistics.median(together for together, _ in found[count]) for count in args.images)
    driver = max(alone for values in found.values() for _, alone in values)
    print(
        f"  peak of all processes: {few / 2**20:.0f} MiB with {args.images[0]}, {many / 2**20:.0f} MiB with {args.images[1]} images: {many / few:.3f}"
    )
    print(f"  peak of the driver: {driver / 2**20:.0f} MiB")
    keep(args.json, {"growth": many / few, "peak_mib": many / 2**20, "driver_mib": driver / 2**20})


if __name__ == "__main__":
    main()
