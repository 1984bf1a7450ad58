"""What choosing on some of the images changes: picks and accuracies on simulated embeddings of the size of PACS.

    python -m tests.performance.selection_images [--some 500] [--repeats 5]

Simulated embeddings of width 512 in environments of PACS's sizes, with planted classes, environments and shifts, drawn
anew --repeats times (as DomainNet's in `domainnet`, with 7 classes). By the default of 5,000 all images of such a set
are used and nothing differs; here a choice is made on --some images of each environment, a tenth to a third of them.
"""

import numpy as np

from benchmark.datasets.catalog import CATALOG
from benchmark.method.evaluation.cells import cells_of
from benchmark.method.evaluation.curves import RankCurve
from benchmark.method.evaluation.embedded import Embedded
from benchmark.method.evaluation.evaluation import Evaluation, Method
from benchmark.method.evaluation.metrics import ACCURACY
from benchmark.method.evaluation.protocols import PROTOCOLS
from benchmark.method.evaluation.selection import RULES, best_of
from benchmark.method.evaluation.splits import Split, sides
from benchmark.method.predictors.linear_probe import LinearProbe
from benchmark.method.subspace import PROJECTIONS
from tests.performance.domainnet import DIM, planted
from tests.performance.figures import arguments, keep

CLASSES, RANKS, LAMBDAS = 7, (64, DIM), (1.0, 10.0)
C = (0.316, 3.16, 31.6)
METHODS = {"identity": (0.0,), "icm": LAMBDAS, "shrinkage": LAMBDAS}
Pick = tuple[float, float, int]  # lambda, C, rank


def pacs(seed: int) -> Embedded:
    """Return simulated embeddings of PACS's sizes, and a view of them."""
    sizes = list(CATALOG["PACS"].counted.values())
    z, label, environment = planted(sizes, CLASSES, seed, (0.45, 0.25, 0.4, 0.2))
    side = sides(environment, None, Split(0), np.zeros(len(z), dtype=bool))
    text = np.stack([z[label == c].mean(axis=0) for c in range(CLASSES)])
    names = [f"class{c}" for c in range(CLASSES)]
    noise = 0.3 * np.random.default_rng(seed).standard_normal(z.shape, dtype=np.float32) * np.linspace(1, 0, DIM)
    views = ((z + noise).astype(np.float32),)
    return Embedded(z, environment, label, {Split(0): side}, text, ["a", "c", "p", "s"], names, views=views)


def picked(data: Embedded, some: int | None) -> dict[tuple[str, str, str], tuple[Pick, float]]:
    """Return (projection, rule, held-out environment) -> what the rule picks, and its accuracy there in %."""
    cells = cells_of(data.layout(Split(0)), data.z, {"kind": data.views[0]})
    evaluation = Evaluation(data, cells, Split(0), "none", selection_images=some)
    holdouts, probe = PROTOCOLS.create("held_out").holdouts(data.environments, ["full"]), LinearProbe(C=C)
    found = {}
    for name, lambdas in METHODS.items():
        projection = PROJECTIONS.create({"name": name, **({"nuisance": "both"} if name == "shrinkage" else {})})
        ranks = (DIM,) if projection.full_rank_only else RANKS
        methods = [Method(projection.at(lambda_=x, seed=0), probe, ranks) for x in lambdas]
        curves = [list(evaluation.curves(method, holdouts)) for method in methods]
        if evaluation.samples(probe):
            curves = evaluation.with_full_fits(methods, curves, holdouts)
        for rule in ("lodo", "training_domain"):
            for holdout in holdouts:
                found[name, rule, holdout.name] = _pick(lambdas, probe, curves, rule, holdout.name, ranks)
    return found


def _pick(
    lambdas: tuple[float, ...],
    probe: LinearProbe,
    curves: list[list[RankCurve]],
    rule: str,
    held_out: str,
    ranks: tuple[int, ...],
) -> tuple[Pick, float]:
    own = [(i, c) for i, of_method in enumerate(curves) for c in of_method if c.held_out == held_out]
    best = best_of([getattr(c, RULES[rule].score) for _, c in own], ranks, None)
    assert best
    (number, curve), index = own[best[0]], best[1]
    return (lambdas[number], probe.C[curve.setting], ranks[index]), 100 * float(curve.metrics[ACCURACY.name][index])


def main() -> None:
    """Print how often picks are the same, and how far accuracies lie apart."""
    parser = arguments(__doc__)
    parser.add_argument("--some", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    same, apart = [], []
    for seed in range(args.repeats):
        data = pacs(seed)
        every, some = picked(data, None), picked(data, args.some)
        for key, (pick, accuracy) in every.items():
            same.append(some[key][0] == pick)
            apart.append(some[key][1] - accuracy)
        print(f"  draw {seed}: {sum(same)} of {len(same)} picks the same so far", flush=True)
    print(f"choosing on {args.some} images of each environment, {len(same)} picks: {np.mean(same):.2f} the same")
    within = float(np.mean(np.abs(apart) <= 0.2))
    print(
        f"  accuracy {np.mean(apart):+.2f} points in the mean, {np.abs(apart).max():.2f} at most, {within:.2f} within 0.2"
    )
    keep(args.json, {"same": float(np.mean(same)), "points": float(np.mean(apart)), "within": within})


if __name__ == "__main__":
    main()
