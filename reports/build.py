"""Write one report from result rows: the answer, tables in five formats, figures in three, and one HTML page.

`icm-bench run` and `icm-bench report` call `write_report`, unless the report in the folder is up to date, see made.py.
"""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pandas as pd
from threadpoolctl import threadpool_limits

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.common.workers import Workers, cores
from benchmark.method.evaluation.metrics import ACCURACY
from benchmark.method.evaluation.selection import IMPORTED
from benchmark.method.evaluation.tested import Tested
from reports.analysis import findings, metrics, verdicts
from reports.analysis.backbones import lines_of
from reports.analysis.comparisons import overall_record, to_records
from reports.analysis.published_checks import against_published
from reports.analysis.selections import ImagesOf, Predicted, Selections, pick_records, predictions_of
from reports.analysis.settings import BANNER, Options, by_setting, named
from reports.document.paper import Paper, Scope, answer_paragraphs, chapters, write_paper
from reports.figures import Drawing, Figure, all_drawings, captions, drawn, left_out
from reports.made import ReportFiles, write_made
from reports.page.build import PageContent, page
from reports.page.data import Images, ThumbnailsOf, wanted
from reports.render import FORMATS, all_tex
from reports.render.formats import html, records_csv
from reports.render.table import Table
from reports.tables import paper_tables, published
from reports.tables.all import own_tables
from reports.tables.cells import accuracy_records
from reports.text import sentences, summary
from reports.text.captions import protocols
from reports.text.sentences import Origin
from reports.text.verdicts import headline, sentence

MIN_ROWS_FOR_WORKER = 500  # reports with more rows draw figures in a second process


class ReportContent:
    """Content of a report before rendering: settings, comparisons, answer, tables and predictions.

    Attributes:
        compared: (setting, comparison) pairs of the forest plot: for each verdict its gain, then its other comparisons.
        verdicts: one record for each verdict; the field `sentence` is the verdict in words.
    """

    def __init__(
        self, rows: pd.DataFrame, tested: Mapping[str, Tested], origin: Origin, options: Options, images_of: ImagesOf
    ) -> None:
        self.origin, self.options, self.provenance = origin, options, _provenance(rows, origin)
        predicted = Predicted(rows)
        self.results = [
            (s, Selections(part, tested, predicted, options.metrics, options.metric_of.get(s.dataset, ACCURACY)))
            for s, part in by_setting(rows)
        ]
        findings.check_requested([selections for _, selections in self.results], options.compare)
        self.accuracies = list(accuracy_records(self.results, options))  # most of the work; prints progress
        self.findings = [findings.comparisons(setting, selections, options) for setting, selections in self.results]
        of_settings = [(setting, found) for (setting, _), found in zip(self.results, self.findings, strict=True)]
        self.families = findings.overall(of_settings)
        known = [(s, f.compared, origin.expected[s.dataset]) for s, f in of_settings if s.dataset in origin.expected]
        self.controls = [(s, one) for s, made, of in known if (one := findings.control_result(made, of))]
        self.answer = verdicts.answer(self.results, self.findings)
        self.compared = [(one.setting, x) for one in self.answer.verdicts for x in (one.gain, *one.others) if x]
        self.verdicts = [one.record() | {"sentence": sentence(one)} for one in self.answer.verdicts]
        checked = options.published or options.paper
        self.checks = against_published(self.results, options) if checked else []
        tables = paper_tables(self.results, options, costs=origin.costs, names=origin.names)
        self.tables = [table for table in (*tables, published.table_of(self.checks)) if table]
        self.predictions = {s: predictions_of(selections, images_of) for s, selections in self.results}
        self.random = any(setting.random_weights for setting, _ in self.results)


def write_report(
    rows: pd.DataFrame,
    tested: Mapping[str, Tested],
    storage: Storage,
    folder: str,
    origin: Origin,
    options: Options | None = None,
    images: Images | None = None,
    key: str = "",
    counts: Mapping[str, Any] | None = None,
) -> ReportFiles:
    """Write the report of result rows into one folder. Equal rows give equal bytes.

    Args:
        rows: result rows from `benchmark.store.rows.read_rows`, of any number of data sets and backbones.
        tested: hash in the column `tested` of the rows -> test images, see `benchmark.store.tested.read_tested`.
        storage: storage to write to.
        folder: folder inside the storage, or "" for its top level. Files with the same names are replaced.
        origin: provenance of the rows, and missing results.
        options: options of the report; by default `Options()`.
        images: lists and thumbnails of images; by default none.
        key: hash of all inputs, by which `made.unchanged` recognizes the report; by default it is always built again.
        counts: plain data on the rows that `made.unchanged` returns with the report; by default none.

    Raises:
        IcmBenchError: there are no rows, a method requested for comparison is unknown, or a file cannot be written.
    """
    if rows.empty:
        raise IcmBenchError(
            f"There are no result rows for the report '{origin.name}'; run `icm-bench sweep RECIPE` first."
        )
    options, images = options or Options(), images or Images()
    own_tables(options.tables)  # fails before any work if a table cannot be loaded
    texts = [name for name in rows if isinstance(rows[name].dtype, pd.StringDtype)]  # slow to read one by one
    # Matrices are small, so BLAS threads would only wait for each other.
    with threadpool_limits(1, "blas"), pd.option_context("future.infer_string", False):
        rows = rows.astype(dict.fromkeys(texts, "category")).astype(dict.fromkeys(texts, object))
        contents, shown = _build(rows, tested, origin, options, replace(images, images_of=cache(images.images_of)))
    # The key does not cover the code of a user's own tables, and a failure of pdflatex may be temporary.
    lacks_pdf = options.paper and shutil.which("pdflatex") and not shown["paper"].endswith(".pdf")
    key = "" if options.tables or lacks_pdf else key
    return write_made(storage, folder, key, contents, {**shown, "counts": dict(counts or {})}, options.color)


def _build(
    rows: pd.DataFrame, tested: Mapping[str, Tested], origin: Origin, options: Options, images: Images
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return the report's files (name -> bytes), and its headline, verdicts and terminal texts for the manifest."""
    with Workers(int(len(rows) > MIN_ROWS_FOR_WORKER and cores() > 1), "reports.figures") as workers:
        report = ReportContent(rows, tested, origin, options, images.images_of)
        drawings = all_drawings(report.results, report.compared, options)
        scope = Scope(report.results, origin.names)
        begun = workers.begin(_rendered, [(one,) for one in (*drawings, *report.tables)])
        head, records = {"report.md": _markdown(report, drawings)}, _records(report)
        whole = {"tables/all.tex": all_tex(report.tables).encode()} if report.tables else {}
        rendered = begun()
        figures = [one for one in rendered if isinstance(one, Figure)]
        of_tables = [one for one in rendered if not isinstance(one, Figure)]
        forms = dict(zip((table.name for table in report.tables), of_tables, strict=True))
        head["index.html"] = _page(report, forms, images.thumbnails_of)
        tables = {f"tables/{t}.{suffix}": of_one[suffix].encode() for t, of_one in forms.items() for suffix in FORMATS}
        contents = head | tables | whole | records
    if figures:
        in_markdown, in_latex = captions(figures, left_out(report.results))
        contents |= {f"figures/{one.name}.{suffix}": data for one in figures for suffix, data in one.contents.items()}
        contents |= {"figures/captions.md": in_markdown.encode(), "figures/captions.tex": in_latex.encode()}
    paper = Paper({}, "")
    if options.paper:
        beside = [published.gate_sentence(report.checks), scope.sentence]
        opening = [*answer_paragraphs(report.answer), *origin.missing, *filter(None, beside), *report.provenance]
        title = f"{BANNER}: {origin.name}" if report.random else origin.name
        paper = write_paper(title, opening, *chapters(scope, report.tables, figures, report.checks))
    gaps = [*sentences.wrong_in_words(report.controls), *origin.missing]
    return contents | paper.contents, {
        "headline": headline(report.answer),
        "verdicts": [[*one.items()] for one in report.verdicts],  # pairs keep their order in JSON
        # `_report_files` appends the path of the page.
        "texts": [summary.terminal_text(report.answer, gaps, "", color) for color in (False, True)],
        "paper": paper.main,
        "note": paper.note,
    }


def _rendered(one: Drawing | Table) -> Iterable[Figure | Mapping[str, str]]:
    """Return one item: the drawn figure, or a dictionary with the text of the table for each file suffix."""
    forms = {**FORMATS, "html": html}
    return [{suffix: form(one) for suffix, form in forms.items()}] if isinstance(one, Table) else drawn([one])


def _provenance(rows: pd.DataFrame, origin: Origin) -> list[str]:
    """Return a sentence with numbers of rows and trials, hashes of recipes, code versions and stores; then encoders."""
    recipes, versions = (", ".join(sorted(set(map(str, rows[column])))) for column in ("recipe_hash", "code_version"))
    own = rows[rows["projection"] != IMPORTED]
    trials, imported = own["trial_id"].nunique(), len(rows) - len(own)
    more = f" and {imported:,} imported ones" if imported else ""
    stores = f" Stores: {', '.join(origin.stores)}." if len(origin.stores) > 1 else ""
    sums = f"{len(own):,} result rows of {trials:,} trials{more}; recipe {recipes}; code {versions}.{stores}"
    return [sums, *origin.encoders]


def _records(report: ReportContent) -> dict[str, bytes]:
    """Return the CSV files that have a row per result, as bytes by path."""
    # A new file also needs its name in `_TAKEN` of reports/tables/all.py, and a line in docs/report.md.
    results, margin = report.results, report.options.margin
    made = [(setting, selections, f) for (setting, selections), f in zip(results, report.findings, strict=True)]
    # The values are generators, so that only one of the long tables is in memory at a time.
    records: dict[str, Iterable[dict[str, object]]] = {
        "verdicts": report.verdicts,
        "accuracies": report.accuracies,
        "differences": (named(s) | c for s, _, f in made for one in f.compared for c in to_records(one, margin)),
        "over_data_sets": (named(f.settings[0]) | overall_record(x) for f in report.families for x in f.members),
        "controls": (named(s) | one.record() for s, one in report.controls),
        "picks": (named(s) | pick for s, selections in results for pick in pick_records(selections)),
        "findings": (named(one[0]) | {"finding": words} for one in made for words in sentences.notes(*one)),
        "against_published": map(published.record_of, report.checks),
    }
    contents = {f"tables/{name}.csv": records_csv(of).encode() for name, one in records.items() if (of := [*one])}
    lined = [(s, x, lines) for (s, x), lines in zip(results, lines_of(results), strict=True)]
    contents["tables/metrics.csv"] = metrics.metrics_csv(lined).encode()
    contents["tables/per_class.csv"] = metrics.per_class_csv(results).encode()
    return contents


def _page(report: ReportContent, forms: Mapping[str, Mapping[str, str]], thumbnails_of: ThumbnailsOf | None) -> bytes:
    ledger, thumbnails = [("provenance", words) for words in report.provenance], None
    if thumbnails_of is not None:
        ids = wanted(report.predictions.values())
        thumbnails = thumbnails_of(ids)
        ledger.append(("thumbnails", f"{len(thumbnails.places):,} of {len(ids):,} images in the page's lists"))
    shown = report.origin, report.answer, report.results, report.tables, report.options
    return page(PageContent(*shown, forms, report.predictions, ledger, thumbnails))


def _markdown(report: ReportContent, drawings: Sequence[Drawing]) -> bytes:
    more = {
        "What explains it": sentences.decodability(report.results),
        "Over all data sets": sentences.overall_sentences(report.families),
        "Controls": [sentences.in_a_sentence(setting, one) for setting, one in report.controls],
        "Against published numbers": [published.gate_sentence(report.checks)] if report.checks else [],
        "Protocol": protocols(report.results, report.options),
        "Provenance": report.provenance,
    }
    settings, names = [setting for setting, _ in report.results], [one.name for one in drawings]
    return summary.report_markdown(report.origin, settings, report.answer, report.tables, names, more).encode()
