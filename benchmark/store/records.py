"""The records of a store: which trials a run of a recipe has, hence what a report is made of, and where reports lie."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmark.common.errors import IcmBenchError
from benchmark.common.hashing import canonical_hash
from benchmark.common.plain import from_json
from benchmark.common.storage import Storage
from benchmark.store.checked import DamagedError, problem_by
from benchmark.store.sealed import check_seal, sealed_json

ROOT = "runs"


@dataclass(frozen=True)
class RunRecord:
    """What is written down of a run.

    Attributes:
        name: name of the recipe.
        recipe: the whole recipe in plain data, without secrets.
        recipe_hash: SHA-256 (hex) of all in the recipe that can change a number.
        trials: ids of the trials that it has, finished or not.
        planned: number of trials that it will have, those of a search included.
        imported: test of an imported method, as text -> id of its rows.
        left_out: a sentence for each backbone that takes no part in some of the recipe, on what and why.
    """

    name: str
    recipe: dict[str, Any]
    recipe_hash: str
    trials: list[str]
    planned: int
    imported: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def record_file(recipe_hash: str, inputs: Sequence[Any]) -> str:
    """Return the name, inside a store, of the record of a recipe on one state of its data and weights.

    Args:
        recipe_hash: the recipe's hash, at least 32 hex digits.
        inputs: plain data that says which data and weights the recipe's names stood for.
    """
    return f"{ROOT}/{recipe_hash[:32]}/{canonical_hash(inputs)[:32]}.json"


def record_files(storage: Storage, recipe_hash: str) -> list[str]:
    """Return the records of a recipe, one for each state of data and weights."""
    return [name for name in storage.files(f"{ROOT}/{recipe_hash[:32]}", ".json") if name.count("/") == 2]


def write_record(storage: Storage, file: str, record: RunRecord) -> None:
    """Write a record whole; it replaces an earlier one of the same recipe, data and weights. Imports stay as they are."""
    content = {name: value for name, value in asdict(record).items() if name != "imported"}
    storage.write_bytes(file, sealed_json(content))
    add_imported(storage, file, record.imported)


def add_imported(storage: Storage, file: str, ids: Mapping[str, str]) -> None:
    """Add to the record of a run which rows were imported, in place of those of the same tests.

    Each test has a file of its own, so that whoever imports at the same time takes nothing away.

    Args:
        storage: the store.
        file: of the record.
        ids: test of an imported method, as text -> id of its rows.
    """
    for test, id_ in ids.items():
        content = sealed_json({"test": test, "rows": id_})
        name = f"{file.removesuffix('.json')}/{canonical_hash(test)[:32]}.json"
        if storage.read_if_there(name) != content:
            storage.write_bytes(name, content)


def _imported(storage: Storage, file: str) -> dict[str, str]:
    """Return test of an imported method, as text -> id of its rows."""
    found = {}
    for name in storage.files(file.removesuffix(".json"), ".json"):
        said = _read_sealed(storage, name)
        found[str(said["test"])] = str(said["rows"])
    return found


def _read_sealed(storage: Storage, name: str) -> dict[str, Any]:
    said = storage.read_bytes(name)
    check_seal(storage, name, said)
    content: dict[str, Any] = from_json(said, storage.path(name))
    return content


def read_record(storage: Storage, file: str) -> RunRecord:
    """Return a record; one of an earlier version, that did not say how many trials were planned, has those it lists.

    Raises:
        DamagedError: the file is damaged, or the record of another recipe; names it.
    """
    try:
        content = _read_sealed(storage, file)
        planned = content.get("planned", len(content["trials"]))
        imported = {**content.get("imported", {}), **_imported(storage, file)}  # earlier versions kept them here
        name, recipe, recipe_hash, trials = (content[n] for n in ("name", "recipe", "recipe_hash", "trials"))
        if not file.startswith(f"{ROOT}/{recipe_hash[:32]}/"):
            raise ValueError(f"it is of the recipe {recipe_hash[:32]}: it was copied or renamed")
        return RunRecord(name, recipe, recipe_hash, trials, planned, imported, list(content.get("left_out", ())))
    except DamagedError:
        raise
    except (IcmBenchError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = error if isinstance(error, ValueError) else type(error).__name__
        problem = f"is damaged ({why}), so predictions that were imported are to be imported again"
        raise DamagedError.of(storage, {file: problem}) from error


def problem_of(storage: Storage, file: str) -> str:
    """Return what is wrong with a record; nothing where it is sound."""
    return problem_by(read_record, storage, file)


def report_folder(name: str, recipe_hash: str, inputs_hash: str, kind: str = "") -> str:
    """Return the folder, inside a store, of what is reported of a run.

    Args:
        name: name of the recipe.
        recipe_hash: the recipe's hash; its first 8 hex digits are used.
        inputs_hash: hash of the data and weights that the recipe was run on; its first 8 hex digits are used.
        kind: word for the kind of report; empty for that of a sweep.
    """
    return f"reports/{name}-{recipe_hash[:8]}-{kind and f'{kind}-'}{inputs_hash[:8]}"
