"""report.md: the answer, one table, what is missing, and where everything else lies; at most 150 lines."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from reports.analysis.settings import BANNER, Setting
from reports.analysis.verdicts import DECIDED, Answer, counts_of
from reports.render.markdown import markdown, markdown_escape, markdown_grid
from reports.render.table import Table
from reports.text.headline import headline
from reports.text.origin import Origin
from reports.text.verdicts import sentence

MAX_LINES = 150
MAX_VERDICTS = 24
MAX_TABLE_LINES = 70
MAX_SENTENCES = 8


@dataclass(frozen=True)
class Sections:
    """Sentences of which report.md shows the first ones.

    Attributes:
        unjudged: what has no verdict, and how well environments are read.
        over_data_sets: what several data sets say together.
        controls: whether what must be found was.
        published: how the numbers stand beside published ones.
        protocols: what each protocol is.
        provenance: rows, trials, recipes and versions.
    """

    unjudged: Sequence[str] = ()
    over_data_sets: Sequence[str] = ()
    controls: Sequence[str] = ()
    published: Sequence[str] = ()
    protocols: Sequence[str] = ()
    provenance: Sequence[str] = field(default=())


def report_markdown(
    origin: Origin,
    settings: Sequence[Setting],
    answer: Answer,
    tables: Sequence[Table],
    figures: Sequence[str],
    sections: Sections,
) -> str:
    """Return report.md.

    Args:
        origin: where the rows come from.
        settings: all that rows are of.
        answer: what is said first.
        tables: all, the one to be shown first.
        figures: names of the figures.
        sections: sentences.
    """
    random = sorted({s.backbone for s in settings if s.random_weights})
    title = f"# {BANNER}: {markdown_escape(origin.name)}" if random else f"# {markdown_escape(origin.name)}"
    parts = [title, f"**{markdown_escape(headline(answer))}**"]
    parts += [f"Backbones with random weights: {markdown_escape(', '.join(random))}."] if random else []
    parts += _listed("", origin.missing)
    parts += _answers(answer, sections.unjudged)
    parts += _first_table(tables)
    parts += _listed("## Over all data sets", sections.over_data_sets)
    parts += _listed("## Controls", sections.controls)
    parts += _listed("## Against published numbers", sections.published)
    parts += _listed("## Protocol", sections.protocols)
    parts += _files(tables, figures)
    parts += _listed("## Provenance", sections.provenance)
    return "\n\n".join(parts) + "\n"


def _listed(heading: str, sentences: Sequence[str]) -> list[str]:
    if not sentences:
        return []
    lines = [f"- {markdown_escape(sentence)}" for sentence in sentences[:MAX_SENTENCES]]
    if len(sentences) > MAX_SENTENCES:
        lines.append(f"- and {len(sentences) - MAX_SENTENCES:,} more: `index.html`")
    return [*([heading] if heading else []), "\n".join(lines)]


def _answers(answer: Answer, unjudged: Sequence[str]) -> list[str]:
    """Return the verdicts, those that decide something first; counts alone where they are too many."""
    decided = [one for one in answer.verdicts if one.kind in DECIDED]
    ordered = [*decided, *(one for one in answer.verdicts if one not in decided)]
    lines = [f"- {markdown_escape(sentence(one))}" for one in ordered[:MAX_VERDICTS]]
    if len(ordered) > MAX_VERDICTS:
        counts = ", ".join(f"{n} {kind}" for kind, n in counts_of(answer.verdicts).items())
        lines.append(f"- and {len(ordered) - MAX_VERDICTS:,} more in `tables/verdicts.csv`; of all: {counts}")
    lines += [f"- {markdown_escape(words)}" for words in unjudged[:MAX_SENTENCES]]
    return ["## Answers", "\n".join(lines)] if lines else []


def _first_table(tables: Sequence[Table]) -> list[str]:
    if not tables:
        return []
    text = markdown(tables[0]).rstrip()
    if len(text.splitlines()) > MAX_TABLE_LINES:
        return [f"## Table 1\n\nIt is long: `tables/{tables[0].name}.md`."]
    return ["## Table 1", text]


def _files(tables: Sequence[Table], figures: Sequence[str]) -> list[str]:
    names = {
        "page": "`index.html`, with every number behind the answers",
        "tables": ", ".join(dict.fromkeys(f"`{t.name}`" for t in tables[:MAX_SENTENCES])) or "none",
        "as": "`tables/NAME.md`, `.tex`, `.csv`, `.json`; `tables/all.tex` compiles alone",
        "more": "`tables/accuracies.csv`, `verdicts.csv`, `differences.csv`, `picks.csv`, `findings.csv` and others",
        "figures": ", ".join(dict.fromkeys(f"`{name}`" for name in figures[:MAX_SENTENCES])) or "none",
    }
    return ["## Files", markdown_grid(["", "in this folder"], [[key, value] for key, value in names.items()])]
