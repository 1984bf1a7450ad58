"""YAML and JSON from others: what is too large, too deep, doubled or circular is refused in a sentence, soon."""

import time
from pathlib import Path

import pytest
import yaml

from benchmark.cli import _overrides
from benchmark.common.errors import IcmBenchError
from benchmark.common.plain import from_json, from_yaml
from benchmark.recipe.loading import load_recipe
from tests.conftest import REPOSITORY

LIST = "x, x, x, x, x, x, x, x, x"
BOMB = f"a: &a [{LIST}]\n" + "".join(
    f"{b}: &{b} [{', '.join(f'*{a}' for _ in range(9))}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
BAD_YAML = {
    "deep lists": ("[" * 20_000, "line 1 is nested more than 40 levels deep"),
    "deep mappings": ("\n".join(f"{' ' * i}a:" for i in range(60)), "line 41 is nested more than 40 levels deep"),
    "deep dashes": ("- " * 5_000 + "x", "nested more than 40 levels deep"),
    "a key twice": ("name: x\nsweep: {a: [0]}\nsweep: {a: [1]}\n", "line 3: the key 'sweep' repeats line 2"),
    "a key twice, inside": ("a:\n  b: {c: 1, d: 2,\n    c: 3}\n", "line 3: the key 'c' repeats line 2"),
    "aliases of aliases": (BOMB, "expands to over 100000 values"),
    "merged aliases": (BOMB.replace(f"[{LIST}]", "{k: 1}") + "z: {<<: *i}\n", "expands to over 100000"),
    "itself": ("a: &a [1, *a]", "line 1: a value contains itself"),
    "large": ("a: " + "x" * 2**20, "has more than 1048576 bytes"),
    "no number": ("a: !!int x", "has a value that does not fit its type"),
    "no truth": ("a: !!bool x", "has a value that does not fit its type"),
    "an object": ("a: !!python/object/apply:os.system [id]", "could not determine a constructor"),
    "no key": ("? [a, b]\n: 1\n? {c: d}\n: 2\n", "unhashable key"),
    "a letter of no text": ("a: \x07", r"line 1 holds the control character U\+0007; remove it"),
    "a NUL in line 2": ("a: 1\nb: x\0", r"line 2 holds the control character U\+0000; remove it"),
    "a number of 5000 digits": ("seeds:\n- " + 5000 * "9", "line 2: a number of 5000 digits; give a smaller one"),
    "two documents": ("a: 1\n---\na: 2\n", "line 2 is not valid YAML"),
}


@pytest.mark.parametrize("kind", BAD_YAML)
def test_bad_yaml_is_one_sentence_in_no_time(kind: str, tmp_path: Path) -> None:
    text, sentence = BAD_YAML[kind]
    (tmp_path / "r.yaml").write_text(text)
    start = time.process_time()
    with pytest.raises(IcmBenchError, match=sentence) as caught:
        load_recipe(tmp_path / "r.yaml")
    assert time.process_time() - start < 3
    assert str(caught.value).startswith(f"The recipe {tmp_path / 'r.yaml'}")
    assert "\n" not in str(caught.value)
    with pytest.raises(IcmBenchError, match=r"^--set sweep\.seeds=\.\.\.") as caught:
        _overrides([f"sweep.seeds={text}"])
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("text", ["", "a: 1", "[1, 2.5, x, null, true]", "a: &a [1]\nb: *a\nc: {<<: {d: 1}, d: 2}"])
def test_good_yaml_is_what_it_was(text: str) -> None:
    assert from_yaml(text, "x") == yaml.safe_load(text)


@pytest.mark.parametrize(
    "word", ["010", "-07", "0b11", "0_7", "1:30", "1:30.5", "on", "Yes", "NO", "off", "2026-01-02", "="]
)
def test_a_word_is_no_number_or_truth_of_yaml_1_1(word: str) -> None:
    assert from_yaml(f"a: [{word}]", "x") == {"a": [word]}


def test_numbers_and_truths_are_what_they_look_like() -> None:
    assert from_yaml("[0, 10, 1_000, 0x1F, 0.5, 00.5, -1.0e+3, true, False, ~, null]", "x") == [
        0, 10, 1000, 31, 0.5, 0.5, -1000.0, True, False, None, None,
    ]  # fmt: skip


def test_the_recipes_of_the_project_are_read_as_before() -> None:
    recipes = sorted((REPOSITORY / "jobs" / "recipes").glob("*.yaml"))
    assert recipes
    for recipe in recipes:
        assert from_yaml(recipe.read_bytes(), "x") == yaml.safe_load(recipe.read_text())


def test_bad_json_is_one_sentence() -> None:
    assert from_json('{"a": [1, {"b": null}]}', "x") == {"a": [1, {"b": None}]}
    for text, sentence in (
        ('{"a": 1, "a": 2}', "^x has the key 'a' twice"),
        ("[" * 100_000, "nested too deeply"),
        (b"\xff", "is not valid JSON"),
        ("1" * 5_000, "is not valid JSON"),
    ):
        with pytest.raises(IcmBenchError, match=sentence):
            from_json(text, "x")
