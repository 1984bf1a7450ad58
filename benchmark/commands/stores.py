"""Opens a recipe's store and preloads its first backbone, before a command's modules. Imports no heavy package."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePosixPath

from benchmark.backbones.describe import is_cached, preloading
from benchmark.backbones.models import model_class
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.common.storage.object_store import local_copies
from benchmark.common.storage.places import cache_dir
from benchmark.common.storage.retries import TIMEOUT
from benchmark.datasets.catalog import CATALOG
from benchmark.datasets.columns import AUTO, FOLDER
from benchmark.recipe.recipe import Recipe


def open_store(recipe: Recipe) -> Storage:
    """Return the recipe's store, after checking that it is writable."""
    storage = store_of(recipe)
    storage.check_writable()
    return storage


def read_store(recipe: Recipe) -> Storage:
    """Return a recipe's store for reading rows; it must be writable only if the report is written into the store."""
    return store_of(recipe) if recipe.run.out else open_store(recipe)


def store_of(recipe: Recipe) -> Storage:
    """Return the recipe's store; refuse a `run.out` among its files, and either of them in a data set's folder."""
    storage = store_at(recipe.run.store, recipe.run.storage_timeout)
    check_out(recipe.run.out, [storage])
    check_data(recipe)
    return storage


def store_at(uri: str | None, timeout: float = TIMEOUT) -> Storage:
    """Return the store at a URI; by default the one in the cache folder."""
    return Storage(uri or str(cache_dir() / "store"), timeout)


def check_out(out: str | None, stores: Sequence[Storage]) -> None:
    """Refuse a place for reports that is a store or lies inside one; the folder `reports` of a store is allowed."""

    def parts(storage: Storage) -> tuple[str, ...]:
        place = storage.path("")
        return (Path(place).resolve() if storage.is_local else PurePosixPath(place.partition("?")[0])).parts

    for store in stores if out else ():
        within, place = parts(store), parts(Storage(str(out)))
        if place[: len(within)] == within and place[len(within) : len(within) + 1] != ("reports",):
            raise IcmBenchError(
                f"--out {Storage(str(out)).path('').rstrip('/')} lies in the store, which holds only its own files; "
                f"give a folder elsewhere, or omit --out: reports then go to {store.path('reports')}."
            )


def check_data(recipe: Recipe) -> None:
    """Refuse a store or report inside the folder of a data set, where every folder is an environment."""

    def is_in(place: str, folder: str) -> bool:
        return f"{Storage(place).path('').rstrip('/')}/".startswith(f"{folder.rstrip('/')}/")

    for spec, located in zip(recipe.datasets, recipe.located(), strict=True):
        root = located.root if located.layout in (AUTO, FOLDER) else None
        for key, place in {"store": recipe.run.store, "out": recipe.run.out}.items():
            if root is None or place is None or not is_in(place, Storage(root).path("")):
                continue
            name = CATALOG[spec.name].folder if spec.name in CATALOG else spec.name
            is_parent = spec.root is None or Storage(root).is_folder(name)
            folder = Storage(root).path(name if is_parent else "").rstrip("/")
            if is_in(place, folder):
                raise IcmBenchError(f"run.{key}: {place} is in {folder}, the folder of '{spec.name}'; give another.")


def with_copies(recipe: Recipe) -> AbstractContextManager[None]:
    """Return a context manager that keeps local copies of files from object stores; see `local_copies`."""
    places = (recipe.run.store, *(dataset.root for dataset in recipe.located()))
    return local_copies(any("://" in (place or "") for place in places))


@contextmanager
def first_backbone_loading(recipe: Recipe) -> Iterator[None]:
    """Load a recipe's first backbone in the background, while the block imports commands and starts Ray.

    Raises:
        IcmBenchError: files of a backbone are missing and cannot be downloaded.
    """
    if recipe.is_imported:
        yield
        return
    for spec in recipe.backbones:
        # A user's class is checked when it is loaded. A cached backbone needs no check: its embeddings may exist.
        if spec.family and not is_cached(spec.with_absolute_paths()):
            model_class(spec).check_available(spec)
    with preloading(recipe.backbones[0].with_absolute_paths()):
        yield
