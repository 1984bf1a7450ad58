"""Write one report: Markdown, tables in four forms, figures in two, all from result rows alone."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage import Storage
from benchmark.method.evaluation.selection import IMPORTED
from benchmark.method.evaluation.tested import Tested
from reports.behind import behind_the_means
from reports.captions import protocol_words
from reports.chosen import HYPERPARAMETER_COLUMNS, Selections, held_out_names, hyperparameters
from reports.comparisons import in_columns, overall_in_columns
from reports.controls import Expected, Verdict, in_a_sentence, verdicts
from reports.findings import Family, Findings, comparisons, in_words, overall, overall_sentences
from reports.metrics import metrics_csv, per_class_csv
from reports.needed import needed
from reports.observations import notes, observations
from reports.options import Options
from reports.render import (
    TERMINAL_WIDTH,
    comma_separated,
    latex,
    markdown,
    markdown_escape,
    markdown_grid,
    plain_text,
    records_csv,
)
from reports.robustness import Lines, lines_of
from reports.settings import BANNER, Setting, by_setting, suffixes
from reports.spans import spans
from reports.tables import Table, main_tables
from reports.trend import trends


@dataclass(frozen=True)
class ReportFiles:
    """What `write_report` wrote.

    Attributes:
        report: path or URI of report.md.
        files: paths or URIs of all files, report.md first.
        text: the main tables and what they say as plain text, 120 characters wide with six environments.
        comparisons: the numbers of all comparisons, as comparisons.csv has them.
    """

    report: str
    files: list[str]
    text: str
    comparisons: list[dict[str, object]] = field(default_factory=list)


def write_report(
    rows: pd.DataFrame,
    tested: Mapping[str, Tested],
    storage: Storage,
    folder: str,
    name: str,
    expected_trials: int | None = None,
    finished_trials: int | None = None,
    failed: Mapping[str, str] | None = None,
    options: Options | None = None,
    expected: Mapping[str, Expected] | None = None,
) -> ReportFiles:
    """Write the report of result rows into one folder. Equal rows give equal bytes.

    Args:
        rows: as `benchmark.store.rows.read_rows` returns them, of any number of data sets and backbones.
        tested: hash -> the tested images that rows name by it, see `benchmark.store.tested.read_tested`.
        storage: where to write.
        folder: folder inside the storage, "" for the storage itself; files of the same names are replaced.
        name: what the report is called in its title.
        expected_trials: number of trials that the sweep has; None where it is not known.
        finished_trials: number of those with rows; if it is lower, the report says so first.
        failed: trial in words -> reason, of the trials that failed: the gaps of the report.
        options: what stands behind ±, and within which margin methods count as level.
        expected: data set -> what must be found in it, of those of which that is known.

    Raises:
        IcmBenchError: there are no rows, or a file cannot be written.
    """
    if rows.empty:
        raise IcmBenchError(f"There are no result rows for the report '{name}'; run `icm-bench sweep RECIPE` first.")
    options = options or Options()
    described = [(setting, Selections(part, tested)) for setting, part in by_setting(rows)]
    settings = [setting for setting, _ in described]
    findings = [comparisons(setting, selections, options) for setting, selections in described]
    families = overall(list(zip(settings, findings, strict=True)), options)
    gaps = _gap_words(expected_trials, finished_trials, failed or {})
    written = _Written()
    written.on_terminal(line for line in gaps.splitlines() if line)
    named = zip(described, findings, lines_of(described), suffixes(settings), strict=True)
    for (setting, selections), one, lines, suffix in named:
        tables = main_tables(setting, selections, options, _in_domain(setting, selections, described))
        sentences = in_words(setting, selections, one, families)
        _add_setting(written, setting, selections, tables, one, sentences, lines, suffix, options)
    _add_families(written, families)
    _add_controls(written, verdicts(zip(settings, findings, strict=True), expected or {}, options.margin))
    written.sections.extend(trends(described))
    if drawn := _draw(described, findings, options):
        written.contents.update(drawn)
        written.sections.append("## Figures\n\n[Figures with their captions](figures/captions.md)")
    report = "\n\n".join([_head(settings, name, gaps), *written.sections, _provenance(rows)]) + "\n"
    contents = {"report.md": report.encode(), **written.contents}
    prefix = f"{folder}/" if folder else ""
    for file, content in contents.items():
        storage.write_bytes(f"{prefix}{file}", content)
    files = [storage.path(f"{prefix}{file}") for file in contents]
    compared = [line for setting, one in zip(settings, findings, strict=True) for line in _compared(setting, one)]
    return ReportFiles(files[0], files, "\n\n".join(written.terminal), compared)


@dataclass(frozen=True)
class _Written:
    """What a report has so far: name -> content of its files, sections of report.md, and text for the terminal."""

    contents: dict[str, bytes] = field(default_factory=dict)
    sections: list[str] = field(default_factory=list)
    terminal: list[str] = field(default_factory=list)

    def on_terminal(self, sentences: Iterable[str]) -> None:
        self.terminal.extend(textwrap.fill(sentence, TERMINAL_WIDTH) for sentence in sentences)


def _add_setting(
    written: _Written,
    setting: Setting,
    selections: Selections,
    tables: list[Table],
    findings: Findings,
    sentences: list[str],
    lines: Lines,
    suffix: str,
    options: Options,
) -> None:
    """Add the files, the section and the text of one setting."""
    table_markdown = "\n".join(map(markdown, tables))
    texts = {
        f"main_table{suffix}.md": table_markdown,
        f"main_table{suffix}.csv": comma_separated(tables, options.plus_minus),
        f"main_table{suffix}.tex": "\n".join(map(latex, tables)),
        f"metrics{suffix}.csv": metrics_csv(setting, selections, lines),
        f"per_class{suffix}.csv": per_class_csv(setting, selections),
    }
    written.contents.update({file: text.encode() for file, text in texts.items()})
    if compared := _compared(setting, findings):
        written.contents[f"comparisons{suffix}.csv"] = records_csv(compared).encode()
    details = behind_the_means(setting, selections, lines, suffix)
    details += [*spans(setting, selections), *needed(setting, selections)]
    every = [*sentences, *observations(setting, selections)]
    written.sections.append(_section(setting, selections, every, table_markdown, details, options))
    written.terminal.append(plain_text(tables, setting.banner + protocol_words(setting, selections, options)))
    written.on_terminal(sentences)


def _add_families(written: _Written, families: Sequence[Family]) -> None:
    """Add what several data sets say together, if they do."""
    if not families:
        return
    records = [
        {**_named(family.settings[0]), **overall_in_columns(one)} for family in families for one in family.members
    ]
    written.contents["over_data_sets.csv"] = records_csv(records).encode()
    sentences = [sentence for family in families for sentence in overall_sentences(family)]
    listed = "\n".join(f"- {markdown_escape(sentence)}" for sentence in sentences)
    written.sections.append(f"## Over all data sets\n\n{listed}")
    written.on_terminal(sentences)


def _add_controls(written: _Written, controls: Sequence[tuple[Setting, Verdict]]) -> None:
    """Add whether what must be found was found, where that is known."""
    if not controls:
        return
    written.contents["controls.csv"] = records_csv([{**_named(s), **one.in_columns()} for s, one in controls]).encode()
    sentences = [in_a_sentence(setting, one) for setting, one in controls]
    listed = "\n".join(f"- {markdown_escape(sentence)}" for sentence in sentences)
    written.sections.append(f"## Controls\n\n{listed}")
    written.on_terminal(sentences)


def _in_domain(
    setting: Setting, selections: Selections, parts: Sequence[tuple[Setting, Selections]]
) -> Selections | None:
    """Return the rows that fit on the tested environments themselves, on the same data and backbone, if there are."""
    names = held_out_names(selections.rows)
    for other, candidate in parts:
        same = other.data_and_backbone == setting.data_and_backbone
        if same and other.protocol_class.looks_at_target and held_out_names(candidate.rows) == names:
            return candidate
    return None


def _compared(setting: Setting, findings: Findings) -> list[dict[str, object]]:
    return [{**_named(setting), **line} for one in findings.compared for line in in_columns(one)]


def _named(setting: Setting) -> dict[str, object]:
    return {
        "dataset": setting.dataset,
        "backbone": setting.backbone_label,
        "random_weights": setting.random_weights,
        "protocol": setting.protocol,
        "test_split": setting.test_split,
        "class_group": setting.class_half,
    }


def _draw(
    described: Sequence[tuple[Setting, Selections]], findings: Sequence[Findings], options: Options
) -> dict[str, bytes]:
    """Return the files of all figures."""
    from reports import figures  # Matplotlib takes a second to import

    settings = [setting for setting, _ in described]
    compared = [(s, one) for s, of_setting in zip(settings, findings, strict=True) for one in of_setting.compared]
    drawn = figures.all_figures(described, compared, options)
    contents = {f"figures/{one.name}.{form}": data for one in drawn for form, data in one.contents.items()}
    markdown_text, latex_text = figures.captions(drawn, figures.left_out(described))
    named = {"figures/captions.md": markdown_text.encode(), "figures/captions.tex": latex_text.encode()}
    return contents | named if drawn else {}


def _head(settings: list[Setting], name: str, gaps: str) -> str:
    random = list(dict.fromkeys(s.backbone for s in settings if s.random_weights))
    title = f"# {BANNER if random else ''}{': ' if random else ''}{markdown_escape(name)}"
    warning = f"Backbones with random weights: {markdown_escape(', '.join(random))}." if random else ""
    return "\n\n".join(part for part in (title, warning, markdown_escape(gaps)) if part)


def _gap_words(expected: int | None, finished: int | None, failed: Mapping[str, str]) -> str:
    if expected is None or finished is None or finished >= expected:
        return ""
    words = (
        f"PARTIAL: {finished:,} of {expected:,} trials are finished; every number below may change. "
        "Run icm-bench sweep RECIPE again: only what is missing is computed."
    )
    return "\n\n".join([words, *(f"- Gap: {trial}: {reason}" for trial, reason in failed.items())])


def _section(
    setting: Setting,
    selections: Selections,
    sentences: list[str],
    table_markdown: str,
    details: list[str],
    options: Options,
) -> str:
    findings = "\n".join(f"- {markdown_escape(sentence)}" for sentence in sentences)
    parts = [
        f"## {markdown_escape(setting.title)}",
        f"### Findings\n\n{findings}",
        f"### Accuracy\n\n{table_markdown.rstrip()}",
        *details,
    ]
    parts.append(f"### Selected hyper-parameters\n\n{_hyperparameter_table(setting, selections, options)}")
    if said := notes(selections):
        parts.append("### What fits had to say\n\n" + "\n".join(f"- {markdown_escape(line)}" for line in said))
    parts.append(f"### Protocol\n\n{_protocol(setting, selections, options)}")
    return "\n\n".join(parts)


def _hyperparameter_table(setting: Setting, selections: Selections, options: Options) -> str:
    lines = hyperparameters(selections)
    if not lines:
        return "No method in these rows has anything to choose."
    crossed = "" if setting.test_split == "in_80" else "; of oracle: by the first half of the tested images"
    caption = (
        f"{setting.banner}{setting.dataset}, {setting.backbone_label}, test split {setting.test_split}: "
        "what each selection rule chose. Lists are in the order of seeds and folds. "
        f"† chosen on the target{crossed}. "
        f"{protocol_words(setting, selections, options)}"
    )
    body = [[markdown_escape(word) for word in line] for line in lines]
    return markdown_escape(caption) + "\n\n" + markdown_grid(list(HYPERPARAMETER_COLUMNS), body)


def _protocol(setting: Setting, selections: Selections, options: Options) -> str:
    prompts = "\n".join(f"- {markdown_escape(prompt)}" for prompt in setting.prompts)
    return (
        f"{markdown_escape(setting.banner + protocol_words(setting, selections, options))}\n\n"
        f"Data fingerprint {setting.dataset_fingerprint}, "
        f"weights fingerprint {setting.backbone_fingerprint}.\n\n"
        f"All prompts ({len(setting.prompts)}):\n\n{prompts}"
    )


def _provenance(rows: pd.DataFrame) -> str:
    recipes, versions = (", ".join(sorted(set(map(str, rows[column])))) for column in ("recipe_hash", "code_version"))
    own = rows[rows["projection"] != IMPORTED]
    trials, imported = own["trial_id"].nunique(), len(rows) - len(own)
    more = f" and {imported:,} imported ones" if imported else ""
    words = f"{len(own):,} result rows of {trials:,} trials{more}; recipe {recipes}; code {versions}."
    return f"## Provenance\n\n{markdown_escape(words)}"
