"""`icm-bench choose`: recommends one of a recipe's backbones, from existing result rows; reports/choose.py decides."""

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
    """Recommend a backbone of a recipe from its rows; write table and figure into the report's folder. Needs no Ray.

    Args:
        recipe: recipe with two or more backbones.
        storage: the recipe's store.
        where: column of the rows -> allowed values, as text.

    Returns:
        The written files and their record, which includes the folder, file names, and messages about missing rows.

    Raises:
        IcmBenchError: the recipe has one backbone or was never swept with this store, its rows have several protocols
            or fewer than two comparable backbones, or a file cannot be written.
    """
    if len(recipe.backbones) < 2:
        raise IcmBenchError(
            f"The recipe '{recipe.name}' has one backbone, {recipe.backbones[0].label}, so there is nothing to choose: "
            f"add others to 'backbones' and run it."
        )
    from reports.choose import write_choice

    gathered, trials, place, folder = rows_of(recipe, storage, where=where)
    if gathered.failed and not len(gathered.rows):
        raise failure(gathered, trials)
    origin = origin_of(recipe.name, [recipe], gathered)
    costs: dict[str, list[Mapping[str, Any]]] = {}  # label of a backbone, with each engine -> costs of embedding
    for spec in (spec for one in recipe.resolutions() for spec in one.backbones):
        kind = embedding_kind(spec)
        of_backbone: list[Mapping[str, Any]] = [cost for cost in gathered.costs if tuple(cost["kind"]) == kind]
        costs |= {spec.model_copy(update={"engine": engine}).label: of_backbone for engine in get_args(Engine)}
    written = write_choice(gathered.rows, gathered.tested, costs, place, folder, origin)
    more = {"missing": origin.missing, "report": place.path(folder).rstrip("/"), "files": written.files}
    return replace(written, record={**written.record, **more})
