"""Where the store of a recipe is. Imports neither Ray nor any backbone, so that a report needs none."""

from benchmark.common.cache import cache_dir
from benchmark.common.storage import Storage
from benchmark.recipe.recipe import Recipe


def open_store(recipe: Recipe) -> Storage:
    """Return the recipe's store, after making sure that it can be written to."""
    storage = store_at(recipe.run.store)
    storage.check_writable()
    return storage


def store_at(uri: str | None) -> Storage:
    """Return the store at a URI; by default the one in the cache folder."""
    return Storage(uri or str(cache_dir() / "store"))
