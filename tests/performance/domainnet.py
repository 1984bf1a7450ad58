"""What trials of `domain_shift.yaml` cost at DomainNet's size, and the memory that one needs, from slices of minutes.

    OMP_NUM_THREADS=1 python -m tests.performance.domainnet [--scale 8] [--costs FILE]

On one thread, as trials of one core have it: core-seconds of more include those in which threads wait for each other.

Simulated embeddings (speed only) of width 512 in DomainNet's six environments and 345 classes, with planted classes,
environments and shifts, rounded to float16 as a store keeps them. Measured are

- at true size, in folds, cross-fitted: a trial of the probe that holds out one environment, for the most memory that the
  process has had.
- at true sizes divided by --scale, with one environment held out and each source left out in turn: the plain space,
  CLIP-ICM and shrinkage at three lambdas by each predictor of the recipe that is trained. Fits that only serve a choice,
  and its validation images, are of the size that they have.
- at true size: the same by zero-shot prediction; fits of one map to all images of five sources, tested on the sixth
  environment, at three C. What of these a rule asks for is counted at the smaller size.

--costs FILE writes what plans look up, of which `reference_costs.py` makes a part of what the package ships.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmark.common.machine import processor
from benchmark.method.evaluation.cells import Cells, Layout, cells_of
from benchmark.method.evaluation.embedded import Embedded
from benchmark.method.evaluation.evaluation import Evaluation, FitSettings, Method
from benchmark.method.evaluation.protocols import PROTOCOLS
from benchmark.method.evaluation.splits import Split, TestSplit, sides
from benchmark.method.predictors import Predictor
from benchmark.method.predictors.linear_probe import LinearProbe
from benchmark.method.subspace import PROJECTIONS
from benchmark.recipe.loading import load_recipe
from benchmark.store.costs import Cost, as_json
from benchmark.sweep.trials import trial_specs
from benchmark.sweep.work import Size, kind_of, work_of
from tests.conftest import REPOSITORY
from tests.performance.bench_rank_curve import SIZES
from tests.performance.figures import arguments, keep

CLASSES, DIM, BLOCK = 345, 512, 16_384
CLARITIES = (0.9, 0.5, 0.8, 0.35, 1.0, 0.8)  # for each environment how far apart its classes are
LAMBDAS = (1.0, 3.0, 10.0)
RECIPE = str(REPOSITORY / "jobs/recipes/domain_shift.yaml")
ARRAYS = ("z", "label", "environment")
FULL_C = (3.16, 31.6, 316.0)
SPLITS: list[TestSplit] = ["out_20", "in_80", "full"]
MOST = load_recipe(RECIPE).sweep.selection_images
BOTH = PROJECTIONS.create({"name": "shrinkage", "nuisance": "both"})
LENGTH = 10.0  # of an embedding, as CLIP's have it


def planted(sizes: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Return embeddings, classes and environments: what is of a class, of it in an environment, and of neither."""
    rng = np.random.default_rng(0)
    spectrum, moved = np.geomspace(1, 0.1, DIM), rng.random(DIM) < 1 / 3
    families = 0.5 * rng.standard_normal((24, DIM))
    means = families[rng.integers(24, size=CLASSES)] + 0.35 * rng.standard_normal((CLASSES, DIM))
    turn = np.linalg.qr(rng.standard_normal((DIM, DIM)))[0]
    mean = 2.5 * rng.standard_normal(DIM)
    parts, labels = [], []
    for n, clarity in zip(sizes, CLARITIES, strict=True):
        label = rng.choice(CLASSES, size=n, p=rng.dirichlet(np.full(CLASSES, 5.0)))
        own = means + 0.9 * rng.standard_normal((CLASSES, DIM)) * moved
        noise = rng.standard_normal((n, DIM), dtype=np.float32) * (0.9 * (1 + moved))
        shift = 0.6 * rng.standard_normal(DIM) * moved
        parts.append((((clarity * own)[label] + shift + mean + noise) * spectrum @ turn).astype(np.float32))
        labels.append(label)
    z = np.concatenate(parts)
    z *= LENGTH / np.sqrt((z**2).sum(axis=1).mean())
    environment = np.repeat(np.arange(len(sizes)), sizes)
    return z.astype(np.float16).astype(np.float32), np.concatenate(labels), environment


def write(folder: Path, scale: int) -> None:
    """Write what `planted` returns, to be mapped: trials share the embeddings, and so does the memory of this process."""
    folder.mkdir()
    arrays = planted([n // scale for n in SIZES.values()])
    for name, array in zip(ARRAYS, arrays, strict=True):
        np.save(folder / f"{name}.npy", np.asarray(array))


def embedded(scale: int, folder: Path, split: Split) -> tuple[Embedded, Cells]:
    """Return the data set and its moments, with one kind of intervention."""
    code = f"from pathlib import Path; from tests.performance.domainnet import write; write(Path({str(folder)!r}), {scale})"
    subprocess.run([sys.executable, "-c", code], check=True)
    z, label, environment = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS)
    label, environment = np.array(label), np.array(environment)
    side = sides(environment, None, split, np.zeros(len(z), dtype=bool))
    layout = Layout(environment, label, side, CLASSES, (CLASSES + 1) // 2)
    cells, rng = Cells({}), np.random.default_rng(1)
    for first in range(0, len(z), BLOCK):
        rows = np.arange(first, min(first + BLOCK, len(z)))
        view = z[rows] + 0.3 * rng.standard_normal((len(rows), DIM), dtype=np.float32) * np.linspace(1, 0, DIM)
        cells = cells + cells_of(layout.take(rows), z[rows], {"kind": view})
    text = np.stack([z[np.flatnonzero(label == c)[:500]].mean(axis=0) for c in range(CLASSES)])
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    names = [f"class{c}" for c in range(CLASSES)]
    return Embedded(z, environment, label, {split: side}, text.astype(np.float32), list(SIZES), names), cells


def full_fit(data: Embedded, cells: Cells) -> float:
    """Return core-seconds of one fit to all images of true size and its answers."""
    evaluation = Evaluation(data, cells, FitSettings(Split(0), "none", lodo=False, selection_images=MOST))
    holdouts = PROTOCOLS.create("held_out").holdouts(data.environments, SPLITS)[:1]
    seconds = []
    for c in FULL_C:
        method = Method(BOTH.at(lambda_=LAMBDAS[0], seed=0), LinearProbe(C=(c,)), (DIM,))
        chosen = list(evaluation.curves(method, holdouts))
        start = time.process_time()
        evaluation.with_full_fits([method], [chosen], holdouts)
        seconds.append(time.process_time() - start)
        print(f"  a fit to all images at C = {c:g}: {seconds[-1]:.0f} s", flush=True)
    return float(np.mean(seconds))


def peak_in_folds(folder: Path, scale: int, folds: int) -> float:
    """Return the peak memory, in GiB, of a process that has made a trial in folds, of the probe and one environment."""
    split = Split(0, folds=folds)
    data, cells = embedded(scale, folder, split)
    evaluation = Evaluation(data, cells, FitSettings(split, "none", selection_images=MOST))
    holdouts = PROTOCOLS.create("held_out").holdouts(data.environments, ["out_fold"])[:1]
    method = Method(BOTH.at(lambda_=LAMBDAS[0], seed=0), LinearProbe(C=FULL_C[1:2]), (DIM,))
    evaluation.with_full_fits([method], [list(evaluation.curves(method, holdouts))], holdouts)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def core_seconds(data: Embedded, cells: Cells, predictor: Predictor, name: str, full: float) -> float:
    """Return core-seconds of a trial on one held-out environment, with the fits without each of its sources.

    Args:
        data: the embeddings.
        cells: their moments.
        predictor: what predicts.
        name: of the projection.
        full: core-seconds of a fit to all images at full rank.
    """
    evaluation = Evaluation(data, cells, FitSettings(Split(0), "none", selection_images=MOST))
    holdouts = PROTOCOLS.create("held_out").holdouts(data.environments, SPLITS)[:1]
    projection = PROJECTIONS.create({"name": name, **({"nuisance": "both"} if name == "shrinkage" else {})})
    ranks = (*(2**p for p in range(2, 9)), DIM) if name == "icm" else (DIM,)
    lambdas = (0.0,) if name == "identity" else LAMBDAS
    methods = [Method(projection.at(lambda_=x, seed=0), predictor, ranks) for x in lambdas]
    start, of_all = time.process_time(), 0.0
    curves = [list(evaluation.curves(method, holdouts)) for method in methods]
    seconds = time.process_time() - start
    if evaluation.samples(predictor):
        fitted = evaluation.with_full_fits(methods, curves, holdouts)
        points = {
            (i, c.setting, rank) for i, of_method in enumerate(fitted) for c in of_method for rank in c.full_ranks
        }
        # What only turns the space has its fits at full rank from the plain space.
        of_all = sum(full * rank / DIM for _, _, rank in points if name != "icm" or rank < DIM)
    print(f"  {predictor.label}, {name}: {seconds:.1f} s; full-size fits {of_all:.1f} s", flush=True)
    return seconds + of_all


def costs_of(part: tuple[Embedded, Cells], whole: tuple[Embedded, Cells], full: float) -> Iterator[Cost]:
    """Yield what was measured as plans look it up: trials that hold out one environment, at three lambdas."""
    size, seconds = Size(SIZES, CLASSES, DIM), dict[tuple[str, str], float]()
    for spec in trial_specs(load_recipe(RECIPE), "DomainNet", DIM):
        name = spec.projection.label
        if spec.protocol.name == "held_out" and name in ("identity", "icm", "shrinkage") and not spec.seed:
            if (key := (spec.predictor.label, name)) not in seconds:
                of = part if spec.predictor.uses_training_images else whole
                seconds[key] = core_seconds(*of, spec.predictor, name, full)
            lambdas = LAMBDAS if spec.lambdas != (0.0,) else spec.lambdas
            one = replace(spec, held_out=next(iter(SIZES)), lambdas=lambdas)
            yield Cost(kind_of(one), work_of(one, size), len(one.settings) * seconds[key], processor())


def main() -> None:
    """Print seconds and memory."""
    parser = arguments(__doc__)
    parser.add_argument("--scale", type=int, default=8)
    parser.add_argument("--whole", type=int, default=1, help="what is of true size is divided by it too, to try")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--costs", type=Path, metavar="FILE", help="write what was measured as costs, for plans")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(f"{sum(SIZES.values())} x {DIM}, {CLASSES} classes", flush=True)
        peak = peak_in_folds(Path(folder) / "folds", args.whole, args.folds)
        print(f"memory of a trial in {args.folds} folds: {peak:.2f} GiB", flush=True)
        whole = embedded(args.whole, Path(folder) / "whole", Split(0))
        full = full_fit(*whole)
        part = embedded(args.scale, Path(folder) / "part", Split(0))
        print(f"{len(part[0].z)} x {DIM}, {CLASSES} classes, {os.cpu_count()} cores; core-seconds", flush=True)
        costs = list(costs_of(part, whole, full))
    if args.costs:
        args.costs.write_bytes(as_json(costs))
    keep(args.json, {"peak_gib": peak})


if __name__ == "__main__":
    main()
