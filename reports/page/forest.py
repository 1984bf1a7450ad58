"""The forest of the page: one line for each comparison, placed in percent of the width, so that text keeps its size."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reports.analysis.comparisons import Comparison
from reports.analysis.settings import Setting
from reports.page.data import family_of
from reports.text.sentences import p_words

MANY = 24  # comparisons: with more, the forest has differences to the plain space alone
_MINUS = "−"


@dataclass(frozen=True)
class Mark:
    """One comparison of the forest; places are in percent of the width.

    Attributes:
        label: what is subtracted, "− PCA".
        family: by which colour it is drawn.
        x: where the estimate is.
        low: where its interval begins; None without one.
        high: where it ends.
        text: difference and interval in points.
        p: adjusted p-value in words; empty without one.
        differs: whether a difference is shown.
    """

    label: str
    family: str
    x: float
    low: float | None
    high: float | None
    text: str
    p: str
    differs: bool


@dataclass(frozen=True)
class Group:
    """The comparisons of one method in one setting."""

    title: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Forest:
    """All groups on one scale.

    Attributes:
        groups: in the order of the verdicts.
        ticks: (place, text) of the scale.
        zero: place of no difference.
    """

    groups: tuple[Group, ...]
    ticks: tuple[tuple[float, str], ...]
    zero: float


def forests(verdicts: Sequence[Any]) -> tuple[Forest | None, Forest | None]:
    """Return the forest to be shown first, and one of all comparisons where the first has not all of them.

    Args:
        verdicts: see `reports.analysis.verdicts.Verdict`.
    """
    every = [(one, [c for c in (one.gain, *one.others) if c is not None]) for one in verdicts]
    every = [(one, compared) for one, compared in every if compared]
    if not every:
        return None, None
    if sum(len(compared) for _, compared in every) <= MANY:
        return _forest(every, each=True), None
    plain = [(one, [one.gain]) for one, _ in every if one.gain is not None]
    return (_forest(plain, each=False) if plain else None), _forest(every, each=True)


def _forest(parts: Sequence[tuple[Any, Sequence[Comparison]]], each: bool) -> Forest:
    ends = [abs(v) for _, compared in parts for one in compared for v in _points(one) if v is not None]
    reach, step = _scale(max(ends, default=1.0))
    settings = [one.setting for one, _ in parts]
    groups: dict[str, list[Mark]] = {}
    for one, compared in parts:
        where = _where(one.setting, settings)
        title = _title(one.method, where) if each else where or f"{one.method.predictor_label}"
        for comparison in compared:
            label = f"{_MINUS}\u00a0{_baseline(comparison)}" if each else _title(one.method, "")
            groups.setdefault(title, []).append(_mark(comparison, label, reach, each))
    ticks = [k * step for k in range(-round(reach / step), round(reach / step) + 1)]
    return Forest(
        tuple(Group(title, tuple(marks)) for title, marks in groups.items()),
        tuple((_place(tick, reach), signed(tick, 1 if step < 1 else 0)) for tick in ticks),
        _place(0.0, reach),
    )


def _title(method: Any, where: str) -> str:
    return f"{method.projection_label} + {method.predictor_label}" + (f" · {where}" if where else "")


def _where(setting: Setting, settings: Sequence[Setting]) -> str:
    """Return what tells a setting from the others of the forest; empty where there is one."""
    names = ("dataset", "backbone_label", "precision", "protocol", "test_split", "half_words")
    told = [n for n in names if len({getattr(s, n) for s in settings}) > 1]
    return ", ".join(str(getattr(setting, n)).removeprefix(", ") or "all classes" for n in told)


def _baseline(one: Comparison) -> str:
    """Return what is subtracted, without the words that it shares with the method."""
    if one.baseline.is_plain:
        return "plain"
    words, own = one.baseline.projection_label, one.method.projection_label
    for joint, end in ((", ", ""), (" (", ")")):
        if words.startswith(own + joint) and words.endswith(end):
            return words[len(own + joint) : len(words) - len(end)]
    return words


def _mark(one: Comparison, label: str, reach: float, by_baseline: bool) -> Mark:
    estimate, low, high = _points(one)
    shown = signed(estimate or 0.0, 1)
    p = one.adjusted.p
    known = not math.isnan(p)
    return Mark(
        label,
        family_of(one.baseline if by_baseline and not one.baseline.is_plain else one.method),
        _place(estimate or 0.0, reach),
        None if low is None else _place(low, reach),
        None if high is None else _place(high, reach),
        shown if low is None or high is None else f"{shown} [{signed(low, 1)}, {signed(high, 1)}]",
        p_words(p) if known else "",
        known and one.adjusted.differs,
    )


def _points(one: Comparison) -> tuple[float | None, float | None, float | None]:
    interval = one.interval
    has_ends = interval.standard_error > 0 and not math.isnan(interval.low)
    ends = (100 * interval.low, 100 * interval.high) if has_ends else (None, None)
    return (100 * interval.estimate, *ends)


def signed(value: float, decimals: int) -> str:
    """Return a difference with its sign, as it is printed: "+0.2", "−1.0", "0.0"."""
    text = f"{abs(value):.{decimals}f}"
    if float(text) == 0:
        return text
    return f"{'+' if value > 0 else _MINUS}{text}"


def _scale(reach: float) -> tuple[float, float]:
    """Return the end of the scale and the step of its ticks, in points."""
    for step in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0):
        if reach <= 4 * step:
            return max(2, math.ceil(1.02 * reach / step)) * step, step
    return 100.0, 50.0


def _place(value: float, reach: float) -> float:
    return round(50 + 47 * max(-1.0, min(1.0, value / reach)), 2)
