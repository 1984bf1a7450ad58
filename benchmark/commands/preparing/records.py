"""The record of a run in a store: which file it is, and which imported rows are added to it.

A record lists the trials of one recipe on one state of its data and weights.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.recipe.recipe import Recipe
from benchmark.store import records
from benchmark.store.records import RunRecord

if TYPE_CHECKING:  # not at run time: reports use this module without Ray
    from benchmark.sweep.subject import Subject


def swept(recipe: Recipe, storage: Storage, subjects: "Sequence[Subject]") -> RunRecord:
    """Return the record of a run; refuse a recipe that was never swept with this store."""
    file = record_of(recipe, subjects)
    if not storage.exists(file):
        raise IcmBenchError(never_run(recipe, storage.path("")))
    return records.read_record(storage, file)


def add_imported(recipe: Recipe, storage: Storage, subjects: "Sequence[Subject]", ids: Mapping[str, str]) -> list[str]:
    """Add imported rows to the record of a run; return the ids of the earlier imports that they replace.

    `ids` has the id of each group of rows; the key is a text that names the test and the imported method.
    """
    record = swept(recipe, storage, subjects)
    gone = [record.imported[test] for test, id_ in ids.items() if record.imported.get(test, id_) != id_]
    records.add_imported(storage, record_of(recipe, subjects), ids)
    return gone


def record_of(recipe: Recipe, subjects: "Sequence[Subject]") -> str:
    """Return the file of a run's record; its name depends on the recipe and on the state of its data and weights."""
    inputs = [[s.manifest.fingerprint, s.facts.fingerprint, s.facts.architecture, s.text_pairs] for s in subjects]
    return records.record_file(recipe.hash(), inputs)


def record_files(recipe: Recipe, storage: Storage) -> list[str]:
    """Return the names of a recipe's records, one for each state of its data and weights.

    If backbones have the precision `auto`, they are the records of the first precision, float32 or bfloat16, with some.
    """
    return next((f for one in recipe.resolutions() if (f := records.record_files(storage, one.hash()))), [])


def only_record_of(recipe: Recipe, storage: Storage, subjects: "Sequence[Subject]" = ()) -> str:
    """Return the file of a recipe's only record in a store.

    Args:
        recipe: the recipe.
        storage: the store.
        subjects: subjects of the recipe, if they were prepared: they select the record of their data and weights.
            Default: none.

    Raises:
        IcmBenchError: the recipe was never run with this store, or on several states of data or weights.
    """
    files = [record_of(recipe, subjects)] if subjects else record_files(recipe, storage)
    if len(files) > 1:
        raise IcmBenchError(
            f"{storage.path('')} holds results of the recipe '{recipe.name}' on {len(files)} states of data or "
            f"weights; `icm-bench run` with the data at hand reports on the right one."
        )
    if not files:
        raise IcmBenchError(never_run(recipe, storage.path("")))
    return files[0]


def never_run(recipe: Recipe, where: str) -> str:
    """Return the message for a recipe without results in the store `where`."""
    return f"{where} holds no results of the recipe '{recipe.name}' as it stands; run it first: icm-bench run RECIPE."
