"""What cross-fitted rules choose on the demo's embeddings, by the reference in NumPy; and whether the product agrees.

    python -m tests.performance.choices STORE [--product]

STORE is what `icm-bench demo --store STORE` leaves. Of shrinkage and zero-shot prediction it prints, for three cuts into
folds, the gain over plain prediction by `lodo` and `lodo_1se`, in points, and class-balanced. The first cut is the
suite's own; the other two are those of the prototype whose numbers METHOD, section 10, has: +5.3, +4.7, +5.2. A cut
takes about a minute and a half of one core. `--product` compares scores, standard errors, picks and accuracies of all
four rules on the suite's cut instead, to 1e-12.
"""

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmark.method.evaluation.splits import Split, sides
from benchmark.method.subspace.shrinkage import LAMBDAS
from tests.method.evaluation.crossfit_reference import Candidate, World, grid, pick, without
from tests.method.evaluation.test_crossfit import THREE, assert_equal_to_the_reference

FOLDS = 5


def cut(environment: Any, groups: list[str], number: int) -> Any:
    """The fold of each image: the suite's first cut, or one of the prototype's."""
    if number == 0:
        return sides(environment, groups, Split(0, folds=FOLDS), np.zeros(len(environment), dtype=bool))
    group = np.unique(groups, return_inverse=True)[1]
    return (np.random.default_rng(number).permutation(group.max() + 1) % FOLDS)[group]


def world_of(store: Path, number: int) -> World:
    """The images of the only data set in a store, after all its interventions, in manifest order."""
    (images,) = (pq.read_table(path) for path in (store / "images").glob("*.parquet"))
    (texts,) = (pq.read_table(path) for path in (store / "texts").glob("*.parquet"))
    views = {}
    for folder in (store / "embeddings").iterdir():
        table = pa.concat_tables([pq.read_table(path) for path in folder.glob("part-*.parquet")])
        by_id = dict(zip(table["image_id"].to_pylist(), np.array(table["embedding"].to_pylist()), strict=True))
        views[table["view"][0].as_py()] = np.array([by_id[i] for i in images["image_id"].to_pylist()], np.float32)
    environment, label, group = (
        np.unique(images[name].to_pylist(), return_inverse=True)[1] for name in ("environment", "class_name", "group")
    )
    text = np.array(texts["embedding"].to_pylist(), dtype=np.float32)
    fold, z = cut(environment, images["group"].to_pylist(), number), views.pop("original")
    return World(z, [views[name] for name in sorted(views)], label, environment, fold, text, group)


def gains(world: World) -> None:
    """Print what rules gain over plain prediction."""
    dim = world.z.shape[1]
    candidates, plain = grid("shrinkage", THREE, LAMBDAS, (dim,)), [Candidate("plain", rank=dim)]
    every, places = [*candidates, *plain], [(e, k) for e in np.unique(world.environment) for k in range(FOLDS)]
    for rule in ("lodo", "lodo_1se"):
        right, known = np.zeros((2, len(world.z))), Counter[str]()
        for e, k in places:
            here, taken = (world.environment == e) & (world.fold == k), pick(world, e, k, rule, candidates, plain)
            right[:, here] = without(world, {e}, {k}, every)[[taken, -1]][:, here]
            known[f"{every[taken].kind} {every[taken].nuisance} {every[taken].lambda_:g}"] += 1
        difference, found = right[0] - right[1], []
        for balanced in (False, True):
            cells = [world.label if balanced else world.label * 0, world.environment]
            means = [
                np.mean(
                    [difference[(cells[1] == e) & (cells[0] == c)].mean() for c in np.unique(cells[0][cells[1] == e])]
                )
                for e in np.unique(cells[1])
            ]
            found.append(100 * np.mean(means))
        print(
            f"{rule}: {found[0]:+.2f}, class-balanced {found[1]:+.2f}; picks: {dict(known.most_common())}", flush=True
        )


def main() -> None:
    """See the head of this module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--product", action="store_true", help="compare the product with the reference instead")
    args = parser.parse_args()
    if args.product:
        for spec, lambdas, ranks in (("shrinkage", (0.0, 3.0, 10.0), (256,)), ("icm", (1.0, 10.0), (16, 64, 128, 256))):
            print(
                spec,
                "as the reference; plain is kept:",
                assert_equal_to_the_reference(world_of(args.store, 0), spec, lambdas, ranks),
            )
        return
    for number in range(3):
        print(f"cut {number}")
        gains(world_of(args.store, number))


if __name__ == "__main__":
    main()
