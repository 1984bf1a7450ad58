"""Write one report from result rows: the answer, tables in five formats, figures in three, and one HTML page.

`icm-bench run` and `icm-bench report` call `write_report`. The manifest `made.json` holds a key, which is a hash of all
inputs. A report is not built again while its key is unchanged.
"""

import hashlib
import pickle
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import pandas as pd
from threadpoolctl import threadpool_limits

from benchmark.common.code import packages_as_they_are
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.common.terminal.progress import Progress, tell
from benchmark.common.workers import Workers, at_once, cores
from benchmark.method.evaluation.metrics import ACCURACY
from benchmark.method.evaluation.selection import IMPORTED
from benchmark.method.evaluation.tested import Tested
from benchmark.store.sealed import read_json, sealed_json
from reports.analysis import findings, metrics, verdicts
from reports.analysis.backbones import lines_of
from reports.analysis.comparisons import overall_record, to_records
from reports.analysis.published_checks import against_published
from reports.analysis.selections import ImagesOf, Predicted, Selections, pick_records, predictions_of
from reports.analysis.settings import BANNER, Options, by_setting, named
from reports.document.paper import Paper, Scope, answer_paragraphs, chapters, write_paper
from reports.figures import Drawing, Figure, all_drawings, captions, drawn, left_out
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


MADE = "made.json"
_PACKAGES = ("jinja2", "matplotlib", "numpy", "pandas", "scipy")  # packages whose versions enter the key


@dataclass(frozen=True)
class ReportFiles:
    """Result of `write_report`.

    Attributes:
        report: path or URI of report.md.
        files: paths or URIs of all files, report.md first.
        text: the answer for a terminal, 80 characters wide.
        headline: headline of the answer.
        verdicts: one record for each verdict; the field `sentence` is the verdict in words.
        built: whether the report was built now; False if it existed with equal rows, options and code.
    """

    report: str
    files: list[str]
    text: str
    headline: str
    verdicts: list[dict[str, Any]]
    built: bool


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
) -> ReportFiles:
    """Write the report of result rows into one folder, unless it is up to date. Equal rows give equal bytes.

    The report is up to date if `made.json` in the folder has the key of these inputs, and no file was changed or is
    missing.

    Args:
        rows: result rows from `benchmark.store.rows.read_rows`, of any number of data sets and backbones.
        tested: hash in the column `tested` of the rows -> test images, see `benchmark.store.tested.read_tested`.
        storage: storage to write to.
        folder: folder inside the storage, or "" for its top level. Files with the same names are replaced.
        origin: provenance of the rows, and missing results.
        options: options of the report; by default `Options()`.
        images: lists and thumbnails of images; by default none.

    Raises:
        IcmBenchError: there are no rows, a method requested for comparison is unknown, or a file cannot be written.
    """
    if rows.empty:
        raise IcmBenchError(
            f"There are no result rows for the report '{origin.name}'; run `icm-bench sweep RECIPE` first."
        )
    options, images = options or Options(), images or Images()
    lists = cache(images.images_of)
    own_tables(options.tables)  # fails before any work if a table cannot be loaded
    there = [name for name in sorted(set(rows["images"].dropna())) if lists(name) is not None]
    own = [metric.implementation for metric in (*options.metrics, *options.metric_of.values())]
    pdf = options.paper and shutil.which("pdflatex") is not None
    inputs = replace(options, color=False), own, pdf, images.thumbnails_of is not None
    # `Origin.costs` also has costs of commands, which a report does not show.
    shown = [cost for cost in origin.costs if "kind" not in cost or cost["kind"][0] in ("embedding", "trial")]
    origin = replace(origin, costs=() if options.price is None else tuple(shown))
    key = key_of(rows, sorted(tested), there, origin, *inputs)
    if made := unchanged(storage, folder, key):
        tell("report: up to date; rows, options and code are unchanged.")
        return _report_files(made, storage, folder, options.color, built=False)
    texts = [name for name in rows if isinstance(rows[name].dtype, pd.StringDtype)]  # slow to read one by one
    # Matrices are small, so BLAS threads would only wait for each other.
    with threadpool_limits(1, "blas"), pd.option_context("future.infer_string", False):
        rows = rows.astype(dict.fromkeys(texts, "category")).astype(dict.fromkeys(texts, object))
        contents, summary_data = _build(rows, tested, origin, options, replace(images, images_of=lists))
    # The key does not cover the code of a user's own tables, and a failure of pdflatex may be temporary.
    is_cacheable = not options.tables and (not pdf or summary_data["paper"].endswith(".pdf"))
    made = write_made(storage, folder, key if is_cacheable else "", contents, summary_data)
    return _report_files(made, storage, folder, options.color, built=True)


def _report_files(made: Mapping[str, Any], storage: Storage, folder: str, color: bool, built: bool) -> ReportFiles:
    """Return the `ReportFiles` that a manifest describes."""
    paths = {name: storage.path(_name(folder, name)) for name in [*dict(made["files"]), MADE]}
    page, paper = paths["index.html"], made["paper"]
    shown = [made["texts"][color] + page, *([f"Paper: {paths[paper]}"] if paper else []), made["note"]]
    answer, every = "\n".join(filter(None, shown)), [dict(one) for one in made["verdicts"]]
    return ReportFiles(paths["report.md"], [*paths.values()], answer, made["headline"], every, built)


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
    """Return one sentence with the numbers of rows and trials, hashes of recipes, code versions, and stores."""
    recipes, versions = (", ".join(sorted(set(map(str, rows[column])))) for column in ("recipe_hash", "code_version"))
    own = rows[rows["projection"] != IMPORTED]
    trials, imported = own["trial_id"].nunique(), len(rows) - len(own)
    more = f" and {imported:,} imported ones" if imported else ""
    stores = f" Stores: {', '.join(origin.stores)}." if len(origin.stores) > 1 else ""
    return [f"{len(own):,} result rows of {trials:,} trials{more}; recipe {recipes}; code {versions}.{stores}"]


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


def key_of(rows: pd.DataFrame, *inputs: object) -> str:
    """Return the hash (SHA-256, hex) of rows, code, package versions and further inputs of a report.

    Equal `inputs` must have an equal `repr`.
    """
    digest = hashlib.sha256(repr([packages_as_they_are(), *map(version, _PACKAGES), *inputs]).encode())
    values = pickle.Pickler(SimpleNamespace(write=digest.update), protocol=5)
    values.fast = True  # no memo: equal values give equal bytes, even if they are distinct objects
    for name, column in rows.items():
        values.dump((name, column.tolist()))
    return digest.hexdigest()


def unchanged(storage: Storage, folder: str, key: str) -> dict[str, Any] | None:
    """Return the manifest in the folder if it has this key and all its files are unchanged; else None."""
    try:
        made: dict[str, Any] = read_json(storage, _name(folder, MADE))
        if made["key"] != key:
            return None

        def is_same(file: Sequence[str]) -> bool:
            return hashlib.sha256(storage.read_bytes(_name(folder, file[0]))).hexdigest() == file[1]

        progress = Progress("comparing", len(made["files"]), "files")
        read = at_once(is_same, made["files"], progress, local=storage.is_local)
        return made if all(read) else None
    except (IcmBenchError, KeyError, TypeError, IndexError):  # no manifest, or a file is missing or damaged
        return None


def write_made(
    storage: Storage, folder: str, key: str, contents: Mapping[str, bytes], summary_data: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the files of a report, then its manifest; return the manifest.

    A report with the key "" is always built again.
    """
    storage.write_files(folder, contents)
    files = [(name, hashlib.sha256(content).hexdigest()) for name, content in contents.items()]
    made = {**summary_data, "key": key, "files": files}
    storage.write_bytes(_name(folder, MADE), sealed_json(made))
    return made


def _name(folder: str, file: str) -> str:
    return f"{folder}/{file}" if folder else file
