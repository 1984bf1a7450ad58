"""The answer on a terminal: at most 24 lines of 80 columns for one setting, 40 lines for any number of them."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.common.visible import one_line
from reports.analysis.chosen import Selections
from reports.analysis.comparisons import Comparison, compare
from reports.analysis.methods import Method
from reports.analysis.settings import Setting
from reports.analysis.verdicts import DECIDED, Answer
from reports.text.verdicts import headline

WIDTH = 80
MAX_LINES_ALONE = 24
MAX_LINES = 40
MAX_GAPS = 4
_NAME, _BAR = 25, 24  # columns
_BOLD, _PLAIN_TEXT = "\033[1m", "\033[0m"


@dataclass(frozen=True)
class Shown:
    """One line of the forest: a method's average and its difference to the plain space.

    Attributes:
        heading: what stands above it; lines of equal headings stand together.
        name: of the method or of the setting.
        average: accuracy in percent.
        gain: the comparison with the plain space; None for that itself.
    """

    heading: str
    name: str
    average: float
    gain: Comparison | None


def shown(described: Sequence[tuple[Setting, Selections]], answer: Answer) -> list[Shown]:
    """Return what the terminal shows: of one setting the methods, of several what was judged in each.

    Args:
        described: settings with their rows.
        answer: of them all.
    """
    fair = [(s, selections) for s, selections in described if not s.protocol_class.looks_at_target]
    if len(fair) == 1:
        return _of_setting(fair[0][1])
    judged = [one for one in answer.verdicts if one.gain is not None]
    decided = [one for one in judged if one.kind in DECIDED]
    return [
        Shown(
            f"{one.setting.banner}{one.setting.dataset}, {one.setting.backbone_label}{one.setting.half_words}",
            f"{one.name}, {one.method.predictor_label}",
            100 * one.gain.accuracies[0],
            one.gain,
        )
        for one in [*decided, *(one for one in judged if one not in decided)]
        if one.gain is not None
    ]


def _of_setting(selections: Selections) -> list[Shown]:
    rule, lines = selections.rule, []
    for predictor in dict.fromkeys(method.predictor for method in selections.parts):
        methods = _of_predictor(selections, predictor)
        plain = next((method for method in methods if method.is_plain), None)
        for method in methods:
            made = compare(selections, method, rule, plain or method)
            if made is not None:
                name = method.projection_label.replace("Random projection", "Random").rpartition(":")[2]
                gain = None if plain in (None, method) else made
                lines.append(Shown(method.predictor_label, name, 100 * made.accuracies[0], gain))
    return lines


def _of_predictor(selections: Selections, predictor: str) -> list[Method]:
    """Return the methods of a predictor that stand on the terminal: neither parts, placebos nor rivals of shrinkage."""
    same = [m for m in selections.parts if m.predictor == predictor and not (m.variant or m.is_control)]
    return [m for m in same if m.order != "released"]


def text(
    described: Sequence[tuple[Setting, Selections]],
    answer: Answer,
    missing: Sequence[str],
    page: str,
    color: bool = False,
) -> str:
    """Return the answer: headline, forest with averages and intervals, what is missing, and where the page is.

    Args:
        described: settings with their rows.
        answer: of them all.
        missing: sentences on gaps.
        page: path or URI of the page.
        color: whether to set the headline in bold.
    """
    head = textwrap.wrap(one_line(headline(answer.verdicts)), WIDTH)
    end = [line for words in missing[:MAX_GAPS] for line in textwrap.wrap(one_line(words), WIDTH)[:2]]
    end += [f"and {len(missing) - MAX_GAPS} more gaps, see report.md"] if len(missing) > MAX_GAPS else []
    end += [f"Page: {page}"]
    every = shown(described, answer)
    alone = len({id(selections) for s, selections in described if not s.protocol_class.looks_at_target}) == 1
    room = (MAX_LINES_ALONE if alone else MAX_LINES) - len(head) - len(end) - 2
    body = _forest(_title(described, alone), every, room)
    said = [f"{_BOLD}{line}{_PLAIN_TEXT}" if color else line for line in head]
    return "\n".join([*said, "", *body, *([""] if body else []), *end])


def _title(described: Sequence[tuple[Setting, Selections]], alone: bool) -> str:
    fair = [(s, selections) for s, selections in described if not s.protocol_class.looks_at_target]
    if not fair:
        return ""
    rules = sorted({selections.rule for _, selections in fair})
    if not alone:
        return f"{', '.join(rules)}, {len(fair)} settings"
    selections = fair[0][1]
    return f"{', '.join(rules)}, {len(selections.held_outs)} held out"


def _forest(title: str, every: Sequence[Shown], room: int) -> list[str]:
    """Return the forest in at most `room` lines; what does not fit is counted."""
    if not every:
        return []
    ends = [e for one in every if one.gain is not None for e in _ends(one.gain) if not np.isnan(e)]
    scale = max([1.0, *(abs(e) for e in ends)])
    low, high = f"{-scale:.1f}", f"{scale:+.1f}"
    axis = f"{low}{'0':^{_BAR - len(low) - len(high)}}{high}"
    lines = [f"{_cut(title, _NAME):<{_NAME}} {'mean':>5}  {'minus plain':<20} {axis}"]
    heading = ""
    for i, one in enumerate(every):
        needed = [_cut(one.heading, WIDTH)] if one.heading != heading else []
        heading = one.heading
        left = len(every) - i
        if len(lines) + len(needed) + 1 + (1 if left > 1 else 0) > room:
            return [*lines, f"and {left} more: tables/verdicts.csv"]
        lines += [*needed, _line(one, scale)]
    return lines


def _line(one: Shown, scale: float) -> str:
    name = f"  {_cut(one.name, _NAME - 2):<{_NAME - 2}} {one.average:5.1f}"
    if one.gain is None:
        return name
    low, high = _ends(one.gain)
    points = 100 * one.gain.interval.estimate
    ends = "" if np.isnan(low) else f" [{low:+.1f}, {high:+.1f}]"
    return f"{name}  {f'{points:+.1f}{ends}':<20} {_bar(points, low, high, scale)}".rstrip()


def _ends(one: Comparison) -> tuple[float, float]:
    return 100 * one.interval.low, 100 * one.interval.high


def _bar(points: float, low: float, high: float, scale: float) -> str:
    """Return an interval drawn in characters around the middle, which is 0."""

    def place(value: float) -> int:
        return round((value / scale + 1) / 2 * (_BAR - 1))

    cells = [" "] * _BAR
    cells[place(0)] = "|"
    if not np.isnan(low):
        for i in range(place(low), place(high) + 1):
            cells[i] = "-" if cells[i] == " " else "+"
    cells[place(max(-scale, min(scale, points)))] = "o"
    return "".join(cells)


def _cut(words: str, width: int) -> str:
    words = one_line(words)
    return words if len(words) <= width else f"{words[: width - 1]}…"
