"""The answer on a terminal: at most 16 lines of 80 columns for one setting, 30 for any number of them."""

import textwrap
from collections.abc import Sequence

from benchmark.common.visible import one_line
from reports.analysis.verdicts import Answer, Entry, Standing
from reports.text.headline import headline, short_name
from reports.text.sentences import points_with_ends

WIDTH = 80
MAX_LINES_ALONE = 16
MAX_LINES = 30
MAX_GAPS = 2
MAX_BEST = 3  # methods of the highest accuracy that stand there
_NAME = 44  # columns
_FEWEST = 2  # lines of a setting and predictor: plain prediction and a method
_BOLD, _PLAIN_TEXT = "\033[1m", "\033[0m"


def text(answer: Answer, missing: Sequence[str], page: str, color: bool = False) -> str:
    """Return the answer: headline, a table of accuracies and gains, what is missing, and where the page is.

    Args:
        answer: of a report.
        missing: sentences on gaps.
        page: path or URI of the page.
        color: whether to set the headline in bold.
    """
    head = textwrap.wrap(one_line(headline(answer)), WIDTH)
    end = [textwrap.shorten(one_line(words), WIDTH, placeholder=" ... (report.md)") for words in missing[:MAX_GAPS]]
    end += [f"and {len(missing) - MAX_GAPS} more gaps, see report.md"] if len(missing) > MAX_GAPS else []
    end += [f"Page: {page}"]
    alone = len({standing.setting for standing in answer.standings}) == 1
    room = (MAX_LINES_ALONE if alone else MAX_LINES) - len(head) - len(end) - 2
    body = _table(answer.standings, alone, room)
    said = [f"{_BOLD}{line}{_PLAIN_TEXT}" if color else line for line in head]
    return "\n".join([*said, "", *body, *([""] if body else []), *end])


def _table(standings: Sequence[Standing], alone: bool, room: int) -> list[str]:
    """Return a head, then plain prediction and methods of each setting and predictor; of many, a line each."""
    known = [one for one in standings if one.entries]
    if not known:
        return []
    protocols = ", ".join(dict.fromkeys(one.setting.protocol for one in known))
    rules = ", ".join(dict.fromkeys(one.rule for one in known))
    title = f"{_cut(f'Protocol {protocols}, chosen by {rules}', _NAME):<{_NAME}} accuracy  gain [95 %]"
    headings = len(known) if len(known) > 1 else 0
    each = (room - 1 - headings) // len(known)  # lines of each
    if each >= _FEWEST:
        lines = [line for one in known for line in _block(one, alone, bool(headings), each)]
    else:
        best = [(_where(one, alone), _wanted(one)[1:2] or one.entries[:1]) for one in known]
        lines = [_line(f"{where}: {short_name(e.method)}", e) for where, entries in best for e in entries]
    if len(lines) > room - 1:
        lines = [*lines[: room - 2], f"and {len(lines) - room + 2} more: tables/verdicts.csv"]
    return [title, *lines]


def _block(standing: Standing, alone: bool, headed: bool, most: int) -> list[str]:
    entries = sorted(_wanted(standing)[:most], key=lambda one: (not one.method.is_plain, -one.accuracy))
    names = ["plain" if one.method.is_plain else short_name(one.method) for one in entries]
    lines = [_line(name, one, "  ") for name, one in zip(names, entries, strict=True)]
    return [*([_cut(_where(standing, alone), WIDTH)] if headed else []), *lines]


def _where(standing: Standing, alone: bool) -> str:
    setting = standing.setting
    return standing.predictor if alone else f"{setting.dataset}, {setting.backbone_label}, {standing.predictor}"


def _line(name: str, entry: Entry, indent: str = "") -> str:
    gain = "" if entry.gain is None else f"  {points_with_ends(entry.gain)}"
    width = _NAME - len(indent)
    return f"{indent}{_cut(name, width):<{width}} {100 * entry.accuracy:8.1f}{gain}"


def _wanted(standing: Standing) -> list[Entry]:
    """Return plain prediction, what is asked about, and the methods of the highest accuracy."""
    plain = [one for one in standing.entries if one.method.is_plain]
    asked = [one for one in standing.entries if one.method.brought or one.method.is_paper]
    best = [one for one in standing.entries if not one.method.is_plain][:MAX_BEST]
    return list({one.method: one for one in (*plain, *asked, *best)}.values())


def _cut(words: str, width: int) -> str:
    words = one_line(words)
    return words if len(words) <= width else f"{words[: width - 1]}…"
