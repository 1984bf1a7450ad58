"""Write one report from result rows alone: the answer, tables in five forms, figures in three, one page."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pandas as pd
from threadpoolctl import threadpool_limits

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.common.terminal.progress import tell
from benchmark.common.workers import Workers, cores
from benchmark.method.evaluation.metrics import ACCURACY
from benchmark.method.evaluation.selection import IMPORTED
from benchmark.method.evaluation.tested import Tested
from reports.analysis import against, chosen, controls, findings, metrics, verdicts
from reports.analysis.backbones import lines_of
from reports.analysis.comparisons import Comparison, in_columns, overall_in_columns
from reports.analysis.options import Options
from reports.analysis.predictions import ImagesOf, predictions_of
from reports.analysis.settings import BANNER, Setting, by_setting, named
from reports.document.chapters import Scope, chapters
from reports.document.paper import Paper, answer_paragraphs, write_paper
from reports.figures import Drawing, Figure, all_drawings, captions, drawn, left_out
from reports.made import MADE, key_of, unchanged, write_made
from reports.page.build import page
from reports.page.data import ThumbnailsOf, wanted
from reports.render import FORMS, all_tex
from reports.render.data import records_csv
from reports.render.html import html
from reports.render.table import Table
from reports.tables import paper_tables, published
from reports.tables.accuracies import accuracy_records
from reports.tables.all import own_tables
from reports.text import sentences, summary, terminal
from reports.text.captions import protocols
from reports.text.headline import headline
from reports.text.origin import Origin
from reports.text.verdicts import sentence

FEW = 500  # rows: of more, it pays to start a process that draws the figures


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


class _Said:
    """The content of a report before it is rendered: settings, comparisons, answer, tables and predictions."""

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
        self.controls = controls.verdicts(of_settings, origin.expected)
        self.answer = verdicts.answer(self.described, self.findings)
        held = options.published or options.paper
        self.checks = against.against_published(self.described, options) if held else []
        tables = paper_tables(self.described, options, costs=origin.costs, names=origin.names)
        self.tables = [table for table in (*tables, published.table_of(self.checks)) if table]
        self.predictions = {s: predictions_of(selections, images_of) for s, selections in self.described}

    @property
    def verdicts(self) -> list[dict[str, Any]]:
        """A record of each verdict, with its sentence."""
        return [one.record() | {"sentence": sentence(one)} for one in self.answer.verdicts]

    @property
    def compared(self) -> list[tuple[Setting, Comparison]]:
        """What the forest shows: of each verdict the gain, then what could explain it away."""
        return [(one.setting, own) for one in self.answer.verdicts for own in (one.gain, *one.others) if own]


def write_report(
    rows: pd.DataFrame,
    tested: Mapping[str, Tested],
    storage: Storage,
    folder: str,
    origin: Origin,
    options: Options | None = None,
    images_of: ImagesOf | None = None,
    thumbnails_of: ThumbnailsOf | None = None,
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
        images_of: returns the list of images that rows name by a hash, or None; by default there is none.
        thumbnails_of: returns thumbnails of images, given by their ids, those first that matter most; by default the
            page has none.

    Raises:
        IcmBenchError: there are no rows, a method that is to be compared is unknown, or a file cannot be written.
    """
    if rows.empty:
        raise IcmBenchError(
            f"There are no result rows for the report '{origin.name}'; run `icm-bench sweep RECIPE` first."
        )
    options, lists = options or Options(), cache(images_of or (lambda _: None))
    own_tables(options.tables)  # a table that cannot be loaded ends the report before any work
    there = [name for name in sorted(set(rows["images"].dropna())) if lists(name) is not None]
    own = [metric.implementation for metric in (*options.metrics, *options.metric_of.values())]
    pdf = options.paper and shutil.which("pdflatex") is not None
    asked = replace(options, color=False), own, pdf, thumbnails_of is not None
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
        contents, answered = _built(rows, tested, origin, options, lists, thumbnails_of)
    # What a table of the user's own computes is not known here; why pdflatex failed may be mended by the next time.
    lasts = not options.tables and (not pdf or answered["paper"].endswith(".pdf"))
    made = write_made(storage, folder, key if lasts else "", contents, answered)
    return _answered(made, storage, folder, options.color, built=True)


def _answered(made: Mapping[str, Any], storage: Storage, folder: str, color: bool, built: bool) -> ReportFiles:
    """Return the result of a report from the manifest of its folder."""
    paths = {name: storage.path(f"{folder}/{name}" if folder else name) for name in [*dict(made["files"]), MADE]}
    page, paper = paths["index.html"], made["paper"]
    shown = [made["texts"][color] + page, *([f"Paper: {paths[paper]}"] if paper else []), made["note"]]
    answer, every = "\n".join(filter(None, shown)), [dict(one) for one in made["verdicts"]]
    return ReportFiles(paths["report.md"], [*paths.values()], answer, made["headline"], every, built)


def _built(
    rows: pd.DataFrame,
    tested: Mapping[str, Tested],
    origin: Origin,
    options: Options,
    images_of: ImagesOf,
    thumbnails_of: ThumbnailsOf | None,
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return the files of a report, and as plain data what is said of it."""
    with Workers(int(len(rows) > FEW and cores() > 1), "reports.figures") as workers:
        said = _Said(rows, tested, origin, options, images_of)
        drawings = all_drawings(said.described, said.compared, options)
        scope = Scope(said.described, origin.names)
        begun = workers.begin(_rendered, [(one,) for one in (*drawings, *said.tables)])
        head, records = {"report.md": _markdown(said, drawings)}, _records(said)
        whole = {"tables/all.tex": all_tex(said.tables).encode()} if said.tables else {}
        rendered, forms = begun(), dict[str, Mapping[str, str]]()
        figures = [one for one in rendered if isinstance(one, Figure)]
        forms |= zip((t.name for t in said.tables), (x for x in rendered if not isinstance(x, Figure)), strict=True)
        head["index.html"] = _page(said, forms, thumbnails_of)
        tables = {f"tables/{t}.{suffix}": of_one[suffix].encode() for t, of_one in forms.items() for suffix in FORMS}
        contents = head | tables | whole | records
    if figures:
        in_markdown, in_latex = captions(figures, left_out(said.described))
        contents |= {f"figures/{one.name}.{suffix}": data for one in figures for suffix, data in one.contents.items()}
        contents |= {"figures/captions.md": in_markdown.encode(), "figures/captions.tex": in_latex.encode()}
    paper = _paper(said, figures, scope) if options.paper else None
    gaps = [*sentences.wrong_in_words(said.controls), *origin.missing]
    return contents | (paper.contents if paper else {}), {
        "headline": headline(said.answer),
        "verdicts": [[*one.items()] for one in said.verdicts],  # pairs, whose order JSON keeps
        # They end with the page's place.
        "texts": [terminal.text(said.answer, gaps, "", color) for color in (False, True)],
        "paper": paper.main if paper else "",
        "note": paper.note if paper else "",
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


def _paper(said: _Said, figures: Sequence[Figure], scope: Scope) -> Paper:
    """Return what a paper has room for as one document, in the order of the paper."""
    random = any(setting.random_weights for setting, _ in said.described)
    title = f"{BANNER}: {said.origin.name}" if random else said.origin.name
    beside = [published.gate_sentence(said.checks), scope.sentence]
    opening = [*answer_paragraphs(said.answer), *said.origin.missing, *filter(None, beside), *said.provenance]
    return write_paper(title, opening, *chapters(scope, said.tables, figures, said.checks))


def _records(said: _Said) -> dict[str, bytes]:
    """Return the tidy files: a line for each verdict, comparison, pick, metric, class, sentence."""
    described, margin = said.described, said.options.margin
    made = [(setting, selections, f) for (setting, selections), f in zip(described, said.findings, strict=True)]
    # Made one after the other, since some are long.
    records: dict[str, Iterable[dict[str, object]]] = {
        "verdicts": said.verdicts,
        "accuracies": said.accuracies,
        "differences": (named(s) | c for s, _, f in made for one in f.compared for c in in_columns(one, margin)),
        "over_data_sets": (named(f.settings[0]) | overall_in_columns(one) for f in said.families for one in f.members),
        "controls": (named(s) | one.in_columns() for s, one in said.controls),
        "picks": (named(s) | pick for s, selections in described for pick in chosen.pick_records(selections)),
        "findings": (named(one[0]) | {"finding": words} for one in made for words in sentences.notes(*one)),
        "against_published": published.records_of(said.checks),
    }
    contents = {f"tables/{name}.csv": records_csv(of).encode() for name, one in records.items() if (of := [*one])}
    lined = [(s, x, lines) for (s, x), lines in zip(described, lines_of(described), strict=True)]
    contents["tables/metrics.csv"] = metrics.metrics_csv(lined).encode()
    contents["tables/per_class.csv"] = metrics.per_class_csv(described).encode()
    return contents


def _page(said: _Said, forms: Mapping[str, Mapping[str, str]], thumbnails_of: ThumbnailsOf | None) -> bytes:
    ledger, thumbnails = [("provenance", words) for words in said.provenance], None
    if thumbnails_of is not None:
        ids = wanted(said.predictions.values())
        thumbnails = thumbnails_of(ids)
        ledger.append(("thumbnails", f"{len(thumbnails.places):,} of {len(ids):,} images that a list names"))
    shown = said.origin, said.answer, said.described, said.tables, said.options
    return page(*shown, forms, said.predictions, ledger, thumbnails)


def _markdown(said: _Said, drawings: Sequence[Drawing]) -> bytes:
    more = {
        "What explains it": sentences.decodability(said.described),
        "Over all data sets": sentences.overall_sentences(said.families),
        "Controls": [sentences.in_a_sentence(setting, one) for setting, one in said.controls],
        "Against published numbers": [published.gate_sentence(said.checks)] if said.checks else [],
        "Protocol": protocols(said.described, said.options),
        "Provenance": said.provenance,
    }
    settings, names = [setting for setting, _ in said.described], [one.name for one in drawings]
    return summary.report_markdown(said.origin, settings, said.answer, said.tables, names, more).encode()
