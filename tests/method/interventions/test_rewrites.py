"""Which rewrites stand: the object stays, something else changes."""

import pytest

from benchmark.method.interventions.rewrites import cleaned, why_left_out

OTHERS = ["cat", "Alarm_Clock", "person"]
CAPTION = "a brown dog on the grass"


@pytest.mark.parametrize(
    ("rewrite", "why"),
    [
        ("a brown dog in the snow", None),
        ("Brown dogs at night.", None),
        ("a brown dog beside a cat", None),  # surroundings may hold other classes
        ("A brown dog, on the grass!", "identical"),
        ("brown dogs on the grass", None),
        ("an apologetic dog in the snow", None),
        *((text, "empty") for text in ("", "...")),
        *((f"a brown {gone} in the snow", "changes the class: 'dog' is gone") for gone in ("animal", "cat", "hotdog")),
        *((text, "refused") for text in (
            "I'm sorry, but I cannot rewrite captions of a dog.", "I’m unable to do that with a dog.",
            "Sorry! No dog.", "As an AI language model, I see no dog.", "Unfortunately, I have no dog.",
        )),
    ],
)  # fmt: skip
def test_the_rule_where_the_caption_names_its_class(rewrite: str, why: str | None) -> None:
    assert why_left_out(CAPTION, rewrite, "dog", OTHERS) == why


@pytest.mark.parametrize(
    ("rewrite", "why"),
    [
        ("a puppy in the snow", None),
        ("a dog in the snow", None),
        ("an alarm clock in the snow", "changes the class: 'Alarm_Clock' comes in"),
        ("a clock in the snow", None),  # not all words of the name
        ("people in the snow", "changes the class: 'person' comes in"),
    ],
)
def test_the_rule_where_it_does_not(rewrite: str, why: str | None) -> None:
    assert why_left_out("a puppy on the grass", rewrite, "dog", OTHERS) == why


def test_another_class_that_the_caption_has_too_is_no_change() -> None:
    assert why_left_out("a puppy and a cat on grass", "a puppy and two cats in snow", "dog", OTHERS) is None


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("horse", "horses"), ("house", "houses"), ("box", "boxes"), ("church", "churches"), ("butterfly", "butterflies"),
        ("giraffe", "giraffes"), ("person", "people"), ("knife", "knives"), ("glass", "glasses"), ("bus", "buses"),
        ("tie", "ties"), ("toy", "toys"), ("mouse", "mice"),
    ],
)  # fmt: skip
def test_singular_and_plural_are_one_name(one: str, many: str) -> None:
    assert why_left_out(f"a {one} on grass", f"two {many} in snow", one) is None
    assert why_left_out(f"two {many} on grass", f"a {one} in snow", one) is None
    assert why_left_out(f"a {one} on grass", "a thing in snow", one) == f"changes the class: '{one}' is gone"


def test_what_the_endpoint_says_counts() -> None:
    assert why_left_out(CAPTION, "a dog in snow", "dog", finish="content_filter") == "refused"
    assert why_left_out(CAPTION, "a dog in snow", "dog", refused=True) == "refused"
    assert why_left_out(CAPTION, "a dog in", "dog", finish="length") == "cut off"


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (' "A dog\n in snow." ', "A dog in snow."), ("“A dog”", "A dog"), ("a dog's toy", "a dog's toy"), ('"', '"'),
        ("a \ud83d dog\0", "a ? dog"), ("\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"), "😀"),
    ],
)  # fmt: skip
def test_a_text_is_one_line_that_can_be_stored(said: str, text: str) -> None:
    assert cleaned(said) == text
