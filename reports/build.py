"""Write one report from result rows alone: the answer, tables in five forms, figures in three, one page."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage import Storage
from benchmark.method.evaluation.selection import IMPORTED
from benchmark.method.evaluation.tested import Tested
from reports.captions import protocol_words
from reports.chosen import Selections, pick_records
from reports.comparisons import in_columns, overall_in_columns
from reports.controls import in_a_sentence, verdicts
from reports.figures import captions, figures_of
from reports.findings import Family, Findings, comparisons, in_words, overall, overall_sentences
from reports.forms import FORMS, all_tex, records_csv
from reports.metrics import metrics_csv, per_class_csv
from reports.options import Options
from reports.origin import Origin
from reports.paper import paper_tables
from reports.robustness import lines_of
from reports.settings import Setting, by_setting, named
from reports.summary import Sections, report_markdown
from reports.table import Table
from reports.terminal import text
from reports.verdicts import Answer, answer

Described = list[tuple[Setting, Selections]]


@dataclass(frozen=True)
class ReportFiles:
    """What `write_report` wrote.

    Attributes:
        report: path or URI of report.md.
        files: paths or URIs of all files, report.md first.
        text: the answer for a terminal, 80 characters wide.
        answer: the same as data.
    """

    report: str
    files: list[str]
    text: str
    answer: Answer


@dataclass(frozen=True)
class _Said:
    """A report without its files: settings, what was found in each, and all that is said of them together."""

    described: Described
    findings: list[Findings]
    families: list[Family]
    answer: Answer
    tables: list[Table]


def write_report(
    rows: pd.DataFrame,
    tested: Mapping[str, Tested],
    storage: Storage,
    folder: str,
    origin: Origin,
    options: Options | None = None,
) -> ReportFiles:
    """Write the report of result rows into one folder. Equal rows give equal bytes.

    Args:
        rows: as `benchmark.store.rows.read_rows` returns them, of any number of data sets and backbones.
        tested: hash -> the tested images that rows name by it, see `benchmark.store.tested.read_tested`.
        storage: where to write.
        folder: folder inside the storage, "" for the storage itself; files of the same names are replaced.
        origin: where the rows come from, and what is missing.
        options: what the reader asks for.

    Raises:
        IcmBenchError: there are no rows, a method that is to be compared is unknown, or a file cannot be written.
    """
    if rows.empty:
        raise IcmBenchError(
            f"There are no result rows for the report '{origin.name}'; run `icm-bench sweep RECIPE` first."
        )
    options = options or Options()
    said = _said(rows, tested, origin, options)
    contents = {**_tables(said), **_records(said, origin, options)}
    drawn = figures_of(said.described, said.findings, said.answer, options)
    contents |= {f"figures/{one.name}.{suffix}": data for one in drawn for suffix, data in one.contents.items()}
    contents |= _captions(drawn)
    sections = _sections(said, rows, origin, options)
    settings = [setting for setting, _ in said.described]
    figure_names = [one.name for one in drawn]
    head = report_markdown(origin, settings, said.answer, said.tables, figure_names, sections).encode()
    contents = {"report.md": head, **contents}
    prefix = f"{folder}/" if folder else ""
    for file, content in contents.items():
        storage.write_bytes(f"{prefix}{file}", content)
    files = [storage.path(f"{prefix}{file}") for file in contents]
    page = storage.path(f"{prefix}report.md")
    shown = text(said.described, said.answer, origin.missing, page, options.color)
    return ReportFiles(files[0], files, shown, said.answer)


def _said(rows: pd.DataFrame, tested: Mapping[str, Tested], origin: Origin, options: Options) -> _Said:
    described = [(setting, Selections(part, tested)) for setting, part in by_setting(rows)]
    findings = [comparisons(setting, selections, options) for setting, selections in described]
    families = overall([(s, f) for (s, _), f in zip(described, findings, strict=True)], options)
    tables = paper_tables(described, options, origin.names)
    return _Said(described, findings, families, answer(described, findings, options), tables)


def _tables(said: _Said) -> dict[str, bytes]:
    """Return the files of all tables, in every form."""
    contents = {
        f"tables/{table.name}.{suffix}": form(table).encode() for table in said.tables for suffix, form in FORMS.items()
    }
    return contents | {"tables/all.tex": all_tex(said.tables).encode()} if said.tables else contents


def _records(said: _Said, origin: Origin, options: Options) -> dict[str, bytes]:
    """Return the tidy files: a line for each verdict, comparison, pick, metric, class, sentence."""
    described = said.described
    made = list(zip(described, said.findings, strict=True))
    families = [(f.settings[0], one) for f in said.families for one in f.members]
    controls = verdicts([(s, f) for (s, _), f in made], origin.expected, options.margin)
    records: dict[str, list[dict[str, object]]] = {
        "verdicts": [one.record() for one in said.answer.verdicts],
        "comparisons": [named(s) | c for (s, _), f in made for one in f.compared for c in in_columns(one)],
        "over_data_sets": [named(setting) | overall_in_columns(one) for setting, one in families],
        "controls": [named(s) | one.in_columns() for s, one in controls],
        "picks": [named(setting) | pick for setting, selections in described for pick in pick_records(selections)],
        "findings": [named(s) | {"finding": words} for (s, x), f in made for words in in_words(s, x, f, said.families)],
    }
    contents = {f"tables/{name}.csv": records_csv(lines).encode() for name, lines in records.items() if lines}
    lined = [(s, x, lines) for (s, x), lines in zip(described, lines_of(described), strict=True)]
    contents["tables/metrics.csv"] = metrics_csv(lined).encode()
    contents["tables/per_class.csv"] = per_class_csv(described).encode()
    return contents


def _sections(said: _Said, rows: pd.DataFrame, origin: Origin, options: Options) -> Sections:
    controls = verdicts(
        ((s, f) for (s, _), f in zip(said.described, said.findings, strict=True)), origin.expected, options.margin
    )
    return Sections(
        over_data_sets=[words for family in said.families for words in overall_sentences(family)],
        controls=[in_a_sentence(setting, one) for setting, one in controls],
        protocols=[s.banner + protocol_words(s, selections, options) for s, selections in said.described],
        provenance=_provenance(rows, origin),
    )


def _provenance(rows: pd.DataFrame, origin: Origin) -> list[str]:
    recipes, versions = (", ".join(sorted(set(map(str, rows[column])))) for column in ("recipe_hash", "code_version"))
    own = rows[rows["projection"] != IMPORTED]
    trials, imported = own["trial_id"].nunique(), len(rows) - len(own)
    more = f" and {imported:,} imported ones" if imported else ""
    stores = f" Stores: {', '.join(origin.stores)}." if len(origin.stores) > 1 else ""
    return [f"{len(own):,} result rows of {trials:,} trials{more}; recipe {recipes}; code {versions}.{stores}"]
