"""`icm-bench report`: tables and plots from the rows that exist."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from benchmark.commands.records import record_of
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage import Storage
from benchmark.method.evaluation.inference import PlusMinus
from benchmark.recipe.recipe import Recipe
from benchmark.store.costs import REPORT, Cost, on_this_machine, remember
from benchmark.store.records import read_record, record_files, report_folder
from benchmark.store.rows import failures, read_rows
from benchmark.store.tested import read_tested

if TYPE_CHECKING:  # a report needs no Ray, which these import
    from benchmark.embedding.speed import EmbedReport
    from benchmark.sweep.subject import Subject


@dataclass(frozen=True)
class Outcome:
    """What a run leaves.

    Attributes:
        embedded: number of (image, view) pairs that were computed now.
        reused: number of those that were in the store.
        rejected: path -> reason of the images that cannot be read.
        trials: number of finished trials of the recipe.
        rows: number of result rows, imported ones among them.
        failed: trial in words -> reason, of the trials that failed.
        report: URI of the report's folder.
        files: its files.
        text: the main tables as plain text.
        comparisons: the numbers of all comparisons, in percentage points.
    """

    embedded: int
    reused: int
    rejected: dict[str, str]
    trials: int
    rows: int
    failed: dict[str, str]
    report: str
    files: list[str]
    text: str
    comparisons: list[dict[str, object]]


def report_stage(
    recipe: Recipe,
    storage: Storage,
    subjects: Sequence["Subject"] = (),
    embedded: Sequence["EmbedReport"] = (),
    plus_minus: PlusMinus = "images",
    margin: float = 1.0,
) -> Outcome:
    """Write the report from whatever rows of the recipe exist. Needs no Ray, no images and no backbone.

    Args:
        recipe: whose rows they are.
        storage: its store.
        subjects: of the recipe, where they are at hand; without them the store must hold results of the recipe on one
            state of data and weights only.
        embedded: what the embedding stage did just before, for the outcome.
        plus_minus: what stands behind ± in tables: `images`, the standard error over test images with all their
            answers, or `seeds`, DomainBed's over seeds.
        margin: within which two methods count as level, in percentage points.

    Raises:
        IcmBenchError: the recipe was never swept with this store, or the report cannot be written.
    """
    from reports import Expected, Options, write_report

    began = time.time()
    record_file = _record_file(recipe, storage, subjects)
    record = read_record(storage, record_file)
    trials = record.trials
    rows = read_rows(storage, [*trials, *record.imported.values()])
    failed = dict(failures(storage, trials).values())
    if failed and not len(rows):
        raise IcmBenchError(failure_words(failed, len(trials)))
    place = Storage(recipe.run.out) if recipe.run.out else storage
    folder = "" if recipe.run.out else report_folder(record.name, record.recipe_hash, PurePosixPath(record_file).stem)
    finished = len(set(rows["trial_id"]) & set(trials))
    tested = read_tested(storage, rows["tested"])
    options = Options(plus_minus, margin / 100)
    known = {dataset.name: control for dataset in recipe.datasets if (control := dataset.must_be_found)}
    expected = {name: Expected(one.parts, one.predictor, one.held_out) for name, one in known.items()}
    report = write_report(rows, tested, place, folder, recipe.name, record.planned, finished, failed, options, expected)
    remember((storage, on_this_machine()), [Cost(REPORT, len(rows), time.time() - began)])
    return Outcome(
        embedded=sum(e.embedded for e in embedded),
        reused=sum(e.reused for e in embedded),
        rejected={path: reason for e in embedded for path, reason in e.rejected.items()},
        trials=finished,
        rows=len(rows),
        failed=failed,
        report=place.path(folder).rstrip("/"),
        files=report.files,
        text=report.text,
        comparisons=report.comparisons,
    )


def _record_file(recipe: Recipe, storage: Storage, subjects: Sequence["Subject"]) -> str:
    """Return the path of the one run record that the report is of."""
    records = [record_of(recipe, subjects)] if subjects else record_files(storage, recipe.hash())
    if len(records) > 1:
        raise IcmBenchError(
            f"{storage.path('')} holds results of the recipe '{recipe.name}' on {len(records)} states of data or "
            f"weights; `icm-bench run` with the data at hand reports on the right one."
        )
    if not records:
        raise IcmBenchError(
            f"{storage.path('')} holds no results of the recipe '{recipe.name}' as it stands; run it first: "
            f"icm-bench run RECIPE."
        )
    return records[0]


def failure_words(failed: dict[str, str], trials: int) -> str:
    """Return a sentence on the trials that failed."""
    label, reason = next(iter(failed.items()))
    return (
        f"{len(failed)} of {trials} trials failed, the first ({label}) with: {reason.rstrip('.')}; the rows of the "
        f"others are kept, running again tries only the failed ones, and the store's folder 'failed' has tracebacks."
    )
