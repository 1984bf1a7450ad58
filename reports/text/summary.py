"""The answer of a report as report.md (at most 150 lines) and as terminal text.

Terminal text has 80 columns and at most 16 lines for one setting, 30 for several.
"""
# The golden files in tests/reports/golden/answers have both texts, and tests/reports/text/test_answers.py writes them.

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from benchmark.common.terminal.escaping import one_line
from benchmark.method.evaluation.metrics import ACCURACY, BALANCED, Metric
from benchmark.method.evaluation.selection import RULES
from reports.analysis.comparisons import Comparison
from reports.analysis.settings import BANNER, Setting
from reports.analysis.verdicts import NO_VERDICT, Answer, Standing, Verdict
from reports.render.formats import WIDTH, markdown, markdown_escape, markdown_grid
from reports.render.table import GAP, Table
from reports.text import verdicts
from reports.text.captions import rule_words
from reports.text.sentences import Origin
from reports.text.verdicts import INTERVAL_TEXT, headline, pair_name, with_interval

MAX_LINES = 150
MAX_METHODS = 20  # lines of the first table
MAX_SENTENCES = 7
FINDINGS = ("Over all data sets", "Controls", "Against published numbers")  # `_markdown` of reports/build.py has each
_HEADINGS = ("gain with classes counted equally", "ahead in (environments)", "verdict")


MAX_LINES_ALONE = 16
MAX_TERMINAL_LINES = 30
MAX_GAPS = 4  # terminal lines on missing results
MAX_BEST = 3  # most accurate methods shown in the terminal
_NAME = 44  # width of the column of names
_MIN_BLOCK = 2  # smallest number of lines per standing: plain prediction and a method
_BOLD, _PLAIN_TEXT = "\033[1m", "\033[0m"


def report_markdown(
    origin: Origin,
    settings: Sequence[Setting],
    answer: Answer,
    tables: Sequence[Table],
    figures: Sequence[str],
    more: Mapping[str, Sequence[str]],
) -> str:
    """Return the text of report.md.

    `more` maps the headings "What explains it", `FINDINGS`, "Protocol" and "Provenance" to sentences. Long lists of
    sentences are cut.
    """
    random = markdown_escape(", ".join(sorted({s.backbone for s in settings if s.random_weights})))
    placed = list(zip(answer.places, answer.standings, strict=True))
    judged = [(place, one) for place, standing in placed for one in standing.verdicts]
    no_verdict = [_at(place, verdicts.outcome(one)) for place, one in judged if one.kind == NO_VERDICT]
    causes = [f"{_name(one, place)}: {words}" for place, one in judged if (words := verdicts.cause(one))]
    trusted = [(_name(one, place), [*verdicts.trust(one), *verdicts.frequencies(one)]) for place, one in judged]
    sure = [f"{name}: {' '.join(sentences)}" for name, sentences in trusted if sentences]
    missing = [words for words in origin.missing if words not in origin.partial]
    notes = _notes(answer)
    head = [
        f"# {f'{BANNER}: ' if random else ''}{markdown_escape(origin.name)}",
        f"**{markdown_escape(verdicts.headline(answer))}**",
        *map(markdown_escape, origin.partial),
        *([f"Backbones with random weights: {random}."] if random else []),
        *_methods(placed),
        *_listed("What explains it", [*causes[:MAX_SENTENCES], *more["What explains it"]]),
        *_listed("Can it be trusted?", [*verdicts.intervals(answer), *sure]),
        *_listed("What is missing", [*missing, *no_verdict, *verdicts.left_out(answer)]),
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
    name = one.method.name
    return f"{name} ({place})" if place else name


def _listed(heading: str, sentences: Sequence[str], max_sentences: int = MAX_SENTENCES) -> list[str]:
    if not sentences:
        return []
    lines = [f"- {markdown_escape(sentence)}" for sentence in sentences[:max_sentences]]
    lines += [f"- and {len(sentences) - max_sentences:,} more: `index.html`"] if len(sentences) > max_sentences else []
    return [*([f"## {heading}"] if heading else []), "\n".join(lines)]


def _methods(placed: Sequence[tuple[str, Standing]]) -> list[str]:
    """Return a table of plain prediction, methods with a verdict and the best method, then requested comparisons."""
    lines = [line for place, standing in placed for line in _of_standing(place, standing)]
    if not lines:
        return []
    values = " or ".join(dict.fromkeys(f"{one.metric.title} (%)" for _, one in placed))
    header = ["", values, "gain (points, 95 % interval)", *_HEADINGS]
    grid = markdown_grid(header, [[markdown_escape(cell) for cell in line] for line in lines[:MAX_METHODS]])
    left = len(lines) - MAX_METHODS
    direct = [_at(place, verdicts.compared(one)) for place, standing in placed for one in standing.direct]
    more = [f"And {left} more lines: `tables/verdicts.csv`."] if left > 0 else []
    return ["## Accuracy and gain", grid, *more, *_listed("", direct)]


def _of_standing(place: str, standing: Standing) -> Iterator[list[str]]:
    """Yield the lines of plain prediction, methods with a verdict, and the most accurate method if not yet included."""
    shown = standing.metric.shown
    if standing.plain == standing.plain:
        name = f"{place}: plain prediction" if place else "Plain prediction"
        yield [name, f"{shown(standing.plain):.1f}", "", "", "", ""]
    for one in standing.verdicts:
        own = shown(one.gain.accuracies[0]) if one.gain else 100 * one.accuracy
        gains = [_gain(one.metric, one.gain), _gain(BALANCED, one.balanced)]
        value = f"{own:.1f}" if own == own else GAP
        yield [_name(one), value, *gains, verdicts.ahead(one), verdicts.KIND_WORDS[one.kind]]
    judged = {one.method for one in standing.verdicts}
    best = next(iter(standing.entries), None)
    if best is not None and not best.method.is_plain and best.method not in judged and standing.metric == ACCURACY:
        name = best.method.name
        yield [name, f"{100 * best.accuracy:.1f}", _gain(ACCURACY, best.gain), "", "", "not judged"]


def _gain(metric: Metric, one: Comparison | None) -> str:
    return with_interval(one, metric, ends=INTERVAL_TEXT) if one else GAP


def _first_table(tables: Sequence[Table], elsewhere: set[str], room: int) -> list[str]:
    """Return the first table without the notes in `elsewhere`, or only its path if it has more than `room` lines."""
    if not tables:
        return []
    table = replace(tables[0], notes=tuple(note for note in tables[0].notes if note not in elsewhere), details=())
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
    """Return explanations of the terms in the answer."""
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


def terminal_text(answer: Answer, missing: Sequence[str], page: str | None, color: bool = False) -> str:
    """Return the answer for a terminal: headline, table of accuracies and gains, missing results, path of any page."""
    head, end = textwrap.wrap(one_line(headline(answer)), WIDTH), list[str]()
    for left, words in zip(range(len(missing), 0, -1), missing, strict=True):
        lines = textwrap.wrap(one_line(words), WIDTH)
        if len(end) + len(lines) > MAX_GAPS:
            end.append(f"{'and ' if end else ''}{left} {'more ' if end else ''}gap{'s' if left > 1 else ''}: report.md")
            break
        end += lines
    end += [] if page is None else [f"Page: {page}"]
    alone = len({standing.setting for standing in answer.standings}) == 1
    body = _table(answer, (MAX_LINES_ALONE if alone else MAX_TERMINAL_LINES) - len(head) - len(end) - 2)
    head = [f"{_BOLD}{line}{_PLAIN_TEXT}" if color else line for line in head]
    return "\n".join([*head, "", *body, *([""] if body and end else []), *end])


def _table(answer: Answer, room: int) -> list[str]:
    """Return a heading and the lines of each standing (setting and predictor); one line for each if there are many."""
    known = [(place, one) for place, one in zip(answer.places, answer.standings, strict=True) if one.entries]
    if not known:
        return []
    protocols = ", ".join(dict.fromkeys(one.setting.protocol for _, one in known))
    rules = ", ".join(dict.fromkeys(one.rule for _, one in known))
    title = f"{_cut(f'Rule {rules}, protocol {protocols}', _NAME):<{_NAME}} accuracy  gain [95 %]"
    headings = len(known) if len(known) > 1 else 0
    each = (room - 1 - headings) // len(known)  # lines per standing
    if each >= _MIN_BLOCK:
        blocks = [[*([_cut(place, WIDTH)] if headings else []), *_block(one, each)] for place, one in known]
        lines = [line for block in blocks for line in block]
    else:
        best = [(place, one.shown(MAX_BEST)[1:2] or one.entries[:1]) for place, one in known]
        lines = [_line(f"{place}: {e.method.name}", e.accuracy, e.gain) for place, some in best for e in some]
    if len(lines) > room - 1:
        lines = [*lines[: room - 2], f"and {len(lines) - room + 2} more: tables/verdicts.csv"]
    return [title, *lines]


def _block(standing: Standing, max_lines: int) -> list[str]:
    """Return the lines of plain prediction, requested and best methods, and requested comparisons."""
    entries = standing.shown(MAX_BEST)[:max_lines]
    lines = [_line(one.method.name, one.accuracy, one.gain, "  ") for one in entries]
    return [*lines, *(_line(pair_name(one), None, one, "  ") for one in standing.direct[: max_lines - len(lines)])]


def _line(name: str, accuracy: float | None, gain: Comparison | None, indent: str = "") -> str:
    value = "" if accuracy is None else f"{100 * accuracy:.1f}"
    points = "" if gain is None else f"  {with_interval(gain)}"
    width = _NAME - len(indent)
    return f"{indent}{_cut(name, width):<{width}} {value:>8}{points}"


def _cut(words: str, width: int) -> str:
    words = one_line(words)
    return words if len(words) <= width else f"{words[: width - 1]}…"
