"""`icm-bench splits`: what every image is for, for methods that are trained elsewhere. Needs no backbone and no Ray."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from benchmark.commands.interchange.files import marked, whole
from benchmark.commands.preparing.checks import check_protocols
from benchmark.commands.preparing.imported_sets import embeds_of, manifests_of
from benchmark.commands.stores import store_of
from benchmark.common.errors import IcmBenchError
from benchmark.datasets.manifest import Manifest
from benchmark.method.evaluation.roles import Roles
from benchmark.recipe.recipe import Recipe
from benchmark.sweep.subject import Seen, seen
from benchmark.sweep.trials import TrialSpec, trial_specs

WRITERS = {".parquet": pq.ParquetWriter, ".csv": pa_csv.CSVWriter}
SCHEMA = pa.schema(
    [
        ("dataset", pa.string()),
        ("image", pa.string()),  # SHA-256 of bytes, environment and class
        ("path", pa.string()),  # below the data set's folder, with /
        ("class", pa.string()),
        ("environment", pa.string()),  # of a shift, the data set
        ("group", pa.string()),  # null where images come in no groups
        ("protocol", pa.string()),
        ("held_out", pa.string()),
        ("test_split", pa.string()),
        ("seed", pa.int64()),
        ("fold", pa.int64()),  # the tested one; -1 for an 80/20 split
        ("role", pa.string()),  # train, test, unused: of the fit that is tested
        ("role_in_choice", pa.string()),  # train, judge (validation), unused: in fits for model selection
    ]
)


@dataclass(frozen=True)
class SplitsFile:
    """What was written."""

    file: str
    lines: int
    tests: int  # each of which lists every image that its protocol sees


def write_splits(recipe: Recipe, file: Path) -> SplitsFile:
    """Write what every image is for in every test of a recipe: a line for each image and test.

    Images that no command has tried to decode are listed, readable or not. The file is Parquet or CSV, by its suffix,
    and appears whole or not at all.
    """
    if file.suffix not in WRITERS:
        raise IcmBenchError(f"--to {file}: the name ends in neither {' nor '.join(WRITERS)}; give it one of these.")
    manifests = manifests_of(recipe, store_of(recipe))
    for manifest in manifests:
        check_protocols(recipe, manifest)
    lines = tests = 0
    with whole(file) as place, WRITERS[file.suffix](str(place), SCHEMA) as writer:
        for table in _tables(recipe, manifests):
            writer.write_table(marked(table) if file.suffix == ".csv" else table)
            lines, tests = lines + len(table), tests + 1
    return SplitsFile(str(file), lines, tests)


def _tables(recipe: Recipe, manifests: list[Manifest]) -> Iterator[pa.Table]:
    """Yield the lines of one test after the other."""
    variants = [manifests[i] for i in recipe.shifts()]
    dim = embeds_of(recipe, store_of(recipe))[0].dim  # of ranks alone, of which splits know nothing
    for manifest in manifests:
        turns: dict[tuple[str, int, int], TrialSpec] = {}  # of each protocol, seed and fold any trial; -1 for 80/20
        for spec in (turn for one in trial_specs(recipe, manifest.name, dim) for turn in one.turns):
            turns.setdefault((spec.protocol.name, spec.seed, -1 if spec.fold is None else spec.fold), spec)
        for (protocol, seed, fold), spec in turns.items():
            images = seen(manifest, variants if spec.protocol.across_sets else (), spec.split, {})
            roles = Roles(images.data, spec.split, spec.fold)
            for holdout in spec.holdouts(images.data.environments):
                for split in dict.fromkeys(test.split for test in holdout.tests):
                    test = {"protocol": protocol, "held_out": holdout.name, "test_split": split}
                    in_test, in_choice = roles.roles_in_test(holdout, split), roles.roles_in_selection(holdout)
                    yield _lines(images, {**test, "seed": seed, "fold": fold}, in_test, in_choice)


def _lines(images: Seen, test: dict[str, Any], in_test: np.ndarray, in_choice: np.ndarray) -> pa.Table:
    table, n = images.table, images.table.num_rows
    columns = {
        **{name: table[name] for name in ("dataset", "path", "environment", "group")},
        "image": table["image_id"],
        "class": table["class_name"],
        **{name: pa.array([value] * n) for name, value in test.items()},
        "role": pa.array(in_test.tolist()),
        "role_in_choice": pa.array(in_choice.tolist()),
    }
    return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)
