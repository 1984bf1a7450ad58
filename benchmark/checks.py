"""Whether a data set can do what a recipe asks of it: known before anything is embedded."""

from benchmark.datasets.imagenet import is_variant
from benchmark.datasets.manifest import Manifest, check_held_out
from benchmark.datasets.splits import Split
from benchmark.errors import IcmBenchError
from benchmark.evaluation.protocols import HALVES_APART, fewest_environments, folds_of
from benchmark.recipe import SHIFT, Recipe
from benchmark.source import split_of
from benchmark.subspace.moments import CROSS


def check_protocols(recipe: Recipe, manifest: Manifest) -> None:
    """Refuse a data set that cannot take part in the protocols of a recipe.

    Raises:
        IcmBenchError: too few environments, classes that an environment lacks, or a side of a split without images.
    """
    protocols = recipe.protocols_for(manifest.name)
    if is_variant(manifest.name):
        if SHIFT not in recipe.sweep.protocols:
            raise IcmBenchError(
                f"{manifest.name} is a single environment, of which none can be held out: `icm-bench embed` takes it, "
                f"and a sweep does with sweep.protocols=[{SHIFT}]."
            )
    else:
        if not protocols:
            raise IcmBenchError(f"{manifest.name} takes no part in '{SHIFT}'; add another to sweep.protocols.")
        check_held_out(manifest)
    crossed = next((s.name for s in recipe.intervention_sets() if CROSS in s.kinds), None)
    for protocol in protocols:
        environments, needed = len(manifest.environments), fewest_environments(protocol)
        if protocol != SHIFT and environments < needed:
            raise IcmBenchError(f"{manifest.name} has {environments} environments, and '{protocol}' takes {needed}.")
        sources = len(folds_of(protocol, [""] * max(2, environments), ("full",))[0].sources)
        if crossed and sources < 2:
            raise IcmBenchError(
                f"The intervention set '{crossed}' pairs images of two source environments, and '{protocol}' on "
                f"{manifest.name} has {sources}: {environments} environments are too few, or the protocol is."
            )
        for seed in recipe.sweep.seeds:
            _check_split(manifest, Split(seed, protocol in HALVES_APART))


def _check_split(manifest: Manifest, split: Split) -> None:
    """Refuse a data set in which an environment has no image on one side of the split."""
    out = split_of(manifest, split)
    for index, name in enumerate(manifest.environments):
        members = out[manifest.environment_index == index]
        if members.all() or not members.any():
            raise IcmBenchError(
                f"The environment '{name}' of {manifest.name} has {len(members)} images, and the split of seed "
                f"{split.seed} leaves one side empty: an environment needs five images (and five groups) or more."
            )
