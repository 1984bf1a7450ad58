"""Time and peak memory of a rank curve of DomainNet's size.

    python -m tests.performance.bench_rank_curve [--ranks 32] [--classes 345] [--held-out 1]

586,575 random embeddings (speed and memory only) of width 768 in DomainNet's six environments, 345 classes, one kind of
intervention, one lambda, zero-shot, both the held-out environment in full and the out-splits of the sources. Moments are
summed block by block, as from the store; the embeddings themselves are held in float32. --ranks 768 evaluates every
rank. Peak memory is that of the whole process, interpreter included.
"""

import resource
import time

import numpy as np

from benchmark.method.evaluation.cells import Cells, Layout, cells_of
from benchmark.method.evaluation.embedded import Embedded
from benchmark.method.evaluation.evaluation import Evaluation, FitSettings, Method
from benchmark.method.evaluation.protocols import PROTOCOLS
from benchmark.method.evaluation.splits import IN, OUT, Split
from benchmark.method.predictors.zero_shot import ZeroShot
from benchmark.method.subspace.invariant import ICM
from tests.performance.figures import arguments, keep

SIZES = {"clipart": 48129, "infograph": 51605, "painting": 72266, "quickdraw": 172500, "real": 172947, "sketch": 69128}
DIM, BLOCK = 768, 16_384


def embeddings(classes: int) -> tuple[Embedded, Cells]:
    """Return random embeddings and their moments, made block by block."""
    rng = np.random.default_rng(0)
    n = sum(SIZES.values())
    spectrum = np.geomspace(1, 0.03, DIM).astype(np.float32)
    z = np.empty((n, DIM), dtype=np.float32)
    environment, label = np.repeat(np.arange(len(SIZES)), list(SIZES.values())), rng.integers(classes, size=n)
    side = np.where(rng.random(n) < 0.2, OUT, IN)
    layout = Layout(environment, label, side, classes, (classes + 1) // 2)
    cells = Cells({})
    for first in range(0, n, BLOCK):
        rows = np.arange(first, min(first + BLOCK, n))
        z[rows] = rng.standard_normal((len(rows), DIM), dtype=np.float32) * spectrum
        view = z[rows] + 0.3 * rng.standard_normal((len(rows), DIM), dtype=np.float32) * spectrum[::-1]
        cells = cells + cells_of(layout.take(rows), z[rows], {"kind": view})
    text = rng.standard_normal((classes, DIM))
    return Embedded(
        z=z,
        environment=environment,
        label=label,
        side={Split(0): layout.side},
        text=(text / np.linalg.norm(text, axis=1, keepdims=True)).astype(np.float32),
        environments=list(SIZES),
        classes=[f"class{c}" for c in range(classes)],
    ), cells


def main() -> None:
    """Print time and memory."""
    parser = arguments(__doc__)
    parser.add_argument("--ranks", type=int, default=32)
    parser.add_argument("--classes", type=int, default=345)
    parser.add_argument("--held-out", type=int, default=1, help="how many environments to hold out in turn")
    args = parser.parse_args()
    start = time.perf_counter()
    data, cells = embeddings(args.classes)
    made = time.perf_counter()
    ranks = tuple(DIM * (i + 1) // args.ranks for i in range(args.ranks))
    curves = Evaluation(data, cells, FitSettings(Split(0), "none", lodo=False)).curves(
        Method(ICM(lambda_=1.0), ZeroShot(), ranks),
        PROTOCOLS.create("held_out").holdouts(data.environments, ["full"]),
    )
    images = sum(len(next(curves).tested) for _ in range(args.held_out))
    took = time.perf_counter() - made
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{len(data.z)} x {DIM}, {args.classes} classes, {args.ranks} ranks, {args.held_out} held-out environments")
    print(f"  embeddings and moments made in {made - start:.0f} s; embeddings alone {data.z.nbytes / 2**30:.2f} GiB")
    print(f"  curves in {took:.0f} s ({images} held-out images); peak memory {peak:.2f} GiB")
    keep(args.json, {"curves_s": took, "peak_gib": peak})


if __name__ == "__main__":
    main()
