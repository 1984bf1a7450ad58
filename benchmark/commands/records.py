"""Which trials a run of a recipe has: what a report is made of."""

import json
from collections.abc import Sequence

from benchmark.common.hashing import canonical_hash
from benchmark.common.storage import Storage, public
from benchmark.recipe.recipe import Recipe
from benchmark.sweep.subject import Subject


def write_record(recipe: Recipe, storage: Storage, subjects: Sequence[Subject], ids: list[str], planned: int) -> None:
    """Write down which trials a run has, and how many it will have."""
    content = recipe.model_dump(mode="json", exclude={"run"})
    for dataset in content["datasets"]:
        dataset["root"] = dataset["root"] and public(dataset["root"])
    record = {"name": recipe.name, "recipe": content, "recipe_hash": recipe.hash(), "trials": ids, "planned": planned}
    storage.write_bytes(_record_file(recipe, subjects), json.dumps(record, indent=2, sort_keys=True).encode())


def _record_folder(recipe: Recipe) -> str:
    return f"runs/{recipe.hash()[:32]}"


def _record_file(recipe: Recipe, subjects: Sequence[Subject]) -> str:
    """Return the file that lists a run's trials: one for each state of the data and weights that a recipe names."""
    inputs = [[s.manifest.fingerprint, s.facts.fingerprint, s.facts.architecture, s.text_pairs] for s in subjects]
    return f"{_record_folder(recipe)}/{canonical_hash(inputs)[:32]}.json"
