"""Sources of images: folders, Parquet files and tar shards, on a file system or in an object store."""

from pathlib import PurePosixPath

from benchmark.common.storage import Storage
from benchmark.datasets.readers.base import IMAGE_SUFFIXES, MAX_IMAGE_BYTES, Entry, ImageReader
from benchmark.datasets.readers.folder import FolderReader
from benchmark.datasets.readers.parquet import ParquetReader
from benchmark.datasets.readers.webdataset import COMPRESSED, WebDatasetReader
from benchmark.datasets.spec import ColumnsSpec, Layout

__all__ = ["IMAGE_SUFFIXES", "MAX_IMAGE_BYTES", "Entry", "ImageReader", "open_reader"]


def open_reader(
    uri: str, layout: Layout = "auto", columns: ColumnsSpec | None = None, environment: str | None = None
) -> ImageReader:
    """Return the reader of the images below `uri`.

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
        return ParquetReader(uri, environment, columns)
    if found == "webdataset":
        return WebDatasetReader(uri, environment, columns)
    return FolderReader(uri, environment)


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
