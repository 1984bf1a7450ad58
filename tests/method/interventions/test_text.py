"""Text-based interventions: properties of templates, and the digest of pairs."""

import subprocess
import sys
from dataclasses import replace
from itertools import combinations, product
from math import prod
from typing import Any

import pytest

from benchmark.method.interventions.text import BACKGROUNDS, LIGHTS, STYLES, TextPair, pairs_digest, template_pairs

CLASSES = ["dog", "elephant", "Alarm_Clock", "house"]
LISTS = {"styles": STYLES, "backgrounds": BACKGROUNDS, "lights": LIGHTS}


def spoken(sentence: str) -> tuple[str, str, str, str]:
    """Return style, class, background and light of a sentence, read back from its words."""
    style, _, rest = sentence.partition(" of ")
    (background,) = [b for b in BACKGROUNDS if f" {b} " in rest]
    name, _, light = rest.partition(f" {background} ")
    assert light in LIGHTS
    assert style.partition(" ")[2] in STYLES
    return style.partition(" ")[2], name, background, light


@pytest.mark.parametrize("factor", list(LISTS))
def test_the_lists_are_long_enough_and_hold_nothing_twice(factor: str) -> None:
    assert 8 <= len(set(LISTS[factor])) == len(LISTS[factor]) <= 16


def test_the_object_stays_and_all_else_changes() -> None:
    pairs = template_pairs(CLASSES, seed=3)
    assert [p.class_name for p in pairs] == [name for name in CLASSES for _ in range(32)]
    for pair in pairs:
        said, others = spoken(pair.caption), spoken(pair.rewrite)
        assert [one == other for one, other in zip(said, others, strict=True)] == [False, True, False, False]
        assert said[1].partition(" ")[2] == (pair.class_name or "").replace("_", " ")
        assert pair.image_id is None


def test_every_style_background_and_light_is_used() -> None:
    said = [spoken(text) for p in template_pairs(["dog"], per_class=200) for text in (p.caption, p.rewrite)]
    assert {s[0] for s in said} == set(STYLES)
    assert {s[2] for s in said} == set(BACKGROUNDS)
    assert {s[3] for s in said} == set(LIGHTS)


@pytest.mark.parametrize(
    ("styles", "backgrounds", "lights"),
    [
        (["photo", "etching", "cartoon"], ["on grass", "by a lake", ""], ["at night", "at dawn"]),
        (["photo", "etching"], ["on grass"], ["at night", "at dawn", "at dusk"]),
        (["photo"], ["on grass"], ["at night", "at dawn", "at dusk", ""]),
    ],
)
def test_asked_for_all_pairs_there_are_it_gives_each_once(
    styles: list[str], backgrounds: list[str], lights: list[str]
) -> None:
    lists = [styles, backgrounds, lights]
    begun = {style: f"{'an' if style == 'etching' else 'a'} {style} of a dog" for style in styles}
    sentences = {c: " ".join(words for words in (begun[c[0]], *c[1:]) if words) for c in product(*lists)}
    expected = {
        frozenset((sentences[one], sentences[two]))
        for one, two in combinations(sentences, 2)
        if all(a != b or len(factor) == 1 for a, b, factor in zip(one, two, lists, strict=True))
    }
    pairs = template_pairs(["dog"], styles, backgrounds, lights, per_class=len(expected), seed=1)
    assert len(pairs) == len(expected)
    assert {frozenset((p.caption, p.rewrite)) for p in pairs} == expected
    with pytest.raises(ValueError, match=f"per_class={len(expected) + 1} is not between 1 and {len(expected)}"):
        template_pairs(["dog"], styles, backgrounds, lights, per_class=len(expected) + 1)


def test_captions_are_not_always_of_the_earlier_style() -> None:
    pairs = template_pairs(["dog"], per_class=1000)
    earlier = [STYLES.index(spoken(p.caption)[0]) < STYLES.index(spoken(p.rewrite)[0]) for p in pairs]
    assert 400 < sum(earlier) < 600


def test_pairs_depend_on_the_name_of_the_class_and_the_seed_alone() -> None:
    together = template_pairs(CLASSES, seed=5)
    turned = template_pairs(CLASSES[::-1], seed=5)
    for name in CLASSES:
        alone = template_pairs([name], seed=5)
        assert [p for p in together if p.class_name == name] == alone
        assert [p for p in turned if p.class_name == name] == alone
        assert alone != template_pairs([name], seed=6)
    objects = [[spoken(p.caption)[::2] for p in template_pairs([name])] for name in ("dog", "house")]
    assert objects[0] != objects[1]


def test_pairs_are_the_same_in_another_process() -> None:
    code = (
        "from benchmark.method.interventions.text import *\n"
        f"print(pairs_digest(template_pairs({CLASSES!r}, per_class=8, seed=2)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == pairs_digest(template_pairs(CLASSES, per_class=8, seed=2))


@pytest.mark.parametrize(
    "phrase",
    [
        "a dog", "an elephant", "an Alarm_Clock", "a house", "an hourglass", "an umbrella", "a unicorn", "a ukulele",
        "an urchin", "a t-shirt", "an x-ray", "a U-turn", "a TV", "an LCD_screen", "a one-way sign", "an oven",
        "The_Eiffel_Tower",
    ],
)  # fmt: skip
def test_articles(phrase: str) -> None:
    name, phrase = phrase.removeprefix("a ").removeprefix("an "), phrase.replace("_", " ")
    for pair in template_pairs([name], per_class=4):
        assert f" of {phrase} " in pair.caption
        assert f" of {phrase} " in pair.rewrite


def test_articles_of_styles() -> None:
    begun = {p.caption.partition(" of ")[0] for p in template_pairs(["dog"], per_class=500)}
    assert begun == {("an " if style[0] in "aeiou" else "a ") + style for style in STYLES}


@pytest.mark.parametrize(
    ("classes", "options", "message"),
    [
        (["dog"], {"per_class": 0}, "per_class=0"),
        (["dog"], {"per_class": prod(n * (n - 1) for n in map(len, LISTS.values())) // 2 + 1}, "per_class="),
        (["dog"], {"lights": []}, "at least one style, one background and one light"),
        (["dog"], {"styles": ["photo", " "]}, "A style is a noun"),
        (["dog"], {"styles": ["photo"], "backgrounds": ["on grass"], "lights": ["at dawn"]}, "not between 1 and 0"),
        (["alarm clock", "dog", "alarm_clock"], {}, "'alarm clock' is empty or a duplicate"),
        (["dog", ""], {}, "'' is empty"),
    ],
)
def test_impossible_templates_are_refused(classes, options, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        template_pairs(classes, **options)


def test_the_digest_follows_everything_that_a_pair_says() -> None:
    pair = TextPair("a dog", "a dog at night", "dog", "1.jpg")
    changes: list[dict[str, Any]] = [
        {"caption": "a hen"}, {"rewrite": "a dog at dawn"}, {"class_name": "hen"}, {"class_name": None},
        {"image_id": None}, {"caption": pair.rewrite, "rewrite": pair.caption}, {"noise": 0}, {"noise": 1},
    ]  # fmt: skip
    others = [replace(pair, **change) for change in changes]
    digests = {pairs_digest([p]) for p in (pair, *others)} | {pairs_digest([pair, pair]), pairs_digest([])}
    assert len(digests) == len(others) + 3
    assert all(len(digest) == 64 and int(digest, 16) >= 0 for digest in digests)
    assert pairs_digest([pair, others[0]]) != pairs_digest([others[0], pair])
    assert pairs_digest([replace(pair)]) == pairs_digest([pair])
