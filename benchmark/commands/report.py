"""`icm-bench report`: collects result rows, from which reports/build.py writes tables, figures and one page."""

import shutil
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmark.backbones.spec import BUILT
from benchmark.commands.gather import Gathered, gather, record_and_place
from benchmark.commands.preparing.records import never_run, record_files
from benchmark.commands.stores import check_data, check_out
from benchmark.common.errors import FaultError, IcmBenchError, OutcomeError
from benchmark.common.plain import canonical_hash
from benchmark.common.storage.files import Storage
from benchmark.common.terminal.progress import tell
from benchmark.datasets.catalog import CATALOG
from benchmark.method.evaluation.metrics import BUILT_IN, METRICS, Metric
from benchmark.recipe.recipe import Recipe
from benchmark.store.costs import REPORT, Cost, on_this_machine, read, remember, report_work
from benchmark.store.records import RunRecord, read_record
from benchmark.store.row_index import states
from benchmark.store.rows import all_failures, all_trials, failures
from benchmark.store.tested import IMAGES, read_images
from reports.analysis.settings import Options as Options  # commands build it
from reports.made import key_of, unchanged

if TYPE_CHECKING:
    import pyarrow as pa

    from benchmark.embedding.speed import EmbedReport
    from benchmark.sweep.subject import Subject
    from reports.made import ReportFiles
    from reports.page.data import Thumbnails
    from reports.text.sentences import Origin


@dataclass(frozen=True)
class Outcome:
    """Result of a run and its report. With --json, cli.py prints all fields but `text` and `faults`.

    Attributes:
        embedded: number of (image, view) pairs embedded by this run.
        reused: number of such pairs found in the store.
        rejected: path -> reason, for unreadable images.
        trials: number of finished trials of the recipe.
        rows: number of result rows, including imported ones.
        failed: description of a failed trial -> reason.
        faults: description of a trial that failed by a bug of this package -> traceback.
        report: URI of the report's folder.
        files: files of the report.
        headline: the conclusion in at most 45 words; the first sentence of `text`.
        verdicts: one record for each verdict, as in tables/verdicts.csv; in each setting, methods in
            `compare` come first.
        conflicts: messages about rows that describe the same result but have different numbers; all these rows are left
            out.
        built: whether this call wrote the report; False if a report of the same rows, options and code existed.
        text: the summary as plain text.
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
    options: Options | None = None,
    images: bool = False,
) -> Outcome:
    """Write the report from all existing rows of a recipe. Needs neither Ray nor a backbone.

    Args:
        recipe: the recipe of the rows.
        storage: the recipe's store.
        subjects: subjects of the recipe (data sets under backbones), if they were prepared. Without them, the store
            must hold results for a single state of data and weights.
        embedded: reports of the preceding embedding stage, for the outcome.
        options: options of the report.
        images: whether the page shows thumbnails, read from the recipe's data sets.

    Raises:
        IcmBenchError: the recipe was never swept with this store, images for thumbnails cannot be read, or the report
            cannot be written.
    """
    began = time.time()
    record, out, folder = record_and_place(recipe, storage, subjects)
    outcome = _report([recipe], [(storage, record)], {}, (out, folder), options, images, embedded)
    if outcome.built:
        remember((storage, on_this_machine()), [Cost(REPORT, report_work(outcome.rows), time.time() - began)])
    return outcome


def report_any(
    recipes: Sequence[Recipe],
    stores: Sequence[Storage],
    where: Mapping[str, Sequence[str]],
    options: Options | None = None,
    images: bool = False,
    out: str | None = None,
) -> Outcome:
    """Write the report of several recipes, or of all rows in stores.

    Args:
        recipes: recipes of the rows; if empty, all rows of the stores are reported.
        stores: stores to search, at least one; the first gets the report if `out` is None.
        where: column of the rows -> allowed values, as text.
        options: options of the report.
        images: whether the page shows thumbnails, read from the recipes' data sets.
        out: folder or URI of the report, unless a recipe has `run.out`. Without both, the first store gets the report.

    Raises:
        IcmBenchError: there are no rows, a column is unknown, thumbnails lack a recipe or readable images, or the
            report cannot be written.
    """
    for given in {out, *(recipe.run.out for recipe in recipes)}:
        check_out(given, stores)
    for recipe in recipes:
        check_data(recipe)
    if images and not recipes:
        raise IcmBenchError("--images needs a RECIPE, which contains the place of the images.")
    parts: list[tuple[Storage, RunRecord | None]] = [] if recipes else [(storage, None) for storage in stores]
    for recipe in recipes:
        files = [(s, file) for s in stores for file in record_files(recipe, s)]
        if not files:
            raise IcmBenchError(never_run(recipe, " and ".join(s.path("") for s in stores)))
        parts += [(storage, read_record(storage, file)) for storage, file in files]
    there = {name for storage, record in parts for name in states(storage).keys() & _trials_of(storage, record)}
    what = [sorted(there), sorted((column, sorted(values)) for column, values in where.items())]
    out = next((recipe.run.out for recipe in recipes if recipe.run.out), out)
    place = (Storage(out), "") if out else (stores[0], f"reports/rows-{canonical_hash(what)[:8]}")
    return _report(recipes, parts, where, place, options, images)


@dataclass(frozen=True)
class _Request:
    """What a report is made from, as in `report_any`. A part is a store and a record, or None for all its rows."""

    recipes: Sequence[Recipe]
    parts: Sequence[tuple[Storage, RunRecord | None]]
    where: Mapping[str, Sequence[str]]
    options: Options
    images: bool

    def key(self) -> str:
        """Return the key of the report. A row file counts by its size and time of change, so no row is read."""
        options = replace(self.options, color=False)
        pdf = options.paper and shutil.which("pdflatex") is not None
        inputs: list[object] = [options, sorted(self.where.items()), self.images, pdf]
        inputs += [metric.implementation for metric in (*options.metrics, *options.metric_of.values())]
        inputs += [recipe.model_dump_json(exclude={"run"}) for recipe in self.recipes]
        for storage, record in self.parts:
            trials, there = _trials_of(storage, record), states(storage)
            listed = record and replace(record, done="")
            inputs += [storage.path(""), listed, [(name, there.get(name)) for name in trials]]
            inputs.append(failures(storage, record.trials) if record else all_failures(storage))
            inputs += [storage.files(IMAGES, ".parquet"), _shown(map(vars, read(storage)), options)]
        return key_of(*inputs)

    def build(self, place: tuple[Storage, str], key: str) -> "ReportFiles":
        """Read all rows and write their report."""
        from reports.build import write_report
        from reports.page.data import Images

        gathered = gather(self.parts, self.where)
        if gathered.rows.empty:
            if gathered.failed:
                raise failure(gathered, sum(len(r.trials) for _, r in self.parts if r) or len(gathered.failed))
            places = " and ".join(gathered.stores)
            raise IcmBenchError(f"{places} holds no result rows; `icm-bench run RECIPE --store URI` writes some.")
        origin = origin_of(" and ".join(recipe.name for recipe in self.recipes) or "rows", self.recipes, gathered)
        origin = replace(origin, costs=_shown(gathered.costs, self.options))
        thumbnails_of = partial(_thumbnails_of, self.recipes, set(gathered.rows["dataset"])) if self.images else None
        images = Images(partial(images_of, [storage for storage, _ in self.parts]), thumbnails_of)
        counts = {
            "trials": gathered.finished,
            "rows": len(gathered.rows),
            "failed": gathered.failed,
            "faults": gathered.faults,
            "conflicts": [*gathered.conflicts],
        }
        return write_report(gathered.rows, gathered.tested, *place, origin, self.options, images, key, counts)


def _report(
    recipes: Sequence[Recipe],
    parts: Sequence[tuple[Storage, RunRecord | None]],
    where: Mapping[str, Sequence[str]],
    place: tuple[Storage, str],
    options: Options | None,
    images: bool,
    embedded: "Sequence[EmbedReport]" = (),
) -> Outcome:
    """Return the outcome of a report: the one in its folder if it is up to date, else a new one."""
    # Metrics in tables, and the metric of each data set: from the recipes, else from the catalog.
    every = dict.fromkeys([*BUILT_IN, *(metric for recipe in recipes for metric in recipe.metrics)])
    known: dict[str, Metric] = {name: METRICS.create(one.metric) for name, one in CATALOG.items()}
    known |= {d.label: recipe.metric_of(d) for recipe in recipes for d in recipe.datasets}
    options = replace(options or Options(), metrics=tuple(every), metric_of=known)
    request = _Request(recipes, parts, where, options, images)
    key = request.key()
    if report := unchanged(*place, key, options.color):
        tell("report: up to date; rows, options and code are unchanged.")
    else:
        report = request.build(place, key)
    return Outcome(
        embedded=sum(e.embedded for e in embedded),
        reused=sum(e.reused for e in embedded),
        rejected={path: reason for e in embedded for path, reason in e.rejected.items()},
        report=place[0].path(place[1]).rstrip("/"),
        files=report.files,
        headline=report.headline,
        verdicts=report.verdicts,
        built=report.built,
        text=report.text,
        **report.counts,
    )


def _trials_of(storage: Storage, record: RunRecord | None) -> list[str]:
    """Return the ids of the trials and imported rows of a record; of all rows of the store without one."""
    return all_trials(storage) if record is None else [*record.trials, *record.imported.values()]


def _shown(costs: Iterable[Mapping[str, Any]], options: Options) -> tuple[Mapping[str, Any], ...]:
    """Return the costs that a report shows: those of embedding and trials, if it has a price."""
    return tuple(one for one in costs if options.price is not None and one["kind"][0] in ("embedding", "trial"))


def origin_of(name: str, recipes: Sequence[Recipe], gathered: Gathered) -> "Origin":
    """Return the origin of rows, for the report: recipes, stores, costs, encoders, and failed or missing trials."""
    from reports.analysis.findings import Expected
    from reports.text.sentences import Origin

    every = [dataset for recipe in recipes for dataset in recipe.datasets]
    known = {dataset.label: control for dataset in every if (control := dataset.must_be_found)}
    labels = [*gathered.rows["backbone"].unique()]
    built = [name for name in BUILT if any(label == name or label.startswith(f"{name} ") for label in labels)]
    return Origin(
        name,
        gathered.stores,
        gathered.planned,
        gathered.finished,
        gathered.failed,
        gathered.conflicts,
        {name: Expected(one.parts, one.predictor, one.held_out) for name, one in known.items()},
        gathered.left_out,
        {long: short for recipe in recipes for long, short in recipe.names.items()},
        gathered.costs,
        tuple(f"{name} is one draw of its training; gains with other draws differ by points." for name in built),
    )


def images_of(places: Sequence[Storage], hash_: str) -> "pa.Table | None":
    """Return the list of images with the hash `hash_` from the first store that has it; None if none has."""
    return next((found for place in places if (found := read_images(place, hash_)) is not None), None)


def _thumbnails_of(recipes: Sequence[Recipe], names: Collection[str], ids: Sequence[str]) -> "Thumbnails":
    """Return thumbnails of the images `ids` in the data sets `names`; no data set is opened if `ids` is empty."""
    from benchmark.commands.preparing.imported_sets import manifest_of
    from benchmark.embedding.thumbnails import ROWS, SIZE, thumbnails
    from reports.page.data import Thumbnails

    asked = [(recipe, spec) for recipe in recipes for spec in recipe.located() if spec.label in names] if ids else []
    found, sprites = thumbnails((manifest_of(recipe, spec) for recipe, spec in asked), ids)
    return Thumbnails(SIZE, ROWS, {name: place for place, name in enumerate(found)}, sprites)


def failure(of: Gathered | Outcome, trials: int) -> IcmBenchError | FaultError:
    """Return the error about the failed ones of `trials` trials: a `FaultError` after a bug of this package."""
    label = next(iter(of.faults or of.failed))
    first = "the first by a bug of icm-bench" if of.faults else "the first"
    words = (
        f"{len(of.failed)} of {trials} trials failed, {first} ({label}) with: {of.failed[label].rstrip('.')}; "
        f"a new run repeats only these, and the store's folder 'failed' holds tracebacks."
    )
    if of.faults:
        return FaultError(words, of.faults[label])
    return OutcomeError(words) if isinstance(of, Outcome) else IcmBenchError(words)
