r"""The paper as one document, in the order of the paper: LaTeX with its PDF where pdflatex is at hand, else Markdown.

Tables have room for less than in the report: one of all data sets, or of all backbones, in the place of many. Pdflatex
runs in a temporary folder, with a time limit, without a shell.
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
from reports.analysis.against import Check
from reports.analysis.chosen import SettingResults
from reports.analysis.settings import BANNER, grouped, split_place
from reports.analysis.verdicts import DECIDED, Answer
from reports.figures import Figure, groups_of
from reports.figures.every import latex_figure
from reports.render.cells import shared_notes
from reports.render.forms import markdown, markdown_escape
from reports.render.latex import COMMANDS, PACKAGES, floats, latex_escape, shared_notes_tex
from reports.render.table import Block, Cell, Column, Line, Table
from reports.tables.ablations import PICKED
from reports.tables.published import beside, table_of
from reports.text import verdicts
from reports.text.verdicts import capital

Family: TypeAlias = Literal["shift", "open", "both", "variants"]
_PUBLISHED = "published"
# Kind of a table or figure -> what rows must have for it.
_TAKES = {
    **dict.fromkeys(("table main", "table environments", "table open_class", "table imagenet"), "two methods or more"),
    f"table {_PUBLISHED}": "a data set of which something is published",
    "table ablation_lambda": "a method with two lambdas or more",
    "table ablation_rank": "a method with two ranks or more",
    "table ablation_interventions": "two sets of interventions on images",
    "table ablation_text": "a set of interventions on texts beside another set",
    "table cost": "--price AMOUNT, 0 for hours alone",
    "table backbones": "two backbones or more",
    "table trend": "three backbones or more",
    "table over_data_sets": "two data sets or more",
    "table ablation_order": "both orders",
    **dict.fromkeys(("figure forest", "figure environments"), "a method and plain prediction on the same images"),
    "figure lambda_rank": "a method with several lambdas and ranks",
    "figure rank": "a method with two ranks or more",
    "figure spectrum": "a method with eigenvalues",
    "figure interventions": "a method that looks at interventions",
    "figure robustness": "eight backbones or more",
}
# Tables that are one in the paper where the report has one for each data set -> what it shows.
_OVER_DATA_SETS = {
    "ablation_lambda": "accuracy by lambda",
    "ablation_rank": "accuracy by rank",
    "ablation_interventions": "accuracy by set of interventions",
    "ablation_text": "accuracy by interventions on images, texts or both",
    "ablation_order": "accuracy by order of the eigenvectors",
}
_ONE_PREDICTOR = ("environments", "backbones", "over_data_sets", *_OVER_DATA_SETS)  # in the paper; others have all


MAX_VALUES = 9  # lines of a block over data sets, with that of what the rule picks
HELD_OUT = "accuracy on what is held out"  # the column of which a table over data sets has one for each
_FEWER = (
    f"Of more than {MAX_VALUES} values of a method those that stand in most data sets are shown, with the lowest and "
    "the highest."
)
FOLDER = "paper"
MAX_VERDICTS = 8
_ABSENT = "What is not here"
LIMIT_S = 120.0  # of one run
_escaped = partial(latex_escape, breaks=True)
RUNS = 2  # the second one knows the numbers of tables
# Dates of the PDF from the clock would make equal rows unequal bytes; files outside its folder stay closed.
_ENVIRONMENT = {"SOURCE_DATE_EPOCH": "0", "FORCE_SOURCE_DATE": "1", "openin_any": "p", "openout_any": "p"}


@dataclass(frozen=True)
class Plan:
    """What a chapter has where rows let it: kinds of tables and figures, of one family of protocols or of all."""

    title: str
    tables: tuple[str, ...]
    figures: tuple[str, ...] = ()
    family: Family | None = None
    protocol: str = ""


@dataclass(frozen=True)
class Chapter:
    """A chapter as it is printed; what is published of each table stands first among its notes."""

    title: str
    tables: tuple[Table, ...]
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Scope:
    """The settings of a report, and those of them that its paper shows where it cannot show all.

    Attributes:
        described: every setting with its rows.
        names: long name -> short name, as tables have them.
    """

    described: Sequence[SettingResults]
    names: Mapping[str, str]

    @cached_property
    def families(self) -> dict[str, Family]:
        """Protocol -> the experiment of the paper to which its rows belong."""
        return {setting.protocol: _family(setting.protocol_class) for setting, _ in self.described}

    @cached_property
    def predictors(self) -> list[str]:
        """The predictors as titles of tables call them, in the order of tables."""
        methods = sorted({m for _, x in self.described for m in x.parts}, key=lambda method: method.place)
        return list(dict.fromkeys(self.names.get(m.predictor_label, m.predictor_label) for m in methods))

    @cached_property
    def drawn(self) -> Sequence[SettingResults]:
        """The settings that figures show: of one backbone, protocol and split, one of each data set."""
        return next(iter(groups_of(self.described)), [])

    @property
    def sentence(self) -> str:
        """What figures are of, and what stays in the report; nothing where figures are of all rows."""
        if not self.drawn or len(self.drawn) == len(self.described):
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
    """Return the chapters that have anything, and a sentence for each on what is not there and what it takes.

    The last sentence names the tables that the report alone has. Of each kind of figure the first is the paper's.
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
        noted = [replace(one, notes=(*beside(one, of_family), *one.notes)) for one in printed]
        made += [Chapter(plan.title, (*noted, *more), drawn)] if noted or more or drawn else []
        shown += printed
        there = [*(f"table {kind_of(one)}" for one in (*printed, *more)), *(f"figure {kind_of(one)}" for one in drawn)]
        wanted = [*(f"table {kind}" for kind in plan.tables), *(f"figure {kind}" for kind in plan.figures)]
        lacking = [f"no {kind} (it takes {_TAKES[kind]})" for kind in wanted if kind not in there]
        if plan.family not in (None, *scope.families.values()):
            lacking = [f"there are no rows of protocol {plan.protocol}"]
        absent += [f"{plan.title}: {', '.join(lacking)}."] if lacking else []
    kinds = Counter(kind_of(one) for one in of_report if one not in shown)
    if kinds:
        named = ", ".join(f"{kind} ({count})" for kind, count in kinds.items())
        absent.append(f"In the report's folder tables, whole and with every predictor and split: {named}.")
    return made, absent


def _digest(kind: str, tables: Sequence[Table], scope: Scope) -> list[Table]:
    """Return what the paper has of a kind of table: of one split, in one table where there are many."""
    shown = of_one_split(one for one in tables if kind_of(one) == kind)
    if kind in _ONE_PREDICTOR:
        shown = of_one_predictor(shown, scope.predictors)
    if kind == "environments":
        return over_backbones(shown, "accuracy by environment")
    return over_data_sets(shown, _OVER_DATA_SETS[kind]) if kind in _OVER_DATA_SETS else shown


def of_one_split(tables: Iterable[Table]) -> list[Table]:
    """Return the tables of one split for each protocol: the first of the released code's that is there."""
    ranked = [(_of(one, "protocol"), split_place(_of(one, "test_split")), one) for one in tables]
    best = {protocol: min(place for name, place, _ in ranked if name == protocol) for protocol, _, _ in ranked}
    return [one for protocol, place, one in ranked if place == best[protocol]]


def of_one_predictor(tables: Iterable[Table], predictors: Sequence[str]) -> list[Table]:
    """Return tables with the blocks of the first predictor that each has any of; all where titles name none."""
    made = []
    for one in tables:
        found = ([b for b in one.blocks if b.title == name or b.title.endswith(f", {name}")] for name in predictors)
        made.append(replace(one, blocks=tuple(next(filter(None, found), one.blocks))))
    return made


def over_backbones(tables: Iterable[Table], what: str) -> list[Table]:
    """Return a table for each data set, with a block for each backbone; a table that stands alone as it is."""
    made, of_each = [], grouped(tables, lambda one: (_of(one, "protocol"), _of(one, "dataset")))
    for (_, dataset), alike in of_each.items():
        columns = list({column.name: column for one in alike for column in one.columns}.values())
        blocks = []
        for one in alike:
            for block in one.blocks:
                lines = [replace(line, cells=tuple(_cell(one, line, c.name) for c in columns)) for line in block.lines]
                blocks.append(Block(", ".join(filter(None, _key(block))), tuple(lines), block.part))
        name, caption = f"{kind_of(alike[0])}-{dataset}", f"{dataset}: {what} (%)."
        whole, labels = Table(name, caption, tuple(columns), tuple(blocks)), [_of(one, "backbone") for one in alike]
        made.append(_together(whole, labels, alike) if len(alike) > 1 else alike[0])
    names = _numbered([one.name for one in made], "{}-{}")
    return [replace(one, name=name) for one, name in zip(made, names, strict=True)]


def over_data_sets(tables: Sequence[Table], what: str) -> list[Table]:
    """Return one table, with a column for each data set; of one data set its table as it is."""
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
        # Numbers ascending, what the rule picks last: those that most data sets have, with the ends.
        values = [name for name in times if name != PICKED]
        with suppress(ValueError):  # words stay in their order
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
    made = _together(Table(kind_of(tables[0]), caption, columns, tuple(blocks)), labels, tables)
    return [replace(made, notes=(*([_FEWER] if fewer else []), *made.notes))]


def kind_of(one: Table | Figure) -> str:
    """Return the name of a table or figure without what tells several of a kind apart."""
    return one.name.partition("-")[0]


def _together(made: Table, labels: Sequence[str], tables: Sequence[Table]) -> Table:
    """Return one table in the place of several, with each note once: those of all, then, behind labels, of some."""
    context = {field: ", ".join(dict.fromkeys(_of(one, field) for one in tables)) for field in tables[0].context}
    headings = {column.heading for one in tables for column in one.columns} - {one.heading for one in made.columns}
    spans = any(cell.signed and cell.low is not None for _, line in made.lines() for cell in line.cells)
    # Of columns that are gone, and of intervals where none is printed, notes say nothing.
    gone = (*(f"{heading}: " for heading in headings), *(() if spans else ("In brackets: 95 %",)))
    notes = {label: one.notes for label, one in zip(labels, tables, strict=True)}
    owners = grouped(((note, label) for label, own in notes.items() for note in own), lambda one: one[0])
    said: dict[str, list[str]] = {"": []}
    for note, of in owners.items():
        if not note.startswith(gone):
            labels_of = ", ".join(label for _, label in of)
            said.setdefault("" if len(of) == len(notes) else f"{labels_of}: ", []).append(note)
    every = (*said.pop(""), *(f"{words}{' '.join(own)}" for words, own in said.items()))
    banner = f"{BANNER}: " if "true" in context.get("random_weights", "") else ""
    return replace(made, caption=banner + made.caption, notes=every, corner=tables[0].corner, context=context)


def _cell(table: Table, line: Line | None, name: str) -> Cell:
    """Return the cell of a line below a column of its table; a gap where either is not there."""
    place = {column.name: i for i, column in enumerate(table.columns)}.get(name)
    return Cell(note="nothing of it") if line is None or place is None else line.cells[place]


def _key(block: Block) -> tuple[str, str]:
    """Return the backbone of a block, and what else its title says."""
    return block.part, block.title.removeprefix(block.part).removeprefix(", ")


def _numbered(names: Sequence[str], form: str) -> list[str]:
    """Return names of which those that come again have a number."""
    return [n if names.count(n) == 1 else form.format(n, names[: i + 1].count(n)) for i, n in enumerate(names)]


def _of(table: Table, field: str) -> str:
    """Return what all numbers of a table share of a field."""
    return table.context.get(field, "")


@dataclass(frozen=True)
class Paper:
    """The files of a paper: with the folder `paper` in their names.

    Attributes:
        main: the file to be read first: the PDF, else the Markdown.
        note: a sentence on why there is no PDF; empty where there is one.
    """

    contents: dict[str, bytes]
    main: str
    note: str = ""


def answer_paragraphs(answer: Answer) -> list[str]:
    """Return the first paragraphs: the headline, then the verdict on each method, those that decide something first."""
    decided = sorted(answer.verdicts, key=lambda one: one.kind not in DECIDED)
    more = len(decided) - MAX_VERDICTS
    rest = [f"{more:,} more verdicts stand in tables/verdicts.csv of the report."] if more > 0 else []
    return [verdicts.headline(answer), *map(verdicts.sentence, decided[:MAX_VERDICTS]), *rest]


def write_paper(title: str, opening: Sequence[str], chapters: Sequence[Chapter], absent: Sequence[str]) -> Paper:
    """Return the paper in all forms that can be made here.

    Figures lie in the folder `figures` beside that of the paper; sentences on what is `absent` end it.
    """
    source = _tex(title, opening, chapters, absent)
    figures = {f"{one.name}.pdf": one.contents["pdf"] for chapter in chapters for one in chapter.figures}
    content, note = compiled(source, figures)
    main = f"{FOLDER}/paper.pdf"
    if content is None:
        main, content = f"{FOLDER}/paper.md", _markdown(title, opening, chapters, absent).encode()
    return Paper({f"{FOLDER}/paper.tex": source.encode(), main: content}, main, note)


def compiled(source: str, figures: Mapping[str, bytes]) -> tuple[bytes | None, str]:
    """Return a document as PDF, or None and a sentence on what went wrong."""
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
                return None, f"pdflatex was ended after {LIMIT_S:.0f} s; paper.tex is there to be compiled by hand."
            except OSError as error:
                return None, f"pdflatex could not be started ({error.strerror}); paper.tex is there to be compiled."
            if done.returncode:
                found = re.search(r"^! *(.+)$", done.stdout.decode(errors="replace"), re.MULTILINE)
                reason = found[1].strip().rstrip(".") if found else "no message"
                return None, f"pdflatex failed with '{reason}'; paper.tex is there to be mended."
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
