"""The data set `icons`: things found by name in six icon packs, each of which is one style (environment).

One rule decides, with the table `icon_classes.csv`:

1. Of each pack only the icons of one style are used. A name is a list of words, separated by hyphens; a final s
   of a word of four letters or more does not count, so that most plurals are their singular.
2. An icon belongs to a class if its name has words of this class and of no other class. Only whole words count: `car`
   is not found in `card`. Where words overlap, the longest from the left counts: a `desk-lamp` is a lamp, not a desk.
3. An icon is left out if its name has words that the table refuses for its class, or for all classes in the line `*`:
   a `bird-cage` is no animal. An entry such as `engraving/bulb`, here the bulb of a plant, refuses one icon.
4. Of each class and pack at most ten icons are taken: by turns one for each word of the class, and of these the names
   with the smallest number of words first. Equal drawings count once.

The group of an icon is its name without numbers, so that the `cloud` of all packs is on one side of a split, as are
`dice-one` and `dice-two`. A variant such as `cloud-check` is a group of its own, though it may look much like `cloud`.
"""

import csv
import functools
import hashlib
import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from benchmark.common.errors import IcmBenchError
from benchmark.demo.emoji import IMAGE_SIZE, Pack, build_set, iconify_svgs
from benchmark.demo.packages import fetch_together

NAME = "icons"
# Increase it if a change of the code below changes the choice of icons, and write the new values into test_golden.py.
# After a change of the table, change its counts, and counts and fingerprint in `benchmark/datasets/catalog.py` too.
VERSION = 1
MAX_ICONS = 10
NUMBER = re.compile(r"-(?:\d+|one|two|three|four|five|six|seven|eight|nine|ten)(?=-|$)")


@dataclass(frozen=True)
class Style:
    """The icons of a pack that have the word `has` in their names, which is dropped, and not the word `lacks`."""

    pack: Pack
    has: str = ""
    lacks: str = ""

    def svgs(self) -> dict[str, str]:
        """Return name -> SVG document."""
        return {
            name.removesuffix(f"-{self.has}"): svg
            for name, svg in iconify_svgs(self.pack).items()
            if self.lacks not in (words := name.split("-")) and (not self.has or words[-1] == self.has)
        }


STYLES = {
    "glyph": Style(
        Pack("@iconify-json/mdi", "1.2.3", "ddd817a7213f91de51147943915c0cda8c8b818a53c92b5c068cfa9883c6d7ac"),
        lacks="outline",
    ),
    "outline": Style(
        Pack("@iconify-json/tabler", "1.2.41", "3bf99af156d28d05568aff524a35ed1ba238df640a7835a5e02e1f8e439685f6"),
        lacks="filled",
    ),
    "engraving": Style(
        Pack("@iconify-json/game-icons", "1.2.4", "f5758efb34d91c4f50b941f355f16ee73938625e5996fabc25171288404460a4")
    ),
    "duotone": Style(
        Pack("@iconify-json/ph", "1.2.2", "e3a582a047d9829fc7e8842c660d8065e598d1b68bb58cb68e75a1f1e5a614cc"),
        has="duotone",
    ),
    "coloured_outline": Style(
        Pack("@iconify-json/icon-park", "1.2.4", "c1a25212a31602aca93c3fa6f6b3288e89b9d7811afc132dfd78506e9d586b6f")
    ),
    "coloured": Style(
        Pack(
            "@iconify-json/streamline-ultimate-color",
            "1.2.2",
            "46133a11f3734bcef29066391d7edc141ed1d8056242ddfa1b5d36ce286420b6",
        )
    ),
}


@dataclass(frozen=True)
class Class:
    """One line of the table.

    Attributes:
        words: words that name the class, or several joined by hyphens that follow each other in a name.
        refused: words of the same form that a name must not have, or `ENVIRONMENT/NAME` for one icon.
        counts: environment -> number of icons.
    """

    words: tuple[str, ...]
    refused: frozenset[str]
    counts: Mapping[str, int]


@functools.cache
def table() -> dict[str, Class]:
    """Return the lines of `icon_classes.csv` by class; the line `*` holds what is refused for all classes."""
    text = resources.files("benchmark.demo").joinpath("icon_classes.csv").read_text(encoding="utf-8")
    return {
        row["class"]: Class(
            tuple(_singular(word) for word in row["words"].split()),
            frozenset(word if "/" in word else _singular(word) for word in row["refused"].split()),
            {environment: int(row[environment] or 0) for environment in STYLES},
        )
        for row in csv.DictReader(text.splitlines())
    }


def classes() -> list[str]:
    """Return the names of the classes, sorted."""
    return sorted(set(table()) - {"*"})


def build() -> Path:
    """Render the data set into the cache, unless it is there, and return its parent folder; see `emoji.build_set`."""
    return build_set(NAME, content_hash(), drawings, lambda name: NUMBER.sub("", name))


def content_hash() -> str:
    """Return a hash, 12 hex digits, of everything that determines the content of the data set."""
    packs = [(e, s.pack.name, s.pack.version, s.pack.sha256, s.has, s.lacks) for e, s in STYLES.items()]
    choice = [(name, line.words, sorted(line.refused)) for name, line in sorted(table().items())]
    return hashlib.sha256(json.dumps([VERSION, IMAGE_SIZE, MAX_ICONS, packs, choice]).encode()).hexdigest()[:12]


def drawings() -> dict[str, dict[str, dict[str, str]]]:
    """Return environment -> class -> name -> SVG document."""
    fetch_together([style.pack.fetch for style in STYLES.values()], "fetching icon packages")
    chosen = {environment: choose(style.svgs(), environment) for environment, style in STYLES.items()}
    found = [(e, name, len(chosen[e][name]), table()[name].counts[e]) for e in STYLES for name in classes()]
    if wrong := [f"{name} in {e} {n} (expected {expected})" for e, name, n, expected in found if n != expected]:
        raise IcmBenchError(
            f"{NAME}: unexpected numbers of icons in the packages: {', '.join(wrong)}; use the pinned package versions."
        )
    return chosen


def choose(svgs: Mapping[str, str], environment: str) -> dict[str, dict[str, str]]:
    """Return class -> name -> SVG document of the icons that are taken from a pack: step 4 of the rule."""
    named: dict[tuple[str, str], list[str]] = {
        (name, word): [] for name in classes() for word in table()[name].words
    }  # in the order of the table
    for icon in sorted(svgs, key=lambda icon: (icon.count("-"), icon)):
        if found := class_of(icon, environment):
            named[found].append(icon)
    chosen: dict[str, dict[str, str]] = {}
    for name in classes():
        turns = itertools.zip_longest(*(icons for (of, _), icons in named.items() if of == name))
        distinct: dict[str, str] = {}
        for icon in itertools.chain.from_iterable(turns):
            if icon is not None:
                distinct.setdefault(svgs[icon], icon)
        chosen[name] = {icon: svg for svg, icon in itertools.islice(distinct.items(), MAX_ICONS)}
    return chosen


def class_of(icon: str, environment: str) -> tuple[str, str] | None:
    """Return the class of an icon and the first of its words, by steps 2 and 3 of the rule; None if it has none."""
    words = _singular(icon)
    found = [(_naming()[word], word) for word in _pattern(*_naming()).findall(words)]
    if len({name for name, _ in found}) != 1:
        return None
    refused = table()["*"].refused | table()[found[0][0]].refused
    return None if f"{environment}/{icon}" in refused or _pattern(*refused).search(words) else found[0]


@functools.cache
def _naming() -> dict[str, str]:
    """Return word -> class."""
    return {word: name for name, line in table().items() for word in line.words}


@functools.cache
def _pattern(*words: str) -> re.Pattern[str]:
    """Return an expression that finds whole words, or several joined by hyphens, the longest first."""
    longest = sorted(words, key=lambda word: (-word.count("-"), word))
    return re.compile(rf"(?<![^-])(?:{'|'.join(map(re.escape, longest))})(?![^-])")


def _singular(name: str) -> str:
    """Return a name with its words in the singular, which lack a final s (not ss or us) if they have four letters."""
    return re.sub(r"(?<=[^-]{2}[^-su])s(?=-|$)", "", name)
