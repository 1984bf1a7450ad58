"""CLAP's prompt edits: expected texts, and no duplicate pairs."""

import re
from collections import Counter
from itertools import product
from typing import Any, get_args

import pytest

from benchmark.method.interventions.text import COLOURS, SIZES, TYPES, Edit, TextPair, edited_pairs

EDITS: tuple[Edit, ...] = get_args(Edit)
PROMPT = re.compile(rf"an? ({'|'.join(TYPES)}) of an? ({'|'.join(SIZES)}) ({'|'.join(COLOURS)}) dog")


def taken_apart(pair: TextPair) -> tuple[tuple[str, str, str], str]:
    """Return type, size and colour of the prompt of a pair, and the edited prompt."""
    texts = [pair.caption, pair.rewrite]
    plain = next(text for text in texts if PROMPT.fullmatch(text))
    match = PROMPT.fullmatch(plain)
    assert match
    texts.remove(plain)
    return match.groups(), texts[0]  # type: ignore[return-value]


def article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def every_edit(size: str, colour: str) -> set[str]:
    """All that the edits can make of a prompt."""
    made = set()
    for s, c, k in product((size, ""), (colour, ""), (*TYPES, "")):
        thing = article(" ".join(word for word in (s, c, "dog") if word))
        made |= {f"{article(k)} of {thing}", f"{thing} in {article(k)} style"} if k else {thing}
    return made


@pytest.mark.parametrize(
    ("edit", "of_prompt"),
    [
        ("size", lambda k, s, c: f"{article(k)} of {article(c)} dog"),  # noqa: ARG005
        ("colour", lambda k, s, c: f"{article(k)} of {article(s)} dog"),  # noqa: ARG005
        ("type", lambda k, s, c: f"{article(s)} {c} dog"),  # noqa: ARG005
        ("order", lambda k, s, c: f"{article(s)} {c} dog in {article(k)} style"),
    ],
)
def test_one_edit_alone_does_what_it_says_to_every_prompt(edit: Edit, of_prompt: Any) -> None:
    pairs = edited_pairs(["dog"], [edit], per_class=240)
    assert len({taken_apart(pair)[0] for pair in pairs}) == 8 * 3 * 10
    for pair in pairs:
        prompt, edited = taken_apart(pair)
        assert edited == of_prompt(*prompt)
        assert pair.noise is None
    assert 80 < sum(PROMPT.fullmatch(pair.caption) is not None for pair in pairs) < 160  # either may be the caption


def test_a_swapped_type_is_another_one_and_no_pair_comes_twice() -> None:
    pairs = edited_pairs(["dog"], ["type_swap"], per_class=150)
    for pair in pairs:
        kinds = [PROMPT.fullmatch(text).groups() for text in (pair.caption, pair.rewrite)]  # type: ignore[union-attr]
        assert kinds[0][0] != kinds[1][0]
        assert kinds[0][1:] == kinds[1][1:]
    assert len({frozenset((pair.caption, pair.rewrite)) for pair in pairs}) == 150


def test_noise_alone_leaves_the_prompt_and_has_a_seed_of_its_own() -> None:
    pairs = edited_pairs(["dog"], ["noise"], per_class=240)
    assert all(pair.caption == pair.rewrite for pair in pairs)
    assert len({pair.noise for pair in pairs}) == 240


def test_all_edits_together_make_each_set_of_them_alike() -> None:
    pairs = edited_pairs(["dog"], EDITS, per_class=3000)
    apart = [(*taken_apart(pair), pair.noise) for pair in pairs if pair.caption != pair.rewrite]
    assert all(edited in every_edit(*prompt[1:]) - {f"{article(prompt[0])} of {article(prompt[1])} {prompt[2]} dog"}
               for prompt, edited, _ in apart)  # fmt: skip
    assert len({(frozenset((p.caption, p.rewrite)), p.noise is None) for p in pairs}) == 3000
    # 39 sets: size, colour and noise or not, with type kept, swapped (order or not), said last or deleted, minus none.
    shares = Counter(
        "deleted" if " of " not in e and " in " not in e else "order" if " in " in e else "" for _, e, _ in apart
    )
    assert shares["deleted"] / 3000 == pytest.approx(8 / 39, abs=0.03)
    assert shares["order"] / 3000 == pytest.approx(16 / 39, abs=0.03)
    assert sum(pair.noise is not None for pair in pairs) / 3000 == pytest.approx(20 / 39, abs=0.03)


def test_pairs_depend_on_the_class_the_edits_and_the_seed_alone() -> None:
    both = edited_pairs(["dog", "alarm_clock"], ["size", "order"], per_class=5)
    assert edited_pairs(["alarm_clock"], ["order", "size"], per_class=5) == both[5:]
    assert [pair.class_name for pair in both[5:]] == ["alarm_clock"] * 5
    assert all("alarm clock" in pair.caption for pair in both[5:])
    assert edited_pairs(["dog"], ["size", "order"], per_class=5, seed=1) != both[:5]


@pytest.mark.parametrize(
    ("classes", "edits", "count", "message"),
    [
        (["dog"], [], 1, "one edit or more"),
        (["dog"], ["size"], 241, "per_class=241 is not between 1 and 240"),
        (["dog"], ["size"], 0, "per_class=0 is not between 1 and 240"),
        (["a b", "a_b"], ["size"], 1, "'a b' is empty or a duplicate"),
    ],
)
def test_impossible_edits_are_refused(classes: list[str], edits: list[Edit], count: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        edited_pairs(classes, edits, count)
