"""Names that look alike are told apart, and only those."""

import pytest

from benchmark.datasets.manifest import alike, by_number, look


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cat", "c\u0430t"),  # Cyrillic
        ("cat", "ca\u200bt"),  # a blank of no width
        ("cat", "\u202ecat"),
        ("a b", "a\u00a0 b\n"),
        ("e\u0301t\u00e9", "\u00e9te\u0301"),  # composed and not
        ("dog", "\uff44og"),  # full width
        ("HOT", "\u041d\u039f\u0422"),
    ],
)
def test_two_names_that_look_alike_are_found(one: str, other: str) -> None:
    assert look(one) == look(other)
    assert alike([one, "something else", other, one]) == [tuple(sorted((one, other)))]
    assert by_number(one) != by_number(other)


def test_names_that_differ_to_the_eye_are_not() -> None:
    assert alike(["cat", "Cat", "c\u00e4t", "cats", "c a t", "\u043a\u043e\u0442", "\u732b"]) == []
    assert by_number("c\u0430t \u00e9") == "cU+0430t U+00E9"
