"""Collects the result rows of recipes or whole stores for reports, filtered by the values of columns."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pandas as pd

from benchmark.commands.preparing.records import only_record_of
from benchmark.common.errors import IcmBenchError, some
from benchmark.common.secrets import public
from benchmark.common.storage.files import Storage
from benchmark.method.evaluation.metrics import CURVES
from benchmark.method.evaluation.selection import SCORES
from benchmark.method.evaluation.tested import Tested
from benchmark.recipe.recipe import Recipe
from benchmark.store.costs import read
from benchmark.store.records import RunRecord, read_record, report_folder
from benchmark.store.rows import IDENTIFYING, all_failures, all_trials, failures, read_rows
from benchmark.store.tested import read_tested

if TYPE_CHECKING:
    from benchmark.sweep.subject import Subject

MAX_CONFLICTS = 20  # number of conflicts that are listed one by one
# Rows of one identity (columns `IDENTIFYING` of benchmark/store/rows.py) conflict if one of these columns differs.
_NUMBERS = ("ranks", *SCORES, *(metric.key for metric in CURVES), "correct", "tested")
_STORE = "store"  # column with the store of each row


@dataclass(frozen=True)
class Gathered:
    """Result rows, and facts about their trials and stores."""

    rows: pd.DataFrame  # columns of `benchmark.store.rows.schema`; one row for each identity
    tested: Mapping[str, Tested]  # hash in the column `tested` -> tested images
    stores: tuple[str, ...]  # URIs of the stores, without secrets
    planned: int | None  # number of trials of the recipes; None without a recipe, or if rows are filtered
    finished: int  # number of trials with rows
    failed: dict[str, str]  # description of a failed trial -> reason
    faults: dict[str, str]  # description of a trial that failed by a bug of this package -> traceback
    conflicts: tuple[str, ...] = ()  # a sentence for each identity whose rows differ in numbers; they are left out
    costs: tuple[dict[str, Any], ...] = ()  # measured costs in these stores, as fields of `Cost`
    left_out: tuple[str, ...] = ()  # sentences on backbones for which parts of a recipe are left out


def record_and_place(
    recipe: Recipe, storage: Storage, subjects: "Sequence[Subject]" = ()
) -> tuple[RunRecord, Storage, str]:
    """Return three values: a recipe's only record, and its report's storage and folder."""
    file = only_record_of(recipe, storage, subjects)
    record = read_record(storage, file)
    folder = report_folder(record.name, record.recipe_hash, PurePosixPath(file).stem)
    return record, *((Storage(recipe.run.out), "") if recipe.run.out else (storage, folder))


def rows_of(
    recipe: Recipe, storage: Storage, where: Mapping[str, Sequence[str]] | None = None
) -> tuple[Gathered, int, Storage, str]:
    """Return four values: rows of a recipe's only record, its number of trials, and its report's storage and folder."""
    record, out, folder = record_and_place(recipe, storage)
    return gather([(storage, record)], where), len(record.trials), out, folder


def gather(
    parts: Sequence[tuple[Storage, RunRecord | None]], where: Mapping[str, Sequence[str]] | None = None
) -> Gathered:
    """Return the rows of several runs or whole stores in one table.

    Args:
        parts: pairs of a store and the record of a run in it; None in place of the record means all rows of the store.
        where: column -> allowed values, as text. Default: all rows.
    """
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
    storages = {_name(storage): storage for storage, _ in parts}
    tested: dict[str, Tested] = {}
    for name, storage in storages.items():
        tested |= read_tested(storage, rows.loc[rows[_STORE] == name, "tested"])
    records = [record for _, record in parts]
    planned = sum(record.planned for record in records if record) if all(records) and not where else None
    costs = tuple(vars(cost) for storage in storages.values() for cost in read(storage))
    left_out = tuple(dict.fromkeys(sentence for record in records if record for sentence in record.left_out))
    alone = rows.drop(columns=_STORE)
    return Gathered(alone, tested, tuple(storages), planned, len(finished), failed, faults, conflicts, costs, left_out)


def _name(storage: Storage) -> str:
    return public(storage.path("")).rstrip("/")


def _narrowed(rows: pd.DataFrame, where: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    for column, values in where.items():
        if column not in IDENTIFYING and column != "trial_id":
            near = difflib.get_close_matches(column, IDENTIFYING, 1)
            remedy = f"did you mean {near[0]}?" if near else f"they have {', '.join(IDENTIFYING)}."
            raise IcmBenchError(f"--where {column}={values[0]}: rows have no column '{column}'; {remedy}")
        known = rows[column].map(_as_text)
        narrowed = rows[known.isin(set(values))]
        if narrowed.empty and len(rows):
            there = sorted(known.unique())
            raise IcmBenchError(f"--where {column}={','.join(values)}: no row has that; they have {some(there)}.")
        rows = narrowed
    return rows.reset_index(drop=True)


def _as_text(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _once(rows: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return one row for each identity, and sentences on identities that have several rows with unequal numbers.

    All rows of such an identity are left out.
    """
    names = list(IDENTIFYING)
    if not rows.duplicated(names).any():
        return rows, ()
    several = rows[rows.duplicated(names, keep=False)]
    unequal: list[int] = []
    sentences: list[str] = []
    for _, alike in several.groupby(names, dropna=False, sort=False):
        numbers = alike[list(_NUMBERS)].itertuples(index=False)
        if len({repr([list(v) if isinstance(v, Sequence | bytes) else v for v in row]) for row in numbers}) > 1:
            unequal += alike.index.tolist()
            row, stores = alike.iloc[0], zip(alike[_STORE], alike["trial_id"], strict=True)
            named = ("dataset", "backbone", "projection", "predictor", "held_out")
            what = ", ".join(_as_text(row[name]) for name in named)
            where = " and ".join(f"{store} (trial {trial})" for store, trial in stores)
            sentences.append(f"Conflict, left out: {what}, seed {row['seed']} has unequal numbers in {where}.")
    left = rows.drop(index=unequal).drop_duplicates(names).reset_index(drop=True)
    if len(sentences) > MAX_CONFLICTS:
        sentences = [*sentences[:MAX_CONFLICTS], f"{len(sentences) - MAX_CONFLICTS:,} more such conflicts."]
    return left, tuple(sentences)
