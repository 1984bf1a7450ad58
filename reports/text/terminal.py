"""The answer on a terminal: at most 16 lines of 80 columns for one setting, 30 for any number of them."""

import textwrap
from collections.abc import Sequence

from benchmark.common.terminal.escaping import one_line
from reports.analysis.comparisons import Comparison
from reports.analysis.verdicts import Answer, Standing
from reports.text.headline import headline, pair_name, short_name
from reports.text.sentences import with_ends

WIDTH = 80
MAX_LINES_ALONE = 16
MAX_LINES = 30
MAX_GAPS = 4  # lines
MAX_BEST = 3  # methods of the highest accuracy that stand there
_NAME = 44  # columns
_FEWEST = 2  # lines of a setting and predictor: plain prediction and a method
_BOLD, _PLAIN_TEXT = "\033[1m", "\033[0m"


def text(answer: Answer, missing: Sequence[str], page: str, color: bool = False) -> str:
    """Return the answer: headline, a table of accuracies and gains, what is missing, and where the page is.

    Args:
        answer: of a report.
        missing: sentences on gaps; what has no room is counted.
        page: path or URI of the page.
        color: whether to set the headline in bold.
    """
    head, end = textwrap.wrap(one_line(headline(answer)), WIDTH), list[str]()
    for left, words in zip(range(len(missing), 0, -1), missing, strict=True):
        lines = textwrap.wrap(one_line(words), WIDTH)
        if len(end) + len(lines) > MAX_GAPS:
            end.append(f"{'and ' if end else ''}{left} {'more ' if end else ''}gap{'s' if left > 1 else ''}: report.md")
            break
        end += lines
    end.append(f"Page: {page}")
    alone = len({standing.setting for standing in answer.standings}) == 1
    body = _table(answer, (MAX_LINES_ALONE if alone else MAX_LINES) - len(head) - len(end) - 2)
    said = [f"{_BOLD}{line}{_PLAIN_TEXT}" if color else line for line in head]
    return "\n".join([*said, "", *body, *([""] if body else []), *end])


def _table(answer: Answer, room: int) -> list[str]:
    """Return a head, then plain prediction and methods of each setting and predictor; of many, a line each."""
    known = [(place, one) for place, one in zip(answer.places, answer.standings, strict=True) if one.entries]
    if not known:
        return []
    protocols = ", ".join(dict.fromkeys(one.setting.protocol for _, one in known))
    rules = ", ".join(dict.fromkeys(one.rule for _, one in known))
    title = f"{_cut(f'Protocol {protocols}, chosen by {rules}', _NAME):<{_NAME}} accuracy  gain [95 %]"
    headings = len(known) if len(known) > 1 else 0
    each = (room - 1 - headings) // len(known)  # lines of each
    if each >= _FEWEST:
        blocks = [[*([_cut(place, WIDTH)] if headings else []), *_block(one, each)] for place, one in known]
        lines = [line for block in blocks for line in block]
    else:
        best = [(place, one.shown(MAX_BEST)[1:2] or one.entries[:1]) for place, one in known]
        lines = [_line(f"{place}: {short_name(e.method)}", e.accuracy, e.gain) for place, some in best for e in some]
    if len(lines) > room - 1:
        lines = [*lines[: room - 2], f"and {len(lines) - room + 2} more: tables/verdicts.csv"]
    return [title, *lines]


def _block(standing: Standing, most: int) -> list[str]:
    """Return plain prediction, what is asked about, the best, and what the reader wants to be compared directly."""
    entries = standing.shown(MAX_BEST)[:most]
    names = ["plain" if one.method.is_plain else short_name(one.method) for one in entries]
    lines = [_line(name, one.accuracy, one.gain, "  ") for name, one in zip(names, entries, strict=True)]
    return [*lines, *(_line(pair_name(one), None, one, "  ") for one in standing.direct[: most - len(lines)])]


def _line(name: str, accuracy: float | None, gain: Comparison | None, indent: str = "") -> str:
    value = "" if accuracy is None else f"{100 * accuracy:.1f}"
    points = "" if gain is None else f"  {with_ends(gain)}"
    width = _NAME - len(indent)
    return f"{indent}{_cut(name, width):<{width}} {value:>8}{points}"


def _cut(words: str, width: int) -> str:
    words = one_line(words)
    return words if len(words) <= width else f"{words[: width - 1]}…"
