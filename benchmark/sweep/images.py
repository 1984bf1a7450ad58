"""The images that a protocol sees, without embeddings: what lists of splits and imported predictions are about."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from benchmark.datasets.manifest import Manifest
from benchmark.method.evaluation.embedded import Embedded, shifted
from benchmark.method.evaluation.splits import Split
from benchmark.sweep.subject import sides_of

NO_TEXT = np.zeros((0, 0), dtype=np.float32)
_COLUMNS = ("image_id", "path", "class_name", "environment", "group")


def images_of(manifest: Manifest, splits: Sequence[Split], unreadable: Collection[str] = ()) -> Embedded:
    """Return the readable images of a data set, with embeddings of width 0.

    Args:
        manifest: the data set.
        splits: whose sides are needed.
        unreadable: ids of the images that cannot be read.
    """
    ids = manifest.table["image_id"].to_pylist()
    readable = np.array([image_id not in unreadable for image_id in ids])
    position = np.flatnonzero(readable)
    return Embedded(
        z=np.zeros((len(position), 0), dtype=np.float32),
        environment=manifest.environment_index[readable],
        label=manifest.table["label"].to_numpy()[readable],
        # The split is drawn over all images, so that a bad file does not move the others to another side.
        side={split: sides_of(manifest, split)[readable] for split in splits},
        text=NO_TEXT,
        environments=manifest.environments,
        classes=manifest.classes,
        group=None if manifest.groups is None else np.unique(manifest.groups, return_inverse=True)[1][readable],
        position=position,
    )


@dataclass(frozen=True)
class Seen:
    """The images that a protocol sees.

    Attributes:
        data: the images, with embeddings of width 0.
        table: the same images in the same order: dataset and, as in the manifest, image_id, path, class_name,
            environment (of a shift, the data set) and group.
    """

    data: Embedded
    table: pa.Table


def seen(
    manifest: Manifest, variants: Sequence[Manifest], split: Split, unreadable: Mapping[str, Collection[str]]
) -> Seen:
    """Return the images that a protocol sees.

    Args:
        manifest: the data set that it fits on.
        variants: further data sets that it tests on; none but for a protocol across data sets.
        split: how images are cut into sides.
        unreadable: name of a data set -> ids of its images that cannot be read.
    """
    every = [manifest, *variants]
    parts = [images_of(one, [split], unreadable.get(one.name, ())) for one in every]
    tables = [_table(one, part) for one, part in zip(every, parts, strict=True)]
    if not variants:
        return Seen(parts[0], tables[0])
    names = tuple(one.name for one in every)
    data = shifted(parts[0], dict(zip(names[1:], parts[1:], strict=True)), names)
    table = pa.concat_tables(tables)
    return Seen(data, table.set_column(table.column_names.index("environment"), "environment", table["dataset"]))


def list_of(manifest: Manifest, variants: Sequence[Manifest], unreadable: Mapping[str, Collection[str]]) -> pa.Table:
    """Return the list of images in which rows name positions, columns as in `benchmark.store.images`.

    Args:
        manifest: the data set that a protocol fits on.
        variants: further data sets that it tests on.
        unreadable: name of a data set -> ids of its images that cannot be read.
    """
    if not variants:
        return manifest.table
    return seen(manifest, variants, Split(0), unreadable).table


def _table(manifest: Manifest, images: Embedded) -> pa.Table:
    table = manifest.table.select(_COLUMNS).take(images.position)
    return table.append_column("dataset", pa.array([manifest.name] * len(table), pa.string()))
