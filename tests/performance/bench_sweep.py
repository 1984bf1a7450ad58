"""What Ray Tune costs: a sweep of trials of two seconds or more against the same trials in a plain loop.

    python -m tests.performance.bench_sweep [--seeds 6] [--repeats 3]

The demo's images and encoder (real weights), the original and one intervention; CLIP-ICM with the linear probe at five
lambdas. Sweep and loop take turns, both with one trial at a time and one thread, so that the difference is Tune: start of
its workers, scheduling, arrays through the object store. A sweep with a trial for each core, as it runs by default,
stands beside them. Embeddings and moments are there before; every run writes rows to a store of its own.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # of this process and of Ray's workers: to be set before numpy is loaded

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from benchmark.commands.embed import embed_stage
from benchmark.commands.prepare import prepare
from benchmark.commands.sweep import sweep_stage
from benchmark.common.cluster import connected
from benchmark.common.storage import Storage
from benchmark.recipe.loading import parse_recipe
from benchmark.recipe.recipe import Recipe
from benchmark.store.rows import row_file, write_rows
from benchmark.sweep.evaluate import evaluate
from benchmark.sweep.identity import trial_id
from benchmark.sweep.loading import cells_for, load
from benchmark.sweep.subject import Subject
from benchmark.sweep.trials import Trial, trials_of
from benchmark.sweep.tune import sweep


def recipe_of(seeds: int, place: Path, cores: float) -> Recipe:
    """Return a recipe with one trial for each seed."""
    return parse_recipe(
        {
            "name": "sweep-speed",
            "datasets": ["emoji_styles"],
            "backbones": [{"name": "MiniLiT", "image_size": 160}],
            "interventions": {"kinds": ["grayscale"]},
            "sweep": {
                "seeds": list(range(seeds)),
                "projections": ["icm"],
                "lambdas": [0.1, 0.3, 1, 3, 10],
                "normalize": ["before"],
                "predictors": ["linear_probe"],
            },
            "run": {"store": str(place), "cpus_per_trial": cores},
        }
    )


def plain_loop(storage: Storage, recipe: Recipe, sources: list[Subject], trials: list[Trial]) -> None:
    """Do what a sweep does, one trial after the other in this process."""
    splits = tuple(trial.split for trial in trials)
    data, images = ray.get(list(load.remote(storage, sources[0], splits)))
    for trial in trials:
        cells = cells_for(storage, sources[0], images, trial.intervention_set, trial.split, trial.normalize)
        name = trial_id(recipe, sources, trial)
        write_rows(storage, name, evaluate(data, cells, sources, recipe, trial, name))


def fresh(base: Path, place: Path) -> Storage:
    """Return a store with the embeddings and moments of `base`, and no rows."""
    for folder in (p for p in base.iterdir() if p.is_dir() and p.name != "rows"):
        (place / folder.name).symlink_to(folder)
    return Storage(str(place))


def main() -> None:
    """Print the table of ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=6, help="trials")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    cores = os.cpu_count() or 1
    runs: dict[str, list[float]] = {
        "plain loop": [],
        "sweep, one trial at a time": [],
        "sweep, a trial for each core": [],
    }
    with tempfile.TemporaryDirectory() as folder, connected():
        base = Path(folder) / "base"
        whole, single = (recipe_of(args.seeds, base, n) for n in (cores, 1))
        storage = Storage(str(base))
        prepared = prepare(whole, storage, lambda _: None)
        embed_stage(whole, storage, prepared, print)
        sweep_stage(whole, storage, prepared, lambda _: None)  # sums the moments, warms caches
        sources, trials = [source for source, _ in prepared], trials_of(whole)
        ways: list[tuple[str, Recipe, Callable[..., Any]]] = [
            ("plain loop", whole, plain_loop),
            ("sweep, one trial at a time", whole, sweep),
            ("sweep, a trial for each core", single, sweep),
        ]
        for repeat in range(args.repeats):
            for number, (name, recipe, way) in enumerate(ways):
                place = Path(folder) / f"{repeat}-{number}"
                place.mkdir()
                own = fresh(base, place)
                start = time.perf_counter()
                way(own, recipe, sources, trials)
                runs[name].append(time.perf_counter() - start)
                assert all(own.exists(row_file(trial_id(recipe, sources, t))) for t in trials)
                print(f"  {name}: {runs[name][-1]:.1f} s", flush=True)
    loop = statistics.median(runs["plain loop"])
    print(f"{args.seeds} trials of {loop / args.seeds:.1f} s in the loop, {cores} cores, medians of {args.repeats}")
    for name, seconds in runs.items():
        print(f"  {name:30} {statistics.median(seconds):7.1f} s   {statistics.median(seconds) / loop:.3f}")


if __name__ == "__main__":
    main()
