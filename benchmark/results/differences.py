"""The places at which two pieces of plain data differ."""

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

ABSENT = type("Absent", (), {"__repr__": lambda _: "nothing"})()


class Difference(NamedTuple):
    """A place at which two pieces of plain data differ."""

    path: str  # the place, such as "evaluation_results[2].score_details.score"
    expected: Any  # the value of the first; `ABSENT` if it has none
    stated: Any  # the value of the second; `ABSENT` if it has none


def differences(expected: Any, stated: Any, tolerance: float = 0.0, path: str = "") -> Iterator[Difference]:
    """Yield the places at which `stated` differs from `expected`, in the order of `expected`; then unknown keys.

    Args:
        expected: plain data.
        stated: plain data.
        tolerance: numbers, also in texts, are equal if they differ by at most this, relative to the larger of 1 and
            `expected`.
        path: beginning of all paths.
    """
    if isinstance(expected, Mapping) and isinstance(stated, Mapping):
        for key in [*expected, *(key for key in stated if key not in expected)]:
            below = f"{path}.{key}" if path else str(key)
            yield from differences(expected.get(key, ABSENT), stated.get(key, ABSENT), tolerance, below)
    elif isinstance(expected, list) and isinstance(stated, list):
        for place in range(max(len(expected), len(stated))):
            one, other = (of[place] if place < len(of) else ABSENT for of in (expected, stated))
            yield from differences(one, other, tolerance, f"{path}[{place}]")
    elif not _equal(expected, stated, tolerance):
        yield Difference(path, expected, stated)


def _equal(expected: Any, stated: Any, tolerance: float) -> bool:
    if type(expected) is type(stated) and expected == stated:
        return True
    if type(expected) is str and type(stated) is str and tolerance:
        with suppress(ValueError):
            return _equal(float(expected), float(stated), tolerance)
    if type(expected) is float and type(stated) in (int, float):  # not a boolean
        near = abs(expected - stated) <= tolerance * max(1.0, abs(expected))
        return near and math.isfinite(expected)  # from an infinite number, all are equally far
    return False
