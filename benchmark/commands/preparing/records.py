"""What the record of a run says of its recipe and subjects, and what of a recipe a subject takes no part in."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from benchmark.common.errors import IcmBenchError
from benchmark.common.secrets import hidden_in, public
from benchmark.common.storage.files import Storage
from benchmark.recipe.recipe import Recipe, names_environments, not_available
from benchmark.store import records
from benchmark.store.records import RunRecord

if TYPE_CHECKING:  # reports read records too, and need no Ray
    from benchmark.sweep.subject import Subject


def write_record(
    recipe: Recipe, storage: Storage, subjects: "Sequence[Subject]", ids: list[str], planned: int
) -> list[str]:
    """Write down which trials a run has, and how many it will have; return which trials stood there before."""
    content = recipe.model_dump(mode="json", exclude={"run"})
    for dataset in content["datasets"]:
        dataset["root"] = dataset["root"] and public(dataset["root"])
    content = hidden_in(content)
    record = RunRecord(recipe.name, content, recipe.hash(), ids, planned, left_out=left_out(recipe, subjects))
    return records.write_record(storage, record_of(recipe, subjects), record)


def swept(recipe: Recipe, storage: Storage, subjects: "Sequence[Subject]") -> RunRecord:
    """Return the record of a run; refuse a recipe that was never swept with this store."""
    file = record_of(recipe, subjects)
    if not storage.exists(file):
        raise IcmBenchError(
            f"{storage.path('')} holds no results of the recipe '{recipe.name}' as it stands, beside which predictions "
            f"could stand; run it first: icm-bench run RECIPE."
        )
    return records.read_record(storage, file)


def add_imported(recipe: Recipe, storage: Storage, subjects: "Sequence[Subject]", ids: Mapping[str, str]) -> list[str]:
    """Write down which rows were imported, in place of those of the same tests, and return the ids of the latter.

    `ids` has the test of an imported method, as text -> the id of its rows.
    """
    record = swept(recipe, storage, subjects)
    gone = [record.imported[test] for test, id_ in ids.items() if record.imported.get(test, id_) != id_]
    records.add_imported(storage, record_of(recipe, subjects), ids)
    return gone


def record_of(recipe: Recipe, subjects: "Sequence[Subject]") -> str:
    """Return the file of a run's record: one for each state of the data and weights that a recipe names."""
    inputs = [[s.manifest.fingerprint, s.facts.fingerprint, s.facts.architecture, s.text_pairs] for s in subjects]
    return records.record_file(recipe.hash(), inputs)


def only_record_of(recipe: Recipe, storage: Storage, subjects: "Sequence[Subject]" = ()) -> str:
    """Return the file of the one record that a recipe has in a store.

    Args:
        recipe: whose run it is.
        storage: its store.
        subjects: of the recipe, where they are at hand: then it is the record of this state of data and weights.

    Raises:
        IcmBenchError: the recipe was never run with this store, or on several states of data or weights.
    """
    files = [record_of(recipe, subjects)] if subjects else records.record_files(storage, recipe.hash())
    if len(files) > 1:
        raise IcmBenchError(
            f"{storage.path('')} holds results of the recipe '{recipe.name}' on {len(files)} states of data or "
            f"weights; `icm-bench run` with the data at hand reports on the right one."
        )
    if not files:
        raise IcmBenchError(never_run(recipe, storage.path("")))
    return files[0]


def never_run(recipe: Recipe, where: str) -> str:
    """Return a sentence on a recipe of which a store holds nothing."""
    return f"{where} holds no results of the recipe '{recipe.name}' as it stands; run it first: icm-bench run RECIPE."


def left_out(recipe: Recipe, subjects: "Sequence[Subject]") -> list[str]:
    """Return a sentence for each subject that takes no part in some of a sweep: why, and in what by name."""
    found = []
    for subject in subjects:
        dataset = subject.manifest.name
        if not recipe.protocols_for(dataset):  # only tested on, as the variants of ImageNet are
            continue
        if words := not_available(recipe, dataset, subject.kinds, subject.facts.texts):
            texts = {"none": "there are no texts", "classes": "there are no texts but those of the classes", "any": ""}
            incomplete = {kind.label for kind in recipe.kinds_for(dataset)} - set(subject.kinds)
            reasons = texts[subject.facts.texts], "not all views were imported" if incomplete else ""
            found.append(f"{subject.key}: {' and '.join(filter(None, reasons))}; left out are {'; '.join(words)}.")
    return found


def nameless(recipe: Recipe) -> list[str]:
    """Return, for each data set with clusters for environments, a sentence on what takes no part there, if any does."""
    named = ", ".join(f"the projection {p.label}" for p in recipe.sweep.all_projections() if names_environments(p))
    return [
        f"{dataset.name} has clusters for environments, which have no names, so it has no results of what asks for "
        f"these: {named}."
        for dataset in recipe.datasets
        if dataset.clusters and named
    ]
