"""What a view costs part by part, in core-milliseconds, beside a small encoder: the demo's, eight views at 160 pixels.

    python -m tests.performance.bench_parts [--images 2100] [--repeats 3]

Real images, MiniLiT with its own weights. Encoder (with the faster engine), interventions and decoding are each
measured alone on the same cores, with the memory settings of the pipeline's encoders, before and after each run of the
pipeline. Did nothing else cost anything, the pipeline's rate would be one over the sum of the three.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark.backbones.loading import Backbone
from benchmark.backbones.spec import BackboneSpec
from benchmark.common.ray.cluster import connected
from benchmark.embedding.encoder import CPU_BATCH, GROUP
from benchmark.embedding.images import Geometry, model_input
from benchmark.embedding.pool import KEEP_FREED_MEMORY
from benchmark.embedding.speed import Speed
from benchmark.method.interventions import INTERVENTIONS
from benchmark.store.embeddings import DEFAULT_DECODING
from tests.performance.bench_embedding import pipeline, recipe_of
from tests.performance.figures import arguments, keep
from tests.performance.images import distinct_copies, sample_folder

BACKBONE: dict[str, Any] = {"name": "MiniLiT", "image_size": 160}
VIEWS = 1 + len(INTERVENTIONS.names())
CORES = len(os.sched_getaffinity(0))


def core_ms(work: Callable[[], object], views: int, cores: int, seconds: float = 2.0) -> float:
    """Return core-milliseconds for each of the views that a call of `work` on so many cores makes, median of calls."""
    work()
    taken: list[float] = []
    while sum(taken) < seconds:
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1e3 * cores / views


def alone() -> dict[str, float]:
    """Return part -> core-ms for each view, measured in this process, one part after the other."""
    torch.set_num_threads(CORES)
    found: dict[str, float] = {}
    for engine in ("torch", "openvino"):
        backbone = Backbone(BackboneSpec(**BACKBONE, engine=engine))
        pixels = torch.randint(0, 256, (CPU_BATCH, 3, *backbone.preprocess["size"]), dtype=torch.uint8)
        found[engine] = core_ms(lambda: backbone.embed(pixels), CPU_BATCH, CORES)  # noqa: B023
    geometry = Geometry.of(backbone.preprocess)
    files = sorted(path for path in sample_folder().rglob("*") if path.suffix in (".jpg", ".png"))[::10]
    decoded = np.stack([model_input(file.read_bytes(), geometry, DEFAULT_DECODING) for file in files[:GROUP]])
    found["decoding"] = core_ms(
        lambda: [model_input(file.read_bytes(), geometry, DEFAULT_DECODING) for file in files], VIEWS * len(files), 1
    )
    kinds, ids = [INTERVENTIONS.create(name) for name in INTERVENTIONS.names()], [str(i) for i in range(GROUP)]

    def make_views() -> None:
        planes = torch.from_numpy(decoded).permute(0, 3, 1, 2).contiguous()
        for kind in kinds:
            kind.views(planes, ids, 0)

    found["interventions"] = core_ms(make_views, VIEWS * GROUP, CORES)
    return found


def alone_elsewhere() -> dict[str, float]:
    """Return what `alone` does in a process with the memory settings of the pipeline's encoders."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.performance.bench_parts", "--alone"],
        env={**os.environ, **KEEP_FREED_MEMORY},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print the parts and the share."""
    parser = arguments(__doc__)
    parser.add_argument("--images", type=int, default=2100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--alone", action="store_true", help="measure the parts alone and print them as JSON")
    args = parser.parse_args()
    if args.alone:
        print(json.dumps(alone()))
        return
    with tempfile.TemporaryDirectory() as folder, connected():
        recipe = recipe_of(distinct_copies(args.images, Path(folder) / "images"), BACKBONE, None)
        parts: list[dict[str, float]] = [alone_elsewhere()]
        speeds: list[Speed] = []
        for _ in range(args.repeats):
            speeds.append(pipeline(recipe))
            print(f"  {speeds[-1].text()}", flush=True)
            parts.append(alone_elsewhere())
    sums = [min(p["torch"], p["openvino"]) + p["decoding"] + p["interventions"] for p in parts]
    shares = [
        s.end_to_end * statistics.mean(sums[i : i + 2]) / (1e3 * CORES) for i, s in enumerate(speeds)
    ]  # each run beside the parts before and after it
    cost = {name: statistics.median(p[name] for p in parts) for name in parts[0]}
    print(f"MiniLiT at 160 pixels, {VIEWS} views, {CORES} cores, medians of {args.repeats}; core-ms for each view:")
    for name, value in cost.items():
        print(f"  {f'encoder by {name}' if name in ('torch', 'openvino') else name:22} {value:6.2f}")
    rate = statistics.median(s.end_to_end for s in speeds)
    print(
        f"  end to end             {1e3 * CORES / rate:6.2f}, {rate:.1f} views/s: {statistics.median(shares):.3f} of the parts'"
    )
    figures = {f"{name}_ms": cost[name] for name in ("decoding", "interventions")}
    figures |= {"encoder_ms": min(cost["torch"], cost["openvino"]), "views_per_s": rate}
    keep(args.json, {"share_of_parts": statistics.median(shares), **figures})


if __name__ == "__main__":
    main()
