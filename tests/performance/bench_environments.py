"""Peak resident memory of a worker of a sweep, as the number of environments grows.

    python -m tests.performance.bench_environments [--environments 30 60 240] [--seconds 100] [--dim 768] [--images 40]

Embeddings are random arrays (memory and speed only): so many images of 7 classes in each environment, and the differences
to one kind of view. Each number of environments has a process of its own, with one thread as a trial has. It evaluates
CLIP-ICM and shrinkage in five folds, for the first held-out environments without `lodo`, then for all with `lodo`, until
the time is over: what is kept for later fits is full by then. All fits would take hours.
"""

import multiprocessing
import os
import resource
import signal
import time
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np

from benchmark.method.evaluation.cells import cells_of, paired_cells
from benchmark.method.evaluation.embedded import Embedded
from benchmark.method.evaluation.evaluation import Evaluation, FitSettings, Method
from benchmark.method.evaluation.protocols import PROTOCOLS
from benchmark.method.evaluation.splits import Split, sides
from benchmark.method.predictors.zero_shot import ZeroShot
from benchmark.method.subspace import PROJECTIONS
from benchmark.method.subspace.moments import TOGETHER
from tests.performance.figures import arguments, keep

CLASSES, FOLDS, HOLDOUTS = 7, 5, 8
GIB = 2.0**20  # KiB, as Linux counts memory


def embedded(environments: int, images: int, dim: int, split: Split) -> tuple[Embedded, np.ndarray]:
    """Return random embeddings of so many images in each environment, and their views."""
    rng, n = np.random.default_rng(0), environments * images
    environment, label = np.arange(n) // images, np.arange(n) % CLASSES
    z = rng.standard_normal((n, dim), dtype=np.float32) * np.geomspace(1, 0.03, dim, dtype=np.float32)
    text = rng.standard_normal((CLASSES, dim), dtype=np.float32)
    names = [f"environment{e:03}" for e in range(environments)], [f"class{c}" for c in range(CLASSES)]
    side = {split: sides(environment, None, split, label >= (CLASSES + 1) // 2)}
    views = z + 0.3 * rng.standard_normal((n, dim), dtype=np.float32)
    return Embedded(z, environment, label, side, text, *names), views


def worker(environments: int, images: int, dim: int, seconds: int) -> dict[str, float]:
    """Evaluate until the time is over; return GiB at the start, of the moments and at the peak, and ms for a fit."""

    class OverError(Exception):
        pass

    def end(*_: Any) -> None:
        raise OverError

    started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    split = Split(0, folds=FOLDS)
    data, views = embedded(environments, images, dim, split)
    layout = data.layout(split)
    cells = cells_of(layout, data.z, {}) + paired_cells(layout, data.z, [views], [], TOGETHER)
    moments = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    holdouts = PROTOCOLS.create("held_out").holdouts(data.environments, ["out_fold"])
    made, ranks, settings = count(), (32, 128, dim), FitSettings(split, "none", selection_images=1000)
    signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    began = time.perf_counter()
    try:
        for lodo, some in ((False, holdouts[:HOLDOUTS]), (True, holdouts)):
            for name in ("icm", "shrinkage"):  # trials: a worker keeps the moments for the next one
                evaluation = Evaluation(data, cells, replace(settings, lodo=lodo))
                fit = evaluation._basis
                evaluation._basis = lambda *args, fit=fit: (next(made), fit(*args))[1]  # type: ignore[method-assign]
                projections = [one.at(lambda_=1.0) for one in PROJECTIONS.create(name).settings]
                methods = [Method(projection, ZeroShot(), ranks, {TOGETHER: 1.0}) for projection in projections]
                evaluation.curves_of(methods, some)
        raise OverError
    except OverError:
        took = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"start": started / GIB, "moments": moments / GIB, "peak": peak / GIB, "ms": 1e3 * took / max(1, next(made))}


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--environments", type=int, nargs="+", default=[30, 60, 240])
    parser.add_argument("--seconds", type=int, default=100)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--images", type=int, default=40, help="of each environment")
    args = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    print(f"RANDOM EMBEDDINGS of width {args.dim}, {args.images} images in each environment, {FOLDS} folds, lodo")
    figures: dict[str, float] = {}
    for environments in args.environments:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found = pool.apply(worker, (environments, args.images, args.dim, args.seconds))
        figures[f"peak_of_{environments}_gib"] = found["peak"]
        figures[f"fit_of_{environments}_ms"] = found["ms"]
        print(
            f"  {environments} environments: imports {found['start']:.2f}, moments {found['moments']:.2f}, "
            f"peak {found['peak']:.2f} GiB; {found['ms']:.0f} ms for a fit",
            flush=True,
        )
    keep(args.json, figures)


if __name__ == "__main__":
    main()
