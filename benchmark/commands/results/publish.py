"""`icm-bench publish`: writes the results of a recipe as records that others can check."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmark.common.storage.files import Storage
from benchmark.recipe.recipe import Recipe
from benchmark.results.records import Publisher, Published, write

if TYPE_CHECKING:
    from benchmark.sweep.subject import Subject


@dataclass(frozen=True)
class Publication:
    """Summary of a publication.

    Attributes:
        records: paths of all its records inside the results folder.
        written: files that were new or changed.
    """

    records: list[str]
    written: list[str]

    def text(self) -> str:
        """Return the summary as text."""
        raise NotImplementedError


def publish(recipe: Recipe, storage: Storage, about: Publisher, results: Storage) -> Publication:
    """Write the records of a recipe into a results folder.

    Args:
        recipe: the recipe, which was run with the store.
        storage: the recipe's store.
        about: who publishes it.
        results: the results folder.

    Raises:
        IcmBenchError: see `records_of` and `benchmark.results.records.write`.
    """
    published = records_of(recipe, storage, about)
    return Publication([one.path for one in published], write(results, published))


def records_of(
    recipe: Recipe, storage: Storage, about: Publisher, subjects: "Sequence[Subject]" = ()
) -> list[Published]:
    """Return the records of a recipe from its rows: plain prediction of each predictor and all methods with a verdict.

    Nothing is fitted, and neither images nor a backbone are needed.

    Args:
        recipe: the recipe of the rows.
        storage: the recipe's store.
        about: who publishes it.
        subjects: subjects of the recipe, if they were prepared. Without them, the store must hold results for a single
            state of data and weights.

    Raises:
        IcmBenchError: the recipe was not run to its end with this store, its rows lack predictions, an encoder has
            random weights, or an encoder has no model id.
    """
    raise NotImplementedError
