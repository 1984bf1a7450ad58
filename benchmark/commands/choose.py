"""`icm-bench choose`: which of a recipe's backbones, from the rows that exist."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, get_args

from benchmark.backbones.spec import Engine
from benchmark.commands.gather import gather
from benchmark.commands.planning.kinds import embedding_kind
from benchmark.commands.preparing.records import only_record_of
from benchmark.commands.report import failure, origin_of
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.recipe.recipe import Recipe
from benchmark.store.records import read_record, report_folder

if TYPE_CHECKING:
    from reports import ChoiceFiles


def choose(recipe: Recipe, storage: Storage, where: Mapping[str, Sequence[str]]) -> "ChoiceFiles":
    """Say which backbone of a recipe its rows speak for, and write table and figure beside the report. Needs no Ray.

    Args:
        recipe: of two backbones or more.
        storage: its store.
        where: column of the rows -> values, one of which a row must have.

    Returns:
        What was written; its record also has the folder of the files, their names, and sentences on what is missing.

    Raises:
        IcmBenchError: the recipe has one backbone, was never swept with this store, its rows are of unlike protocols or
            of fewer than two backbones that can be compared, or a file cannot be written.
    """
    if len(recipe.backbones) < 2:
        raise IcmBenchError(
            f"The recipe '{recipe.name}' has one backbone, {recipe.backbones[0].label}, so there is nothing to choose: "
            f"name others under 'backbones' and run it."
        )
    from reports import write_choice

    file = only_record_of(recipe, storage)
    record = read_record(storage, file)
    gathered = gather([(storage, record)], where)
    if gathered.failed and not len(gathered.rows):
        raise failure(gathered, len(record.trials))
    default = storage, report_folder(record.name, record.recipe_hash, PurePosixPath(file).stem)
    place, folder = (Storage(recipe.run.out), "") if recipe.run.out else default
    origin = origin_of(recipe.name, [recipe], gathered)
    written = write_choice(gathered.rows, gathered.tested, _costs(recipe, gathered.costs), place, folder, origin)
    found = {
        **written.record,
        "missing": origin.missing,
        "report": place.path(folder).rstrip("/"),
        "files": written.files,
    }
    return replace(written, record=found)


def _costs(recipe: Recipe, costs: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Return each backbone, as rows name it whatever engine ran it -> what its embeddings cost in a store."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for spec in recipe.backbones:
        of_backbone = [cost for cost in costs if tuple(cost["kind"]) == embedding_kind(spec)]
        found |= {spec.model_copy(update={"engine": engine}).label: of_backbone for engine in get_args(Engine)}
    return found
