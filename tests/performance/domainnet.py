"""Core-hours of the sweep of `domain_shift.yaml` at DomainNet's size, from slices of it that take minutes.

    OMP_NUM_THREADS=1 python -m tests.performance.domainnet [--scale 8] [--before DIR]

On one thread, as trials of one core have it: core-seconds of more include those in which threads wait for each other.

Simulated embeddings (speed only) of width 512 in DomainNet's six environments and 345 classes, with planted classes,
environments and shifts, rounded to float16 as a store keeps them. Measured are

- at true sizes divided by --scale, with one environment held out and each source left out in turn: the plain space,
  CLIP-ICM and shrinkage at three lambdas by each predictor of the recipe. Fits that only serve a choice are of the size
  that they have; answers of zero-shot prediction are multiplied by --scale.
- at true size: fits of one map to all images of five sources, tested on the sixth environment, at three C; and the most
  memory that the process had then. What of it a rule asks for is counted at the smaller size.

From the first lambda and the mean of the others follows what each trial of the recipe costs.

--before DIR runs one path of fits by the code in another checkout too, on a 64th of the images it would fit, times 64:
there every fit is to all of them. How many times cheaper this path is, the selection fits of the whole recipe are.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.common.machine import gemm_peak, processor
from benchmark.method.evaluation.cells import Cells, Layout, cells_of
from benchmark.method.evaluation.embedded import Embedded
from benchmark.method.evaluation.evaluation import Evaluation, Method
from benchmark.method.evaluation.protocols import PROTOCOLS
from benchmark.method.evaluation.splits import Split, TestSplit, sides
from benchmark.method.predictors import Predictor, Problem
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
LAMBDAS = (1.0, 3.0, 10.0)
RECIPE = str(REPOSITORY / "jobs/recipes/domain_shift.yaml")
ARRAYS = ("z", "label", "environment")
FULL_C = (3.16, 31.6, 316.0)
SPLITS: list[TestSplit] = ["out_20", "in_80", "full"]
PATH = (16, 128)  # ranks of the slice that is compared with another checkout
LENGTH = 10.0  # of an embedding, as CLIP's have it


def planted(
    sizes: Sequence[int],
    classes: int = CLASSES,
    seed: int = 0,
    clarities: Sequence[float] = (0.9, 0.5, 0.8, 0.35, 1.0, 0.8),
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Return embeddings, classes and environments: what is of a class, of it in an environment, and of neither.

    Args:
        sizes: number of images of each environment.
        classes: number of classes.
        seed: of all draws.
        clarities: for each environment how far apart its classes are.
    """
    rng = np.random.default_rng(seed)
    spectrum, moved = np.geomspace(1, 0.1, DIM), rng.random(DIM) < 1 / 3
    families = 0.5 * rng.standard_normal((24, DIM))
    means = families[rng.integers(24, size=classes)] + 0.35 * rng.standard_normal((classes, DIM))
    turn = np.linalg.qr(rng.standard_normal((DIM, DIM)))[0]
    mean = 2.5 * rng.standard_normal(DIM)
    parts, labels = [], []
    for n, clarity in zip(sizes, clarities, strict=True):
        label = rng.choice(classes, size=n, p=rng.dirichlet(np.full(classes, 5.0)))
        own = means + 0.9 * rng.standard_normal((classes, DIM)) * moved
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
    arrays = planted([n // scale for n in SIZES.values()])
    for name, array in zip(ARRAYS, arrays, strict=True):
        np.save(folder / f"{name}.npy", np.asarray(array))


def embedded(scale: int, folder: Path) -> tuple[Embedded, Cells]:
    """Return the data set and its moments, with one kind of intervention."""
    code = f"from pathlib import Path; from tests.performance.domainnet import write; write(Path({str(folder)!r}), {scale})"
    subprocess.run([sys.executable, "-c", code], check=True)
    z, label, environment = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS)
    label, environment = np.array(label), np.array(environment)
    split = Split(0)
    side = sides(environment, None, split, np.zeros(len(z), dtype=bool))
    layout, cells, rng = (
        Layout(environment, label, side, CLASSES, (CLASSES + 1) // 2),
        Cells({}),
        np.random.default_rng(1),
    )
    for first in range(0, len(z), BLOCK):
        rows = np.arange(first, min(first + BLOCK, len(z)))
        view = z[rows] + 0.3 * rng.standard_normal((len(rows), DIM), dtype=np.float32) * np.linspace(1, 0, DIM)
        cells = cells + cells_of(layout.take(rows), z[rows], {"kind": view})
    text = np.stack([z[np.flatnonzero(label == c)[:500]].mean(axis=0) for c in range(CLASSES)])
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    names = [f"class{c}" for c in range(CLASSES)]
    return Embedded(z, environment, label, {split: side}, text.astype(np.float32), list(SIZES), names), cells


def full_fit(folder: Path) -> tuple[float, float]:
    """Return core-seconds of one fit to all images of true size and its answers, and the peak memory in GiB."""
    data, cells = embedded(1, folder)
    evaluation = Evaluation(data, cells, Split(0), "none", lodo=False, selection_images=5000)
    holdouts = PROTOCOLS.create("held_out").holdouts(data.environments, SPLITS)[:1]
    projection = PROJECTIONS.create({"name": "shrinkage", "nuisance": "both"}).at(lambda_=LAMBDAS[0], seed=0)
    seconds = []
    for c in FULL_C:
        method = Method(projection, LinearProbe(C=(c,)), (DIM,))
        chosen = list(evaluation.curves(method, holdouts))
        start = time.process_time()
        evaluation.with_full_fits([method], [chosen], holdouts)
        seconds.append(time.process_time() - start)
        print(f"  a fit to all images at C = {c:g}: {seconds[-1]:.0f} s", flush=True)
    return float(np.mean(seconds)), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


class Costs:
    """Core-seconds of one predictor on one held-out environment and the five fits without one of its sources.

    Args:
        data: the embeddings.
        cells: their moments.
        predictor: what predicts.
        scale: by which zero-shot answers are multiplied.
        full: core-seconds of a fit to all images at full rank.
    """

    def __init__(self, data: Embedded, cells: Cells, predictor: Predictor, scale: int, full: float) -> None:
        self._evaluation = Evaluation(data, cells, Split(0), "none", selection_images=5000)
        self._holdouts = PROTOCOLS.create("held_out").holdouts(data.environments, SPLITS)[:1]
        self._predictor, self._scale, self._full = predictor, scale, full
        ranks = (*(2**p for p in range(2, 9)), DIM)
        self.plain = self._of("identity", (0.0,), (DIM,))
        self.curve = self._of("icm", LAMBDAS, ranks)
        self.map = self._of("shrinkage", LAMBDAS, (DIM,))

    def _of(self, name: str, lambdas: tuple[float, ...], ranks: tuple[int, ...]) -> tuple[float, float, float]:
        """Return core-seconds of the first lambda, of another one, and of the full-size fits."""
        projection = PROJECTIONS.create({"name": name, **({"nuisance": "both"} if name == "shrinkage" else {})})
        methods = [Method(projection.at(lambda_=x, seed=0), self._predictor, ranks) for x in lambdas]
        seconds, curves, of_all = [], [], 0.0
        for method in methods:
            start = time.process_time()
            curves.append(list(self._evaluation.curves(method, self._holdouts)))
            seconds.append(time.process_time() - start)
        if self._evaluation.samples(self._predictor):
            fitted = self._evaluation.with_full_fits(methods, curves, self._holdouts)
            points = {
                (i, c.setting, rank) for i, of_method in enumerate(fitted) for c in of_method for rank in c.full_ranks
            }
            # What only turns the space has its fits at full rank from the plain space.
            of_all = sum(self._full * rank / DIM for _, _, rank in points if name != "icm" or rank < DIM)
        else:
            seconds = [s * self._scale for s in seconds]
        print(f"  {self._predictor.label}, {name}: {', '.join(f'{s:.1f}' for s in seconds)} s", end="")
        print(f"; full-size fits {of_all:.1f} s" if of_all else "", flush=True)
        return seconds[0], float(np.mean(seconds[1:] or seconds)), of_all

    def of_trial(self, ranks: int, lambdas: int, settings: int, cheaper: float, sources: int) -> float:
        """Return core-seconds of a trial: six held-out environments, 15 fits without a pair, 21/36 of six slices.

        Args:
            ranks: number of ranks.
            lambdas: number of lambdas.
            settings: number of nuisances among which a rule chooses.
            cheaper: share of a slice's selection fits that the protocol has.
            sources: number of environments of a full-size fit, of the five whose images were fitted on.
        """
        if lambdas == 1 and ranks == 1:
            first, other, of_all = self.plain
        else:
            first, other, of_all = self.curve if ranks > 1 else self.map
        return settings * (6 * cheaper * (first + (lambdas - 1) * other) + 6 * of_all * sources / 5)


def as_costs(costs: dict[str, Costs]) -> list[Cost]:
    """Return what was measured as plans look it up: trials that hold out one environment, at three lambdas."""
    recipe, size, found = load_recipe(RECIPE), Size(SIZES, CLASSES, DIM), []
    for spec in trial_specs(recipe, "DomainNet", DIM):
        if (
            spec.protocol.name != "held_out"
            or spec.projection.label not in ("identity", "icm", "shrinkage")
            or spec.seed
        ):
            continue
        of_predictor = costs[spec.predictor.label]
        first, other, of_all = {
            "identity": of_predictor.plain, "icm": of_predictor.curve, "shrinkage": of_predictor.map
        }[spec.projection.name]  # fmt: skip
        lambdas = LAMBDAS if spec.lambdas != (0.0,) else spec.lambdas
        one = replace(spec, held_out=next(iter(SIZES)), lambdas=lambdas)
        of_one = first + (len(lambdas) - 1) * other + of_all
        found.append(Cost(kind_of(one), work_of(one, size), len(one.settings) * of_one, processor()))
    return found


def recipe_hours(costs: dict[str, Costs]) -> float:
    """Return core-hours of DomainNet's trials of the recipe."""
    recipe, seconds = load_recipe(RECIPE), 0.0
    for spec in trial_specs(recipe, "DomainNet", DIM):
        # Fits without two environments serve two holdouts; in_domain has one source and leaves none out.
        share, sources = ((6 + 15) / 36, 5) if spec.protocol.name == "held_out" else (1 / 36, 1)
        numbers = len(spec.ranks), len(spec.lambdas), len(spec.settings)
        seconds += costs[spec.predictor.label].of_trial(*numbers, share, sources)
    return seconds / 3600


def path_problem(images: int) -> Problem:
    """Return the first images of five sources in the coordinates of their principal directions."""
    z, label, _ = planted([images // 5] * 6)
    z, label = z[images // 5 :].astype(np.float64), label[images // 5 :]
    return Problem(z @ np.linalg.eigh(z.T @ z)[1][:, ::-1], label, np.zeros((CLASSES, DIM)), [])


def path_seconds(images: int) -> float:
    """Return core-seconds of the linear probe along two ranks at the whole grid of C."""
    given = path_problem(images)
    start = time.process_time()
    list(LinearProbe().heads(given, PATH))
    return time.process_time() - start


def before(checkout: Path, images: int) -> float:
    """Return what `path_seconds` measures with the code of another checkout."""
    command = f"from tests.performance.domainnet import path_seconds; print(path_seconds({images}))"
    code = f"import sys; sys.path.insert(0, {str(checkout)!r}); import benchmark, tests; {command}"
    files = checkout / "tests/performance/domainnet.py"
    made = not files.exists()
    if made:
        files.write_text(Path(__file__).read_text())
    try:
        done = subprocess.run([sys.executable, "-c", code], cwd=checkout, check=True, capture_output=True, text=True)
    finally:
        if made:
            files.unlink()
    return float(done.stdout)


def main() -> None:
    """Print seconds, hours and memory."""
    parser = arguments(__doc__)
    parser.add_argument("--scale", type=int, default=8)
    parser.add_argument("--costs", type=Path, metavar="FILE", help="write what was measured as costs, for plans")
    parser.add_argument("--before", type=Path, metavar="DIR", help="another checkout, to be compared with")
    args: argparse.Namespace = parser.parse_args()
    figures: dict[str, float] = {}
    if args.before:
        now = [path_seconds(25_000) for _ in range(3)]
        full = 0.8 * sum(SIZES.values()) * 5 / 6
        then = before(args.before.resolve(), int(full / 64)) * 64
        figures["path_before_over_now"] = then / sorted(now)[1]
        print(f"one path of 10 fits: {sorted(now)[1]:.1f} core-s, before {then:.0f}: {then / sorted(now)[1]:.0f} times")
    recipe = load_recipe(RECIPE)
    with tempfile.TemporaryDirectory() as folder:
        print(f"{sum(SIZES.values())} x {DIM}, {CLASSES} classes", flush=True)
        full, peak = full_fit(Path(folder))
        data, cells = embedded(args.scale, Path(folder))
        print(f"{len(data.z)} x {DIM}, {CLASSES} classes, {os.cpu_count()} cores; core-seconds by lambda", flush=True)
        costs = {p.label: Costs(data, cells, p, args.scale, full) for p in recipe.sweep.predictors}
    hours = recipe_hours(costs)
    print(f"the recipe's trials on DomainNet: {hours:.1f} core-hours; memory of a trial at true size {peak:.2f} GiB")
    print(
        f"a matrix product here: {gemm_peak('cpu', 'float32') / 1e9:.0f} GFLOP/s on {torch.get_num_threads()} threads"
    )
    if args.costs:
        args.costs.write_bytes(as_json(as_costs(costs)))
    keep(args.json, {**figures, "core_hours": hours, "peak_gib": peak})


if __name__ == "__main__":
    main()
