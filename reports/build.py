"""Write one report from result rows alone: the answer, tables in five forms, figures in three, one page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pandas as pd

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage import Storage
from benchmark.common.workers import Workers, cores
from benchmark.method.evaluation.metrics import ACCURACY
from benchmark.method.evaluation.selection import IMPORTED
from benchmark.method.evaluation.tested import Tested
from reports.analysis.against import Check, against_published
from reports.analysis.chosen import Selections, pick_records
from reports.analysis.comparisons import Comparison, in_columns, overall_in_columns
from reports.analysis.controls import Verdict, verdicts
from reports.analysis.findings import Family, Findings, check_asked, comparisons, overall
from reports.analysis.metrics import metrics_csv, per_class_csv
from reports.analysis.options import Options
from reports.analysis.predicted import Predicted
from reports.analysis.predictions import ImagesOf, MethodPredictions, predictions_of
from reports.analysis.robustness import lines_of
from reports.analysis.settings import BANNER, Setting, by_setting, named
from reports.analysis.verdicts import Answer, answer
from reports.document import Paper, Scope, answer_paragraphs, write_paper
from reports.document.chapters import chapters
from reports.figures import (
    Drawing,
    Figure,
    all_drawings,
    captions,
    drawn,
    for_paper,
    left_out,
)
from reports.page.build import page
from reports.page.thumbnails import Thumbnails, ThumbnailsOf, wanted
from reports.render import FORMS, all_tex
from reports.render.records import records_csv
from reports.render.table import Table
from reports.tables import paper_tables
from reports.tables.accuracies import accuracy_records
from reports.text.captions import protocols
from reports.text.controls import in_a_sentence, wrong_in_words
from reports.text.headline import headline
from reports.text.notes import notes
from reports.text.origin import Origin
from reports.text.published_table import gate_sentence, records_of, table_of
from reports.text.sentences import decodability, overall_sentences
from reports.text.summary import Sections, report_markdown
from reports.text.terminal import text
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
        answer: what all of these say.
    """

    report: str
    files: list[str]
    text: str
    headline: str
    verdicts: list[dict[str, Any]]
    answer: Answer


@dataclass(frozen=True)
class _Said:
    """A report without its files: settings, what was found in each, and all that is said of them together."""

    described: list[tuple[Setting, Selections]]
    accuracies: list[dict[str, object]]
    findings: list[Findings]
    families: list[Family]
    controls: list[tuple[Setting, Verdict]]
    checks: list[Check]
    answer: Answer
    tables: list[Table]
    predictions: dict[Setting, list[MethodPredictions]]

    @property
    def verdicts(self) -> list[dict[str, Any]]:
        """A record of each verdict, with its sentence."""
        return [one.record() | {"sentence": sentence(one)} for one in self.answer.verdicts]

    @property
    def compared(self) -> list[tuple[Setting, Comparison]]:
        """What the forest shows: of each verdict the gain, then what could explain it away."""
        of_verdicts = [(one.setting, [*([one.gain] if one.gain else []), *one.others]) for one in self.answer.verdicts]
        return [(setting, comparison) for setting, every in of_verdicts for comparison in every]


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
    """Write the report of result rows into one folder. Equal rows give equal bytes.

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
    options = options or Options()
    with Workers(int(len(rows) > FEW and cores() > 1), "reports.figures") as workers:
        said = _said(rows, tested, origin, options, images_of or (lambda _: None))
        drawings = all_drawings(said.described, said.compared, options)
        scope = Scope(said.described, origin.names)
        figures = workers.begin(drawn, [([drawing],) for drawing in drawings])
        tables = _tables(said)
        contents = {
            "report.md": _markdown(said, drawings, rows, origin, options),
            "index.html": _page(said, tables, rows, origin, options, thumbnails_of),
            **tables,
            **_records(said, options.margin),
        }
        made = list(figures())
        contents |= _figures(made, said)
    paper = _paper(said, made, rows, origin, scope) if options.paper else None
    contents |= paper.contents if paper else {}
    files = storage.write_files(folder, contents)
    gaps = [*wrong_in_words(said.controls), *origin.missing]
    shown = text(said.answer, gaps, files["index.html"], options.color)
    ends = [shown, *([f"Paper: {files[paper.main]}", paper.note] if paper else [])]
    answered = headline(said.answer), said.verdicts, said.answer
    return ReportFiles(files["report.md"], list(files.values()), "\n".join(filter(None, ends)), *answered)


def _paper(said: _Said, figures: Sequence[Figure], rows: pd.DataFrame, origin: Origin, scope: Scope) -> Paper:
    """Return what a paper has room for as one document, in the order of the paper."""
    random = any(setting.random_weights for setting, _ in said.described)
    title = f"{BANNER}: {origin.name}" if random else origin.name
    opening = [
        *answer_paragraphs(said.answer),
        *origin.missing,
        gate_sentence(said.checks),
        *filter(None, [scope.sentence]),
        *_provenance(rows, origin),
    ]
    shown = for_paper(figures)
    return write_paper(title, opening, *chapters(scope, said.tables, shown, said.checks), shown)


def _said(
    rows: pd.DataFrame, tested: Mapping[str, Tested], origin: Origin, options: Options, images_of: ImagesOf
) -> _Said:
    predicted, lists = Predicted(rows), cache(images_of)
    described = [
        (s, Selections(part, tested, predicted, options.metrics, options.metric_of.get(s.dataset, ACCURACY)))
        for s, part in by_setting(rows)
    ]
    check_asked([selections for _, selections in described], options.compare)
    accuracies = list(accuracy_records(described, options))  # most of the work, of which progress is printed
    findings = [comparisons(setting, selections, options) for setting, selections in described]
    of_settings = [(setting, found) for (setting, _), found in zip(described, findings, strict=True)]
    checks = against_published(described, options) if options.published or options.paper else []
    published = table_of(checks) if checks else None
    costs = None if options.price is None else origin.costs  # seconds that were measured differ for equal rows
    tables = paper_tables(described, options, costs=costs, names=origin.names, price=options.price)
    return _Said(
        described,
        accuracies,
        findings,
        overall(of_settings),
        verdicts(of_settings, origin.expected),
        checks,
        answer(described, findings),
        [*tables, *([published] if published else [])],
        {setting: predictions_of(selections, lists) for setting, selections in described},
    )


def _tables(said: _Said) -> dict[str, bytes]:
    """Return the files of all tables, in every form."""
    if not said.tables:
        return {}
    made = {f"tables/{t.name}.{suffix}": form(t).encode() for t in said.tables for suffix, form in FORMS.items()}
    return made | {"tables/all.tex": all_tex(said.tables).encode()}


def _figures(figures: Sequence[Figure], said: _Said) -> dict[str, bytes]:
    """Return the files of all figures, and their captions."""
    if not figures:
        return {}
    contents = {f"figures/{one.name}.{suffix}": data for one in figures for suffix, data in one.contents.items()}
    in_markdown, in_latex = captions(figures, left_out(said.described))
    return contents | {"figures/captions.md": in_markdown.encode(), "figures/captions.tex": in_latex.encode()}


def _records(said: _Said, margin: float) -> dict[str, bytes]:
    """Return the tidy files: a line for each verdict, comparison, pick, metric, class, sentence."""
    described = said.described
    made = list(zip(described, said.findings, strict=True))
    families = [(f.settings[0], one) for f in said.families for one in f.members]
    records: dict[str, list[dict[str, object]]] = {
        "verdicts": said.verdicts,
        "accuracies": said.accuracies,
        "differences": [named(s) | c for (s, _), f in made for one in f.compared for c in in_columns(one, margin)],
        "over_data_sets": [named(setting) | overall_in_columns(one) for setting, one in families],
        "controls": [named(s) | one.in_columns() for s, one in said.controls],
        "picks": [named(setting) | pick for setting, selections in described for pick in pick_records(selections)],
        "findings": [named(s) | {"finding": words} for (s, selections), f in made for words in notes(s, selections, f)],
        "against_published": records_of(said.checks),
    }
    contents = {f"tables/{name}.csv": records_csv(lines).encode() for name, lines in records.items() if lines}
    lined = [(s, x, lines) for (s, x), lines in zip(described, lines_of(described), strict=True)]
    contents["tables/metrics.csv"] = metrics_csv(lined).encode()
    contents["tables/per_class.csv"] = per_class_csv(described).encode()
    return contents


def _page(
    said: _Said,
    files: Mapping[str, bytes],
    rows: pd.DataFrame,
    origin: Origin,
    options: Options,
    thumbnails_of: ThumbnailsOf | None,
) -> bytes:
    forms = {
        table.name: {suffix: files[f"tables/{table.name}.{suffix}"].decode() for suffix in ("tex", "csv", "md")}
        for table in said.tables
    }
    ledger = [("provenance", words) for words in _provenance(rows, origin)]
    thumbnails: Thumbnails | None = None
    if thumbnails_of is not None:
        ids = wanted(said.predictions.values())
        thumbnails = thumbnails_of(ids)
        ledger.append(("thumbnails", f"{len(thumbnails.places):,} of {len(ids):,} images that a list names"))
    return page(
        origin.name,
        said.answer,
        said.described,
        said.tables,
        options,
        origin.missing,
        forms,
        said.predictions,
        ledger,
        thumbnails,
    )


def _markdown(said: _Said, drawings: Sequence[Drawing], rows: pd.DataFrame, origin: Origin, options: Options) -> bytes:
    sections = Sections(
        reading=decodability(said.described),
        over_data_sets=overall_sentences(said.families),
        controls=[in_a_sentence(setting, one) for setting, one in said.controls],
        published=[gate_sentence(said.checks)] if said.checks else (),
        protocols=protocols(said.described, options),
        provenance=_provenance(rows, origin),
    )
    settings, names = [setting for setting, _ in said.described], [one.name for one in drawings]
    return report_markdown(origin, settings, said.answer, said.tables, names, sections).encode()


def _provenance(rows: pd.DataFrame, origin: Origin) -> list[str]:
    recipes, versions = (", ".join(sorted(set(map(str, rows[column])))) for column in ("recipe_hash", "code_version"))
    own = rows[rows["projection"] != IMPORTED]
    trials, imported = own["trial_id"].nunique(), len(rows) - len(own)
    more = f" and {imported:,} imported ones" if imported else ""
    stores = f" Stores: {', '.join(origin.stores)}." if len(origin.stores) > 1 else ""
    return [f"{len(own):,} result rows of {trials:,} trials{more}; recipe {recipes}; code {versions}.{stores}"]
