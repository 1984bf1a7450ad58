"""`icm-bench choose`: which of a recipe's backbones, from the rows that exist."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

from benchmark.backbones.spec import Engine
from benchmark.commands.gather import rows_of
from benchmark.commands.planning.estimate import embedding_kind
from benchmark.commands.report import failure, origin_of
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.recipe.recipe import Recipe

if TYPE_CHECKING:
    from reports.choose import ChoiceFiles


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
    from reports.choose import write_choice

    gathered, trials, place, folder = rows_of(recipe, storage, where=where)
    if gathered.failed and not len(gathered.rows):
        raise failure(gathered, trials)
    origin = origin_of(recipe.name, [recipe], gathered)
    costs: dict[str, list[Mapping[str, Any]]] = {}  # of a backbone's embeddings, whatever engine the rows name
    for spec in recipe.backbones:
        kind = embedding_kind(spec)
        of_backbone: list[Mapping[str, Any]] = [cost for cost in gathered.costs if tuple(cost["kind"]) == kind]
        costs |= {spec.model_copy(update={"engine": engine}).label: of_backbone for engine in get_args(Engine)}
    written = write_choice(gathered.rows, gathered.tested, costs, place, folder, origin)
    more = {"missing": origin.missing, "report": place.path(folder).rstrip("/"), "files": written.files}
    return replace(written, record={**written.record, **more})
