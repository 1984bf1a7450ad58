"""What the record of a run says of its recipe and subjects."""

from collections.abc import Sequence

from benchmark.common.storage import Storage, public
from benchmark.recipe.recipe import Recipe
from benchmark.store import records
from benchmark.store.records import RunRecord
from benchmark.sweep.subject import Subject


def write_record(recipe: Recipe, storage: Storage, subjects: Sequence[Subject], ids: list[str], planned: int) -> None:
    """Write down which trials a run has, and how many it will have."""
    content = recipe.model_dump(mode="json", exclude={"run"})
    for dataset in content["datasets"]:
        dataset["root"] = dataset["root"] and public(dataset["root"])
    record = RunRecord(recipe.name, content, recipe.hash(), ids, planned)
    records.write_record(storage, record_of(recipe, subjects), record)


def record_of(recipe: Recipe, subjects: Sequence[Subject]) -> str:
    """Return the file of a run's record: one for each state of the data and weights that a recipe names."""
    inputs = [[s.manifest.fingerprint, s.facts.fingerprint, s.facts.architecture, s.text_pairs] for s in subjects]
    return records.record_file(recipe.hash(), inputs)
