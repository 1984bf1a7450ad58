"""Write one report from result rows alone: the answer, tables in five forms, figures in three, one page.

What it was made of lies in a file beside the others: with nothing changed it is not made again.
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
from reports.analysis import against, chosen, findings, metrics, verdicts
from reports.analysis.backbones import lines_of
from reports.analysis.chosen import ImagesOf, predictions_of
from reports.analysis.comparisons import in_columns, overall_in_columns
from reports.analysis.settings import BANNER, Options, by_setting, named
from reports.document.paper import Paper, Scope, answer_paragraphs, chapters, write_paper
from reports.figures import Drawing, Figure, all_drawings, captions, drawn, left_out
from reports.page.build import PageContent, page
from reports.page.data import Images, ThumbnailsOf, wanted
from reports.render import FORMS, all_tex
from reports.render.forms import html, records_csv
from reports.render.table import Table
from reports.tables import paper_tables, published
from reports.tables.all import own_tables
from reports.tables.cells import accuracy_records
from reports.text import sentences, summary
from reports.text.captions import protocols
from reports.text.sentences import Origin
from reports.text.verdicts import headline, sentence

FEW = 500  # rows: of more, it pays to start a process that draws the figures


MADE = "made.json"
_OTHERS = ("jinja2", "matplotlib", "numpy", "pandas", "scipy")  # packages whose versions count


@dataclass(frozen=True)
class ReportFiles:
    """What `write_report` wrote.

    Attributes:
        report: path or URI of report.md.
        files: paths or URIs of all files, report.md first.
        text: the answer for a terminal, 80 characters wide.
        headline: of the answer.
        verdicts: a record of each verdict, with its sentence.
        built: whether they were written now; False where they lay there, made of the same rows, options and code.
    """

    report: str
    files: list[str]
    text: str
    headline: str
    verdicts: list[dict[str, Any]]
    built: bool


class ReportContent:
    """A report before it is rendered: settings, comparisons, answer, tables and predictions.

    Attributes:
        compared: what the forest shows: of each verdict the gain, then what could explain it away.
        verdicts: a record of each verdict, with its sentence.
    """

    def __init__(
        self, rows: pd.DataFrame, tested: Mapping[str, Tested], origin: Origin, options: Options, images_of: ImagesOf
    ) -> None:
        self.origin, self.options, self.provenance = origin, options, _provenance(rows, origin)
        predicted = chosen.Predicted(rows)
        self.described = [
            (s, chosen.Selections(part, tested, predicted, options.metrics, options.metric_of.get(s.dataset, ACCURACY)))
            for s, part in by_setting(rows)
        ]
        findings.check_asked([selections for _, selections in self.described], options.compare)
        self.accuracies = list(accuracy_records(self.described, options))  # most of the work, with progress printed
        self.findings = [findings.comparisons(setting, selections, options) for setting, selections in self.described]
        of_settings = [(setting, found) for (setting, _), found in zip(self.described, self.findings, strict=True)]
        self.families = findings.overall(of_settings)
        known = [(s, f.compared, origin.expected[s.dataset]) for s, f in of_settings if s.dataset in origin.expected]
        self.controls = [(s, one) for s, made, of in known if (one := findings.control_result(made, of))]
        self.answer = verdicts.answer(self.described, self.findings)
        self.compared = [(one.setting, x) for one in self.answer.verdicts for x in (one.gain, *one.others) if x]
        self.verdicts = [one.record() | {"sentence": sentence(one)} for one in self.answer.verdicts]
        held = options.published or options.paper
        self.checks = against.against_published(self.described, options) if held else []
        tables = paper_tables(self.described, options, costs=origin.costs, names=origin.names)
        self.tables = [table for table in (*tables, published.table_of(self.checks)) if table]
        self.predictions = {s: predictions_of(selections, images_of) for s, selections in self.described}
        self.random = any(setting.random_weights for setting, _ in self.described)


def write_report(
    rows: pd.DataFrame,
    tested: Mapping[str, Tested],
    storage: Storage,
    folder: str,
    origin: Origin,
    options: Options | None = None,
    images: Images | None = None,
) -> ReportFiles:
    """Write the report of result rows into one folder, unless it is there. Equal rows give equal bytes.

    The folder keeps what the report is made of, in `made.json`. Where that is the same as now and no file was changed
    or is gone, nothing is built.

    Args:
        rows: as `benchmark.store.rows.read_rows` returns them, of any number of data sets and backbones.
        tested: hash -> the tested images that rows name by it, see `benchmark.store.tested.read_tested`.
        storage: where to write.
        folder: folder inside the storage, "" for the storage itself; files of the same names are replaced.
        origin: where the rows come from, and what is missing.
        options: what the reader asks for.
        images: lists and thumbnails of images; by default there are none.

    Raises:
        IcmBenchError: there are no rows, a method that is to be compared is unknown, or a file cannot be written.
    """
    if rows.empty:
        raise IcmBenchError(
            f"There are no result rows for the report '{origin.name}'; run `icm-bench sweep RECIPE` first."
        )
    options, images = options or Options(), images or Images()
    lists = cache(images.images_of)
    own_tables(options.tables)  # a table that cannot be loaded ends the report before any work
    there = [name for name in sorted(set(rows["images"].dropna())) if lists(name) is not None]
    own = [metric.implementation for metric in (*options.metrics, *options.metric_of.values())]
    pdf = options.paper and shutil.which("pdflatex") is not None
    asked = replace(options, color=False), own, pdf, images.thumbnails_of is not None
    # Each command adds some costs that a report does not show.
    shown = [cost for cost in origin.costs if "kind" not in cost or cost["kind"][0] in ("embedding", "trial")]
    origin = replace(origin, costs=() if options.price is None else tuple(shown))
    key = key_of(rows, sorted(tested), there, origin, *asked)
    if made := unchanged(storage, folder, key):
        tell("report: up to date; rows, options and code are those that it was made of.")
        return _answered(made, storage, folder, options.color, built=False)
    words = [name for name in rows if isinstance(rows[name].dtype, pd.StringDtype)]  # slow to read one by one
    # Matrices are small, so that threads of BLAS would wait for each other.
    with threadpool_limits(1, "blas"), pd.option_context("future.infer_string", False):
        rows = rows.astype(dict.fromkeys(words, "category")).astype(dict.fromkeys(words, object))
        contents, answered = _built(rows, tested, origin, options, replace(images, images_of=lists))
    # What a table of the user's own computes is not known here; why pdflatex failed may be mended by the next time.
    lasts = not options.tables and (not pdf or answered["paper"].endswith(".pdf"))
    made = write_made(storage, folder, key if lasts else "", contents, answered)
    return _answered(made, storage, folder, options.color, built=True)


def _answered(made: Mapping[str, Any], storage: Storage, folder: str, color: bool, built: bool) -> ReportFiles:
    """Return the result of a report from the manifest of its folder."""
    paths = {name: storage.path(_name(folder, name)) for name in [*dict(made["files"]), MADE]}
    page, paper = paths["index.html"], made["paper"]
    shown = [made["texts"][color] + page, *([f"Paper: {paths[paper]}"] if paper else []), made["note"]]
    answer, every = "\n".join(filter(None, shown)), [dict(one) for one in made["verdicts"]]
    return ReportFiles(paths["report.md"], [*paths.values()], answer, made["headline"], every, built)


def _built(
    rows: pd.DataFrame, tested: Mapping[str, Tested], origin: Origin, options: Options, images: Images
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return the files of a report, and as plain data what is said of it."""
    with Workers(int(len(rows) > FEW and cores() > 1), "reports.figures") as workers:
        report = ReportContent(rows, tested, origin, options, images.images_of)
        drawings = all_drawings(report.described, report.compared, options)
        scope = Scope(report.described, origin.names)
        begun = workers.begin(_rendered, [(one,) for one in (*drawings, *report.tables)])
        head, records = {"report.md": _markdown(report, drawings)}, _records(report)
        whole = {"tables/all.tex": all_tex(report.tables).encode()} if report.tables else {}
        rendered = begun()
        figures = [one for one in rendered if isinstance(one, Figure)]
        of_tables = [one for one in rendered if not isinstance(one, Figure)]
        forms = dict(zip((table.name for table in report.tables), of_tables, strict=True))
        head["index.html"] = _page(report, forms, images.thumbnails_of)
        tables = {f"tables/{t}.{suffix}": of_one[suffix].encode() for t, of_one in forms.items() for suffix in FORMS}
        contents = head | tables | whole | records
    if figures:
        in_markdown, in_latex = captions(figures, left_out(report.described))
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
        "verdicts": [[*one.items()] for one in report.verdicts],  # pairs, whose order JSON keeps
        # They end with the page's place.
        "texts": [summary.terminal_text(report.answer, gaps, "", color) for color in (False, True)],
        "paper": paper.main,
        "note": paper.note,
    }


def _rendered(one: Drawing | Table) -> Iterable[Figure | Mapping[str, str]]:
    """Return a figure that is drawn, or suffix -> a table in that form."""
    forms = {**FORMS, "html": html}
    return [{suffix: form(one) for suffix, form in forms.items()}] if isinstance(one, Table) else drawn([one])


def _provenance(rows: pd.DataFrame, origin: Origin) -> list[str]:
    """Return a sentence on the number of rows and trials, and on recipes, versions and stores."""
    recipes, versions = (", ".join(sorted(set(map(str, rows[column])))) for column in ("recipe_hash", "code_version"))
    own = rows[rows["projection"] != IMPORTED]
    trials, imported = own["trial_id"].nunique(), len(rows) - len(own)
    more = f" and {imported:,} imported ones" if imported else ""
    stores = f" Stores: {', '.join(origin.stores)}." if len(origin.stores) > 1 else ""
    return [f"{len(own):,} result rows of {trials:,} trials{more}; recipe {recipes}; code {versions}.{stores}"]


def _records(report: ReportContent) -> dict[str, bytes]:
    """Return the tidy files: a line for each verdict, comparison, pick, metric, class, sentence."""
    described, margin = report.described, report.options.margin
    made = [(setting, selections, f) for (setting, selections), f in zip(described, report.findings, strict=True)]
    # Made one after the other, since some are long.
    records: dict[str, Iterable[dict[str, object]]] = {
        "verdicts": report.verdicts,
        "accuracies": report.accuracies,
        "differences": (named(s) | c for s, _, f in made for one in f.compared for c in in_columns(one, margin)),
        "over_data_sets": (named(f.settings[0]) | overall_in_columns(x) for f in report.families for x in f.members),
        "controls": (named(s) | one.in_columns() for s, one in report.controls),
        "picks": (named(s) | pick for s, selections in described for pick in chosen.pick_records(selections)),
        "findings": (named(one[0]) | {"finding": words} for one in made for words in sentences.notes(*one)),
        "against_published": map(published.record_of, report.checks),
    }
    contents = {f"tables/{name}.csv": records_csv(of).encode() for name, one in records.items() if (of := [*one])}
    lined = [(s, x, lines) for (s, x), lines in zip(described, lines_of(described), strict=True)]
    contents["tables/metrics.csv"] = metrics.metrics_csv(lined).encode()
    contents["tables/per_class.csv"] = metrics.per_class_csv(described).encode()
    return contents


def _page(report: ReportContent, forms: Mapping[str, Mapping[str, str]], thumbnails_of: ThumbnailsOf | None) -> bytes:
    ledger, thumbnails = [("provenance", words) for words in report.provenance], None
    if thumbnails_of is not None:
        ids = wanted(report.predictions.values())
        thumbnails = thumbnails_of(ids)
        ledger.append(("thumbnails", f"{len(thumbnails.places):,} of {len(ids):,} images that a list names"))
    shown = report.origin, report.answer, report.described, report.tables, report.options
    return page(PageContent(*shown, forms, report.predictions, ledger, thumbnails))


def _markdown(report: ReportContent, drawings: Sequence[Drawing]) -> bytes:
    more = {
        "What explains it": sentences.decodability(report.described),
        "Over all data sets": sentences.overall_sentences(report.families),
        "Controls": [sentences.in_a_sentence(setting, one) for setting, one in report.controls],
        "Against published numbers": [published.gate_sentence(report.checks)] if report.checks else [],
        "Protocol": protocols(report.described, report.options),
        "Provenance": report.provenance,
    }
    settings, names = [setting for setting, _ in report.described], [one.name for one in drawings]
    return summary.report_markdown(report.origin, settings, report.answer, report.tables, names, more).encode()


def key_of(rows: pd.DataFrame, *said: object) -> str:
    """Return the hash (SHA-256, hex) of all that a report is made of: rows, code, and whatever else is said.

    `said` is anything whose `repr` is equal where it is equal.
    """
    digest = hashlib.sha256(repr([packages_as_they_are(), *map(version, _OTHERS), *said]).encode())
    values = pickle.Pickler(SimpleNamespace(write=digest.update), protocol=5)
    values.fast = True  # no references: equal values are equal bytes, whether or not they are one object
    for name, column in rows.items():
        values.dump((name, column.tolist()))
    return digest.hexdigest()


def unchanged(storage: Storage, folder: str, key: str) -> dict[str, Any] | None:
    """Return what was kept of a report with this key whose files are all as they were written; None where none is."""
    try:
        made: dict[str, Any] = read_json(storage, _name(folder, MADE))
        if made["key"] != key:
            return None

        def is_same(file: Sequence[str]) -> bool:
            return hashlib.sha256(storage.read_bytes(_name(folder, file[0]))).hexdigest() == file[1]

        progress = Progress("comparing", len(made["files"]), "files")
        read = at_once(is_same, made["files"], progress, local=storage.is_local)
        return made if all(read) else None
    except (IcmBenchError, KeyError, TypeError, IndexError):  # there is none, or a file is gone or damaged
        return None


def write_made(
    storage: Storage, folder: str, key: str, contents: Mapping[str, bytes], said: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the files of a report and, after all of them, what it was made of; return what is kept.

    A report with the key "" is made again in any case.
    """
    storage.write_files(folder, contents)
    files = [(name, hashlib.sha256(content).hexdigest()) for name, content in contents.items()]
    made = {**said, "key": key, "files": files}
    storage.write_bytes(_name(folder, MADE), sealed_json(made))
    return made


def _name(folder: str, file: str) -> str:
    return f"{folder}/{file}" if folder else file
