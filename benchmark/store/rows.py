"""Result rows: their schema, and one Parquet file per finished trial. Rows also hold the answers per image.

`curve_columns` fills the columns of curves, `prediction_columns` fills the columns of predictions, and
`benchmark.sweep.evaluate` all other columns. A new column needs one of these three, and a new `VERSION`. If imported
predictions do not have it, name it in `_UNKNOWN` of `benchmark.sweep.imported_predictions`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import groupby
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmark.common.errors import IcmBenchError
from benchmark.common.registry import Presentation
from benchmark.common.storage.files import Storage
from benchmark.common.terminal.progress import Progress
from benchmark.common.workers import at_once
from benchmark.method.evaluation.metrics import ACCURACY, CURVES
from benchmark.method.evaluation.selection import KEY, SCORES, packed, unpacked
from benchmark.store import sealed
from benchmark.store.frames import frame
from benchmark.store.row_index import Place, State, indexed, rows_at, states, worth_it, write_index
from benchmark.store.sealed import DamagedError, reading, sealed_json, sealed_parquet
from benchmark.store.tested import read_tested, sound_of

if TYPE_CHECKING:
    import pandas as pd

    from benchmark.method.evaluation.curves import Predictions, RankCurve

# Version of row files. Increase it with every change of the columns; a column that an older file lacks is read as null.
# Files before version 8 are refused: one column has the text of what several columns hold today.
VERSION = 11
_OLDEST = 8
ROOT, FAILED = "rows", "failed"
_SEALED = "predicted_ranks"  # all files with this column have a digest
_VERSION_KEY = b"icm_bench_rows"

_TOGETHER = 64  # number of row files in one part of a read
_ACCURACIES = pa.list_(pa.float64())

_WHAT = (
    ("trial_id", pa.string()),
    ("dataset", pa.string()),
    ("dataset_fingerprint", pa.string()),
    ("clusters", pa.int64()),  # number of pseudo-environments (k-means); null with the environments of the data set
    ("grouped", pa.bool_()),  # split by group (concept, burst) instead of by image
    ("backbone", pa.string()),
    ("backbone_fingerprint", pa.string()),
    ("random_weights", pa.bool_()),
    ("precision", pa.string()),
    ("prompts", pa.string()),  # JSON list of templates
    ("intervention_set", pa.string()),  # null if the projection uses no interventions
    ("interventions", pa.string()),  # JSON: kinds with parameters, seed, pairing; a placebo has those of its real set
    ("projection", pa.string()),  # identity, pca, random, icm, ...; `imported` for answers of an external method
    ("projection_params", pa.string()),  # JSON, without the order
    ("projection_variant", pa.string()),  # distinguishes variants of a projection ("equal N"); else null
    ("nuisance", pa.string()),  # nuisance that the projection weights or shrinks, if a rule selects it; else null
    ("placebo", pa.string()),  # placebo that replaces C_d: rotated, matched, shuffled, borrowed; else null
    ("placebo_draw", pa.int64()),  # number of the placebo's draw if there are several; else null
    ("placebo_seed", pa.int64()),  # seed of the placebo; else null
    ("lender", pa.string()),  # data set whose C_d is borrowed as a placebo; else null
    ("pairs_share", pa.float64()),  # share of the images whose views enter C_d; null for all images
    ("pairs_seed", pa.int64()),  # seed of the choice of these images; null for all images
    ("train_share", pa.float64()),  # share of the source images that a fit learns from; null for all
    ("order", pa.string()),  # order of the eigenvectors: largest, released; null if there is no choice
    ("lambda_", pa.float64()),  # lambda of the projection; null if it has none
    ("normalize", pa.string()),  # none, before, after, both; null in imported rows
    ("predictor", pa.string()),
    ("predictor_params", pa.string()),  # JSON
    ("predictor_variant", pa.string()),  # distinguishes variants of a predictor ("16 shots"); else null
)
# Presentation of projection and predictor: the fields of `Presentation`, with a prefix.
_PRESENTED = tuple(
    (f"{kind}_{name}", {"place": pa.int64(), "traits": pa.list_(pa.string())}.get(name, pa.string()))
    for kind in ("projection", "predictor")
    for name in Presentation.model_fields
)
_HOW = (
    ("protocol", pa.string()),
    ("test_split", pa.string()),  # tested part of the held-out environment: out_20, in_80, full, out_fold
    ("held_out", pa.string()),  # held-out environment, pair of environments, or variant of ImageNet
    ("class_half", pa.string()),  # `all`; with open classes `base`, `new` or `harmonic` (mean of the two accuracies)
    ("seed", pa.int64()),
    ("folds", pa.int64()),  # number of folds; 0 for an 80/20 split
    ("fold", pa.int64()),  # number of the tested fold; -1 for an 80/20 split
    ("view_draw", pa.int64()),  # number of the draw of the random interventions
    ("dim", pa.int64()),
    ("classes", pa.list_(pa.string())),
    ("n_classes", pa.int64()),
    ("n_base", pa.int64()),  # number of base classes, which come first in `classes`
    ("rounding", pa.string()),  # floor or ceil of half the number of classes; null without open classes
    ("n_sources", pa.int64()),  # number of source environments
    ("n_train", pa.int64()),
    ("n_selection", pa.int64()),  # number of images in the predictor's fits, except at `full_ranks`; null for all
    ("full_ranks", pa.list_(pa.int64())),  # ranks that a rule selects, fitted on all images; empty without n_selection
    ("n_test", pa.int64()),
    ("n_shared", pa.int64()),  # number of images with the same bytes in two environments
    ("labels_fit", pa.int64()),  # number of labelled images that projection or predictor use
    ("labels_choice", pa.int64()),  # number of labelled source images that selection rules use
    ("tested", pa.string()),  # hash of the tested images, see `store.tested`
    ("images", pa.string()),  # hash of the image list that `tested` refers to, see `store.tested`
)
# Columns that identify a row: rows that are equal in them should have equal numbers. They are all columns of _WHAT but
# the first, and the columns of _HOW up to `view_draw`. Later columns describe how a row was computed.
IDENTIFYING = tuple(name for name, _ in (*_WHAT[1:], *_HOW[: [name for name, _ in _HOW].index("view_draw") + 1]))
# Lists of equal length with one value per rank, ranks ascending. Scores are for selection rules; `lodo` is null with
# fewer than three sources. NAME_se is the standard error of the difference between the score NAME and the score of
# plain prediction, see `benchmark.method.evaluation.source_scores`.
_SOURCE_CURVES = (
    ("ranks", pa.list_(pa.int64())),
    *((name, _ACCURACIES) for score in SCORES for name in (score, f"{score}_se")),
    ("target_out", _ACCURACIES),  # accuracy on the target's out-split if the in-split is tested; else null
)
# Shares of variance and shift that the fit removes, see `benchmark.method.evaluation.spans`. All are null before
# version 5 and for non-linear maps. *_sources are null with one source; *_target if the fit uses the tested images.
_SPANS = (
    ("energy_removed", _ACCURACIES),  # share of the trace of C_z that is removed, at every rank
    ("shift_removed_sources", _ACCURACIES),  # removed share of the shift of class means between sources, at every rank
    # The same share for the shift from the sources to the target. It uses target labels, so no rule uses it.
    ("shift_removed_target", _ACCURACIES),
    # Share of C_d along the shift between sources, divided by the share of C_z; 1 for an average direction.
    ("shift_moved_sources", pa.float64()),
    ("shift_moved_target", pa.float64()),  # the same ratio for the shift from the sources to the target
)
_ANSWERS = (
    # Whether the prediction for each tested image is correct, at every rank, as bits; each rank begins a new byte.
    ("correct", pa.binary()),
    # Ranks of the trial that a source rule selects; the next two columns have values at these ranks. All three are null
    # for numbered placebos and in rows of `harmonic` (see the rows of both halves of the classes).
    ("predicted_ranks", pa.list_(pa.int64())),
    ("predicted", pa.binary()),  # predicted class number of each tested image, uint16 (little-endian), rank after rank
    # Best minus second-best score, float32 (little-endian), NaN if undefined; null for predictors without scores.
    ("margins", pa.binary()),
    # Expected calibration error at the rank that a rule selects, before and after temperature scaling, and the
    # temperature, fitted on the sources' validation images. Null if the rule selects another row, or the predictor has
    # no likelihood.
    *((f"{what}_{rule}", pa.float64()) for rule in SCORES for what in ("ece", "ece_scaled", "temperature")),
    # Key of a score metric -> its value at the rank that a rule selects; NaN if undefined. Metrics that need a
    # likelihood are left out.
    *((f"scored_{rule}", pa.map_(pa.string(), pa.float64())) for rule in SCORES),
)
# Decodability of the environment by a linear classifier, before and after the projection, at the ranks that source
# rules select: cross-validated balanced accuracy, with groups kept together. Null except for the projections of
# `TrialSpec.reads_environments`.
_READ = (
    ("read_ranks", pa.list_(pa.int64())),
    ("read_before", pa.float64()),
    ("read_after", _ACCURACIES),
    ("read_chance", pa.float64()),
)
_WITH_WHAT = (
    ("notes", pa.list_(pa.string())),  # warnings of fits, such as non-convergence
    ("spectrum", _ACCURACIES),  # eigenvalues in the order of the basis, fitted on the sources; null without eigenvalues
    ("recipe_hash", pa.string()),
    ("code_version", pa.string()),
)


def schema() -> pa.Schema:
    """Return the schema of result rows: what was evaluated, how, rank curves, and versions."""
    return _schema(tuple(metric.key for metric in CURVES))


@lru_cache
def _schema(metrics: tuple[str, ...]) -> pa.Schema:
    curves = [*_SOURCE_CURVES, *((metric, _ACCURACIES) for metric in metrics)]
    every = [*_WHAT, *_PRESENTED, *_HOW, *curves, *_SPANS, *_ANSWERS, *_READ, *_WITH_WHAT]
    return pa.schema(every, {_VERSION_KEY: str(VERSION).encode()})


@lru_cache
def _fields(columns: tuple[str, ...]) -> pa.Schema:
    every = schema()
    return pa.schema([every.field(column) for column in columns])


def curve_columns(curve: "RankCurve") -> dict[str, object]:
    """Return column -> value of a row, for the columns that a rank curve fills."""
    names = ("held_out", "fold", "test_split", "class_half", "n_train", "n_selection", "labels_fit", "labels_choice")
    scores = (name for score in SCORES for name in (score, f"{score}_se"))
    columns: dict[str, object] = {name: getattr(curve, name) for name in (*names, *scores, "target_out", "spectrum")}
    columns |= curve.metrics | vars(curve.spans)
    columns |= {"correct": packed(curve.correct), "tested": curve.tested.hash, "n_test": len(curve.tested)}
    columns |= {"notes": list(curve.notes), "full_ranks": list(curve.full_ranks)}
    for rule, one in curve.scored.items():
        columns |= {f"ece_{rule}": one.error, f"ece_scaled_{rule}": one.scaled_error}
        columns |= {f"temperature_{rule}": one.temperature, f"scored_{rule}": list(one.metrics.items())}
    return columns


def prediction_columns(predictions: Mapping[int, "Predictions"], ranks: Sequence[int]) -> dict[str, object]:
    """Return column -> value of a row, for the columns of predictions.

    `predictions` maps positions in `ranks`, ascending, to the predictions at these ranks.
    """
    unknown = all(np.isnan(one.margins).all() for one in predictions.values())
    margins = None if unknown else b"".join(one.margins.astype("<f4").tobytes() for one in predictions.values())
    return {
        "predicted_ranks": [ranks[index] for index in predictions],
        "predicted": b"".join(one.classes.astype("<u2").tobytes() for one in predictions.values()),
        "margins": margins,
    }


def row_file(trial_id: str) -> str:
    """Return the name, inside a store, of the file that holds a trial's rows."""
    return f"{ROOT}/{trial_id}.parquet"


def unfinished(storage: Storage, trial_ids: Sequence[str]) -> list[str]:
    """Return the trials that have no rows, or whose files of tested images are missing or damaged.

    Raises:
        IcmBenchError: a row file is damaged, has a later version, or holds another trial's rows.
    """
    named: dict[object, set[object]] = {}
    for name, hash_ in zip(*_read_all(storage, trial_ids, ["trial_id", "tested"]).to_pydict().values(), strict=True):
        named.setdefault(name, set()).add(hash_)
    sound = sound_of(storage, {str(hash_) for hash_ in set().union(*named.values())})
    return [name for name in trial_ids if not named.get(name, {None}) <= sound]


def finished(storage: Storage) -> set[str]:
    """Return the ids of all trials with rows in a store."""
    return {*states(storage)}


def index_rows(storage: Storage, written: Mapping[str, pa.Table], planned: int) -> None:
    """Add rows that `write_rows` has just written, trial id -> table, to the row index of a sweep of `planned` trials.

    Small sweeps need no index. In an object store the state of each file is a request; `read_rows` needs only one.
    """
    if storage.is_local and worth_it(storage, planned) and len(written) > 1:
        trials = ((name, storage.state(row_file(name)), table) for name, table in written.items())
        write_index(storage, trials, schema())


def write_rows(storage: Storage, trial_id: str, rows: list[dict[str, object]]) -> pa.Table:
    """Write the rows of a finished trial atomically, each with the trial id; return them as a table."""
    named = [{**row, "trial_id": trial_id} for row in rows]
    # Each column has a page for its few rows. With such pages, snappy reads twice as fast as zstd and is as small.
    table = pa.Table.from_pylist(named, schema=schema())
    storage.write_bytes(row_file(trial_id), sealed_parquet(table, "snappy"))
    return table


def failure_file(trial_id: str) -> str:
    """Return the name, inside a store, of the failure record of a trial."""
    return f"{FAILED}/{trial_id}.json"


class Failure(NamedTuple):
    """Why a trial failed.

    Attributes:
        trial: label of the trial.
        reason: reason in one line.
        fault: traceback of a bug in this package; empty for other failures.
    """

    trial: str
    reason: str
    fault: str = ""


def write_failure(
    storage: Storage, trial_id: str, label: str, reason: str, traceback: str, is_fault: bool = False
) -> None:
    """Write why a trial failed: `reason` in one line, and the traceback. The next sweep runs the trial again."""
    content = {"trial": label, "reason": reason, "traceback": traceback, "fault": is_fault}
    storage.write_bytes(failure_file(trial_id), sealed_json(content))


def failures(storage: Storage, trial_ids: list[str]) -> dict[str, Failure]:
    """Return trial id -> failure, for the trials that failed and have no rows."""
    failed = {PurePosixPath(name).stem for name in storage.files(FAILED, ".json")}
    names = [name for name in trial_ids if name in failed]
    done = finished(storage) if names else set()
    reasons = {}
    for name in names:
        if name not in done:
            try:
                reasons[name] = _read_failure(storage, failure_file(name))
            except DamagedError:  # the trial has failed nevertheless
                reasons[name] = Failure(failure_file(name), "the file with the reason is damaged")
    return reasons


def _read_failure(storage: Storage, name: str) -> Failure:
    content = sealed.read_json(storage, name)
    with reading(storage, name, KeyError, TypeError, AttributeError):
        fault = str(content["traceback"]) if content.get("fault") else ""
        return Failure(str(content["trial"]), str(content["reason"]), fault)


def check(storage: Storage, name: str) -> None:
    """Verify a row file or a failure record. In a row file, accuracies, answers and predictions must agree.

    Raises:
        DamagedError: the file is damaged.
        IcmBenchError: the file cannot be read, or has another version and cannot be verified.
    """
    if name.endswith(".json"):
        _read_failure(storage, name)
        return
    numbers = "ranks", "n_test", ACCURACY.key, "correct", "predicted_ranks", "predicted"
    for row in _read(storage, name, ("class_half", "tested", *numbers)).to_pylist():
        if row["class_half"] == "harmonic" or not row["n_test"]:
            continue
        labels = _labels(storage, row["tested"])
        with reading(storage, name, TypeError):  # raised for columns that are null
            answers = unpacked(row)
            agree = np.allclose(answers.mean(axis=1), row[ACCURACY.key], rtol=0, atol=1e-9)
            if row["predicted_ranks"] and labels is not None:
                predicted = np.frombuffer(row["predicted"], "<u2").reshape(-1, row["n_test"])
                at = [row["ranks"].index(rank) for rank in row["predicted_ranks"]]
                agree &= np.array_equal(predicted == labels, answers[at])
        if not agree:
            raise DamagedError.of(storage, {name: "has accuracies, answers and predictions that do not agree"})


@lru_cache(maxsize=256)
def _labels(storage: Storage, hash_: str) -> NDArray[np.int64] | None:
    """Return the labels of tested images; None if they are lost."""
    with suppress(IcmBenchError):
        return read_tested(storage, [hash_])[hash_].label
    return None


def all_trials(storage: Storage) -> list[str]:
    """Return the ids of all trials with rows in a store, of any recipe, sorted."""
    return sorted(finished(storage))


def all_failures(storage: Storage) -> dict[str, Failure]:
    """Return `failures` of all trials with a failure record."""
    return failures(storage, sorted(PurePosixPath(n).stem for n in storage.files(FAILED, ".json") if sealed.is_own(n)))


def read_source_scores(storage: Storage, trial_ids: Sequence[str]) -> list[dict[str, object]]:
    """Return rows of finished trials with source scores only; a search must not use target scores.

    The columns are held_out, seed, fold, and for each source rule a list of scores. No other column is read.
    Raises IcmBenchError if a file is damaged, has a later version, or holds another trial's rows.
    """
    rows: list[dict[str, object]] = _read_all(storage, trial_ids, [*KEY, *SCORES]).to_pylist()
    return rows


def read_rows(storage: Storage, trial_ids: Sequence[str], columns: Sequence[str] | None = None) -> "pd.DataFrame":
    """Return the rows of the finished trials among `trial_ids`, in that order, as a frame with columns of `schema`.

    List columns hold lists (spectra: arrays) or None; missing numbers are NaN, missing strings None. The column
    `correct` holds bits, see `selection.unpacked`. Files are read in parallel, with a progress bar if it takes long.

    Args:
        storage: the store.
        trial_ids: ids of the trials.
        columns: columns of `schema` to read. Default: all.

    Raises:
        IcmBenchError: a file is damaged, has another version, or holds another trial's rows.
    """
    return frame_of(_read_all(storage, trial_ids, columns or schema().names))


def _read_all(storage: Storage, trial_ids: Sequence[str], columns: Sequence[str]) -> pa.Table:
    """Return columns of the rows of the finished trials among `trial_ids`."""
    there, fields = states(storage), _fields(tuple(columns))
    names = [name for name in trial_ids if name in there]
    known = _from_index(storage, {name: there[name] for name in names}, columns)

    def of_trials(some: Sequence[str]) -> pa.Table:
        parts = []
        for is_known, alike in groupby(some, known.__contains__):
            if is_known:
                parts.append(rows_at(known[name] for name in alike))
            else:
                parts += [_read(storage, row_file(name), columns) for name in alike]
        return pa.concat_tables(parts).combine_chunks()

    # Over a network each file means waiting, so one thread reads only a few files.
    together = _TOGETHER if storage.is_local else max(1, min(_TOGETHER, len(names) // _TOGETHER))
    parts = [names[begin : begin + together] for begin in range(0, len(names), together)]
    progress = Progress("reading", len(names), "trials")
    tables = list(at_once(of_trials, parts, progress, together, storage.is_local))
    return pa.concat_tables(tables) if tables else fields.empty_table()


def _from_index(storage: Storage, wanted: Mapping[str, State], columns: Sequence[str]) -> dict[str, Place]:
    """Return trial id -> place of its rows in the index; if it lacks many of the trials, their rows are added to it."""
    if not worth_it(storage, len(wanted)):
        return {}
    known = indexed(storage, wanted, schema(), columns)
    lacking = [name for name in wanted if name not in known]

    def read() -> Iterator[tuple[str, State, pa.Table]]:
        progress, every = Progress("reading", len(lacking), "row files"), schema().names
        tables = at_once(lambda name: _read(storage, row_file(name), every), lacking, progress, local=storage.is_local)
        for name, table in zip(lacking, tables, strict=True):
            known[name] = Place(table.select(columns), 0, len(table))
            yield name, wanted[name], table

    if worth_it(storage, len(lacking)):
        write_index(storage, read(), schema())
    return known


def _read(storage: Storage, name: str, columns: Sequence[str]) -> pa.Table:
    """Return the given columns of a row file, typed as in `schema`. A column that the file lacks is null."""
    every = len(columns) == len(schema())
    with reading(storage, name), sealed.open_parquet(storage, name) as file:
        version = int((file.metadata.metadata or {}).get(_VERSION_KEY, b"1"))
        there = file.schema_arrow.names
        if _SEALED in there and not sealed.is_sealed(file):
            raise DamagedError.of(storage, {name: sealed.DIFFERS})
        if version > VERSION:
            raise IcmBenchError(
                f"{storage.path(name)} holds result rows of version {version}, and this icm-bench reads them up to "
                f"version {VERSION}; install the icm-bench that wrote it, or delete it and run again."
            )
        if version < _OLDEST:
            raise IcmBenchError(
                f"{storage.path(name)} holds result rows of version {version}, which this icm-bench no longer reads; "
                f"run the recipe again: embeddings are reused, and rows take minutes."
            )
        if "trial_id" not in there:
            raise ValueError("it has no column trial_id")
        same = _same_in_all_rows(file.metadata, columns) if every else {}
        needed = {*columns, "trial_id"} - {*same}
        # Several files are read at the same time, so each with one thread.
        table = file.read([column for column in there if column in needed], use_threads=False)
        trials = {same["trial_id"]} if "trial_id" in same else set(table["trial_id"].to_pylist())
        if others := sorted(trials - {name.removeprefix(f"{ROOT}/").removesuffix(".parquet")}, key=str):
            problem = f"holds rows of the trial {others[0]}: it was copied or renamed"
            raise DamagedError.of(storage, {name: problem})
        return _as_in_schema(table, same, file.metadata.num_rows, columns)


def _same_in_all_rows(metadata: pq.FileMetaData, columns: Sequence[str]) -> dict[str, object]:
    """Return column -> value, for the columns that have one value in all rows according to the file's statistics.

    About two of three columns are constant. A column of floats counts only if all its values are null, because
    statistics ignore NaN.
    """
    same: dict[str, object] = {}
    if metadata.num_row_groups != 1:
        return same
    group, asked = metadata.row_group(0), set(columns)
    for column in map(group.column, range(group.num_columns)):
        if (name := column.path_in_schema) not in asked:  # values of lists have another path, so they are excluded, too
            continue
        said = column.statistics
        if said is not None and said.has_null_count and said.null_count == metadata.num_rows:
            same[name] = None
        elif said is not None and said.has_min_max and said.has_null_count and not said.null_count:
            lowest = said.min
            same |= {name: lowest} if lowest == said.max and not isinstance(lowest, float) else {}
    return same


def _as_in_schema(table: pa.Table, same: Mapping[str, object], rows: int, columns: Sequence[str]) -> pa.Table:
    """Return `columns` of a row file, typed as in `schema`.

    A column is taken from `table`, else its value in all rows from `same`; else it is null.
    """
    there = dict(zip(table.column_names, table.columns, strict=True))
    fields, arrays = _fields(tuple(columns)), []
    for name, kind in zip(fields.names, fields.types, strict=True):
        if name not in there:
            arrays.append(_repeated(name, same.get(name), rows))
        else:
            arrays.append(there[name] if there[name].type == kind else there[name].cast(kind))
    return pa.Table.from_arrays(arrays, schema=fields)


@lru_cache(maxsize=4096)  # most constant columns are equal in very many files
def _repeated(column: str, value: object, rows: int) -> pa.Array:
    kind = schema().field(column).type
    return pa.nulls(rows, kind) if value is None else pa.array([value] * rows, kind)


def frame_of(table: pa.Table) -> "pd.DataFrame":
    """Return a table of rows as a frame in the format of `read_rows`."""
    return frame(table, ("spectrum",))
