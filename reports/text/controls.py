"""Sentences on controls: what had to be found in a data set, and what was."""

from collections.abc import Iterable

from reports.analysis.controls import Verdict
from reports.analysis.methods import ALONE
from reports.analysis.settings import Setting
from reports.text.headline import explained
from reports.text.sentences import p_words, points_with_ends

_WORDS = dict(zip(ALONE, ("interventions", "environment means"), strict=True))


def in_a_sentence(setting: Setting, one: Verdict) -> str:
    """Return what must be found in a setting, what was, whether that is right, and why."""
    expected, found = _words(one.expected.parts), _words(one.found)
    right = "right" if one.right else "WRONG"
    what = f"to be found is {expected}, found was {found}, which is {right}"
    gain = f"Gain {points_with_ends(one.gain)}, {p_words(one.p)}."
    return " ".join(filter(None, [f"{setting.banner}{_where(setting, one)}: {what}.", gain, explained(one.questions)]))


def wrong_in_words(found: Iterable[tuple[Setting, Verdict]]) -> list[str]:
    """Return of each control that came out wrong what was found, and what must be: short, for a terminal."""
    return [
        f"WRONG: {_words(one.found)} found, not {_words(one.expected.parts)}: {_where(setting, one)}."
        for setting, one in found
        if not one.right
    ]


def _where(setting: Setting, one: Verdict) -> str:
    held_out = one.expected.held_out
    where = f"{held_out} held out" if held_out else "average of all that is held out"
    return f"{setting.dataset}, {setting.backbone_label}, {one.gain.method.predictor_label}, {where}"


def _words(parts: Iterable[str]) -> str:
    named = [words for name, words in _WORDS.items() if name in set(parts)]
    return " and ".join(named) or "nothing"
