"""What trials take on this machine, as the package carries it for plans on machines that have measured nothing.

    python -m tests.performance.reference_costs --large FILE [--to FILE]

Run `icm-bench demo` with an empty cache folder before: the stages around the trials are taken from what it remembered.
A trial of each kind of the shipped recipes runs on simulated embeddings of width 512, 1,000 images in each of four
environments and 7 classes; those of DomainNet's size are taken from `python -m tests.performance.domainnet --costs FILE`.
"""

from dataclasses import replace
from pathlib import Path

from benchmark.backbones.facts import Embeds
from benchmark.commands.planning.workload import PlannedSet, planned_trials
from benchmark.recipe.loading import load_recipe
from benchmark.store.costs import Cost, as_json, of_json, on_this_machine, read
from benchmark.sweep.trials import TrialSpec
from benchmark.sweep.work import Size, kind_of
from tests.conftest import REPOSITORY
from tests.performance.figures import arguments
from tests.performance.simulated_trials import measured

DIM = 512
SMALL = {f"environment {i}": 1000 for i in range(4)}, 7
RANKS = (32, 128)
RECIPES = ("domain_shift", "domain_shift_open_class", "lambda_ablation", "rank_ablation", "demo", "image_text_ablation")


def kinds(images: dict[str, int], classes: int) -> list[tuple[TrialSpec, Size]]:
    """Return a trial of each kind of the recipes, on images of these numbers."""
    found: dict[tuple[str, ...], tuple[TrialSpec, Size]] = {}
    for name in RECIPES:
        recipe = load_recipe(str(REPOSITORY / f"jobs/recipes/{name}.yaml"))
        sizes = len(images), sum(images.values()), classes, images
        sets = [PlannedSet(dataset.name, *sizes) for dataset in recipe.datasets]
        for trial in planned_trials(recipe, sets, [Embeds(DIM)]):
            found.setdefault(kind_of(trial.spec)[:5], (trial.spec, trial.size))
    return list(found.values())


def shorter(spec: TrialSpec) -> TrialSpec:
    """Return a trial with one held-out environment, at two ranks: of each is what the others are."""
    ranks = spec.ranks if len(spec.ranks) == 1 else RANKS
    return replace(spec, held_out=next(iter(SMALL[0])), ranks=ranks)


def main() -> None:
    """Measure, and write the file."""
    parser = arguments(__doc__)
    parser.add_argument("--to", type=Path, default=REPOSITORY / "benchmark/store/reference_costs.json")
    parser.add_argument("--large", type=Path, required=True, metavar="FILE", help="costs at DomainNet's size")
    args = parser.parse_args()
    others = ("trial", "embedding", "start of embedding")  # measured below, or those of a backbone
    costs: list[Cost] = [cost for cost in read(on_this_machine()) if not cost.kind[0].startswith(others)]
    for spec, size in kinds(*SMALL):
        costs += measured([(shorter(spec), size)], seconds=1, images=max(size.images.values()))
        print(f"{' '.join(kind_of(spec))}: {costs[-1].seconds:.2f} s", flush=True)
    costs += of_json(args.large.read_bytes())
    args.to.write_bytes(as_json(costs))


if __name__ == "__main__":
    main()
