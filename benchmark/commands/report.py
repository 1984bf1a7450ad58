"""`icm-bench report`: tables, figures and one page from the rows that exist."""

import dataclasses
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from benchmark.commands.gather import Gathered, gather
from benchmark.commands.preparing.records import never_run, only_record_of
from benchmark.commands.stores import check_out
from benchmark.common.errors import FaultError, IcmBenchError, OutcomeError
from benchmark.common.hashing import canonical_hash
from benchmark.common.storage.files import Storage
from benchmark.datasets.catalog import CATALOG
from benchmark.method.evaluation.inference import PlusMinus
from benchmark.method.evaluation.metrics import BUILT_IN, METRICS, Metric
from benchmark.recipe.recipe import Recipe
from benchmark.store.costs import REPORT, Cost, on_this_machine, remember, report_work
from benchmark.store.images import read_images
from benchmark.store.records import RunRecord, read_record, record_files, report_folder

if TYPE_CHECKING:
    import pyarrow as pa

    from benchmark.embedding.speed import EmbedReport
    from benchmark.sweep.subject import Subject
    from reports import Expected, Origin, Thumbnails


@dataclass(frozen=True)
class Asked:
    """What a reader asks of a report.

    Attributes:
        plus_minus: what stands behind ± in tables: `images`, the standard error over test images with all their
            answers, or `seeds`, DomainBed's over seeds.
        margin: within which two methods count as level, in percentage points.
        published: whether to hold the numbers against published ones.
        compare: labels of two methods that stand first in the answer and are compared with each other, or empty.
        price: of an hour of a GPU, in any currency; None for no prices.
        color: whether the terminal's headline may be set in bold.
        images: whether the page gets thumbnails of images, which are read from the recipes' data sets.
        paper: whether all of it is also written as one paper, with what is published beside each table.
        tables: of the reader's own, each as "module:NAME" of a `TableSpec`.
    """

    plus_minus: PlusMinus = "images"
    margin: float = 1.0
    published: bool = False
    compare: tuple[tuple[str, str], ...] = ()
    price: float | None = None
    color: bool = False
    images: bool = False
    paper: bool = False
    tables: tuple[str, ...] = ()


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
        faults: the tracebacks of those that failed by a mistake of this package, by trial in words.
        report: URI of the report's folder.
        files: its files.
        headline: the answer in at most 45 words, the first that the text says.
        verdicts: a record of each verdict, as in tables/verdicts.csv: of a setting, methods that
            `compare` names come first.
        conflicts: sentences on rows that are the same by name and differ in numbers; both are left out.
        built: whether the report was written now; False where it was there, made of the same rows, options and code.
        text: the answer as plain text.
    """

    embedded: int
    reused: int
    rejected: dict[str, str]
    trials: int
    rows: int
    failed: dict[str, str]
    faults: dict[str, str]
    report: str
    files: list[str]
    headline: str
    verdicts: list[dict[str, Any]]
    conflicts: list[str]
    built: bool
    text: str = field(repr=False)


def report_stage(
    recipe: Recipe,
    storage: Storage,
    subjects: "Sequence[Subject]" = (),
    embedded: "Sequence[EmbedReport]" = (),
    asked: Asked | None = None,
) -> Outcome:
    """Write the report from whatever rows of the recipe exist. Needs no Ray and no backbone; images for thumbnails.

    Args:
        recipe: whose rows they are.
        storage: its store.
        subjects: of the recipe, where they are at hand; without them the store must hold results of the recipe on one
            state of data and weights only.
        embedded: what the embedding stage did just before, for the outcome.
        asked: what the reader asks for.

    Raises:
        IcmBenchError: the recipe was never swept with this store, images that are asked for cannot be read, or the
            report cannot be written.
    """
    began = time.time()
    file = only_record_of(recipe, storage, subjects)
    record = read_record(storage, file)
    gathered = gather([(storage, record)])
    if gathered.failed and not len(gathered.rows):
        raise failure(gathered, len(record.trials))
    folder = report_folder(record.name, record.recipe_hash, PurePosixPath(file).stem)
    outcome = _written([recipe], gathered, [storage], (storage, folder), recipe.name, asked or Asked())
    if outcome.built:
        remember((storage, on_this_machine()), [Cost(REPORT, report_work(len(gathered.rows)), time.time() - began)])
    return dataclasses.replace(
        outcome,
        embedded=sum(e.embedded for e in embedded),
        reused=sum(e.reused for e in embedded),
        rejected={path: reason for e in embedded for path, reason in e.rejected.items()},
    )


def report_any(
    recipes: Sequence[Recipe],
    stores: Sequence[Storage],
    where: Mapping[str, Sequence[str]],
    asked: Asked,
    out: str | None = None,
) -> Outcome:
    """Write the report of several recipes, or of all that stores hold.

    Args:
        recipes: whose rows count; with none, all that the stores hold.
        stores: in which is looked, at least one; the first keeps the report where `out` is None.
        where: column of the rows -> values, one of which a row must have.
        asked: what the reader asks for.
        out: folder or URI of the report.

    Raises:
        IcmBenchError: there are no rows, a column is unknown, images are asked for without a recipe or cannot be read,
            or the report cannot be written.
    """
    for given in {out, *(recipe.run.out for recipe in recipes)}:
        check_out(given, stores)
    if asked.images and not recipes:
        raise IcmBenchError("--images needs a RECIPE: it says where the images lie.")
    parts = _parts(recipes, stores)
    gathered = gather(parts, where)
    if gathered.rows.empty:
        if gathered.failed:
            raise failure(gathered, len(gathered.failed))
        places = " and ".join(gathered.stores)
        raise IcmBenchError(f"{places} holds no result rows; `icm-bench run RECIPE --store URI` writes some.")
    name = " and ".join(recipe.name for recipe in recipes) or "rows"
    what = [sorted(set(gathered.rows["trial_id"])), sorted((c, sorted(v)) for c, v in where.items())]
    place = (Storage(out), "") if out else (stores[0], f"reports/rows-{canonical_hash(what)[:8]}")
    return _written(recipes, gathered, stores, place, name, asked)


def _parts(recipes: Sequence[Recipe], stores: Sequence[Storage]) -> list[tuple[Storage, RunRecord | None]]:
    """Return which rows count: of each recipe in each store that knows it, or all of all stores."""
    if not recipes:
        return [(storage, None) for storage in stores]
    parts: list[tuple[Storage, RunRecord | None]] = []
    for recipe in recipes:
        files = [(s, file) for s in stores for file in record_files(s, recipe.hash())]
        if not files:
            raise IcmBenchError(never_run(recipe, " and ".join(s.path("") for s in stores)))
        parts += [(storage, read_record(storage, file)) for storage, file in files]
    return parts


def _written(
    recipes: Sequence[Recipe],
    gathered: Gathered,
    places: Sequence[Storage],
    place: tuple[Storage, str],
    name: str,
    asked: Asked,
) -> Outcome:
    from reports import Options, write_report

    out = next((recipe.run.out for recipe in recipes if recipe.run.out), None)
    storage, folder = (Storage(out), "") if out else place
    options = Options(
        asked.plus_minus,
        asked.margin / 100,
        asked.compare,
        asked.published,
        asked.price,
        asked.color,
        asked.paper,
        *_metrics(recipes, set(gathered.rows["dataset"])),
        asked.tables,
    )
    origin = origin_of(name, recipes, gathered)
    thumbnails_of = partial(_thumbnails_of, recipes, set(gathered.rows["dataset"])) if asked.images else None
    report = write_report(
        gathered.rows, gathered.tested, storage, folder, origin, options, partial(images_of, places), thumbnails_of
    )
    return Outcome(
        0,
        0,
        {},
        gathered.finished,
        len(gathered.rows),
        gathered.failed,
        gathered.faults,
        storage.path(folder).rstrip("/"),
        report.files,
        report.headline,
        report.verdicts,
        list(gathered.conflicts),
        report.built,
        report.text,
    )


def _metrics(recipes: Sequence[Recipe], datasets: Collection[str]) -> tuple[tuple[Metric, ...], dict[str, Metric]]:
    """Return the metrics that tables show, and that of each data set: without a recipe those of the catalog."""
    every = dict.fromkeys([*BUILT_IN, *(metric for recipe in recipes for metric in recipe.metrics)])
    known = {name: METRICS.create(CATALOG[name].metric) for name in datasets if name in CATALOG}
    return tuple(every), known | {d.label: recipe.metric_of(d) for recipe in recipes for d in recipe.datasets}


def origin_of(name: str, recipes: Sequence[Recipe], gathered: Gathered) -> "Origin":
    """Return where rows come from, and what is known to be missing.

    Args:
        name: of the report.
        recipes: whose rows they are; none where they are all of a store.
        gathered: the rows.
    """
    from reports import Origin

    return Origin(
        name,
        gathered.stores,
        gathered.planned,
        gathered.finished,
        gathered.failed,
        gathered.conflicts,
        _expected(recipes),
        gathered.left_out,
        {long: short for recipe in recipes for long, short in recipe.names.items()},
        gathered.costs,
    )


def images_of(places: Sequence[Storage], hash_: str) -> "pa.Table | None":
    """Return the list of images that rows name by a hash, from the first store that has it; None where none has."""
    return next((found for place in places if (found := read_images(place, hash_)) is not None), None)


def _thumbnails_of(recipes: Sequence[Recipe], names: Collection[str], ids: Sequence[str]) -> "Thumbnails":
    """Return thumbnails of images of the data sets that rows name; none is opened where no image is asked for.

    Raises:
        IcmBenchError: a data set cannot be read.
    """
    from benchmark.commands.preparing.imported_sets import manifest_of
    from benchmark.embedding.thumbnails import ROWS, SIZE, thumbnails
    from reports import Thumbnails

    asked = [(recipe, spec) for recipe in recipes for spec in recipe.located() if spec.label in names] if ids else []
    found, sprites = thumbnails((manifest_of(recipe, spec) for recipe, spec in asked), ids)
    return Thumbnails(SIZE, ROWS, {name: place for place, name in enumerate(found)}, sprites)


def _expected(recipes: Sequence[Recipe]) -> "dict[str, Expected]":
    from reports import Expected

    every = [dataset for recipe in recipes for dataset in recipe.datasets]
    known = {dataset.label: control for dataset in every if (control := dataset.must_be_found)}
    return {name: Expected(one.parts, one.predictor, one.held_out) for name, one in known.items()}


def failure(of: Gathered | Outcome, trials: int) -> IcmBenchError | FaultError:
    """Return the error on trials that failed: a fault, where one of them is.

    Args:
        of: what has failed trials.
        trials: number of all.
    """
    label = next(iter(of.faults or of.failed))
    first = "the first by a fault" if of.faults else "the first"
    words = (
        f"{len(of.failed)} of {trials} trials failed, {first} ({label}) with: {of.failed[label].rstrip('.')}; "
        f"running again tries only these, and the store's folder 'failed' has tracebacks."
    )
    if of.faults:
        return FaultError(words, of.faults[label])
    return OutcomeError(words) if isinstance(of, Outcome) else IcmBenchError(words)
