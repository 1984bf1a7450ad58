"""Readers of images, one for each layout: folders, Parquet files, tar shards, tables; on disk or in an object store.

A layout of its own is a class that derives from `ImageReader`: a recipe names it as `module:Class`, and a line in
`READERS` gives it a name and lets `auto` ask it.
"""

from benchmark.common.errors import IcmBenchError, nearest
from benchmark.common.registry import ClassRegistry
from benchmark.common.storage.files import Storage
from benchmark.datasets.columns import ColumnsSpec, Listing
from benchmark.datasets.readers.base import IMAGE_SUFFIXES, MAX_IMAGE_BYTES, Entry, ImageReader, is_hidden
from benchmark.datasets.spec import AUTO, FOLDER, TABLE

__all__ = ["IMAGE_SUFFIXES", "MAX_IMAGE_BYTES", "READERS", "Entry", "ImageReader", "check_layout", "open_reader"]

READERS: ClassRegistry[ImageReader] = ClassRegistry(
    "layout",
    ImageReader,  # type: ignore[type-abstract]
    {  # in the order in which `auto` asks them
        "parquet": "benchmark.datasets.readers.parquet:ParquetReader",
        "webdataset": "benchmark.datasets.readers.webdataset:WebDatasetReader",
        "folder": "benchmark.datasets.readers.folder:FolderReader",
        "table": "benchmark.datasets.readers.table:TableReader",
        "corruptions": "benchmark.datasets.readers.corruptions:CorruptionsReader",
        "imported": "benchmark.datasets.readers.imported:ImportedReader",
    },
)
DEFAULT = FOLDER  # where no file tells


def check_layout(layout: str) -> None:
    """Make sure that `layout` is `auto`, a registered name, or the place of a reader that can be imported.

    Raises:
        IcmBenchError: it is none of them; names the nearest one.
    """
    if layout != AUTO and ":" not in layout and layout not in READERS.names():
        raise IcmBenchError(f"unknown layout '{layout}': {nearest(layout, [AUTO, *READERS.names(), 'module:Class'])}")
    if ":" in layout:
        READERS.component_class(layout)


def open_reader(
    uri: str,
    layout: str = AUTO,
    columns: ColumnsSpec | None = None,
    environment: str | None = None,
    listing: Listing | None = None,
    labelled: bool = True,
    unlabelled: frozenset[str] = frozenset(),
) -> ImageReader:
    """Return the reader of the images below `uri`.

    Args:
        uri: a folder, or a URI that `Storage` understands.
        layout: how the images lie there, as `DatasetSpec.layout` says it; `auto` goes by the first files that a reader
            claims.
        columns: which columns or fields say what of an image, for layouts that have such; by default the usual names.
        environment: the name of the one environment of a set that has only one; None where there are several.
        listing: which lines of which file list the images, for the layout `table`, which `auto` is where it names one.
        labelled: whether images have classes; where not, `auto` is `folder`.
        unlabelled: environments without classes beside others that have them, as `ImageReader.unlabelled`: then `auto`
            is `folder` too.

    Raises:
        IcmBenchError: the URI cannot be opened or listed, or there is no such layout.
    """
    if layout == TABLE or (listing is not None and listing.table is not None):
        from benchmark.datasets.readers.table import TableReader

        return TableReader(uri, environment, columns or ColumnsSpec(), labelled, unlabelled, listing or Listing())
    if unlabelled or not labelled:
        return READERS.component_class(FOLDER)(uri, environment, columns or ColumnsSpec(), labelled, unlabelled)
    name = (_claimed(Storage(uri), "") or DEFAULT) if layout == AUTO else layout
    return READERS.component_class(name)(uri, environment, columns or ColumnsSpec())


def _claimed(storage: Storage, folder: str) -> str | None:
    """Return the layout that claims most files of a folder, or else of a folder in it; None where none claims any."""
    infos = storage.listing(folder)
    files = [info.name.rsplit("/", 1)[-1] for info in infos if not info.is_folder]
    claiming = [name for name in READERS.names() if READERS.component_class(name).claims(files)]
    if claiming:  # an archive may lie beside the images that came out of it
        return max(claiming, key=lambda name: sum(READERS.component_class(name).claims([file]) for file in files))
    folders = (info.name for info in infos if info.is_folder and not is_hidden(info.name.rsplit("/", 1)[-1]))
    return next((layout for inner in folders if (layout := _claimed(storage, inner))), None)
