"""How many small trials a sweep does in a second, and what lies between them: listing, sweep, resume and report.

    python -m tests.performance.bench_small_trials [--trials 1000]

Images of noise and a tiny encoder with RANDOM WEIGHTS (speed only): two environments, two classes, 40 images, width 32.
Trials are those of five projections with zero-shot prediction, at two scales, for as many seeds as it takes, up to 1,000.
The trials themselves, in a plain loop of one process, stand beside the sweep.
"""

import json
import os
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # of this process and of Ray's workers: to be set before numpy is loaded

from benchmark.commands.embed import embed_stage
from benchmark.commands.preparing.prepare import prepare
from benchmark.commands.report import report_stage
from benchmark.commands.sweep import sweep_stage
from benchmark.common.ray.cluster import connected
from benchmark.common.storage.files import Storage
from benchmark.recipe.loading import parse_recipe
from benchmark.recipe.recipe import Recipe
from benchmark.store.rows import all_trials, read_rows
from benchmark.sweep.trials import trials_of
from tests.conftest import TINY_CLIP, make_toy
from tests.performance.bench_sweep import fresh, plain_loop
from tests.performance.figures import arguments, keep

PROJECTIONS, NORMALIZE = ["identity", "random", "pca", "isotropic", "fixed"], ["before", "none"]


def recipe_of(folder: Path, trials: int) -> Recipe:
    """Return a recipe of so many trials over images of noise, which are made."""
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY_CLIP, "preprocess_cfg": {}}))
    make_toy(folder / "toy", environments=2, classes=2, images=10)
    return parse_recipe(
        {
            "name": "small-trials",
            "datasets": [{"name": "toy", "root": str(folder / "toy")}],
            "backbones": [{"name": "tiny", "folder": str(folder), "pretrained": "random", "engine": "torch"}],
            "interventions": {"kinds": ["grayscale"]},
            "sweep": {
                "seeds": list(range(-(-trials // (len(PROJECTIONS) * len(NORMALIZE))))),
                "projections": PROJECTIONS,
                "ranks": [4, 16],
                "normalize": NORMALIZE,
                "predictors": ["zero_shot"],
            },
            "run": {"store": str(folder / "base")},
        }
    )


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--report", action="store_true", help="make the report too")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, connected():
        folder = Path(name)
        recipe = recipe_of(folder, args.trials)
        storage = Storage(str(folder / "base"))
        run = prepare(recipe, storage, lambda _: None)
        embed_stage(run)
        seconds: dict[str, float] = {}

        def timed(what: str, began: float) -> None:
            seconds[what] = time.perf_counter() - began

        began = time.perf_counter()
        trials = trials_of(recipe, run.subjects)
        assert len({trial.id for trial in trials}) == len(trials)
        timed("list", began)
        began = time.perf_counter()
        sweep_stage(run)
        timed("sweep", began)
        assert len(all_trials(storage)) == len(trials)
        began = time.perf_counter()
        sweep_stage(run)
        timed("resume", began)
        began = time.perf_counter()
        assert len(read_rows(storage, [trial.id for trial in trials])) >= len(trials)
        timed("read rows", began)
        if args.report:
            began = time.perf_counter()
            report_stage(recipe, storage, run.subjects)
            timed("report", began)
        some = trials[:: max(1, len(trials) // 100)]
        (folder / "alone").mkdir()
        alone = fresh(folder / "base", folder / "alone")
        began = time.perf_counter()
        plain_loop(alone, some)
        seconds["plain loop, per trial"] = (time.perf_counter() - began) / len(some)
    rate = len(trials) / seconds["sweep"]
    print(f"RANDOM WEIGHTS. {len(trials)} trials, {os.cpu_count()} cores: {rate:.1f} trials/s")
    for what, took in seconds.items():
        print(f"  {what:24} {took:8.3f} s")
    keep(args.json, {"trials_per_s": rate, "sweep_over_loop": rate * seconds["plain loop, per trial"]})


if __name__ == "__main__":
    main()
