"""Readers of images, one per layout: folders, Parquet files, tar shards, tables; on disk or in an object store.

A new layout is a subclass of `ImageReader`. A recipe names it as `module:Class`. An entry in `READERS` gives it a name
and includes it in `auto`; the name must then be explained in docs/data.md (a test looks for it) and in the docstring
of `DatasetSpec` (spec.py).
"""

from benchmark.common.registry import ClassRegistry
from benchmark.common.storage.files import Storage
from benchmark.datasets.columns import AUTO, FOLDER, TABLE, ColumnsSpec, Listing
from benchmark.datasets.readers.base import IMAGE_SUFFIXES, MAX_IMAGE_BYTES, Entry, ImageReader, is_hidden

__all__ = ["IMAGE_SUFFIXES", "MAX_IMAGE_BYTES", "READERS", "Entry", "ImageReader", "detect", "is_hidden", "open_reader"]

READERS: ClassRegistry[ImageReader] = ClassRegistry(
    "layout",
    ImageReader,  # type: ignore[type-abstract]
    {  # in the order in which `auto` tries them
        "parquet": "benchmark.datasets.readers.parquet:ParquetReader",
        "webdataset": "benchmark.datasets.readers.webdataset:WebDatasetReader",
        "folder": "benchmark.datasets.readers.folder:FolderReader",
        "table": "benchmark.datasets.readers.table:TableReader",
        "corruptions": "benchmark.datasets.readers.folder:CorruptionsReader",
        "imported": "benchmark.datasets.readers.base:ImportedReader",
    },
)


def open_reader(
    uri: str,
    layout: str = AUTO,
    columns: ColumnsSpec | None = None,
    environment: str | None = None,
    listing: Listing | None = None,
    labelled: bool = True,
    unlabelled: frozenset[str] = frozenset(),
) -> ImageReader:
    """Return the reader of the images below `uri`. For the other arguments see `ImageReader` and `Listing`."""
    if layout == TABLE or (listing is not None and listing.table is not None):
        from benchmark.datasets.readers.table import TableReader

        return TableReader(uri, environment, columns or ColumnsSpec(), labelled, unlabelled, listing or Listing())
    if unlabelled or not labelled:
        return READERS.component_class(FOLDER)(uri, environment, columns or ColumnsSpec(), labelled, unlabelled)
    name = (detect(Storage(uri)) or FOLDER) if layout == AUTO else layout
    return READERS.component_class(name)(uri, environment, columns or ColumnsSpec())


def detect(storage: Storage, folder: str = "", deep: bool = True) -> str | None:
    """Return the layout that claims most files of a folder.

    If no layout claims the folder, its subfolders are searched in order, if `deep`. None if there is no claim.
    """
    infos = storage.listing(folder)
    files = [info.name.rsplit("/", 1)[-1] for info in infos if not info.is_folder]
    claiming = [name for name in READERS.names() if READERS.component_class(name).claims(files)]
    if claiming:  # several layouts claim a folder with an archive and the images extracted from it
        return max(claiming, key=lambda name: sum(READERS.component_class(name).claims([file]) for file in files))
    folders = (info.name for info in infos if deep and info.is_folder and not is_hidden(info.name.rsplit("/", 1)[-1]))
    return next((layout for inner in folders if (layout := detect(storage, inner))), None)
