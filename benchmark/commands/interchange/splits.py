"""`icm-bench splits`: writes training and test images for methods trained elsewhere. Needs no backbone and no Ray."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from benchmark.commands.interchange.files import atomic_file, marked
from benchmark.commands.preparing.checks import check_protocols
from benchmark.commands.preparing.imported_sets import embeds_of, manifests_of
from benchmark.commands.stores import store_of
from benchmark.common.errors import IcmBenchError
from benchmark.datasets.manifest import Manifest
from benchmark.method.evaluation.roles import Roles
from benchmark.recipe.recipe import Recipe
from benchmark.sweep.subject import seen
from benchmark.sweep.trials import TrialSpec, trial_specs

WRITERS = {".parquet": pq.ParquetWriter, ".csv": pa_csv.CSVWriter}
# A new column also goes into `LISTED` or `TEST` of prediction_files.py, so that a file with it can be imported.
SCHEMA = pa.schema(
    [
        ("dataset", pa.string()),
        ("image", pa.string()),  # SHA-256 of bytes, environment and class
        ("path", pa.string()),  # relative to the data set's folder, with /
        ("class", pa.string()),
        ("environment", pa.string()),  # for a protocol across data sets, the data set
        ("group", pa.string()),  # null in data sets without groups
        ("protocol", pa.string()),
        ("held_out", pa.string()),
        ("test_split", pa.string()),
        ("seed", pa.int64()),
        ("fold", pa.int64()),  # number of the tested fold; -1 for an 80/20 split
        ("role", pa.string()),  # train, test or unused, in the tested fit
        ("role_in_choice", pa.string()),  # train, judge (validation) or unused, in fits for model selection
    ]
)


@dataclass(frozen=True)
class SplitsFile:
    """Summary of the written file."""

    file: str
    lines: int
    tests: int  # number of tests; each lists every image of its protocol


def write_splits(recipe: Recipe, file: Path) -> SplitsFile:
    """Write the role of every image in every test of a recipe: one line per image and test.

    Images are not decoded, so unreadable ones are listed too. The suffix says whether the file is Parquet or CSV. The
    file is written atomically.
    """
    if file.suffix not in WRITERS:
        raise IcmBenchError(f"--to {file}: the suffix is not {' or '.join(WRITERS)}; give one of these.")
    manifests = manifests_of(recipe, store_of(recipe))
    for manifest in manifests:
        check_protocols(recipe, manifest)
    lines = tests = 0
    with atomic_file(file) as place, WRITERS[file.suffix](str(place), SCHEMA) as writer:
        for table in _tables(recipe, manifests):
            writer.write_table(marked(table) if file.suffix == ".csv" else table)
            lines, tests = lines + len(table), tests + 1
    return SplitsFile(str(file), lines, tests)


def _tables(recipe: Recipe, manifests: list[Manifest]) -> Iterator[pa.Table]:
    """Yield one table for each test, with one line per image."""
    variants = [manifests[i] for i in recipe.shifts()]
    dim = embeds_of(recipe, store_of(recipe))[0].dim  # any width does: it changes ranks, not splits
    for manifest in manifests:
        turns: dict[tuple[str, int, int], TrialSpec] = {}  # (protocol, seed, fold or -1) -> one of its trials
        for spec in (turn for one in trial_specs(recipe, manifest.name, dim) for turn in one.turns):
            turns.setdefault((spec.protocol.name, spec.seed, -1 if spec.fold is None else spec.fold), spec)
        for (protocol, seed, fold), spec in turns.items():
            images = seen(manifest, variants if spec.protocol.across_sets else (), spec.split, {})
            roles = Roles(images.data, spec.split, spec.fold)
            for holdout in spec.holdouts(images.data.environments):
                for split in dict.fromkeys(test.split for test in holdout.tests):
                    test: dict[str, str | int] = {"protocol": protocol, "held_out": holdout.name, "test_split": split}
                    test |= {"seed": seed, "fold": fold}
                    columns = {
                        **{name: images.table[name] for name in ("dataset", "path", "environment", "group")},
                        "image": images.table["image_id"],
                        "class": images.table["class_name"],
                        **{name: pa.array([value] * len(images.table)) for name, value in test.items()},
                        "role": pa.array(roles.roles_in_test(holdout, split).tolist()),
                        "role_in_choice": pa.array(roles.roles_in_selection(holdout).tolist()),
                    }
                    yield pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)
