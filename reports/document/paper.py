r"""The report as one paper, in the order of the original paper: LaTeX and PDF if pdflatex is installed, else Markdown.

Tables are shorter than in the report: one table over all data sets, or over all backbones, replaces many. Pdflatex runs
in a temporary folder, with a time limit, without a shell.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.resources import files
from pathlib import Path
from typing import Literal, TypeAlias

from benchmark.common.terminal.progress import Progress
from benchmark.method.evaluation.protocols import OpenClass, Protocol
from reports.analysis.published_checks import Check
from reports.analysis.selections import SettingResults
from reports.analysis.settings import BANNER, grouped, split_place
from reports.analysis.verdicts import DECIDED, Answer
from reports.figures import Figure, groups_of
from reports.figures.every import latex_figure
from reports.render.cells import shared_notes
from reports.render.formats import markdown, markdown_escape
from reports.render.latex import COMMANDS, PACKAGES, floats, latex_escape, shared_notes_tex
from reports.render.table import Block, Cell, Column, Line, Table
from reports.tables.ablations import PICKED
from reports.tables.published import published_notes, table_of
from reports.text import verdicts
from reports.text.verdicts import capital

Family: TypeAlias = Literal["shift", "open", "both", "variants"]
_PUBLISHED = "published"
# Tables that the paper merges over data sets -> subject of the caption.
_OVER_DATA_SETS = {
    "ablation_lambda": "accuracy by lambda",
    "ablation_rank": "accuracy by rank",
    "ablation_interventions": "accuracy by set of interventions",
    "ablation_text": "accuracy by interventions on images, texts or both",
    "ablation_order": "accuracy by order of the eigenvectors",
}
_ONE_PREDICTOR = ("environments", "backbones", "over_data_sets", *_OVER_DATA_SETS)  # tables cut to one predictor


MAX_VALUES = 9  # lines of a block over data sets, including the rule's picks
# Column that a table over data sets repeats for each data set; `_HELD_OUT` of reports/tables/ablations.py.
HELD_OUT = "accuracy on what is held out"
_FEWER = (
    f"Of more than {MAX_VALUES} values of a method those that stand in most data sets are shown, with the lowest and "
    "the highest."
)
FOLDER = "paper"
MAX_VERDICTS = 8
_ABSENT = "What is not here"
LIMIT_S = 120.0  # time limit of one run of pdflatex
_escaped = partial(latex_escape, breaks=True)
RUNS = 2  # the second run resolves references to tables
# Fixed dates make PDFs of equal rows equal; pdflatex may not open files outside its folder.
_ENVIRONMENT = {"SOURCE_DATE_EPOCH": "0", "FORCE_SOURCE_DATE": "1", "openin_any": "p", "openout_any": "p"}


@dataclass(frozen=True)
class Plan:
    """Plan of a chapter: kinds of tables and figures, and the family of protocols that they show (default: all)."""

    title: str
    tables: tuple[str, ...]
    figures: tuple[str, ...] = ()
    family: Family | None = None
    protocol: str = ""


@dataclass(frozen=True)
class Chapter:
    """A chapter with its tables and figures. The first notes below each table are about published numbers."""

    title: str
    tables: tuple[Table, ...]
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Scope:
    """The settings of a report. Properties select the parts that the paper shows.

    Attributes:
        results: all settings, each with its rows.
        names: long name -> short name, as in tables.
    """

    results: Sequence[SettingResults]
    names: Mapping[str, str]

    @cached_property
    def families(self) -> dict[str, Family]:
        """Protocol -> family of protocols, which is an experiment of the original paper."""
        return {setting.protocol: _family(setting.protocol_class) for setting, _ in self.results}

    @cached_property
    def predictors(self) -> list[str]:
        """Names of the predictors in titles of tables, in table order."""
        methods = sorted({m for _, x in self.results for m in x.parts}, key=lambda method: method.place)
        return list(dict.fromkeys(self.names.get(m.predictor_label, m.predictor_label) for m in methods))

    @cached_property
    def drawn(self) -> Sequence[SettingResults]:
        """Settings of the figures: one backbone, protocol and split, one setting per data set."""
        return next(iter(groups_of(self.results)), [])

    @property
    def sentence(self) -> str:
        """A sentence on the settings that figures show; empty if they show all."""
        if not self.drawn or len(self.drawn) == len(self.results):
            return ""
        setting = self.drawn[0][0]
        return (
            f"Figures of data sets are of {setting.backbone_label}, protocol {setting.protocol}, split "
            f"{setting.test_split}; `icm-bench report --where backbone=NAME` draws those of another backbone."
        )


def _family(protocol: type[Protocol]) -> Family:
    if protocol.open_class:
        return "open" if issubclass(protocol, OpenClass) else "both"
    return "variants" if protocol.across_sets else "shift"


# tests/jobs/test_recipes.py lists missing tables.
_PLANS = (
    Plan("Domain shift", ("main", "environments", _PUBLISHED), ("forest", "environments"), "shift", "held_out"),
    Plan("Open class", ("open_class",), (), "open", "open_class"),
    Plan("Domain shift and open class", ("open_class",), (), "both", "held_out_open_class"),
    Plan("ImageNet variants", ("imagenet", _PUBLISHED), (), "variants", "imagenet_shift"),
    Plan("Ablation: lambda", ("ablation_lambda",), ("lambda_rank",)),
    Plan("Ablation: rank", ("ablation_rank",), ("rank", "spectrum")),
    Plan("Ablation: interventions", ("ablation_interventions",), ("interventions",)),
    Plan("Ablation: interventions on texts", ("ablation_text",)),
    Plan("Cost", ("cost",)),
    Plan("Beside the paper", ("backbones", "trend", "over_data_sets", "ablation_order"), ("robustness",)),
)


def chapters(
    scope: Scope, tables: Sequence[Table], figures: Sequence[Figure], checks: Sequence[Check]
) -> tuple[list[Chapter], list[str]]:
    """Return the non-empty chapters, and sentences that name missing tables and figures.

    The last sentence names the tables that are only in the report. The paper has the first figure of each kind.
    """
    of_report = [one for one in tables if kind_of(one) != _PUBLISHED]
    drawn_of = {scope.families[setting.protocol] for setting, _ in scope.drawn}
    first = {kind_of(one): one for one in reversed(figures)}
    made, absent, shown = [], [], []
    for plan in _PLANS:
        families = (plan.family,) if plan.family else (None, *scope.families.values())
        of_family = [one for one in checks if scope.families.get(one.ours.setting.protocol) in families]
        own = [one for one in of_report if scope.families.get(one.context.get("protocol", "")) in families]
        printed = [one for kind in plan.tables for one in _digest(kind, own, scope)]
        published = table_of(of_family) if _PUBLISHED in plan.tables else None
        more = [replace(published, name=f"{_PUBLISHED}-{plan.family}")] if published else []
        is_drawn = not plan.family or plan.family in drawn_of
        drawn = tuple(first[kind] for kind in plan.figures if is_drawn and kind in first)
        noted = [replace(one, notes=(*published_notes(one, of_family), *one.notes)) for one in printed]
        made += [Chapter(plan.title, (*noted, *more), drawn)] if noted or more or drawn else []
        shown += printed
        there = [*(f"table {kind_of(one)}" for one in (*printed, *more)), *(f"figure {kind_of(one)}" for one in drawn)]
        planned = [*(f"table {kind}" for kind in plan.tables), *(f"figure {kind}" for kind in plan.figures)]
        missing = [f"no {kind}" for kind in planned if kind not in there]
        if plan.family not in (None, *scope.families.values()):
            missing = [f"there are no rows of protocol {plan.protocol}"]
        absent += [f"{plan.title}: {', '.join(missing)}."] if missing else []
    kinds = Counter(kind_of(one) for one in of_report if one not in shown)
    if kinds:
        named = ", ".join(f"{kind} ({count})" for kind, count in kinds.items())
        absent.append(f"In the report's folder tables, whole and with every predictor and split: {named}.")
    return made, absent


def _digest(kind: str, tables: Sequence[Table], scope: Scope) -> list[Table]:
    """Return the tables of one kind for the paper: only one split, and merged over data sets or backbones."""
    shown = of_one_split(one for one in tables if kind_of(one) == kind)
    if kind in _ONE_PREDICTOR:
        shown = of_one_predictor(shown, scope.predictors)
    if kind == "environments":
        return over_backbones(shown, "accuracy by environment")
    return over_data_sets(shown, _OVER_DATA_SETS[kind]) if kind in _OVER_DATA_SETS else shown


def of_one_split(tables: Iterable[Table]) -> list[Table]:
    """Return, for each protocol, only the tables of the split that comes first by `split_place`."""
    ranked = [(_of(one, "protocol"), split_place(_of(one, "test_split")), one) for one in tables]
    best = {protocol: min(place for name, place, _ in ranked if name == protocol) for protocol, _, _ in ranked}
    return [one for protocol, place, one in ranked if place == best[protocol]]


def of_one_predictor(tables: Iterable[Table], predictors: Sequence[str]) -> list[Table]:
    """Return each table with only the blocks of one predictor: the first of `predictors` that block titles name.

    A table is unchanged if no title names a predictor.
    """
    made = []
    for one in tables:
        found = ([b for b in one.blocks if b.title == name or b.title.endswith(f", {name}")] for name in predictors)
        made.append(replace(one, blocks=tuple(next(filter(None, found), one.blocks))))
    return made


def over_backbones(tables: Iterable[Table], what: str) -> list[Table]:
    """Return one table for each data set, with the blocks of all backbones. A data set's only table is unchanged."""
    made, of_each = [], grouped(tables, lambda one: (_of(one, "protocol"), _of(one, "dataset")))
    for (_, dataset), group in of_each.items():
        columns = list({column.name: column for one in group for column in one.columns}.values())
        blocks = []
        for one in group:
            for block in one.blocks:
                lines = [replace(line, cells=tuple(_cell(one, line, c.name) for c in columns)) for line in block.lines]
                blocks.append(Block(", ".join(filter(None, _key(block))), tuple(lines), block.part))
        name, caption = f"{kind_of(group[0])}-{dataset}", f"{dataset}: {what} (%)."
        whole, labels = Table(name, caption, tuple(columns), tuple(blocks)), [_of(one, "backbone") for one in group]
        made.append(_with_merged_notes(whole, labels, group) if len(group) > 1 else group[0])
    names = _numbered([one.name for one in made], "{}-{}")
    return [replace(one, name=name) for one, name in zip(made, names, strict=True)]


def over_data_sets(tables: Sequence[Table], what: str) -> list[Table]:
    """Merge tables of one data set each into one with a column for each data set. A single table is unchanged."""
    if len(tables) < 2:
        return [*tables]
    labels = [_of(one, "dataset") for one in tables]
    labels = [n if labels.count(n) == 1 else f"{n}, {_of(t, 'protocol')}" for n, t in zip(labels, tables, strict=True)]
    labels = _numbered(labels, "{} ({})")
    every = [{_key(block): {line.name: line for line in block.lines} for block in one.blocks} for one in tables]
    keys = list(dict.fromkeys(key for of_set in every for key in of_set))
    backbones = list(dict.fromkeys(backbone for backbone, _ in keys))
    blocks, fewer = [], False
    for key in sorted(keys, key=lambda key: backbones.index(key[0])):
        of_sets = [of_set.get(key, {}) for of_set in every]
        times = Counter(name for of_set in of_sets for name in of_set)
        # Numbers ascending, the rule's picks last; of many values the ends and those that most data sets have.
        values = [name for name in times if name != PICKED]
        with suppress(ValueError):  # non-numeric values keep their order
            values = sorted(values, key=float)
        if len(values) > MAX_VALUES - 1:
            inner = sorted(values[1:-1], key=lambda name: -times[name])[: MAX_VALUES - 3]
            values = [name for name in values if name in (values[0], *inner, values[-1])]
        shown = [*values, *([PICKED] if PICKED in times else [])]
        fewer = fewer or len(shown) < len(times)
        lines = []
        for name in shown:
            cells = tuple(_cell(one, of_set.get(name), HELD_OUT) for one, of_set in zip(tables, of_sets, strict=True))
            known = [of_set[name] for of_set in of_sets if name in of_set]
            lines.append(Line(name, cells, known[0].short, all(line.equals_plain for line in known)))
        title = ", ".join(filter(None, key if len(backbones) > 1 else key[1:]))
        blocks.append(Block(title, tuple(lines), key[0]))
    caption = f"{capital(what)} (%), everything else chosen by the rule."
    columns = tuple(Column(label) for label in labels)
    made = _with_merged_notes(Table(kind_of(tables[0]), caption, columns, tuple(blocks)), labels, tables)
    return [replace(made, notes=(*([_FEWER] if fewer else []), *made.notes))]


def kind_of(one: Table | Figure) -> str:
    """Return the kind of a table or figure: its name without the distinguishing suffix."""
    return one.name.partition("-")[0]


def _with_merged_notes(made: Table, labels: Sequence[str], tables: Sequence[Table]) -> Table:
    """Return a merged table with the context and notes of `tables`. Notes that not all have begin with their labels."""
    context = {field: ", ".join(dict.fromkeys(_of(one, field) for one in tables)) for field in tables[0].context}
    headings = {column.heading for one in tables for column in one.columns} - {one.heading for one in made.columns}
    spans = any(cell.signed and cell.low is not None for _, line in made.lines() for cell in line.cells)
    # Notes on dropped columns, and on intervals if none is printed, are dropped.
    gone = (*(f"{heading}: " for heading in headings), *(() if spans else ("In brackets: 95 %",)))
    notes = {label: one.notes for label, one in zip(labels, tables, strict=True)}
    owners = grouped(((note, label) for label, own in notes.items() for note in own), lambda one: one[0])
    by_prefix: dict[str, list[str]] = {"": []}
    for note, of in owners.items():
        if not note.startswith(gone):
            labels_of = ", ".join(label for _, label in of)
            by_prefix.setdefault("" if len(of) == len(notes) else f"{labels_of}: ", []).append(note)
    every = (*by_prefix.pop(""), *(f"{prefix}{' '.join(own)}" for prefix, own in by_prefix.items()))
    banner = f"{BANNER}: " if "true" in context.get("random_weights", "") else ""
    return replace(made, caption=banner + made.caption, notes=every, corner=tables[0].corner, context=context)


def _cell(table: Table, line: Line | None, name: str) -> Cell:
    """Return the cell of a line in a column of its table; a gap if either is missing."""
    place = {column.name: i for i, column in enumerate(table.columns)}.get(name)
    return Cell(note="nothing of it") if line is None or place is None else line.cells[place]


def _key(block: Block) -> tuple[str, str]:
    """Return the backbone of a block, and the rest of its title."""
    return block.part, block.title.removeprefix(block.part).removeprefix(", ")


def _numbered(names: Sequence[str], form: str) -> list[str]:
    """Return distinct names: repeated names get a number."""
    return [n if names.count(n) == 1 else form.format(n, names[: i + 1].count(n)) for i, n in enumerate(names)]


def _of(table: Table, field: str) -> str:
    """Return a field of a table's context; empty if absent."""
    return table.context.get(field, "")


@dataclass(frozen=True)
class Paper:
    """The files of a paper.

    Attributes:
        contents: file name, including the folder `paper` -> bytes.
        main: main file: the PDF, else the Markdown.
        note: sentence that says why there is no PDF; empty if there is one.
    """

    contents: dict[str, bytes]
    main: str
    note: str = ""


def answer_paragraphs(answer: Answer) -> list[str]:
    """Return the first paragraphs: the headline, then the verdicts, significant differences first."""
    decided = sorted(answer.verdicts, key=lambda one: one.kind not in DECIDED)
    more = len(decided) - MAX_VERDICTS
    rest = [f"{more:,} more verdicts stand in tables/verdicts.csv of the report."] if more > 0 else []
    return [verdicts.headline(answer), *map(verdicts.sentence, decided[:MAX_VERDICTS]), *rest]


def write_paper(title: str, opening: Sequence[str], chapters: Sequence[Chapter], absent: Sequence[str]) -> Paper:
    """Return the paper as LaTeX, and as PDF or Markdown.

    The paper expects figures in the folder `figures` next to its own folder. It ends with the sentences in `absent`.
    """
    source = _tex(title, opening, chapters, absent)
    figures = {f"{one.name}.pdf": one.contents["pdf"] for chapter in chapters for one in chapter.figures}
    content, note = compiled(source, figures)
    main = f"{FOLDER}/paper.pdf"
    if content is None:
        main, content = f"{FOLDER}/paper.md", _markdown(title, opening, chapters, absent).encode()
    return Paper({f"{FOLDER}/paper.tex": source.encode(), main: content}, main, note)


def compiled(source: str, figures: Mapping[str, bytes]) -> tuple[bytes | None, str]:
    """Return a document as (PDF, ""), or (None, sentence that says why there is no PDF)."""
    if shutil.which("pdflatex") is None:
        return None, "pdflatex is not on the PATH: paper.md has in Markdown what paper.tex has."
    with tempfile.TemporaryDirectory(prefix="icm-bench-paper-") as place:
        folder = Path(place)
        (folder / "figures").mkdir()
        for name, content in figures.items():
            (folder / "figures" / name).write_bytes(content)
        (folder / "paper.tex").write_text(source, encoding="utf-8")
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
        progress = Progress("pdflatex", RUNS, "runs")
        for _ in range(RUNS):
            try:
                done = subprocess.run(
                    command, cwd=folder, env=os.environ | _ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True,
                    timeout=LIMIT_S, check=False,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                return None, f"pdflatex exceeded its limit of {LIMIT_S:.0f} s; compile paper.tex by hand."
            except OSError as error:
                return None, f"pdflatex could not be started ({error.strerror}); compile paper.tex by hand."
            if done.returncode:
                found = re.search(r"^! *(.+)$", done.stdout.decode(errors="replace"), re.MULTILINE)
                reason = found[1].strip().rstrip(".") if found else "no message"
                return None, f"pdflatex failed with '{reason}'; fix paper.tex and compile it by hand."
            progress.update()
        return (folder / "paper.pdf").read_bytes(), ""


def _tex(title: str, opening: Sequence[str], chapters: Sequence[Chapter], absent: Sequence[str]) -> str:
    shared = shared_notes([table for chapter in chapters for table in chapter.tables])
    head = files("reports.document").joinpath("head.tex").read_text(encoding="utf-8").rstrip()
    lines = [r"\documentclass[10pt]{article}", PACKAGES, COMMANDS, head, r"\begin{document}"]
    lines += [rf"\begin{{center}}\Large\bfseries {_escaped(title)}\end{{center}}"]
    lines += [rf"\noindent {_escaped(sentence)}\par\smallskip" for sentence in opening]
    for chapter in chapters:
        lines.append(rf"\section{{{_escaped(chapter.title)}}}")
        lines += [line for table in chapter.tables for line in floats(table, shared)]
        lines += [latex_figure(figure).rstrip() for figure in chapter.figures]
    lines += shared_notes_tex(shared)
    if absent:
        items = [rf"\item {_escaped(sentence)}" for sentence in absent]
        lines += [rf"\section*{{{_ABSENT}}}", r"\begin{itemize}\raggedright", *items, r"\end{itemize}"]
    return "\n".join([*lines, r"\end{document}", ""])


def _markdown(title: str, opening: Sequence[str], chapters: Sequence[Chapter], absent: Sequence[str]) -> str:
    parts = [f"# {markdown_escape(title)}", *map(markdown_escape, opening)]
    for chapter in chapters:
        parts.append(f"## {markdown_escape(chapter.title)}")
        for table in chapter.tables:
            parts += [f"### {markdown_escape(f'Table {table.name}')}", markdown(table).rstrip()]
        for one in chapter.figures:
            name = markdown_escape(one.name)
            parts += [f"### {markdown_escape(f'Figure {one.name}')}", f"![{name}](../figures/{one.name}.png)"]
            parts.append(markdown_escape(one.caption))
    if absent:
        parts += [f"## {_ABSENT}", "\n".join(f"- {markdown_escape(sentence)}" for sentence in absent)]
    return "\n\n".join(parts) + "\n"
