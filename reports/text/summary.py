"""report.md: the answer in plain English, one table, and where everything else lies; at most 150 lines."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from benchmark.method.evaluation.metrics import ACCURACY, BALANCED, Metric
from benchmark.method.evaluation.selection import RULES
from reports.analysis.comparisons import Comparison
from reports.analysis.settings import BANNER, Setting
from reports.analysis.verdicts import UNSAID, Answer, Standing, Verdict
from reports.render.markdown import markdown, markdown_escape, markdown_grid
from reports.render.table import GAP, Table
from reports.text.captions import rule_words
from reports.text.headline import KIND_WORDS, capital, headline, short_name
from reports.text.origin import Origin
from reports.text.sentences import with_ends
from reports.text.verdicts import ENDS, ahead, cause, compared, frequencies, intervals, left_out, outcome, trust

MAX_LINES = 150
MAX_METHODS = 20  # lines of the first table
MAX_SENTENCES = 7
FINDINGS = ("Over all data sets", "Controls", "Against published numbers")
_HEADINGS = ("gain with classes counted equally", "ahead in (environments)", "verdict")


def report_markdown(
    origin: Origin,
    settings: Sequence[Setting],
    answer: Answer,
    tables: Sequence[Table],
    figures: Sequence[str],
    more: Mapping[str, Sequence[str]],
) -> str:
    """Return report.md.

    Args:
        origin: where the rows come from.
        settings: all that rows are of.
        answer: what is said first.
        tables: all, the one to be shown first.
        figures: names of the figures.
        more: heading -> sentences, of which the first are shown: "What explains it" (how well environments are read),
            those of `FINDINGS`, "Protocol" (how the numbers were made), "Provenance" (rows, trials, versions).
    """
    random = markdown_escape(", ".join(sorted({s.backbone for s in settings if s.random_weights})))
    placed = list(zip(answer.places, answer.standings, strict=True))
    verdicts = [(place, one) for place, standing in placed for one in standing.verdicts]
    unsaid = [_at(place, outcome(one)) for place, one in verdicts if one.kind == UNSAID]
    causes = [f"{_name(one, place)}: {words}" for place, one in verdicts if (words := cause(one))]
    trusted = [(_name(one, place), [*trust(one), *frequencies(one)]) for place, one in verdicts]
    sure = [f"{name}: {' '.join(said)}" for name, said in trusted if said]
    missing = [words for words in origin.missing if words not in origin.partial]
    notes = _notes(answer)
    head = [
        f"# {f'{BANNER}: ' if random else ''}{markdown_escape(origin.name)}",
        f"**{markdown_escape(headline(answer))}**",
        *map(markdown_escape, origin.partial),
        *([f"Backbones with random weights: {random}."] if random else []),
        *_methods(placed),
        *_listed("What explains it", [*causes[:MAX_SENTENCES], *more["What explains it"]]),
        *_listed("Can it be trusted?", [*intervals(answer), *sure]),
        *_listed("What is missing", [*missing, *unsaid, *left_out(answer)]),
    ]
    rest = [
        *(part for heading in FINDINGS for part in _listed(heading, more[heading])),
        *_files(tables, figures),
        *_listed("Protocol", more["Protocol"], 2 * MAX_SENTENCES),
        *_listed("Provenance", more["Provenance"]),
        *_listed("How to read this", notes),
    ]
    room = MAX_LINES - len("\n\n".join([*head, *rest]).splitlines())
    return "\n\n".join([*head, *_first_table(tables, {*more["Protocol"], *notes}, room), *rest]) + "\n"


def _at(place: str, words: str) -> str:
    return f"{place}: {words}" if place else words


def _name(one: Verdict, place: str = "") -> str:
    name = capital(short_name(one.method))
    return f"{name} ({place})" if place else name


def _listed(heading: str, sentences: Sequence[str], most: int = MAX_SENTENCES) -> list[str]:
    if not sentences:
        return []
    lines = [f"- {markdown_escape(sentence)}" for sentence in sentences[:most]]
    lines += [f"- and {len(sentences) - most:,} more: `index.html`"] if len(sentences) > most else []
    return [*([f"## {heading}"] if heading else []), "\n".join(lines)]


def _methods(placed: Sequence[tuple[str, Standing]]) -> list[str]:
    """Return the table of plain prediction, of all that is judged and of what does best, then what is compared."""
    lines = [line for place, standing in placed for line in _of_standing(place, standing)]
    if not lines:
        return []
    values = " or ".join(dict.fromkeys(f"{one.metric.title} (%)" for _, one in placed))
    header = ["", values, "gain (points, 95 % interval)", *_HEADINGS]
    grid = markdown_grid(header, [[markdown_escape(cell) for cell in line] for line in lines[:MAX_METHODS]])
    left = len(lines) - MAX_METHODS
    direct = [_at(place, compared(one)) for place, standing in placed for one in standing.direct]
    more = [f"And {left} more lines: `tables/verdicts.csv`."] if left > 0 else []
    return ["## Accuracy and gain", grid, *more, *_listed("", direct)]


def _of_standing(place: str, standing: Standing) -> Iterator[list[str]]:
    """Yield lines of plain prediction with one predictor, of what is judged, and of the best if that is not."""
    shown = standing.metric.shown
    if standing.plain == standing.plain:
        name = f"{place}: plain prediction" if place else "Plain prediction"
        yield [name, f"{shown(standing.plain):.1f}", "", "", "", ""]
    for one in standing.verdicts:
        own = shown(one.gain.accuracies[0]) if one.gain else 100 * one.accuracy
        gains = [_gain(one.metric, one.gain), _gain(BALANCED, one.balanced)]
        value = f"{own:.1f}" if own == own else GAP
        yield [_name(one), value, *gains, ahead(one), KIND_WORDS[one.kind]]
    judged = {one.method for one in standing.verdicts}
    best = next(iter(standing.entries), None)
    if best is not None and not best.method.is_plain and best.method not in judged and standing.metric == ACCURACY:
        name = capital(short_name(best.method))
        yield [name, f"{100 * best.accuracy:.1f}", _gain(ACCURACY, best.gain), "", "", "not judged"]


def _gain(metric: Metric, one: Comparison | None) -> str:
    return with_ends(one, metric, ends=ENDS) if one else GAP


def _first_table(tables: Sequence[Table], said: set[str], room: int) -> list[str]:
    """Return the first table without the notes that stand elsewhere; its place where there is no room for it."""
    if not tables:
        return []
    table = replace(tables[0], notes=tuple(note for note in tables[0].notes if note not in said), details=())
    text = markdown(table).rstrip()
    if len(text.splitlines()) + 4 > room:
        text = f"It is long: `tables/{table.name}.md`."
    return ["## Table 1", text]


def _files(tables: Sequence[Table], figures: Sequence[str]) -> list[str]:
    names = {
        "page": "`index.html`, with every number behind the answers",
        "tables": ", ".join(dict.fromkeys(f"`{t.name}`" for t in tables[:MAX_SENTENCES])) or "none",
        "as": "`tables/NAME.md`, `.tex`, `.csv`, `.json`; `tables/all.tex` compiles alone",
        "more": "`tables/accuracies.csv`, `verdicts.csv`, `differences.csv`, `picks.csv` and others",
        "figures": ", ".join(dict.fromkeys(f"`{name}`" for name in figures[:MAX_SENTENCES])) or "none",
    }
    return ["## Files", markdown_grid(["", "in this folder"], [[key, value] for key, value in names.items()])]


def _notes(answer: Answer) -> list[str]:
    """Return what the words of the answer mean."""
    rules = [rule_words(rule, s.setting) for s in answer.standings for rule in (RULES[s.rule].base, s.rule)]
    notes, family = list(dict.fromkeys(rules)), max((one.family for one in answer.verdicts), default=0)
    if not family:
        return notes
    gains = "the one gain" if family == 1 else f"all {family} gains of this report together (by Holm's method)"
    return [
        *notes,
        f"Verdicts hold for {gains} with an error of at most 5 %. An interval is of one gain alone; of new "
        "environments it is adjusted for all of them.",
        "With classes counted equally, each class has the same weight, however many images it has.",
        "Differences are rounded after they are computed, so that the last digit may not add up.",
    ]
