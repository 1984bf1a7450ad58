"""The linear probe along a path of ranks, against a scikit-learn fit for each rank.

    python -m tests.performance.bench_probe [--repeats 3] [--classes 7 65] [--ranks 16]

8,000 x 512 random embeddings with an unequal spectrum and overlapping classes, in the coordinates of their principal
directions (speed only); 16 evenly spaced ranks up to 512. scikit-learn runs once as it comes (tol = 1e-4, which ends early) and
once until its objective is as good as ours to 1e-6, by the largest of a few tolerances that does it. Both sides use all
cores; they take turns.
"""

import os
import statistics
import time
import warnings
from collections.abc import Sequence

import numpy as np
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from benchmark.method.predictors.base import Problem
from benchmark.method.predictors.linear_probe import LinearProbe
from tests.performance.figures import arguments, keep

IMAGES, DIM, C = 8000, 512, 0.316


def problem(classes: int, length: float) -> Problem:
    """Return embeddings of the given length in the coordinates of their principal directions."""
    rng = np.random.default_rng(classes)
    spectrum = np.geomspace(1, 0.03, DIM)
    centres, labels = rng.standard_normal((classes, DIM)) * spectrum, rng.integers(classes, size=IMAGES)
    z = 0.6 * centres[labels] + rng.standard_normal((IMAGES, DIM)) * spectrum
    z *= length / np.linalg.norm(z, axis=1, keepdims=True)
    return Problem(z @ np.linalg.eigh(z.T @ z)[1][:, ::-1], labels, np.zeros((classes, DIM)), [])


def ours(given: Problem, ranks: Sequence[int]) -> tuple[float, list[float]]:
    """Return seconds for the path, and the objectives."""
    start = time.perf_counter()
    heads = list(LinearProbe(C=C, penalty="absolute").heads(given, ranks))
    return time.perf_counter() - start, [head.objective for (head,) in heads]


def theirs(given: Problem, ranks: Sequence[int], tolerance: float) -> tuple[float, list[float]]:
    """Return seconds for a fit at each rank, and the objectives."""
    seconds, objectives = 0.0, []
    for rank in ranks:
        x = np.ascontiguousarray(given.train[:, :rank])
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = LogisticRegression(C=C, max_iter=5000, tol=tolerance).fit(x, given.labels)
        seconds += time.perf_counter() - start
        logits = model.decision_function(x)
        loss = logsumexp(logits, axis=1) - logits[np.arange(IMAGES), given.labels]
        objectives.append(float(loss.sum() + (model.coef_**2).sum() / (2 * C)))
    return seconds, objectives


def excess(objectives: list[float], best: list[float]) -> float:
    """Return by how much the worst of the objectives is above the best known, relative to it."""
    return max((a - b) / b for a, b in zip(objectives, best, strict=True))


def main() -> None:
    """Print the table of ratios."""
    parser = arguments(__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--classes", type=int, nargs="+", default=[7, 65])
    parser.add_argument("--lengths", type=float, nargs="+", default=[1.0, 10.0])
    parser.add_argument("--ranks", type=int, default=16, help="how many")
    args = parser.parse_args()
    ranks = [DIM * (i + 1) // args.ranks for i in range(args.ranks)]
    figures: dict[str, float] = {}
    print(f"{IMAGES} x {DIM}, {len(ranks)} ranks, C = {C}, {os.cpu_count()} cores, medians of {args.repeats}")
    for classes in args.classes:
        for length in args.lengths:
            given = problem(classes, length)
            _, objectives = ours(given, ranks)  # warms up
            for tolerance in (1e-5, 1e-6, 1e-7, 1e-8, 1e-9):
                if excess(theirs(given, ranks, tolerance)[1], objectives) <= 1e-6:
                    break
            mine, plain, converged = [], [], []
            for _ in range(args.repeats):
                mine.append(ours(given, ranks)[0])
                plain.append(theirs(given, ranks, 1e-4))
                converged.append(theirs(given, ranks, tolerance))
            seconds = statistics.median(mine)
            ratio = statistics.median(took for took, _ in converged) / seconds
            figures["scikit_learn_over_ours"] = min(ratio, figures.get("scikit_learn_over_ours", ratio))
            print(f"  {classes} classes, embeddings of length {length:g}: ours {seconds:.2f} s    1.00")
            for name, runs in (("tol = 1e-4", plain), (f"tol = {tolerance:g}", converged)):
                took = statistics.median(run[0] for run in runs)
                print(
                    f"    scikit-learn, {name}: {took:.2f} s    {took / seconds:.2f}    "
                    f"(objective up to {excess(runs[0][1], objectives):.1e} above ours)",
                    flush=True,
                )
    keep(args.json, figures)


if __name__ == "__main__":
    main()
