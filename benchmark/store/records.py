"""Run records: for each run of a recipe, the trials from which reports are made. Also the folders of reports."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from benchmark.common.plain import canonical_hash
from benchmark.common.storage.files import Storage
from benchmark.store.sealed import DamagedError, read_json, sealed_json

ROOT = "runs"


@dataclass(frozen=True)
class RunRecord:
    """Record of a run. A new field is also read by `_read`, with a default for older files.

    Attributes:
        name: name of the recipe.
        recipe: the whole recipe as plain data, without secrets.
        recipe_hash: SHA-256 (hex) of everything in the recipe that can change a number.
        trials: ids of the trials, finished or not.
        planned: number of trials at the end of the run, including the trials of a search.
        imported: for imported methods: test, as text -> id of the rows of this test.
        left_out: one sentence for each backbone that is not used in a part of the recipe; it says in which part, and
            why.
        done: hash of the trials and of the states of their files, once all trials are finished; else empty (default).
    """

    name: str
    recipe: dict[str, Any]
    recipe_hash: str
    trials: list[str]
    planned: int
    imported: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    done: str = ""


def record_file(recipe_hash: str, inputs: Sequence[Any]) -> str:
    """Return the name, inside a store, of a recipe's run record; `inputs` are fingerprints of data and weights."""
    return f"{ROOT}/{recipe_hash[:32]}/{canonical_hash(inputs)[:32]}.json"


def record_files(storage: Storage, recipe_hash: str) -> list[str]:
    """Return the names of a recipe's run records, one for each version of data and weights."""
    return [name for name in storage.files(f"{ROOT}/{recipe_hash[:32]}", ".json") if name.count("/") == 2]


def write_record(storage: Storage, file: str, record: RunRecord) -> list[str]:
    """Write the record `file`. An earlier record with this name is replaced, but its imported rows are kept.

    Returns:
        The trials of the earlier record; empty without one.
    """
    earlier = _read(storage, file) if storage.exists(file) else replace(record, trials=[], imported={})
    storage.write_bytes(file, sealed_json({**asdict(record), "imported": earlier.imported}))
    add_imported(storage, file, record.imported)
    return earlier.trials


def add_imported(storage: Storage, file: str, ids: Mapping[str, str]) -> None:
    """Add imported rows, given as test -> id of its rows, to the record `file`; they replace rows of the same tests.

    Each test has its own file, so that concurrent imports do not overwrite each other.
    """
    for test, id_ in ids.items():
        name = f"{file.removesuffix('.json')}/{canonical_hash(test)[:32]}.json"
        storage.write_bytes(name, sealed_json({"test": test, "rows": id_}))


def read_record(storage: Storage, file: str) -> RunRecord:
    """Return the record `file`. Records of earlier versions lack `planned`; it is then the number of trials.

    Raises:
        DamagedError: one of its files is damaged or belongs to another recipe.
    """
    record = _read(storage, file)
    imports = (_read_import(storage, name) for name in storage.files(file.removesuffix(".json"), ".json"))
    return replace(record, imported={**record.imported, **dict(imports)})


def _read(storage: Storage, file: str) -> RunRecord:
    """Return a record without the files of imported rows; records of earlier versions contain such rows."""
    content = read_json(storage, file)
    try:
        planned, imported = content.get("planned", len(content["trials"])), content.get("imported", {})
        name, recipe, recipe_hash, trials = (content[n] for n in ("name", "recipe", "recipe_hash", "trials"))
        if not file.startswith(f"{ROOT}/{recipe_hash[:32]}/"):
            raise ValueError(f"it is of the recipe {recipe_hash[:32]}: it was copied or renamed")
        left_out, done = list(content.get("left_out", ())), content.get("done", "")
        return RunRecord(name, recipe, recipe_hash, trials, planned, imported, left_out, done)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        why = error if isinstance(error, ValueError) else type(error).__name__
        raise DamagedError.of(storage, {file: f"is damaged ({why})"}) from error


def _read_import(storage: Storage, name: str) -> tuple[str, str]:
    """Return (test, id of the rows of this test) from a file of imported rows."""
    try:
        content = read_json(storage, name)
        test, id_ = content["test"], content["rows"]
    except (DamagedError, KeyError, TypeError) as error:
        problem = error.problems[name] if isinstance(error, DamagedError) else "is damaged"
        raise DamagedError.of(storage, {name: f"{problem}: import its predictions again"}) from error
    if not name.endswith(f"/{canonical_hash(test)[:32]}.json"):
        raise DamagedError.of(storage, {name: "is of another test: it was copied or renamed"})
    return test, id_


def check(storage: Storage, file: str) -> None:
    """Raise DamagedError if a run record or a file of imported rows is damaged."""
    (_read if file.count("/") == 2 else _read_import)(storage, file)


def report_folder(name: str, recipe_hash: str, inputs_hash: str, kind: str = "") -> str:
    """Return the folder, inside a store, of a report on a run.

    `kind` is `diagnostics` or `unlabelled` for these commands, and empty (default) for the report of a sweep.
    """
    return f"reports/{name}-{recipe_hash[:8]}-{kind and f'{kind}-'}{inputs_hash[:8]}"
