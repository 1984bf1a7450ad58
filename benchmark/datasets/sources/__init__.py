"""Sources of images: folders, Parquet files and tar shards, on a file system or in an object store."""

from pathlib import PurePosixPath

from benchmark.datasets.sources.base import IMAGE_SUFFIXES, MAX_IMAGE_BYTES, Entry, ImageSource
from benchmark.datasets.sources.folder import FolderSource
from benchmark.datasets.sources.parquet import ParquetSource
from benchmark.datasets.sources.webdataset import COMPRESSED, WebDatasetSource
from benchmark.recipe import ColumnsSpec, Layout
from benchmark.storage import Storage

__all__ = ["IMAGE_SUFFIXES", "MAX_IMAGE_BYTES", "Entry", "ImageSource", "open_source"]


def open_source(
    uri: str, layout: Layout = "auto", columns: ColumnsSpec | None = None, environment: str | None = None
) -> ImageSource:
    """Return the source of the images below `uri`.

    Args:
        uri: a folder, or a URI that `Storage` understands.
        layout: how the images lie there; `auto` goes by the first image, Parquet file or tar archive found.
        columns: which columns or fields say what; for Parquet and WebDataset.
        environment: the name of the one environment of a set that has only one.

    Raises:
        IcmBenchError: the URI cannot be opened or listed.
    """
    columns = columns or ColumnsSpec()
    found = _layout(Storage(uri), "") if layout == "auto" else layout
    if found == "parquet":
        return ParquetSource(uri, environment, columns)
    if found == "webdataset":
        return WebDatasetSource(uri, environment, columns)
    return FolderSource(uri, environment)


def _layout(storage: Storage, folder: str) -> Layout | None:
    """Return the layout by the first file that tells: files before folders, folders by name; None where none does."""
    infos = storage.listing(folder)
    names = [info.name for info in infos if not info.is_folder]
    if any(name.endswith(".parquet") for name in names):
        return "parquet"
    if any(name.endswith((".tar", *COMPRESSED)) for name in names):
        return "webdataset"
    if any(PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES for name in names):
        return "folder"
    folders = (i.name for i in infos if i.is_folder and not PurePosixPath(i.name).name.startswith("."))
    return next((found for name in folders if (found := _layout(storage, name))), None)
