"""Eight views in one run against eight runs of one view, start-up included; and what a second run costs.

    python -m tests.performance.bench_views [--images 700] [--repeats 1]

Runs the command itself with the demo's encoder (MiniLiT, real weights) at 160 pixels on real images. A run of one
view embeds the original, or finds it and embeds one intervention.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from benchmark.method.interventions import INTERVENTIONS
from tests.conftest import REPOSITORY
from tests.performance.figures import arguments, keep
from tests.performance.images import distinct_copies


def seconds(recipe: Path, store: Path, kinds: list[str]) -> float:
    """Return the wall time of `icm-bench embed` from the command's start to its end."""
    command = [sys.executable, "-m", "benchmark.cli", "embed", str(recipe), "--store", str(store)]
    start = time.perf_counter()
    done = subprocess.run(
        [*command, "--set", f"interventions.kinds={kinds}"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return time.perf_counter() - start


def main() -> None:
    """Print the table of ratios."""
    parser = arguments(__doc__)
    parser.add_argument("--images", type=int, default=700)
    parser.add_argument("--repeats", type=int, default=1)
    args = parser.parse_args()
    kinds = INTERVENTIONS.names()
    together, apart, again = [], [], []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        recipe = {
            "name": "views",
            "datasets": [{"name": "copies", "root": str(distinct_copies(args.images, folder / "images"))}],
            "backbones": [{"name": "MiniLiT", "image_size": 160}],
            "sweep": {"projections": ["identity"]},
        }
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        seconds(folder / "recipe.yaml", folder / "warm", [])  # builds the encoder where it is not in the cache
        for repeat in range(args.repeats):
            store = folder / f"together{repeat}"
            together.append(seconds(folder / "recipe.yaml", store, kinds))
            apart.append(
                sum(seconds(folder / "recipe.yaml", folder / f"apart{repeat}", k) for k in ([], *([k] for k in kinds)))
            )
            again.append(seconds(folder / "recipe.yaml", store, kinds))
    one, eight, second = (statistics.median(values) for values in (together, apart, again))
    print(f"{args.images} images, MiniLiT at 160 pixels, start-up included, medians of {args.repeats}")
    print(f"  eight runs of one view   {eight:7.1f} s   1.000")
    print(f"  one run of eight views   {one:7.1f} s   {one / eight:.3f}")
    print(f"  the same run again       {second:7.1f} s   {second / one:.3f} of the first")
    keep(args.json, {"one_run_over_eight": one / eight, "again_over_first": second / one})


if __name__ == "__main__":
    main()
