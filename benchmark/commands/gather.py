"""The rows that a report is made of: of one recipe or several, or all that stores hold, narrowed by columns."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmark.common.errors import IcmBenchError, some
from benchmark.common.secrets import public
from benchmark.common.storage.files import Storage
from benchmark.method.evaluation.metrics import CURVES
from benchmark.method.evaluation.selection import SCORES
from benchmark.method.evaluation.tested import Tested
from benchmark.store.costs import read
from benchmark.store.records import RunRecord
from benchmark.store.rows import IDENTIFYING, all_failures, all_trials, failures, read_rows
from benchmark.store.tested import read_tested

if TYPE_CHECKING:
    import pandas as pd

MAX_CONFLICTS = 20  # that are named one by one
_NUMBERS = ("ranks", *SCORES, *(metric.key for metric in CURVES), "correct", "tested")
_STORE = "store"  # column: where a row lies


@dataclass(frozen=True)
class Gathered:
    """Rows, and what is known of them.

    Attributes:
        rows: of `benchmark.store.rows.schema`, each identity once.
        tested: hash -> the tested images that rows name by it.
        stores: where they lie, without secrets.
        planned: number of trials that there should be; None where no recipe says so.
        finished: number of trials with rows.
        failed: trial in words -> reason, of those that failed and have no rows.
        faults: the tracebacks of those that failed by a mistake of this package, by trial in words.
        conflicts: sentences on rows that are the same by name and differ in numbers; both are left out.
        costs: what work cost in these stores.
        left_out: sentences on backbones that take no part in some of a recipe.
    """

    rows: "pd.DataFrame"
    tested: Mapping[str, Tested]
    stores: tuple[str, ...]
    planned: int | None
    finished: int
    failed: dict[str, str]
    faults: dict[str, str]
    conflicts: tuple[str, ...] = ()
    costs: tuple[dict[str, Any], ...] = ()
    left_out: tuple[str, ...] = ()


def gather(
    parts: Sequence[tuple[Storage, RunRecord | None]], where: Mapping[str, Sequence[str]] | None = None
) -> Gathered:
    """Return the rows of runs, or of whole stores, as one.

    Args:
        parts: stores, each with the record of the run whose rows count; with None all rows count that it holds.
        where: column -> values, one of which a row must have, as text.

    Raises:
        IcmBenchError: a file is damaged, a column is unknown, or no row is left.
    """
    import pandas as pd

    found = []
    failed: dict[str, str] = {}
    faults: dict[str, str] = {}
    finished: set[str] = set()
    for storage, record in parts:
        own = all_trials(storage) if record is None else record.trials
        rows = read_rows(storage, [*own, *(record.imported.values() if record else ())])
        reasons = all_failures(storage) if record is None else failures(storage, own)
        failed |= {one.trial: one.reason for one in reasons.values()}
        faults |= {one.trial: one.fault for one in reasons.values() if one.fault}
        finished |= set(rows["trial_id"]) & set(own)
        found.append(rows.assign(**{_STORE: _name(storage)}))
    filled = [rows for rows in found if len(rows)] or found[:1]
    rows = filled[0] if len(filled) == 1 else pd.concat(filled, ignore_index=True)
    rows, conflicts = _once(_narrowed(rows, where or {}))
    tested = {name: images for s, rows_ in _by_store(parts, rows) for name, images in read_tested(s, rows_).items()}
    records = [record for _, record in parts]
    planned = sum(record.planned for record in records if record) if all(records) and not where else None
    stores = tuple(dict.fromkeys(_name(storage) for storage, _ in parts))
    costs = tuple(vars(cost) for storage, _ in {_name(s): (s, r) for s, r in parts}.values() for cost in read(storage))
    left_out = tuple(dict.fromkeys(sentence for record in records if record for sentence in record.left_out))
    alone = rows.drop(columns=_STORE)
    return Gathered(alone, tested, stores, planned, len(finished), failed, faults, conflicts, costs, left_out)


def _name(storage: Storage) -> str:
    return public(storage.path("")).rstrip("/")


def _by_store(
    parts: Sequence[tuple[Storage, RunRecord | None]], rows: "pd.DataFrame"
) -> list[tuple[Storage, "pd.Series[str]"]]:
    """Return each store once, with the names of the tested images of its rows."""
    storages = {_name(storage): storage for storage, _ in parts}
    return [(storage, rows.loc[rows[_STORE] == name, "tested"]) for name, storage in storages.items()]


def _narrowed(rows: "pd.DataFrame", where: Mapping[str, Sequence[str]]) -> "pd.DataFrame":
    for column, values in where.items():
        if column not in IDENTIFYING and column != "trial_id":
            near = difflib.get_close_matches(column, IDENTIFYING, 1)
            remedy = f"did you mean {near[0]}?" if near else f"they have {', '.join(IDENTIFYING)}."
            raise IcmBenchError(f"--where {column}={values[0]}: rows have no column '{column}'; {remedy}")
        known = rows[column].map(_as_text)
        narrowed = rows[known.isin(set(values))]
        if narrowed.empty and len(rows):
            there = sorted(known.unique())
            raise IcmBenchError(
                f"--where {column}={','.join(values)}: no row has that; their values are {some(there)}."
            )
        rows = narrowed
    return rows.reset_index(drop=True)


def _as_text(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _once(rows: "pd.DataFrame") -> tuple["pd.DataFrame", tuple[str, ...]]:
    """Return rows with each identity once, and a sentence on each identity that stands for unequal numbers."""
    names = list(IDENTIFYING)
    if not rows.duplicated(names).any():
        return rows, ()
    several = rows[rows.duplicated(names, keep=False)]
    unequal: list[int] = []
    sentences: list[str] = []
    for _, alike in several.groupby(names, dropna=False, sort=False):
        if len({_numbers(row) for row in alike[list(_NUMBERS)].itertuples(index=False)}) > 1:
            unequal += alike.index.tolist()
            sentences.append(_conflict(alike))
    left = rows.drop(index=unequal).drop_duplicates(names).reset_index(drop=True)
    if len(sentences) > MAX_CONFLICTS:
        sentences = [*sentences[:MAX_CONFLICTS], f"{len(sentences) - MAX_CONFLICTS:,} more such conflicts."]
    return left, tuple(sentences)


def _numbers(row: tuple[object, ...]) -> str:
    return repr([list(value) if isinstance(value, Sequence | bytes) else value for value in row])


def _conflict(alike: "pd.DataFrame") -> str:
    row = alike.iloc[0]
    what = ", ".join(_as_text(row[name]) for name in ("dataset", "backbone", "projection", "predictor", "held_out"))
    where = " and ".join(
        f"{store} (trial {trial})" for store, trial in zip(alike[_STORE], alike["trial_id"], strict=True)
    )
    return f"Conflict, left out: {what}, seed {row['seed']} has unequal numbers in {where}."
