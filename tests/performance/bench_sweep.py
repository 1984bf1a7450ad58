"""What Ray Tune costs: a sweep of trials of two seconds or more against the same trials in a plain loop.

    python -m tests.performance.bench_sweep [--seeds 6] [--repeats 3]

The demo's images and encoder (real weights), the original and one intervention; CLIP-ICM with the linear probe at five
lambdas. Sweep and loop take turns, both with one trial at a time and one thread, so that the difference is Tune: start of
its workers, scheduling, arrays through the object store. A sweep with a trial for each core, as it runs by default,
stands beside them. Embeddings are there before; every run writes rows to a store of its own.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # of this process and of Ray's workers: to be set before numpy is loaded

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import ray

from benchmark.commands.embed import embed_stage
from benchmark.commands.preparing.prepare import prepare
from benchmark.commands.sweep import sweep_stage
from benchmark.common.ray.cluster import connected
from benchmark.common.storage.files import Storage
from benchmark.recipe.loading import parse_recipe
from benchmark.recipe.recipe import Recipe
from benchmark.store.rows import row_file, write_rows
from benchmark.store.tested import write_tested
from benchmark.sweep.evaluate import Inputs, evaluate
from benchmark.sweep.loading import MomentsSpec, cells_for, load
from benchmark.sweep.trials import Trial, trials_of
from benchmark.sweep.tune import sweep
from tests.performance.figures import arguments, keep


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


def plain_loop(storage: Storage, trials: Sequence[Trial]) -> None:
    """Do what a sweep does, one trial after the other in this process."""
    subject, splits = trials[0].subject, tuple(trial.spec.split for trial in trials)
    data, images = ray.get(list(load.remote(storage, subject, splits)))
    for trial in trials:
        spec = trial.spec
        of_trial = spec.intervention_set, spec.split, spec.normalize
        cells = cells_for(storage, subject, images, MomentsSpec(*of_trial, projection=spec.projection, merged=True))
        evaluated = evaluate(trial, Inputs(data, cells))
        for tested in evaluated.tested:
            write_tested(storage, tested)
        write_rows(storage, trial.id, evaluated.rows)


def fresh(base: Path, place: Path) -> Storage:
    """Return a store with the embeddings of `base`, and no rows."""
    for folder in (p for p in base.iterdir() if p.is_dir() and p.name != "rows"):
        (place / folder.name).symlink_to(folder)
    return Storage(str(place))


def main() -> None:
    """Print the table of ratios."""
    parser = arguments(__doc__)
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
        run = prepare(whole, storage, lambda _: None)
        embed_stage(run)
        sweep_stage(run)  # warms caches
        trials = trials_of(whole, run.subjects)
        ways: dict[str, Callable[[Storage], None]] = {
            "plain loop": lambda place: plain_loop(place, trials),
            "sweep, one trial at a time": lambda place: sweep(place, trials, whole.run, whole.name),
            "sweep, a trial for each core": lambda place: sweep(place, trials, single.run, single.name),
        }
        for repeat in range(args.repeats):
            for number, (name, way) in enumerate(ways.items()):
                place = Path(folder) / f"{repeat}-{number}"
                place.mkdir()
                store = fresh(base, place)
                start = time.perf_counter()
                way(store)
                runs[name].append(time.perf_counter() - start)
                assert all(store.exists(row_file(trial.id)) for trial in trials)
                print(f"  {name}: {runs[name][-1]:.1f} s", flush=True)
    loop = statistics.median(runs["plain loop"])
    print(f"{args.seeds} trials of {loop / args.seeds:.1f} s in the loop, {cores} cores, medians of {args.repeats}")
    for name, seconds in runs.items():
        print(f"  {name:30} {statistics.median(seconds):7.1f} s   {statistics.median(seconds) / loop:.3f}")
    _, one, each = (statistics.median(seconds) / loop for seconds in runs.values())
    keep(args.json, {"one_at_a_time_over_loop": one, "a_trial_for_each_core_over_loop": each})


if __name__ == "__main__":
    main()
