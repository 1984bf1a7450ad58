"""What grids of zero-shot settings cost on stored embeddings, against embedding the images.

    python -m tests.performance.bench_subspace [--grids large small]

Embeddings are random arrays of PACS's size (speed only): 10,000 x 512, 4 environments, 7 classes, 7 intervention kinds.
Grids run in as many processes as there are cores with one thread each, as the trials of a sweep do; the encoder is
open_clip's ViT-B-32 with random weights in PyTorch, fp32, on all cores, timed before, between and after the grids;
embedding 10,000 images is extrapolated from its rate. Every setting has its leave-one-domain-out fits too, so that all
rules can choose.
"""

import multiprocessing
import os
import statistics
import time
from functools import partial
from itertools import combinations

import numpy as np

from benchmark.method.evaluation.cells import Cells, cells_of
from benchmark.method.evaluation.embedded import Embedded
from benchmark.method.evaluation.evaluation import Evaluation, FitSettings, Method
from benchmark.method.evaluation.protocols import PROTOCOLS
from benchmark.method.evaluation.splits import IN, OUT, Split
from benchmark.method.predictors.zero_shot import ZeroShot
from benchmark.method.subspace.invariant import ICM
from tests.performance.figures import arguments, keep

IMAGES, DIM, CLASSES, ENVIRONMENTS, KINDS = 10_000, 512, 7, 4, 7
LABELS = [f"kind{k}" for k in range(KINDS)]
GRIDS = {
    # lambdas, ranks, intervention sets
    "large": (np.geomspace(0.01, 100, 25), tuple(range(1, DIM + 1)), [tuple(LABELS)]),
    "small": (
        np.geomspace(0.1, 10, 5),
        tuple(range(16, DIM + 1, 16)),
        [kinds for size in range(1, KINDS + 1) for kinds in combinations(LABELS, size)],
    ),
}


def random_embeddings() -> tuple[Embedded, dict[str, np.ndarray]]:
    """Return embeddings with an unequal spectrum and a view of each kind."""
    rng = np.random.default_rng(0)
    spectrum = np.geomspace(1, 0.03, DIM)
    z = rng.standard_normal((IMAGES, DIM)) * spectrum
    views = {label: z + 0.3 * rng.standard_normal((IMAGES, DIM)) * spectrum[::-1] for label in LABELS}
    text = rng.standard_normal((CLASSES, DIM)) * spectrum
    data = Embedded(
        z=z.astype(np.float32),
        environment=np.arange(IMAGES) % ENVIRONMENTS,
        label=rng.integers(CLASSES, size=IMAGES),
        side={Split(0): np.where(rng.random(IMAGES) < 0.2, OUT, IN)},
        text=(text / np.linalg.norm(text, axis=1, keepdims=True)).astype(np.float32),
        environments=[f"environment{e}" for e in range(ENVIRONMENTS)],
        classes=[f"class{c}" for c in range(CLASSES)],
    )
    return data, views


_protocol: Evaluation | None = None


def _begin(data: Embedded, cells: Cells) -> None:
    global _protocol
    _protocol = Evaluation(data, cells, FitSettings(Split(0), "none"))


def _setting(ranks: tuple[int, ...], setting: tuple[tuple[str, ...], float]) -> int:
    """Evaluate one intervention set and lambda for every held-out environment; return the number of accuracies."""
    assert _protocol
    kinds, lambda_ = setting
    holdouts = PROTOCOLS.create("held_out").holdouts([f"environment{e}" for e in range(ENVIRONMENTS)], ["full"])
    method = Method(ICM(lambda_=lambda_), ZeroShot(), ranks, dict.fromkeys(kinds, 1.0))
    curves = list(_protocol.curves(method, holdouts))
    assert [curve.held_out for curve in curves] == [f"environment{e}" for e in range(ENVIRONMENTS)]
    return sum(len(curve.metrics["target"]) for curve in curves)


def grid_seconds(name: str, data: Embedded, cells: Cells) -> tuple[float, int]:
    """Return the wall time of a grid, processes ready, and the number of settings."""
    lambdas, ranks, sets = GRIDS[name]
    settings = [(kinds, float(lambda_)) for kinds in sets for lambda_ in lambdas]
    # A forked process would inherit the state of the encoder's threads.
    context = multiprocessing.get_context("spawn")
    with context.Pool(os.cpu_count(), initializer=_begin, initargs=(data, cells)) as pool:
        pool.map(partial(_setting, ranks[-1:]), settings[: 4 * (os.cpu_count() or 1)])  # moments there, caches warm
        start = time.perf_counter()
        accuracies = sum(pool.imap_unordered(partial(_setting, ranks), settings, chunksize=1))
        took = time.perf_counter() - start
    assert accuracies == len(settings) * ENVIRONMENTS * len(ranks)
    return took, len(settings) * ENVIRONMENTS


def encoder_rate(images: int = 256, batch: int = 32) -> float:
    """Return images/s of the bare image tower on all cores, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_encode, (images, batch))


def _encode(images: int, batch: int) -> float:
    import torch

    from benchmark.backbones.loading import Backbone
    from benchmark.backbones.spec import BackboneSpec

    torch.set_num_threads(os.cpu_count() or 1)
    backbone = Backbone(BackboneSpec(name="ViT-B-32", pretrained="random", engine="torch"))
    pixels = torch.randint(0, 256, (batch, 3, 224, 224), dtype=torch.uint8)
    backbone.embed(pixels)
    start = time.perf_counter()
    for _ in range(images // batch):
        backbone.embed(pixels)
    return images / (time.perf_counter() - start)


def main() -> None:
    """Print the table of ratios."""
    parser = arguments(__doc__)
    parser.add_argument("--grids", nargs="+", choices=list(GRIDS), default=list(GRIDS))
    args = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # of the grids' processes; the encoder sets its own number
    data, views = random_embeddings()
    start = time.perf_counter()
    cells = cells_of(data.layout(Split(0)), data.z, views)
    moments_s = time.perf_counter() - start
    rates, costs = [encoder_rate()], {}
    for name in args.grids:
        costs[name] = grid_seconds(name, data, cells)
        rates.append(encoder_rate())
    embed_s = IMAGES / statistics.median(rates)
    print(f"{IMAGES} x {DIM} random embeddings, {CLASSES} classes, {os.cpu_count()} cores, all rules")
    print(f"  ViT-B-32, RANDOM WEIGHTS, embeds {IMAGES} images in {embed_s:.0f} s (median of {len(rates)})    1.0000")
    print(f"  moments of all kinds, once, one thread: {moments_s:.2f} s    {moments_s / embed_s:.4f}")
    grids = {f"{name}_grid_over_embedding": took / embed_s for name, (took, _) in costs.items()}
    keep(args.json, {"moments_over_embedding": moments_s / embed_s, **grids})
    for name, (took, settings) in costs.items():
        lambdas, ranks, sets = GRIDS[name]
        print(
            f"  {ENVIRONMENTS} held-out x {len(lambdas)} lambdas x {len(ranks)} ranks x {len(sets)} intervention sets: "
            f"{took:.1f} s    {took / embed_s:.4f}; one setting of them {took / settings / len(ranks) * 1e3:.2f} ms"
        )


if __name__ == "__main__":
    main()
